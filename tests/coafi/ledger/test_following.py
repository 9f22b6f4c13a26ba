"""The key of a remote ledger is changed: who trusts any key it had goes on, and is not led anywhere else."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from coafi.database import Database
from coafi.errors import IntegrityError, LedgerUnavailable
from coafi.ledger.checkpoint import open_checkpoint, sign_checkpoint
from coafi.ledger.handover import HandOver, keyring, open_hand_over
from coafi.ledger.keyfile import HeldKey, KeyFile
from coafi.ledger.keys import Signer, VerifierKey, generate_key
from coafi.ledger.log import Ledger
from coafi.ledger.proof import Proof
from coafi.ledger.remote import RemoteLedger
from coafi.ledger.rotation import rotate
from coafi.ledger.verifier import verify_inclusion
from tests.coafi.ledger.making import HANG, draft
from tests.coafi.ledger.serving import Served, remote, served
from tests.coafi.ledger.test_remote import Meddler, on

ORIGIN = "coafi.local/bitt"


def change_key(there: Served) -> HandOver:
    """Do what ``coafi ledger keys rotate`` does where the ledger is kept."""
    done = rotate(there.ledger, KeyFile(there.resources.settings.ledger_key_path).prepare())
    there.ledger.append([draft(f"after {done.new.key_id.hex()}")])
    there.ledger.checkpoint(force=True)
    return done


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "there") as one:
        one.ledger.append([draft(f"first {number}") for number in range(3)])
        yield one


@pytest.fixture
def way() -> Meddler:
    return Meddler()


def asked(way: Meddler) -> int:
    return way.seen.count("GET keys")


def forget(ledger: RemoteLedger) -> None:
    """Let the time pass in which hand-overs are not asked for again."""
    ledger._keys._asked = float("-inf")


# ------------------------------------------------------------------------------------------- following


def test_the_key_changes_while_an_instance_appends(there: Served, tmp_path: Path, way: Meddler) -> None:
    old = there.ledger.key
    stop, failures, numbers = threading.Event(), list[BaseException](), iter(range(10**9))
    with remote(there, tmp_path / "here", client=way.client, check_seconds=0) as ledger:
        kept = ledger.checkpoint(force=True)

        def work() -> None:
            try:
                while not stop.is_set():
                    ledger.append([draft(f"busy {next(numbers)}")])
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        done = change_key(there)
        ledger.append([draft("after the change")])
        assert ledger.checkpoint(force=True).size > done.size
        stop.set()
        for thread in threads:
            thread.join(HANG)
        assert failures == []
        assert ledger.key == done.new == there.ledger.key != old
        assert ledger.keys == there.ledger.keys
        assert asked(way) == 1
        proof = ledger.prove(0)
        assert verify_inclusion(proof, ledger.keys).index == 0
        assert ledger.consistency_proof(kept.size)
        note = (tmp_path / "here" / "state" / "checkpoint").read_bytes()
        assert open_checkpoint(note, done.new).size > kept.size


def test_the_next_process_knows_the_keys_and_asks_for_nothing(there: Served, tmp_path: Path, way: Meddler) -> None:
    old = there.ledger.key
    with remote(there, tmp_path / "here") as ledger:
        ledger.checkpoint()
        done = change_key(there)
        ledger.checkpoint(force=True)
    for key in (old, done.new):
        with remote(there, tmp_path / "here", key=key, client=way.client) as ledger:
            assert ledger.keys == there.ledger.keys
            ledger.append([draft(f"by {key}")])
    assert asked(way) == 0
    (tmp_path / "here" / "state" / "hand-overs").unlink()
    with remote(there, tmp_path / "here", key=old, client=way.client) as ledger:
        ledger.checkpoint()
        assert ledger.keys == there.ledger.keys
    assert asked(way) == 1


@pytest.mark.parametrize("number", [0, 1, 2])
def test_any_key_that_the_log_had_will_do(there: Served, tmp_path: Path, number: int) -> None:
    with remote(there, tmp_path / "here") as ledger:
        kept = ledger.checkpoint(force=True)
    for _ in range(2):
        change_key(there)
    key = there.ledger.keys.terms[number].key
    with remote(there, tmp_path / "here", key=key) as ledger:
        assert ledger.append([draft("any")])[0].index == there.ledger.size() - 1
        assert ledger.checkpoint(force=True).size > kept.size
        assert ledger.keys == there.ledger.keys
        assert ledger.key == there.ledger.key


def test_two_processes_of_an_instance_share_what_one_of_them_was_shown(
    there: Served, tmp_path: Path, way: Meddler
) -> None:
    with remote(there, tmp_path / "here") as one, remote(there, tmp_path / "here", client=way.client) as two:
        two.checkpoint()
        change_key(there)
        one.checkpoint(force=True)
        two.checkpoint(force=True)
        assert two.keys == there.ledger.keys
    assert asked(way) == 0


def test_hand_overs_are_asked_for_when_they_are_wanted(there: Served, tmp_path: Path, way: Meddler) -> None:
    with remote(there, tmp_path / "here", client=way.client) as ledger:
        assert ledger.hand_overs() == []
        done = change_key(there)
        assert ledger.hand_overs() == []  # asked a moment ago, and nothing that was not known signed anything
        forget(ledger)
        assert ledger.hand_overs() == [done]
        assert keyring(ledger.key, ledger.hand_overs()) == there.ledger.keys
    assert asked(way) == 2


def test_two_changes_at_once_are_a_matter_of_waiting(there: Served, tmp_path: Path, way: Meddler) -> None:
    with remote(there, tmp_path / "here", client=way.client) as ledger:
        change_key(there)
        ledger.checkpoint(force=True)
        change_key(there)
        for _ in range(3):
            with pytest.raises(LedgerUnavailable, match="asked for a moment ago") as caught:
                ledger.checkpoint(force=True)
            assert caught.value.retry_after is not None
            assert 0 < caught.value.retry_after <= 5
        assert asked(way) == 1
        forget(ledger)
        ledger.checkpoint(force=True)
        assert ledger.keys == there.ledger.keys


# --------------------------------------------------------------------------------------- not believing


def test_a_key_that_was_replaced_signs_nothing_more(there: Served, tmp_path: Path, way: Meddler) -> None:
    path = there.resources.settings.ledger_key_path
    old = KeyFile(path).current()
    with remote(there, tmp_path / "here", client=way.client) as ledger:
        ledger.checkpoint()
        done = change_key(there)
        ledger.checkpoint(force=True)
        there.ledger.append([draft("more")])
        forged = sign_checkpoint(there.ledger.head(), old).note.encode()
        assert there.ledger.head().size > done.size

        def sign(request: httpx.Request, response: httpx.Response, _body: bytes) -> httpx.Response:
            return httpx.Response(200, content=forged) if request.url.path == "/bitt/checkpoint" else response

        way.change = sign
        for _ in range(2):
            with pytest.raises(IntegrityError, match=f"which signed from 0 to {done.size} entries"):
                ledger.checkpoint()
    # The next process, which was given the old key and nothing else, knows it as well.
    with (
        remote(there, tmp_path / "here", key=old.key, client=way.client) as ledger,
        pytest.raises(IntegrityError, match="which signed from 0 to"),
    ):
        ledger.append([draft("never")])
    # So does one that had believed the old key before it was shown the hand-over.
    with remote(there, tmp_path / "late", key=old.key, client=way.client) as ledger:
        ledger.checkpoint()
        way.change = None
        with pytest.raises(
            IntegrityError, match=f"checkpoint is not a checkpoint of .* which signed from 0 to {done.size} entries"
        ):
            ledger.checkpoint(force=True)


def hand_overs_between(directory: Path, *keys: Signer) -> tuple[list[Proof], Proof]:
    """The hand-overs of a log of its own in which each key handed over to the next; and a proof of another entry."""
    directory.mkdir()
    database = Database(directory / "coafi.db")
    database.create_tables()
    for pair in pairwise(keys):
        log = Ledger(database, origin=keys[0].name, signer=HeldKey(*pair), state_directory=directory / "state")
        with closing(log):
            log.append([draft(f"of {pair[0].key}")])
            rotate(log, pair[1])
            found = [one.proof for one in log.hand_overs()], log.prove(0)
    database.close()
    return found


def shows(proofs: list[Proof]) -> Callable[[Any], Any]:
    return lambda _answer: {"keys": [], "handOvers": [json.loads(one.model_dump_json()) for one in proofs]}


@pytest.mark.parametrize("withheld", [True, False])
def test_a_key_that_no_hand_over_leads_to_is_refused(
    there: Served, tmp_path: Path, way: Meddler, withheld: bool
) -> None:
    if withheld:
        way.change = on("keys", shows([]))
        key = there.ledger.key
        change_key(there)
    else:
        key = generate_key(tmp_path / "stranger", ORIGIN).key
        change_key(there)
    with remote(there, tmp_path / "here", key=key, client=way.client) as ledger:
        for _ in range(3):
            with pytest.raises(IntegrityError, match=r"its checkpoint is not one of|do not lead from or to the key"):
                ledger.append([draft("never")])
        assert asked(way) == 1
        assert not (tmp_path / "here" / "state" / "checkpoint").exists()
        if withheld:
            way.change = None
            forget(ledger)
            ledger.append([draft("now")])


def lies(there: Served, tmp_path: Path) -> dict[str, tuple[Callable[[Any], Any], str]]:
    """What a server may show instead of its hand-overs."""
    first, second, third = (Signer("test.example/log", bytes([number]) * 32) for number in (1, 2, 3))
    foreign, entry = hand_overs_between(tmp_path / "other", first, second, third)
    (own,) = there.ledger.hand_overs()

    def changed(answer: Any) -> Any:
        answer["handOvers"][0]["entry"] = answer["handOvers"][0]["entry"].replace("old", "odd", 1)
        return answer

    def unsigned(answer: Any) -> Any:
        note = answer["handOvers"][0]["checkpoint"]
        answer["handOvers"][0]["checkpoint"] = note[: note.rstrip("\n").rindex("\n") + 1]
        return answer

    return {
        "of another log": (shows(foreign), "do not lead from or to the key"),
        "beside its own": (shows([own.proof, *foreign]), "do not lead from or to the key"),
        "a gap": (shows([foreign[0], own.proof]), "do not lead"),
        "no change of keys": (shows([entry]), "as a change of its keys is none"),
        "changed": (changed, "is none|not in the tree"),
        "signed by one": (unsigned, "as a change of its keys is none: the note is not signed by"),
    }


def test_hand_overs_that_are_lies_are_refused(there: Served, tmp_path: Path, way: Meddler) -> None:
    key = there.ledger.key
    change_key(there)
    for name, (lie, problem) in lies(there, tmp_path).items():
        way.change = on("keys", lie)
        with remote(there, tmp_path / name, key=key, client=way.client) as ledger:
            with pytest.raises(IntegrityError, match=problem) as caught:
                ledger.append([draft("never")])
            assert caught.value.remedy
            with pytest.raises(IntegrityError):
                ledger.checkpoint()
        assert not (tmp_path / name / "state" / "hand-overs").exists()


def test_an_answer_that_is_none_is_a_matter_of_waiting(there: Served, tmp_path: Path, way: Meddler) -> None:
    key = there.ledger.key
    change_key(there)
    way.change = on("keys", lambda _answer: {"handOvers": "x"})
    with remote(there, tmp_path / "here", key=key, client=way.client) as ledger:
        with pytest.raises(LedgerUnavailable, match="no KeysAnswer"):
            ledger.checkpoint()
        way.change = None
        forget(ledger)
        ledger.checkpoint()


def test_a_hand_over_in_a_fork_of_the_log_is_refused(tmp_path: Path, way: Meddler) -> None:
    """Both logs have the same keys, and each handed over to the same one: at another size, or of other entries."""
    first, second = generate_key(tmp_path / "first", ORIGIN), generate_key(tmp_path / "second", ORIGIN)
    assert first != second
    found: dict[str, list[HandOver]] = {}
    for name in ("a", "b"):
        secrets = tmp_path / name / "home" / "secrets"
        secrets.mkdir(parents=True, mode=0o700)
        shutil.copy(tmp_path / "first", secrets / "ledger-key")
        shutil.copy(tmp_path / "second", secrets / "ledger-key.next")
        with served(tmp_path / name) as one:
            one.ledger.append([draft(f"{name} {number}") for number in range(3)])
            change_key(one)
            found[name] = one.ledger.hand_overs()
    way.change = on("keys", shows([one.proof for one in found["b"]]))
    with (
        served(tmp_path / "a") as one,
        remote(one, tmp_path / "here", key=first.key, client=way.client) as ledger,
    ):
        for _ in range(2):
            with pytest.raises(IntegrityError, match=r"rewritten \(a fork\)"):
                ledger.append([draft("never")])
    assert not (tmp_path / "here" / "state" / "hand-overs").exists()


def test_hand_overs_in_another_order_than_the_log_s_are_no_chain(tmp_path: Path) -> None:
    keys = [Signer(ORIGIN, bytes([number]) * 32) for number in (1, 2, 3)]
    proofs, _ = hand_overs_between(tmp_path / "log", *keys)
    first, second = map(open_hand_over, proofs)
    assert len(keyring(keys[1].key, [first, second]).terms) == 3
    for size in (first.size, first.size - 1):
        with pytest.raises(IntegrityError, match="they are of two logs"):
            keyring(keys[1].key, [first, second._replace(size=size)])


def test_two_hand_overs_of_one_key_are_found_by_who_knows_one(there: Served, tmp_path: Path, way: Meddler) -> None:
    old: VerifierKey = there.ledger.key
    thief = KeyFile(there.resources.settings.ledger_key_path).current()
    with remote(there, tmp_path / "here", client=way.client) as ledger:
        change_key(there)
        ledger.checkpoint(force=True)
        forged, _ = hand_overs_between(tmp_path / "forged", thief, Signer(ORIGIN, bytes(32)))
        way.change = on("keys", shows(forged))
        forget(ledger)
        with pytest.raises(IntegrityError, match="handed over to two others"):
            ledger.hand_overs()
    assert ledger.keys.terms[0].key == old
    assert ledger.keys == there.ledger.keys


@pytest.mark.parametrize("content", ["", "{}", '{"handOvers": [{}]}', '{"handOvers": 1}', "[" * 100_000])
def test_a_file_of_hand_overs_that_is_damaged_is_named(there: Served, tmp_path: Path, content: str) -> None:
    state = tmp_path / "here" / "state"
    state.mkdir(parents=True)
    (state / "hand-overs").write_text(content)
    with (
        pytest.raises(IntegrityError, match="hand-overs is damaged") as caught,
        remote(there, tmp_path / "here"),
    ):
        pass
    assert "remove it" in (caught.value.remedy or "")
