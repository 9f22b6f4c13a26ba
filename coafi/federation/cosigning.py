"""Has our checkpoints cosigned: shows each witness the newest one, with the proof that it continues what it has seen.

There is nothing to be queued and nothing to be lost: what a witness has not seen yet is found again from the last
checkpoint and the cosignatures that are stored, and what is older than the newest checkpoint needs no cosignature.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import StrEnum

import httpx
import structlog

from coafi import metrics
from coafi.errors import CoafiError, IntegrityError, Unavailable, ValidationError
from coafi.federation.witness import AddCheckpoint, format_request
from coafi.ledger.checkpoint import MAX_NOTE, SignedCheckpoint
from coafi.ledger.cosignature import cosignatures, parse_cosignatures
from coafi.ledger.keys import CosignerKey
from coafi.ledger.log import Ledger

TIMEOUT = httpx.Timeout(5.0)
"""Of one request to a witness."""

SIZE_TYPE = "text/x.tlog.size"
"""The media type with which a witness says where the proof must begin."""

FIRST_RETRY = 1.0
LONGEST_RETRY = 300.0
"""Seconds that a witness is left alone after a failure; twice as long after the next one, up to the longest."""

AT_A_TIME = 8
"""Witnesses that are asked at the same time."""

_TURNS = 4
_LOG = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class WitnessAddress:
    """A witness that is asked.

    Attributes:
        name: for people and metrics: the peer's, or that in the policy.
        key: what it cosigns with.
        url: its submission prefix.
    """

    name: str
    key: CosignerKey
    url: str


class Outcome(StrEnum):
    """What came of asking a witness.

    ``COSIGNED``: it has, now or before. ``AHEAD``: it has seen a newer checkpoint. ``UNAVAILABLE``: it is out of reach,
    or does not know this log yet. ``REFUSED``: it holds this checkpoint for a contradiction to what it has seen.
    """

    COSIGNED = "cosigned"
    AHEAD = "ahead"
    UNAVAILABLE = "unavailable"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Answered:
    """How a witness answered; ``problem`` is for a person, ``retry_after`` what it asked for, in seconds."""

    outcome: Outcome
    problem: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Gathered:
    """A checkpoint, with the cosignatures that could be had, and how each witness answered."""

    signed: SignedCheckpoint
    answers: Mapping[str, Answered]


def witness_client() -> httpx.Client:
    """A client for :class:`Cosigners`; its user closes it. It goes where it is told: no proxy, no redirect."""
    return httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False)


@dataclass(frozen=True)
class Cosigners:
    """Asks witnesses.

    Attributes:
        ledger: the one of this home.
        client: makes the requests.
    """

    ledger: Ledger
    client: httpx.Client

    def ask(self, witness: WitnessAddress, signed: SignedCheckpoint) -> Answered:
        """Have a checkpoint cosigned by one witness, and keep what it says."""
        try:
            found = self._ask(witness, signed)
        except IntegrityError as error:  # of our own ledger, or as the witness sees it
            found = Answered(Outcome.REFUSED, str(error))
        except Unavailable as error:
            found = Answered(Outcome.UNAVAILABLE, str(error), error.retry_after)
        except CoafiError as error:
            found = Answered(Outcome.UNAVAILABLE, str(error))
        metrics.COSIGNATURES.labels(witness.name, found.outcome).inc()
        return found

    def gather(
        self,
        witnesses: Sequence[WitnessAddress],
        seconds: float,
        *,
        enough: Callable[[str], bool] = lambda _note: False,
    ) -> Gathered:
        """A checkpoint of all that is committed, with the cosignatures that can be had in a time.

        Args:
            witnesses: who is asked.
            seconds: how long they are waited for, all together.
            enough: whether a note has what is wanted, so that the others need not be waited for.

        Raises:
            IntegrityError, Unavailable: the checkpoint cannot be signed.
        """
        deadline = time.monotonic() + seconds
        answers: dict[str, Answered] = {}
        pool = ThreadPoolExecutor(AT_A_TIME, "cosign")
        try:
            for _ in range(_TURNS):
                signed = self.ledger.checkpoint(force=True)  # a newer one, if somebody has shown them that
                answers = self._turn(witnesses, signed, deadline, enough, pool)
                ahead = any(one.outcome is Outcome.AHEAD for one in answers.values())
                if not ahead or time.monotonic() >= deadline:
                    break
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return Gathered(self.ledger.cosigned(signed), answers)

    def _turn(
        self,
        witnesses: Sequence[WitnessAddress],
        signed: SignedCheckpoint,
        deadline: float,
        enough: Callable[[str], bool],
        pool: ThreadPoolExecutor,
    ) -> dict[str, Answered]:
        """Ask those who have not cosigned a checkpoint, side by side."""
        known = {one.key for one in cosignatures(signed.note, [one.key for one in witnesses])}
        answers = {one.name: Answered(Outcome.COSIGNED) for one in witnesses if one.key in known}
        asked = {pool.submit(self.ask, one, signed): one for one in witnesses if one.key not in known}
        while asked and time.monotonic() < deadline and not enough(self.ledger.cosigned(signed).note):
            done, _rest = wait(asked, max(0.0, deadline - time.monotonic()), "FIRST_COMPLETED")
            answers |= {asked.pop(one).name: one.result() for one in done}
        late = Answered(Outcome.UNAVAILABLE, "it has not answered in time")
        return answers | {one.name: late for one in asked.values()}

    def _ask(self, witness: WitnessAddress, signed: SignedCheckpoint) -> Answered:
        checkpoint = signed.checkpoint
        old = self.ledger.cosigned_size(witness.key)
        for _ in range(_TURNS):
            if old > checkpoint.size:
                return Answered(Outcome.AHEAD, f"it has cosigned {old} entries")
            proof = tuple(self.ledger.consistency_proof(old, checkpoint.size)) if 0 < old < checkpoint.size else ()
            response, data = self._post(witness, format_request(AddCheckpoint(old, proof, signed.note)))
            if response.status_code == httpx.codes.OK:
                try:
                    found = parse_cosignatures(checkpoint.text(), data, [witness.key])
                except ValidationError as error:
                    raise _unavailable(witness, error.message) from error
                if not found:
                    raise _unavailable(witness, f"has cosigned with another key than {witness.key}")
                self.ledger.add_cosignatures(checkpoint, found)
                return Answered(Outcome.COSIGNED)
            if response.status_code != httpx.codes.CONFLICT:
                raise _refusal(witness, response, data)
            size = _size(response, data)
            if size is None or size == old:
                raise _unavailable(witness, "answers 409 and does not say at which other size to begin")
            old = size
        raise _unavailable(witness, "names another size each time: somebody else shows it checkpoints of this log")

    def _post(self, witness: WitnessAddress, body: bytes) -> tuple[httpx.Response, bytes]:
        deadline = time.monotonic() + 3 * (TIMEOUT.read or 0)
        try:
            with self.client.stream(
                "POST",
                f"{witness.url.rstrip('/')}/add-checkpoint",
                content=body,
                headers={"Content-Type": "text/plain; charset=utf-8", "User-Agent": "coafi-event-handlers"},
            ) as response:
                data = bytearray()
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > MAX_NOTE or time.monotonic() > deadline:
                        raise _unavailable(witness, "answers at too great length")
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:  # the last for a client that was closed
            raise _unavailable(witness, f"is out of reach: {type(error).__name__}") from error
        return response, bytes(data)


@dataclass
class _Turn:
    """When a witness is asked next, and what is under way."""

    asked: "Future[Answered] | None" = None
    failures: int = 0
    next: float = float("-inf")
    told: Outcome | None = None


class Cosigning:
    """Has each new checkpoint cosigned, for as long as it runs.

    Args:
        cosigners: asks.
        witnesses: who is asked; looked up each time, so that what changes counts soon.
        seconds: how often the last checkpoint is looked at.
    """

    def __init__(
        self,
        cosigners: Cosigners,
        witnesses: Callable[[], Sequence[WitnessAddress]],
        *,
        seconds: float,
    ) -> None:
        self._cosigners = cosigners
        self._witnesses = witnesses
        self._seconds = seconds
        self._turns: dict[WitnessAddress, _Turn] = {}
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(AT_A_TIME, "cosign")
        self._thread = threading.Thread(target=self._run, name="cosigning", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End, without waiting for witnesses that do not answer."""
        self._stop.set()
        self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.turn()
            except CoafiError as error:
                _LOG.warning("cosigning_failed", error=str(error))
            except Exception:  # a defect must not end it for good
                _LOG.exception("cosigning_failed")
            self._stop.wait(self._seconds)

    def turn(self) -> None:
        """Look once whether somebody has to be asked, and ask.

        Raises:
            IntegrityError, Unavailable: the ledger, or who is to be asked, cannot be read.
        """
        witnesses = self._witnesses()
        if not witnesses:
            return
        signed = self._cosigners.ledger.checkpoint()
        for witness in witnesses:
            turn = self._turns.setdefault(witness, _Turn())
            if turn.asked is not None:
                if not turn.asked.done():
                    continue
                self._answered(witness, turn, turn.asked.result())
            if time.monotonic() < turn.next or self._cosigners.ledger.cosigned_size(witness.key) >= signed.size:
                continue
            turn.asked = self._pool.submit(self._cosigners.ask, witness, signed)

    def _answered(self, witness: WitnessAddress, turn: _Turn, answer: Answered) -> None:
        turn.asked = None
        if answer.outcome in (Outcome.COSIGNED, Outcome.AHEAD):
            turn.failures, turn.next = 0, float("-inf")
        else:
            pause = min(FIRST_RETRY * 2**turn.failures, LONGEST_RETRY) * random.uniform(0.5, 1.0)  # noqa: S311
            turn.failures = min(turn.failures + 1, 30)
            turn.next = time.monotonic() + max(pause, min(answer.retry_after or 0.0, LONGEST_RETRY))
        if answer.outcome is not turn.told:
            turn.told = answer.outcome
            level = _LOG.error if answer.outcome is Outcome.REFUSED else _LOG.info
            level("checkpoint_witness", witness=witness.name, outcome=answer.outcome.value, problem=answer.problem)


def _size(response: httpx.Response, data: bytes) -> int | None:
    """The size that a witness names; ``None`` if it does not."""
    text = data.decode("ascii", "replace").removesuffix("\n")
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != SIZE_TYPE or not text.isascii() or not text.isdecimal() or len(text) > 19:
        return None
    return int(text)


def _refusal(witness: WitnessAddress, response: httpx.Response, data: bytes) -> CoafiError:
    status = response.status_code
    said = " ".join(data[:300].decode("utf-8", "replace").split())
    if status == httpx.codes.UNPROCESSABLE_ENTITY:
        return IntegrityError(
            f"the witness {witness.name} holds this checkpoint for a contradiction to what it has seen: {said}",
            remedy="compare with what it has: it may have been shown another history, by whoever has this ledger's key",
        )
    retry = response.headers.get("retry-after", "")
    what = {404: "does not know this log", 403: "does not know this log's key"}.get(status, f"answers with {status}")
    return _unavailable(
        witness,
        f"{what}: {said}" if status not in (404, 403) else what,
        float(retry) if retry.isascii() and retry.isdecimal() and len(retry) < 8 else None,
    )


def _unavailable(witness: WitnessAddress, problem: str, retry_after: float | None = None) -> Unavailable:
    return Unavailable(
        f"the witness {witness.name} {problem}", remedy="ask who runs it; it is tried again", retry_after=retry_after
    )
