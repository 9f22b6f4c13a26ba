"""``coafi gateway`` that dies by ``kill -9`` while it takes a peer's message, once.

Run as ``python -m tests.guarantees.crashing_gateway MOMENT MARKER``: the file ``MARKER`` says that it has died. The
moments are ``nonce`` (its nonce is used up, nothing else was done), ``body`` (the body is stored) and ``signal`` (the
run of the peer has it, and nobody was told).
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from activities.peers import PeerGate
from coafi.federation.signatures import Nonces
from coafi.objects.local import LocalObjectStore
from starters.service import run_gateway


def main() -> None:
    """Run a gateway that is deadly once."""
    moment, marker = sys.argv[1], Path(sys.argv[2])

    def die() -> None:
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def then_die(method: Callable[..., Any]) -> Callable[..., Any]:
        def deadly(*arguments: Any, **more: Any) -> Any:
            result = method(*arguments, **more)
            die()
            return result

        return deadly

    deliver = PeerGate.deliver

    async def deadly_deliver(self: PeerGate, *arguments: Any, **more: Any) -> str:
        result = await deliver(self, *arguments, **more)
        die()
        return result

    match moment:
        case "nonce":
            Nonces.take = then_die(Nonces.take)  # type: ignore[method-assign]  # that is the point
        case "body":
            LocalObjectStore.put = then_die(LocalObjectStore.put)  # type: ignore[method-assign]  # likewise
        case "signal":
            PeerGate.deliver = deadly_deliver  # type: ignore[method-assign]  # likewise
    asyncio.run(run_gateway())


if __name__ == "__main__":
    main()
