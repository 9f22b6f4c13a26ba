"""New keys: hand-overs, what old keys still count for, and kills between any two steps."""

import base64
import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coafi.canonical import JsonObject
from coafi.database import Database
from coafi.errors import (
    AuthorizationError,
    CoafiError,
    IntegrityError,
    ResourceNotFoundError,
    Unavailable,
    ValidationError,
)
from coafi.ledger.audit import audit
from coafi.ledger.checkpoint import (
    Checkpoint,
    SignedCheckpoint,
    open_checkpoint,
    parse_note,
    sign_checkpoint,
    sign_note,
)
from coafi.ledger.entry import Draft
from coafi.ledger.handover import key_change, keyring, open_hand_over
from coafi.ledger.keyfile import HeldKey, KeyFile, KeySource
from coafi.ledger.keys import Keyring, Signer, Term, generate_key
from coafi.ledger.log import Ledger
from coafi.ledger.proof import Proof
from coafi.ledger.published import StateFile
from coafi.ledger.rotation import rotate
from coafi.ledger.store import store_for
from coafi.ledger.verifier import verify_consistency, verify_inclusion
from coafi.names import EntryType
from tests.coafi.ledger.making import HANG, ORIGIN, draft
from tests.postgresql import where

OLD, NEW, THIRD = (Signer(ORIGIN, bytes([number]) * 32) for number in (1, 2, 3))


@contextmanager
def ledger_with(directory: Path, key: Signer | KeySource) -> Iterator[Ledger]:
    database = Database(where(directory), write_lock_timeout=HANG)
    database.create_tables()
    ledger = Ledger(database, origin=ORIGIN, signer=key, state_directory=directory / "state", publish_seconds=3600)
    try:
        yield ledger
    finally:
        ledger.close()
        database.close()


def key_file(directory: Path) -> KeyFile:
    path = directory / "ledger-key"
    if not path.exists():
        generate_key(path, ORIGIN)
    return KeyFile(path)


def rotated(directory: Path) -> Proof:
    """A ledger of two keys; the proof is the hand-over."""
    with ledger_with(directory, HeldKey(OLD, NEW)) as ledger:
        ledger.append([draft(i) for i in range(3)])
        ledger.checkpoint(force=True)
        proof = rotate(ledger, NEW).proof
        ledger.append([draft(3)])
        ledger.checkpoint(force=True)
        return proof


# ------------------------------------------------------------------ hand-overs


def test_a_change_of_keys_is_an_entry_and_a_checkpoint_that_both_signed(tmp_path: Path) -> None:
    with ledger_with(tmp_path, HeldKey(OLD, NEW)) as ledger:
        ledger.append([draft(i) for i in range(3)])
        before = ledger.checkpoint(force=True)
        done = rotate(ledger, NEW)
        assert (done.old, done.new, done.size) == (OLD.key, NEW.key, 4)
        entry = ledger.entry(3).entry
        assert entry.type == EntryType.LEDGER_KEY_CHANGED
        assert (entry.data["old"], entry.data["new"]) == (str(OLD.key), str(NEW.key))
        message = f"BITT key change\n{OLD.key}\n{NEW.key}\n".encode()
        for key, name in ((OLD.key, "signedByOld"), (NEW.key, "signedByNew")):
            assert key.verifies(base64.b64decode(str(entry.data[name])), message)
        ids = [line.key_id for line in parse_note(done.proof.checkpoint).signatures]
        assert ids == [OLD.key.key_id, NEW.key.key_id]
        assert ledger.key == NEW.key
        ledger.append([draft(9)])
        after = ledger.checkpoint(force=True)
        assert [line.key_id for line in parse_note(after.note).signatures] == [NEW.key.key_id]
        assert ledger.keys.terms == (Term(OLD.key, 0, 4), Term(NEW.key, 4, None))
        for signed in (before, after):
            assert open_checkpoint(signed.note, ledger.keys) == signed
        proof = ledger.consistency_proof(3, 5)
        assert verify_consistency(before.note, after.note, proof, ledger.keys)[1].size == 5
        assert audit(ledger).log.checkpoints == 3


def test_who_trusts_either_key_comes_to_trust_the_other(tmp_path: Path) -> None:
    hand_over = open_hand_over(Proof.parse(rotated(tmp_path).model_dump_json()))
    rings = {keyring(key.key, [hand_over]) for key in (OLD, NEW)}
    assert rings == {Keyring((Term(OLD.key, 0, 4), Term(NEW.key, 4)))}
    assert keyring(THIRD.key, [hand_over]) == Keyring((Term(THIRD.key),))
    with ledger_with(tmp_path, NEW) as ledger:
        proof = ledger.prove(0)
    assert verify_inclusion(proof, keyring(OLD.key, [hand_over])).index == 0
    with pytest.raises(ValidationError, match="not signed by"):
        verify_inclusion(proof, OLD.key)


def test_three_keys_are_a_chain_in_whatever_order_it_is_given(tmp_path: Path) -> None:
    rotated(tmp_path)
    with ledger_with(tmp_path, HeldKey(NEW, THIRD)) as ledger:
        rotate(ledger, THIRD)
        hand_overs = ledger.hand_overs()
        expected = (Term(OLD.key, 0, 4), Term(NEW.key, 4, 6), Term(THIRD.key, 6))
        for trusted in (OLD, NEW, THIRD):
            assert keyring(trusted.key, reversed(hand_overs)).terms == expected
    with ledger_with(tmp_path, THIRD) as ledger:
        report = audit(ledger)
        assert (len(report.keys.terms), report.log.checkpoint.size) == (3, 6)


def test_a_retired_key_can_sign_nothing_more_that_is_believed(tmp_path: Path) -> None:
    ring = keyring(NEW.key, [open_hand_over(rotated(tmp_path))])
    for size, signer, good in ((4, OLD, True), (5, OLD, False), (4, NEW, True), (3, NEW, False)):
        signed = sign_checkpoint(Checkpoint(ORIGIN, size, bytes(32)), signer)
        if good:
            assert open_checkpoint(signed.note, ring) == signed
        else:
            with pytest.raises(ValidationError, match="a key that was replaced"):
                open_checkpoint(signed.note, ring)
    both = sign_checkpoint(Checkpoint(ORIGIN, 9, bytes(32)), OLD, NEW)
    assert open_checkpoint(both.note, ring) == both


@pytest.mark.parametrize("thief", [OLD, NEW])
def test_nobody_with_one_key_can_hand_over(tmp_path: Path, thief: Signer) -> None:
    proof = rotated(tmp_path)
    text = Checkpoint(ORIGIN, proof.size, open_checkpoint(proof.checkpoint, OLD.key).checkpoint.root)
    for signers in ((thief,), (thief, THIRD)):
        forged = proof.model_copy(update={"checkpoint": sign_checkpoint(text, *signers).note})
        with pytest.raises(ValidationError, match="not signed by"):
            open_hand_over(forged)


def cosigned(proof: Proof, signer: Signer) -> Proof:
    """The same proof, its checkpoint signed by somebody else as well."""
    line = sign_note(parse_note(proof.checkpoint).text, signer).rpartition("\n\n")[2]
    return proof.model_copy(update={"checkpoint": proof.checkpoint + line})


def forgeries() -> dict[str, Draft]:
    """Changes of keys as somebody writes them into the database who has a key of their own and none of the log."""
    (mine, ours), nobody = (THIRD, OLD.key), THIRD.sign
    to_mine, to_ours = key_change(ours, nobody, mine), key_change(mine.key, nobody, mine)
    named: JsonObject = {"old": str(mine.key), "new": str(ours)}
    moved = replace(to_ours, inputs=named, data={**to_ours.data, **named}, step="key/of-the-log")
    nothing = {name: value for name, value in to_mine.data.items() if not name.startswith("signed")}
    return {
        "to the thief's": to_mine,
        "to the log's": moved,
        "unsigned": replace(to_mine, data=nothing),
        "no base64": replace(to_mine, data={**to_mine.data, "signedByOld": "?"}),
        "the other's signature": replace(to_mine, data={**to_mine.data, "signedByOld": to_mine.data["signedByNew"]}),
        "no keys": replace(to_mine, data={}),
    }


@pytest.mark.parametrize("name", forgeries())
def test_who_has_the_database_and_no_key_cannot_make_a_hand_over(tmp_path: Path, name: str) -> None:
    """The log signs a checkpoint over the entry, as over all others, and the thief signs the same one."""
    with ledger_with(tmp_path, OLD) as ledger:
        ledger.append([draft(0)])
        ledger.append([forgeries()[name]])  # through this ledger only because that is quicker to write
        proof = ledger.prove(1)
        assert parse_note(proof.checkpoint).text.splitlines()[1] == "2"
        with pytest.raises(ValidationError) as caught:
            open_hand_over(cosigned(proof, THIRD))
        assert caught.value.remedy
        assert ledger.hand_overs() == []
        with pytest.raises(IntegrityError, match="entry 1 is a change of keys that is none") as found:
            audit(ledger)
        assert found.value.remedy
    note = cosigned(proof, THIRD).checkpoint
    with Database(tmp_path / "coafi.db").write() as connection:
        connection.exec_driver_sql("UPDATE ledger_checkpoint SET note = ?", (note,))
    with ledger_with(tmp_path, HeldKey(OLD, NEW)) as ledger:
        assert ledger.keys.terms == (Term(OLD.key),)
        assert rotate(ledger, NEW).old == OLD.key, "and the log can change its key"


def test_an_entry_that_was_there_before_its_key_stops_the_change(tmp_path: Path) -> None:
    with ledger_with(tmp_path, HeldKey(OLD, NEW)) as ledger:
        real = key_change(OLD.key, OLD.sign, NEW)
        ledger.append([replace(real, data={**real.data, "signedByOld": real.data["signedByNew"]})])
        with pytest.raises(IntegrityError, match=r"entry 0: .* did not sign that") as caught:
            rotate(ledger, NEW)
        assert "make another new key" in str(caught.value.remedy)
        assert ledger.key == OLD.key
    with ledger_with(tmp_path, HeldKey(OLD, THIRD)) as ledger:
        assert rotate(ledger, THIRD).new == THIRD.key


def test_a_proof_of_another_entry_is_no_hand_over(tmp_path: Path) -> None:
    rotated(tmp_path)
    with ledger_with(tmp_path, NEW) as ledger, pytest.raises(ValidationError, match="no change of keys"):
        open_hand_over(ledger.prove(0))


def test_two_hand_overs_of_one_key_are_trusted_by_nobody(tmp_path: Path) -> None:
    for name, successor in (("one", NEW), ("other", THIRD)):
        (tmp_path / name).mkdir()
        with ledger_with(tmp_path / name, HeldKey(OLD, successor)) as ledger:
            rotate(ledger, successor)
    hand_overs = []
    for name, signer in (("one", NEW), ("other", THIRD)):
        with ledger_with(tmp_path / name, signer) as ledger:
            hand_overs += ledger.hand_overs()
    with pytest.raises(IntegrityError, match="to two others"):
        keyring(OLD.key, hand_overs)


def test_a_key_that_was_in_use_does_not_come_back(tmp_path: Path) -> None:
    rotated(tmp_path)
    with ledger_with(tmp_path, HeldKey(NEW, OLD)) as ledger:
        for successor in (OLD, NEW):
            with pytest.raises(ValidationError, match="in use before"):
                rotate(ledger, successor)
        with pytest.raises(ValidationError, match="another log"):
            rotate(ledger, Signer("other.example/log", bytes(32)))


def test_keys_of_two_logs_are_no_ring() -> None:
    with pytest.raises(ValidationError, match="one log"):
        Keyring((Term(OLD.key), Term(Signer("other.example/log", bytes(32)).key)))
    with pytest.raises(ValidationError, match="one log"):
        Keyring(())


def test_a_damaged_hand_over_is_found(tmp_path: Path) -> None:
    rotated(tmp_path)
    with ledger_with(tmp_path, NEW) as ledger:
        assert len(ledger.hand_overs()) == 1
    with Database(tmp_path / "coafi.db").write() as connection:
        connection.exec_driver_sql("DELETE FROM ledger_checkpoint WHERE size = 4")
    with ledger_with(tmp_path, NEW) as ledger:
        assert ledger.keys.terms == (Term(NEW.key),)
        with pytest.raises(IntegrityError, match=r"entry 3 .* no checkpoint after it is signed by both"):
            audit(ledger)


# ------------------------------------------------------- processes that run on


def test_a_process_with_a_key_file_signs_with_the_new_key_without_a_restart(tmp_path: Path) -> None:
    source = key_file(tmp_path)
    with ledger_with(tmp_path, source) as running, ledger_with(tmp_path, key_file(tmp_path)) as command:
        running.append([draft(0)])
        old = running.checkpoint(force=True)
        rotate(command, command._signer._source.prepare())  # type: ignore[attr-defined]  # it is a file
        running.append([draft(1)])
        new = running.checkpoint(force=True)
        assert running.key == command.key
        assert open_checkpoint(new.note, running.key).size == 3
        with pytest.raises(ValidationError):
            open_checkpoint(old.note, running.key)
        assert running.prove(0).size == 3
    assert not source.next_path.exists()


def test_a_process_that_was_given_the_old_key_appends_and_signs_nothing(tmp_path: Path) -> None:
    with ledger_with(tmp_path, OLD) as stale, ledger_with(tmp_path, HeldKey(OLD, NEW)) as command:
        stale.append([draft(0)])
        rotate(command, NEW)
        published = (tmp_path / "state" / "checkpoint").read_text()
        assert stale.checkpoint(force=True).note == published
        stale.append([draft(1)])
        with pytest.raises(Unavailable, match=r"was replaced by .* restart"):
            stale.checkpoint(force=True)
        assert stale.append([draft(2)])[0].index == 3
        assert (tmp_path / "state" / "checkpoint").read_text() == published
        assert command.checkpoint(force=True).size == 4
        assert stale.checkpoint(force=True).size == 4, "what others signed is good enough"
    with ledger_with(tmp_path, NEW) as ledger:
        assert audit(ledger).log.checkpoint.size == 4


def test_a_checkpoint_of_the_old_key_after_the_entry_does_not_lose_the_change(tmp_path: Path) -> None:
    with ledger_with(tmp_path, OLD) as ledger:
        ledger.append([key_change(OLD.key, OLD.sign, NEW)])
        assert ledger.checkpoint(force=True).size == 1
        assert ledger.hand_overs() == []
    with ledger_with(tmp_path, HeldKey(OLD, NEW)) as ledger:
        assert rotate(ledger, NEW).size == 1
        assert audit(ledger).log.checkpoint.size == 1


def test_what_another_process_signed_is_known_here_too(tmp_path: Path) -> None:
    with ledger_with(tmp_path, OLD) as one, ledger_with(tmp_path, OLD) as other:
        one.append([draft(0)])
        other.checkpoint(force=True)
        assert one._state.covered == 0
        for force in (False, True):  # a recent one, and one of all there is
            assert one.checkpoint(force=force).size == one._state.covered == 1
            one._state.covered = 0


# -------------------------------------------------------------------- the file


def test_a_key_file_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = key_file(tmp_path)
    if os.getuid() == 0:  # root's own files are everybody's to trust
        os.chown(source.path, 4242, -1)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(AuthorizationError, match="belongs to user"):
        source.current()


def test_a_key_file_that_is_opened_to_others_while_it_is_used_is_refused(tmp_path: Path) -> None:
    source = key_file(tmp_path)
    assert source.current() is source.current()
    source.path.chmod(0o644)
    with pytest.raises(AuthorizationError, match="0644"):
        source.current()
    source.path.unlink()
    with pytest.raises(ResourceNotFoundError):
        source.current()


def test_a_successor_that_cannot_take_its_place_is_reported(tmp_path: Path) -> None:
    source = key_file(tmp_path)
    source.promote()
    source.prepare()
    source.path.unlink()
    source.path.mkdir()
    with pytest.raises(Unavailable, match="cannot take the place"):
        source.promote()


# ----------------------------------------------------------------------- kills


def kill_before(step: int) -> None:
    """Kill this process before it does the given number of things to files: each step of a rotation does one."""
    left = step

    def look(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.rename", "os.link", "os.remove"):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def rotate_in(directory: Path) -> None:
    with ledger_with(directory, key_file(directory)) as ledger:
        rotate(ledger, ledger._signer._source.prepare())  # type: ignore[attr-defined]  # it is a file


def forked(work: Callable[[], None]) -> int:
    """The exit status of a process that does some work."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # nothing may get out of the fork
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at_every_step(directory: Path) -> int:
    """Rotate again and again, killed one step later each time, and check what the next start makes of it."""
    step = 0
    while True:
        home = directory / str(step)
        shutil.copytree(directory / "begun", home)
        first = KeyFile(home / "ledger-key").current().key

        def killed(home: Path = home, step: int = step) -> None:
            kill_before(step)
            rotate_in(home)

        code = forked(killed)
        assert code in (0, -signal.SIGKILL), code

        def started(home: Path = home) -> None:
            with ledger_with(home, KeyFile(home / "ledger-key")) as ledger:
                ledger.append([draft("after")])
                ledger.checkpoint(force=True)
                audit(ledger)

        assert forked(started) == 0, f"killed at step {step}, it does not start again"
        again = forked(lambda home=home: rotate_in(home))  # type: ignore[misc]  # the default is the home
        assert again == 0, f"killed at step {step}, it cannot be done again"
        with ledger_with(home, KeyFile(home / "ledger-key")) as ledger:
            report = audit(ledger)
            assert report.keys.terms[0].key == first
            assert ledger.key != first
            assert not KeyFile(home / "ledger-key").next_path.exists()
        if code == 0:
            return step
        step += 1


def break_at(step: int, *, kill: bool) -> None:
    """Let the given step that this process does to files, each fsync among them, be its last; or fail, once."""
    left = step

    def look(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.rename", "os.link", "os.fsync"):
            left -= 1
            if left == -1:
                if kill:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    real = os.fsync

    def fsync(fd: Any) -> None:
        sys.audit("os.fsync", fd)
        real(fd)

    os.fsync = fsync
    sys.addaudithook(look)


def checkpoint_in(directory: Path) -> None:
    with ledger_with(directory, KeyFile(directory / "ledger-key")) as ledger:
        ledger.checkpoint(force=True)


def audit_in(directory: Path) -> None:
    with ledger_with(directory, KeyFile(directory / "ledger-key")) as ledger:
        audit(ledger)


def rotate_twice_in(directory: Path) -> None:
    """Rotate, and again if that fails, as an operator does."""
    with ledger_with(directory, key_file(directory)) as ledger:
        try:
            rotate(ledger, ledger._signer._source.prepare())  # type: ignore[attr-defined]  # it is a file
        except CoafiError:
            ledger.checkpoint(force=True)
            audit(ledger)
        else:
            (directory / "whole").touch()


NEXT = {"checkpoint": checkpoint_in, "rotate": rotate_in, "verify": audit_in}


def break_every_step(directory: Path, failure: str, after: str) -> int:
    """Rotate with each step failing in turn, and go on without appending; the old checkpoint must go on verifying."""
    begun = directory / "begun"
    old = (begun / "state" / "checkpoint").read_text()
    step = 0
    while True:
        home = directory / str(step)
        shutil.copytree(begun, home)

        def broken(home: Path = home, step: int = step) -> None:
            break_at(step, kill=failure == "kill")
            (rotate_twice_in if failure == "retry" else rotate_in)(home)

        code = forked(broken)
        assert code in (0, 1, -signal.SIGKILL), code
        what = f"{failure} at step {step}, then {after}"
        for work in (NEXT[after], audit_in):
            assert forked(lambda work=work, home=home: work(home)) == 0, what  # type: ignore[misc]  # its defaults
        with ledger_with(home, KeyFile(home / "ledger-key")) as ledger:
            assert open_checkpoint(old, ledger.keys).size == 3, what
            assert len(ledger.keys.terms) == 1 + len(ledger.hand_overs()), what
            if ledger.hand_overs():
                assert ledger.checkpoint().note == ledger.hand_overs()[-1].proof.checkpoint, what
                assert not KeyFile(home / "ledger-key").next_path.exists(), what
            else:
                assert after != "rotate", what
        if (home / "whole").exists() if failure == "retry" else code == 0:
            return step
        step += 1


@pytest.mark.parametrize("after", NEXT)
@pytest.mark.parametrize("failure", ["kill", "full", "retry"])
def test_a_rotation_that_fails_at_any_step_loses_no_hand_over(tmp_path: Path, failure: str, after: str) -> None:
    arguments = f"{str(tmp_path)!r}, {failure!r}, {after!r}"
    program = f"from tests.coafi.ledger.test_rotation import main; main({arguments})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 12, "there are so many steps at least"


@pytest.mark.parametrize("after", ["checkpoint", "rotate", "verify"])
@pytest.mark.parametrize("step", ["coafi.ledger.published.StateFile.replace", "coafi.ledger.keyfile.KeyFile.promote"])
@pytest.mark.parametrize("same_process", [True, False])
def test_the_hand_over_in_the_database_is_what_is_published(
    place: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: str, *, same_process: bool
) -> None:
    def go_on(ledger: Ledger) -> None:
        if after == "rotate":
            rotate(ledger, ledger._signer._source.prepare())  # type: ignore[attr-defined]  # it is a file
        elif after == "verify":
            audit(ledger)
        else:
            ledger.checkpoint(force=True)

    def full(*_: object) -> None:
        raise Unavailable("No space left on device", remedy="make room")

    with ledger_with(place, key_file(place)) as ledger:
        ledger.append([draft(i) for i in range(3)])
        old = ledger.checkpoint(force=True)
        with monkeypatch.context() as patch:
            patch.setattr(step, full)
            with pytest.raises(Unavailable, match="No space left"):
                rotate(ledger, ledger._signer._source.prepare())  # type: ignore[attr-defined]  # it is a file
            assert ledger.key.key_id in {line.key_id for line in parse_note(old.note).signatures}, "not yet destroyed"
            if not same_process:
                ledger.close()
        if same_process:
            go_on(ledger)
    with ledger_with(place, KeyFile(place / "ledger-key")) as ledger:
        if not same_process:
            go_on(ledger)
    with ledger_with(place, KeyFile(place / "ledger-key")) as ledger:
        (hand_over,) = ledger.hand_overs()
        assert (place / "state" / "checkpoint").read_text() == hand_over.proof.checkpoint
        assert (ledger.key, hand_over.size) == (hand_over.new, 4)
        assert open_checkpoint(old.note, ledger.keys) == old
        audit(ledger)


def test_what_was_appended_meanwhile_is_signed_after_the_hand_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hand-over is published first: the key must not change before it is."""
    published: list[int] = []
    replace_file = StateFile.replace

    def watched(self: StateFile, content: str) -> None:
        published.append(int(parse_note(content).text.splitlines()[1]))
        assert (tmp_path / "ledger-key.next").exists() == (published[-1] < 5)
        replace_file(self, content)

    def full(*_: object) -> None:
        raise Unavailable("No space left on device", remedy="make room")

    with ledger_with(tmp_path, key_file(tmp_path)) as ledger:
        ledger.append([draft(i) for i in range(3)])
        with monkeypatch.context() as patch:
            patch.setattr(StateFile, "replace", full)
            with pytest.raises(Unavailable):
                rotate(ledger, ledger._signer._source.prepare())  # type: ignore[attr-defined]  # it is a file
        ledger.append([draft(4)])
        monkeypatch.setattr(StateFile, "replace", watched)
        ledger.checkpoint(force=True)
        assert published == [4, 5]
        audit(ledger)


@pytest.mark.parametrize("appends", [False, True])
def test_a_machine_that_signs_with_the_old_key_meanwhile_undoes_no_hand_over(
    place: Path, monkeypatch: pytest.MonkeyPatch, *, appends: bool
) -> None:
    """It has another state directory, so that no lock keeps the two apart but the database's."""
    other_place = place / "other"
    other_place.mkdir()
    database = Database(where(place), write_lock_timeout=HANG)
    with ledger_with(place, HeldKey(OLD, NEW)) as ledger:
        other = Ledger(database, origin=ORIGIN, signer=OLD, state_directory=other_place / "state", publish_seconds=3600)
        ledger.append([draft(i) for i in range(3)])
        sign = ledger._signer._sign

        def meanwhile(*given: Any) -> SignedCheckpoint:
            if appends:
                other.append([draft("other")])
            assert other.checkpoint(force=True).size == 4 + appends
            return sign(*given)

        monkeypatch.setattr(ledger._signer, "_sign", meanwhile)
        done = rotate(ledger, NEW)
        assert done.size == 4 + appends
        other.close()
    store = store_for(database)
    with database.write() as connection:  # as one that began before the hand-over and comes after it
        signed = sign_checkpoint(open_checkpoint(done.proof.checkpoint, OLD.key).checkpoint, OLD)
        kept = store.add_checkpoint(connection, signed.size, signed.checkpoint.root, signed.note)
        assert kept == done.proof.checkpoint
    database.close()
    with ledger_with(place, NEW) as ledger:
        assert ledger.keys.terms == (Term(OLD.key, 0, done.size), Term(NEW.key, done.size))
        audit(ledger)


def test_a_stored_checkpoint_that_is_damaged_is_not_published(tmp_path: Path) -> None:
    with ledger_with(tmp_path, OLD) as ledger:
        ledger.append([draft(0)])
        before = (tmp_path / "state" / "checkpoint").read_text()
        ledger.checkpoint(force=True)
        (tmp_path / "state" / "checkpoint").write_text(before)
        with Database(tmp_path / "coafi.db").write() as connection:
            connection.exec_driver_sql("UPDATE ledger_checkpoint SET note = ? WHERE size = 1", (before,))
        with pytest.raises(IntegrityError, match="the checkpoint of 1 entries in the database") as caught:
            ledger.checkpoint(force=True)
        assert caught.value.remedy
        assert (tmp_path / "state" / "checkpoint").read_text() == before


def test_a_rotation_that_is_killed_at_any_step_goes_on_or_back(tmp_path: Path) -> None:
    # In a process of its own, which has no threads, so that it may fork.
    program = f"from tests.coafi.ledger.test_rotation import main; main({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 8, "there are so many steps at least"


def main(directory: str, failure: str = "", after: str = "") -> None:
    begun = Path(directory) / "begun"
    begun.mkdir()
    with ledger_with(begun, key_file(begun)) as ledger:
        ledger.append([draft(i) for i in range(3)])
    steps = break_every_step(Path(directory), failure, after) if failure else kill_at_every_step(Path(directory))
    sys.stdout.write(f"{steps}\n")
