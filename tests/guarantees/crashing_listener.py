"""``coafi listener`` that dies by ``kill -9`` when its consumers are done and its position has not moved yet, once.

Run as ``python -m tests.guarantees.crashing_listener MARKER``: the file ``MARKER`` says that it has died.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from coafi.following import Follower, Followers
from starters.service import run_listener


def main() -> None:
    """Run a listener that is deadly once."""
    marker, plain = Path(sys.argv[1]), Followers.move

    def deadly(self: Followers, held: Follower, position: int) -> Follower:
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, held, position)

    Followers.move = deadly  # type: ignore[method-assign]  # that is the point
    asyncio.run(run_listener(None))


if __name__ == "__main__":
    main()
