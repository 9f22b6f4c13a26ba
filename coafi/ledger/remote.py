"""The ledger of another instance, over its API (``starters.bitt``).

The rows of a unit are written here and its entries there, and no transaction spans both. So entries go first, which is
harmless to repeat, and rows are committed afterwards::

    unit ──► append, nothing written yet ──────► POST ──► go on ──► COMMIT of the rows
    unit ──► rows, then append ──► ROLLBACK ──► POST ──► the unit again, its entries known ──► COMMIT of the rows

No lock is held while the other side is waited for. Whoever crashes in between is tried again by its caller, finds its
entries and adds the rows. What a unit has appended stays, also if the unit then fails.

The other side is not believed: every answer is checked against what was asked, every checkpoint against the key and
against the last one that was seen, which is kept in this home. When the key was changed there, hand-overs lead to the
new one. Appends that wait at the same time share a request.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import httpx
import pydantic
from sqlalchemy import Connection

from coafi.database import WRITE_LOCK_TIMEOUT, Database
from coafi.errors import (
    CoafiError,
    IdempotencyConflict,
    IntegrityError,
    LedgerUnavailable,
    ResourceNotFoundError,
    Unavailable,
    ValidationError,
)
from coafi.ledger import merkle, tiles
from coafi.ledger.bundle import MAX_BUNDLE, parse_bundle
from coafi.ledger.checkpoint import (
    MAX_NOTE,
    Checkpoint,
    SignedCheckpoint,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
)
from coafi.ledger.entry import MAX_BODY, Draft, Entry, Recorded
from coafi.ledger.following import FollowedKeys
from coafi.ledger.handover import HandOver
from coafi.ledger.keys import Keyring, VerifierKey
from coafi.ledger.merkle import HASH_SIZE
from coafi.ledger.port import LedgerTransaction
from coafi.ledger.proof import Proof
from coafi.ledger.published import PublishedCheckpoint
from coafi.ledger.tiles import Tile, TileId
from coafi.ledger.verifier import verify_inclusion
from coafi.ledger.wire import (
    ERROR,
    MAX_DRAFTS,
    MAX_KEYS_ANSWER,
    MAX_REQUEST,
    PAGE,
    AppendRequest,
    DraftMessage,
    EntriesAnswer,
    HashesAnswer,
    HeadAnswer,
    KeysAnswer,
)

TIMEOUT = httpx.Timeout(10.0, connect=2.0)
"""Seconds that the other side may take for any part of an answer."""

CHECK_SECONDS = 60.0
"""Before entries are appended, the last checkpoint that was seen is at most this old."""

GROUP_DRAFTS = 512
"""Drafts after which a shared request takes no further caller's."""

_AGAIN = 8
"""How often a unit is begun again at most, each time because it appends other entries."""

_MAX_ANSWER = 1_048_576
_MAX_ENTRY = 2 * MAX_BODY + 1_024
"""Bytes of an entry in an answer: it is JSON within JSON, of which every byte becomes two at most."""

_STOP = (
    "stop using it, and ask who runs it: it was put back to an old copy, or shows different logs to different readers"
)

T = TypeVar("T")
Answer = TypeVar("Answer", bound=pydantic.BaseModel)

_REFUSALS: Mapping[tuple[int, str], type[CoafiError]] = {
    (404, "ResourceNotFoundError"): ResourceNotFoundError,
    (409, "IdempotencyConflict"): IdempotencyConflict,
    (422, "ValidationError"): ValidationError,
}
"""What the other side refuses for good. Anything else, a token that is not taken included, is a matter of waiting."""


class RemoteLedger:
    """The ledger behind a gateway's ``/bitt/``. Many threads may use it; nothing is asked before it is used.

    Args:
        url: base URL of that gateway.
        token: what it gave to this instance.
        key: a public key that the ledger has, or had, which came on another way.
        database: this home's, for the rows of units.
        state_directory: where the last checkpoint that was seen is kept, and the hand-overs.
        check_seconds: how old that may be when entries are appended.
        client: for tests; else one of its own, without proxies and redirects.

    Raises:
        IntegrityError: the checkpoint that was kept is not one of this ledger.
        Unavailable: the state directory is out of reach.
    """

    def __init__(
        self,
        url: str,
        *,
        token: pydantic.SecretStr,
        key: VerifierKey,
        database: Database,
        state_directory: Path,
        check_seconds: float = CHECK_SECONDS,
        client: httpx.Client | None = None,
    ) -> None:
        self.url: Final = url.rstrip("/")
        self._token = token
        self._database = database
        self._seen = PublishedCheckpoint(state_directory)
        self._check_seconds = check_seconds
        self._client = client or httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False)
        self._wake = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._sender: threading.Thread | None = None
        self._checked = float("-inf")
        self._acknowledged = 0
        self._closed = False
        self._keys = FollowedKeys(key, state_directory, self._shown_hand_overs)
        note = self._seen.read()
        if note is not None and not self._keys.is_strange(note):  # else it is told when the other side was asked
            self._last_seen()

    @property
    def atomic(self) -> bool:
        """Entries are there before the rows are here."""
        return False

    @property
    def key(self) -> VerifierKey:
        """The newest key that is known: until a checkpoint is signed by another one, that is the one it was given."""
        return self._keys.ring.terms[-1].key

    @property
    def keys(self) -> Keyring:
        """The keys that are known to have signed checkpoints: those that hand-overs lead to, once one was needed."""
        return self._keys.ring

    def hand_overs(self) -> list[HandOver]:
        """Every change of keys, in order; asked for, unless that was done a moment ago, and held against the log.

        Raises:
            IntegrityError: they do not lead from or to the key that was given, or are another log's.
            Unavailable: the other side, or the state directory, is out of reach.
        """
        self._keys.refresh()
        self.checkpoint()
        return self._keys.hand_overs

    # ------------------------------------------------------------------ append

    def append(self, drafts: Sequence[Draft]) -> list[Recorded]:
        """Record entries, all or none, in one request with those of other callers; see the port.

        Raises:
            IdempotencyConflict: a key is known with another request digest.
            ValidationError: a draft has no canonical form, or is too long; or there are too many of them.
            LedgerUnavailable: the other side is out of reach, does not take this instance's token, or is another
                version. The outcome may be unknown.
            IntegrityError: it contradicts a checkpoint, or what it was asked.
        """
        if not drafts:
            self._check_open()
            return []
        waiting = _Waiting(drafts, _encoded(drafts))
        with self._wake:
            self._check_open()
            if self._sender is None:
                self._sender = threading.Thread(target=self._serve, name="remote-ledger", daemon=True)
                self._sender.start()
            self._waiting.append(waiting)
            self._wake.notify()
        return waiting.done.result()

    def transact(self, unit: Callable[[LedgerTransaction], T]) -> T:
        """Run ``unit``, and commit its rows once its entries are recorded; see the port, and above.

        Raises:
            LedgerUnavailable: the other side, or this home's database, is out of reach.
            IntegrityError: as :meth:`append`.
        """
        self._check_open()
        known: dict[tuple[str, str], Recorded] = {}
        for _ in range(_AGAIN):
            transaction = _Transaction(self, self._database, known)
            try:
                with transaction:
                    return unit(transaction)
            except _AppendFirst as interrupted:
                # The lock is free by now.
                transaction.remember(interrupted.drafts, self.append(interrupted.drafts))
        raise RuntimeError("a unit appends other entries whenever it is run")

    def close(self) -> None:
        """Wait for what is under way, and close the connections. Later appends are refused."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._sender is not None:
            self._sender.join()
        self._client.close()

    def _serve(self) -> None:
        """Send for all who wait; while one request is under way, the next one gathers."""
        while taken := self._take():
            self._send(taken)

    def _take(self) -> "list[_Waiting]":
        """Those who go into the next request; nobody once the ledger is closed and none is left."""
        taken: list[_Waiting] = []
        drafts = size = 0
        with self._wake:
            self._wake.wait_for(lambda: self._waiting or self._closed)
            while self._waiting:
                one = self._waiting[0]
                drafts, size = drafts + len(one.drafts), size + len(one.encoded)
                if taken and (drafts > GROUP_DRAFTS or size > MAX_REQUEST):
                    break
                taken.append(self._waiting.popleft())
        return taken

    def _send(self, taken: "list[_Waiting]") -> None:
        """Record these callers' entries in one request, and answer each of them."""
        try:
            self._check_lately()
            recorded = self._post(taken)
        except (IdempotencyConflict, ValidationError) as error:
            if len(taken) == 1:
                taken[0].done.set_exception(error)
            else:  # of one of them; the others' are as good as ever
                for one in taken:
                    self._send([one])
        except BaseException as error:  # nobody may be left waiting, whatever happened
            for one in taken:
                one.done.set_exception(_unavailable(error) if isinstance(error, Unavailable) else error)
        else:
            for one in taken:
                one.done.set_result(recorded[: len(one.drafts)])
                recorded = recorded[len(one.drafts) :]

    def _post(self, taken: "list[_Waiting]") -> list[Recorded]:
        drafts = [draft for one in taken for draft in one.drafts]
        body = b'{"drafts":[' + b",".join(one.encoded for one in taken) + b"]}"
        answer = self._ask(EntriesAnswer, "POST", "entries", content=body, limit=1_024 + len(drafts) * _MAX_ENTRY)
        if len(answer.entries) != len(drafts):
            raise self._lies(f"it was asked to record {len(drafts)} entries and answers with {len(answer.entries)}")
        recorded = [one.recorded for one in answer.entries]
        for draft, one in zip(drafts, recorded, strict=True):
            self._check_answer(draft, one)
        self._acknowledged = max(self._acknowledged, *(one.index + 1 for one in recorded))
        return recorded

    def _check_answer(self, draft: Draft, recorded: Recorded) -> None:
        entry = self._parsed(recorded)
        if (entry.key, entry.request) != (draft.key, draft.request_digest):
            raise self._lies(f"asked to record {draft}, it answers with another entry, at index {recorded.index}")
        if recorded.fresh and recorded.body != draft.body(entry.time):
            raise self._lies(f"it says it has recorded {draft} at index {recorded.index}, and has changed it")

    def _check_open(self) -> None:
        if self._closed:
            raise LedgerUnavailable("the ledger is closed", remedy="this process is ending; try again on another")

    # ------------------------------------------------------------------- reads

    def size(self) -> int:
        """The number of entries, as the other side says; nobody may have signed it yet."""
        return self.head().size

    def head(self) -> Checkpoint:
        """The committed state, as the other side says; nobody may have signed it yet."""
        answer = self._ask(HeadAnswer, "GET", "head")
        if answer.origin != self._keys.trusted.name:
            raise self._lies(f"it keeps the ledger {answer.origin!r}, not {self._keys.trusted.name!r}")
        return Checkpoint(answer.origin, answer.size, bytes.fromhex(answer.root))

    def entry(self, index: int) -> Recorded:
        """The entry at ``index``.

        Raises:
            ResourceNotFoundError: there is none.
        """
        found = self.entries(index, index + 1) if index >= 0 else []
        if not found:
            raise ResourceNotFoundError(f"the ledger has no entry {index}", remedy=f"it has {self.size()} entries")
        return found[0]

    def entries(self, start: int, stop: int) -> list[Recorded]:
        """The entries ``start <= index < stop``, in order; fewer at the end of the log. All are held in memory."""
        at = max(start, 0)
        found: list[Recorded] = []
        while at < stop:
            page = self._page({"start": at, "end": min(stop, at + PAGE)})
            for expected, one in enumerate(page, at):
                if one.index != expected:
                    raise self._lies(f"asked for entry {expected}, it answers with entry {one.index}")
            found += page
            if len(page) < min(PAGE, stop - at):
                break
            at += len(page)
        return found

    def index_of(self, key: str) -> int | None:
        """The index of the entry with this key, if there is one."""
        found = self._page({"key": key})
        if any(one.entry.key != key for one in found):
            raise self._lies("asked for the entry with a key, it answers with another")
        return found[0].index if found else None

    def by_event(self, event_id: str, *, limit: int | None = None) -> list[Recorded]:
        """The entries of an event, in order, at most ``limit``; those of other instances too."""
        found: list[Recorded] = []
        start = 0
        while page := self._page({"event": event_id, "start": start}):
            for one in page:
                if one.index < start or one.entry.event_id != event_id:
                    raise self._lies("asked for the entries of an event, it answers with others, or in disorder")
                start = one.index + 1
            found += page
            if len(page) < PAGE or (limit is not None and len(found) >= limit):
                break
        return found[:limit]

    def bodies(self) -> Iterator[bytes]:
        """The bytes of every entry there is now, in order, for the verifier."""
        size = self.size()
        for n in range(-(-size // tiles.WIDTH)):
            width = min(tiles.WIDTH, size - n * tiles.WIDTH)
            path = Tile(0, n, width).path.replace("tile/0/", "tile/entries/", 1)
            bodies = parse_bundle(self._get(path, limit=MAX_BUNDLE))
            if len(bodies) != width:
                raise self._lies(f"{path} holds {len(bodies)} entries")
            yield from bodies

    def tiles(self) -> Iterator[tuple[TileId, bytes]]:
        """Every tile, level by level, for the verifier."""
        for tile in tiles.all_tiles(self.size()):
            yield tile.id, self._tile(tile)

    # ------------------------------------------------------------------ proofs

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """The hashes that prove entry ``index`` to be in the tree of ``size`` entries; checked up to a checkpoint.

        Raises:
            ResourceNotFoundError: the log has no such entry, or is smaller.
            IntegrityError: they do not prove it.
        """
        size = self.size() if size is None else size
        if not 0 <= index < size:
            raise ResourceNotFoundError(
                f"a tree of {size} entries has no entry {index}", remedy="ask for a smaller index or a larger tree"
            )
        hashes = self._hashes("proof/inclusion", {"index": index, "size": size})
        leaf = merkle.leaf_hash(self.entry(index).body)
        merkle.verify_inclusion(leaf, index, size, hashes, self._root_at(size))
        return hashes

    def consistency_proof(self, old: int, new: int | None = None) -> list[bytes]:
        """The hashes that prove the tree of ``old`` entries to be the beginning of ``new``; checked up to a checkpoint.

        Raises:
            ResourceNotFoundError: the log is smaller, or ``new`` is smaller than ``old``.
            IntegrityError: they do not prove it.
        """
        new = self.size() if new is None else new
        if not 0 <= old <= new:
            raise ResourceNotFoundError(
                f"no tree of {old} entries can become one of {new}", remedy="name the smaller tree first"
            )
        hashes = self._hashes("proof/consistency", {"old": old, "new": new})
        merkle.verify_consistency(old, new, hashes, self._root_at(old), self._root_at(new))
        return hashes

    def prove(self, index: int) -> Proof:
        """Entry ``index`` with all it takes to verify it offline; verified before it is handed out.

        Raises:
            ResourceNotFoundError: there is no such entry.
            IntegrityError: the proof is wrong, or its checkpoint contradicts the last one.
        """
        if index < 0:
            raise ResourceNotFoundError(f"the ledger has no entry {index}", remedy=f"it has {self.size()} entries")
        seen = self._last_seen()
        data = self._get(f"proof/{index}")
        try:
            proof = Proof.parse(data)
            verify_inclusion(proof, self._keys.ring_for(proof.checkpoint))
        except ValidationError as error:
            raise self._lies(f"its proof of entry {index} is none: {error.message}") from error
        if proof.index != index:
            raise self._lies(f"asked to prove entry {index}, it proves entry {proof.index}")
        self._accept(proof.checkpoint, seen)
        return proof

    def _root_at(self, size: int) -> bytes:
        """The root of the tree of ``size`` entries, from tiles, checked against a checkpoint."""
        root = self._tree_root(size)
        signed = self.checkpoint()
        if signed.size < size:
            signed = self.checkpoint(force=True)
        self._check_consistent(Checkpoint(self._keys.trusted.name, size, root), signed.checkpoint)
        return root

    def _tree_root(self, size: int) -> bytes:
        return tiles.root({tile.level: self._tile(tile) for tile in tiles.edge(size)})

    def _tile(self, tile: Tile) -> bytes:
        hashes = self._get(tile.path, limit=tiles.WIDTH * HASH_SIZE)
        if len(hashes) != tile.width * HASH_SIZE:
            raise self._lies(f"{tile.path} holds {len(hashes)} bytes")
        return hashes

    def _hashes(self, path: str, query: Mapping[str, int]) -> list[bytes]:
        return [bytes.fromhex(one) for one in self._ask(HashesAnswer, "GET", path, query=query).hashes]

    # ------------------------------------------------------------- checkpoints

    def checkpoint(self, *, force: bool = False) -> SignedCheckpoint:
        """The other side's last checkpoint; with ``force``, of all that is committed there.

        It is kept in this home, once its signature is verified and it is shown to continue the one before.

        Raises:
            IntegrityError: it contradicts the last one that was seen, or the other side no longer has what that one
                covers: a fork or a rollback.
            Unavailable: the other side, or the state directory, is out of reach.
        """
        seen, acknowledged = self._last_seen(), self._acknowledged
        note = self._get("checkpoint", "POST" if force else "GET", limit=MAX_NOTE)
        signed = self._accept(note, seen)
        if force and signed.size < acknowledged:
            raise self._lies(f"it acknowledged entry {acknowledged - 1}, and now signs a log of {signed.size} entries")
        self._checked = time.monotonic()
        return signed

    def _check_lately(self) -> None:
        if time.monotonic() - self._checked >= self._check_seconds:
            self.checkpoint()

    def _accept(self, note: str | bytes, seen: SignedCheckpoint | None) -> SignedCheckpoint:
        """Verify a checkpoint that was asked for when ``seen`` was the last, and keep it if it is newer."""
        try:
            signed = open_checkpoint(note, self._keys.ring_for(note))
        except ValidationError as error:
            raise self._lies(f"its checkpoint is not one of {self._keys.ring}: {error.message}") from error
        if unchecked := self._keys.unchecked:
            for one in unchecked:
                self._check_consistent(parse_checkpoint(parse_note(one.proof.checkpoint).text), signed.checkpoint)
            self._keys.keep(unchecked)
        if seen is not None and signed.size < seen.size:
            # A cache may show an older one. A ledger that was put back has no longer what was signed then.
            self._check_has(seen.checkpoint, signed.checkpoint)
            return seen
        while True:
            if seen is not None:
                self._check_consistent(seen.checkpoint, signed.checkpoint)
            with self._seen.locked(WRITE_LOCK_TIMEOUT):
                last = self._last_seen()
                if last == seen:
                    if seen is None or signed.size > seen.size:
                        self._seen.replace(signed.note)
                    return signed
            seen = last  # another thread or process was here; it must have been shown the same log

    def _check_has(self, seen: Checkpoint, shown: Checkpoint) -> None:
        try:
            root = self._tree_root(seen.size)
        except ResourceNotFoundError as error:
            raise IntegrityError(
                f"the ledger at {self.url} shows a checkpoint of {shown.size} entries, and has shown one of"
                f" {seen.size} before: it was rolled back",
                remedy=_STOP,
            ) from error
        self._check_consistent(Checkpoint(seen.origin, seen.size, root), seen)
        self._check_consistent(shown, seen)

    def _check_consistent(self, one: Checkpoint, other: Checkpoint) -> None:
        old, new = sorted((one, other), key=lambda checkpoint: checkpoint.size)
        hashes = []
        try:
            if 0 < old.size < new.size:
                hashes = self._hashes("proof/consistency", {"old": old.size, "new": new.size})
            merkle.verify_consistency(old.size, new.size, hashes, old.root, new.root)
        except (IntegrityError, ResourceNotFoundError) as error:
            raise IntegrityError(
                f"the ledger at {self.url} does not prove that its tree of {new.size} entries continues that of"
                f" {old.size}, root {old.root.hex()}: the history was rewritten (a fork)",
                remedy=_STOP,
            ) from error

    def _last_seen(self) -> SignedCheckpoint | None:
        note = self._seen.read()
        try:
            return None if note is None else open_checkpoint(note, self._keys.ring_for(note))
        except ValidationError as error:
            raise IntegrityError(
                f"the file {self._seen.path} is not a checkpoint of {self._keys.ring}: {error.message}",
                remedy="it was damaged, or signed by a key that was replaced, or BITT_API_KEY is another ledger's: a"
                " home keeps to one ledger",
            ) from error

    def _shown_hand_overs(self) -> Sequence[Proof]:
        """What the other side shows; nothing of it is verified."""
        return self._ask(KeysAnswer, "GET", "keys", limit=MAX_KEYS_ANSWER).handOvers

    # -------------------------------------------------------------------- HTTP

    def _page(self, query: Mapping[str, int | str]) -> list[Recorded]:
        answer = self._ask(EntriesAnswer, "GET", "entries", query=query, limit=1_024 + PAGE * _MAX_ENTRY)
        found = [one.recorded for one in answer.entries]
        for one in found:
            self._parsed(one)
        return found

    def _parsed(self, recorded: Recorded) -> Entry:
        try:
            recorded.entry.check_key()
            recorded.entry.check_canonical(recorded.body)
        except (ValidationError, IntegrityError) as error:
            raise self._lies(f"entry {recorded.index}: {error.message}") from error
        return recorded.entry

    def _ask(
        self,
        model: type[Answer],
        method: str,
        path: str,
        *,
        query: Mapping[str, int | str] | None = None,
        content: bytes | None = None,
        limit: int = _MAX_ANSWER,
    ) -> Answer:
        data = self._get(path, method, query=query, content=content, limit=limit)
        try:
            return model.model_validate_json(data)
        except pydantic.ValidationError as error:
            raise LedgerUnavailable(
                f"the ledger at {self.url} answers {method} {path} with what is no {model.__name__}:"
                f" {error.errors(include_url=False, include_input=False)[0]['msg']}",
                remedy="check BITT_API_URL; both sides may run different versions: upgrade the older one",
            ) from None

    def _get(
        self,
        path: str,
        method: str = "GET",
        *,
        query: Mapping[str, int | str] | None = None,
        content: bytes | None = None,
        limit: int = _MAX_ANSWER,
    ) -> bytes:
        """The body of an answer, of at most ``limit`` bytes.

        Raises:
            ResourceNotFoundError, IdempotencyConflict, ValidationError: the ledger refuses for good.
            LedgerUnavailable: anything else went wrong.
        """
        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}", "Cache-Control": "no-cache"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        deadline = time.monotonic() + (TIMEOUT.read or 0) * 3
        try:
            with self._client.stream(
                method, f"{self.url}/bitt/{path}", params=query, content=content, headers=headers
            ) as response:
                data = bytearray()
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > limit or time.monotonic() > deadline:
                        raise LedgerUnavailable(
                            f"the ledger at {self.url} answers {method} {path} with more than {limit:,} bytes, or"
                            " too slowly",
                            remedy="check BITT_API_URL, and the network",
                        )
        except httpx.HTTPError as error:
            raise LedgerUnavailable(
                f"the ledger at {self.url} is out of reach: {type(error).__name__}",
                remedy="check BITT_API_URL, and the gateway there",
            ) from error
        except RuntimeError as error:  # what httpx raises for a client that was closed
            raise LedgerUnavailable("the ledger is closed", remedy="this process is ending") from error
        if response.status_code != httpx.codes.OK:
            self._refused(response, bytes(data), f"{method} {path}")
        return bytes(data)

    def _refused(self, response: httpx.Response, data: bytes, what: str) -> NoReturn:
        status, problem = response.status_code, _problem(data)
        refusal = _REFUSALS.get((status, problem.type.removeprefix(ERROR)))
        if refusal is not None and problem.type.startswith(ERROR):
            raise refusal(f"the ledger at {self.url} refuses: {problem.detail}")
        remedy = "check the gateway there"
        if status in (401, 403):
            remedy = "check BITT_API_TOKEN and COAFI_INSTANCE here, and COAFI_BITT_APPEND_TOKENS there"
        elif status in (400, 404, 405, 413) or status < 400:
            remedy = "check BITT_API_URL, which must not redirect; both sides may run different versions"
        wait = response.headers.get("retry-after", "")
        raise LedgerUnavailable(
            f"the ledger at {self.url} answers {what} with {status}{f': {problem.detail}' if problem.detail else ''}",
            remedy=remedy,
            retry_after=min(float(wait), 60.0) if wait.isascii() and wait.isdecimal() else None,
        )

    def _lies(self, problem: str) -> IntegrityError:
        return IntegrityError(
            f"the ledger at {self.url} cannot be trusted: {problem}", remedy="stop using it, and ask who runs it"
        )


class _AppendFirst(BaseException):  # not an Exception: a unit that catches those must not catch this one
    """A unit that has begun to write wants entries recorded: it is begun again when they are."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        super().__init__()
        self.drafts = drafts


class _Transaction:
    """What a unit works with: rows here, entries there. The database is locked when it is first used."""

    def __init__(self, ledger: RemoteLedger, database: Database, known: dict[tuple[str, str], Recorded]) -> None:
        self._ledger = ledger
        self._database = database
        self._known = known
        self._given: set[str] = set()
        self._stack = contextlib.ExitStack()
        self._connection: Connection | None = None
        self._ended = False

    def __enter__(self) -> None:
        self._stack.__enter__()

    def __exit__(self, *error: object) -> None:
        self._ended = True
        try:
            self._stack.__exit__(*error)  # type: ignore[arg-type]  # they are what the interpreter gave
        except LedgerUnavailable:
            raise
        except Unavailable as unavailable:
            raise _unavailable(unavailable) from unavailable

    @property
    def connection(self) -> Connection:
        self._check()
        if self._connection is None:
            try:
                self._connection = self._stack.enter_context(self._database.write())
            except Unavailable as error:
                raise _unavailable(error) from error
        return self._connection

    def append(self, drafts: Sequence[Draft]) -> list[Recorded]:
        self._check()
        if any((draft.key, draft.request_digest) not in self._known for draft in drafts):
            if self._connection is not None:
                raise _AppendFirst(drafts)
            self.remember(drafts, self._ledger.append(drafts))
        return [self._give(draft) for draft in drafts]

    def remember(self, drafts: Sequence[Draft], recorded: Sequence[Recorded]) -> None:
        """Know these from now on, in this run of the unit and in the next."""
        for draft, one in zip(drafts, recorded, strict=True):
            self._known.setdefault((draft.key, draft.request_digest), one)

    def _give(self, draft: Draft) -> Recorded:
        """What is known of a draft; fresh the first time only, as if the unit had run once."""
        one = self._known[draft.key, draft.request_digest]
        fresh = one.fresh and draft.key not in self._given
        self._given.add(draft.key)
        return Recorded(one.index, one.body, fresh)

    def _check(self) -> None:
        if self._ended:
            raise RuntimeError("this transaction has ended: use it only within its unit")


@dataclass(eq=False)
class _Waiting:
    """A caller's drafts, also as JSON without the brackets around them."""

    drafts: Sequence[Draft]
    encoded: bytes
    done: "Future[list[Recorded]]" = field(default_factory=Future)


class _Problem(pydantic.BaseModel):
    """What matters of a problem (RFC 9457)."""

    type: str = ""
    detail: str = ""


def _problem(data: bytes) -> _Problem:
    try:
        found = _Problem.model_validate_json(data)
    except pydantic.ValidationError:
        return _Problem()
    return _Problem(type=found.type, detail=found.detail[:1_000])


def _encoded(drafts: Sequence[Draft]) -> bytes:
    """The drafts as JSON, once it is known that they can be recorded.

    Raises:
        ValidationError: one has no canonical form or is too long, or they are too many.
    """
    for draft in drafts:
        draft.body(_ANY_TIME)
        _ = draft.request_digest
    encoded = AppendRequest.model_construct(drafts=tuple(DraftMessage.of(draft) for draft in drafts))
    data = encoded.model_dump_json().encode().removeprefix(b'{"drafts":[').removesuffix(b"]}")
    if len(drafts) > MAX_DRAFTS or len(data) > MAX_REQUEST - 1_024:
        raise ValidationError(
            f"{len(drafts):,} entries of {len(data):,} bytes are too much for one append to a remote ledger",
            remedy=f"append at most {MAX_DRAFTS:,} entries and {MAX_REQUEST:,} bytes at a time",
        )
    return data


_ANY_TIME = "2000-01-01T00:00:00.000Z"


def _unavailable(error: Unavailable) -> LedgerUnavailable:
    if isinstance(error, LedgerUnavailable):
        return error
    return LedgerUnavailable(error.message, remedy=error.remedy, retry_after=error.retry_after)
