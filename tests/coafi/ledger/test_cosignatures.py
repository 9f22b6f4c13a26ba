"""What witnesses say of a ledger's checkpoints, kept beside them: on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from coafi.database import Database
from coafi.errors import IntegrityError
from coafi.ledger.audit import audit
from coafi.ledger.checkpoint import open_checkpoint
from coafi.ledger.cosignature import Cosignature, cosign, cosignatures
from coafi.ledger.keys import Cosigner
from coafi.ledger.log import Ledger
from coafi.ledger.store.tables import cosignature_table
from tests.coafi.ledger.making import SIGNER, draft, opened
from tests.postgresql import where

ONE = Cosigner("witness.example/w1", bytes([7]) * 32)
TWO = Cosigner("witness.example/w2", bytes([8]) * 32)


@pytest.fixture
def log(place: Path) -> Iterator[Ledger]:
    with opened(place) as ledger:
        yield ledger


def say(log: Ledger, cosigner: Cosigner, time: int) -> Cosignature:
    checkpoint = log.checkpoint(force=True).checkpoint
    found = Cosignature(cosigner.key, time, cosign(checkpoint.text(), cosigner, time))
    log.add_cosignatures(checkpoint, [found])
    return found


def test_cosignatures_appear_under_their_checkpoint_and_no_other(log: Ledger) -> None:
    log.append([draft(1)])
    first = log.checkpoint(force=True)
    assert log.last_cosignatures() == []
    assert log.cosigned_size(ONE.key) == 0
    one, two = say(log, ONE, 5), say(log, TWO, 6)
    note = log.checkpoint().note
    assert note == first.note + one.line + two.line
    assert log.cosigned(first).note == log.prove(0).checkpoint == note
    assert cosignatures(note, [TWO.key, ONE.key]) == (one, two)
    assert open_checkpoint(note, SIGNER.key).checkpoint == first.checkpoint
    log.append([draft(2)])
    second = log.checkpoint(force=True)
    assert cosignatures(second.note, [ONE.key, TWO.key]) == ()
    later = say(log, ONE, 7)
    assert log.last_cosignatures() == [(second.checkpoint, later), (first.checkpoint, two)]
    assert (log.cosigned_size(ONE.key), log.cosigned_size(TWO.key)) == (2, 1)
    assert audit(log).log.checkpoint == second.checkpoint


def test_of_two_by_one_witness_for_one_checkpoint_the_last_one_is_kept(log: Ledger) -> None:
    say(log, ONE, 5)
    again = say(log, ONE, 9)
    assert [one for _, one in log.last_cosignatures()] == [again]
    assert log.checkpoint().note.count("witness.example") == 1


def test_the_checkpoint_that_is_kept_outside_is_the_log_s_alone(log: Ledger, place: Path) -> None:
    """What the log says is compared byte by byte; what others say of it comes and goes."""
    log.append([draft(1)])
    say(log, ONE, 5)
    assert "witness" not in (place / "state" / "checkpoint").read_text()


@pytest.mark.parametrize(
    "changes",
    [{"line": "\N{EM DASH} x AAAA\n"}, {"line": ""}, {"size": 0}, {"size": 7}, {"cosigner": str(TWO.key)}],
)
def test_a_cosignature_that_was_changed_is_found(log: Ledger, place: Path, changes: dict[str, object]) -> None:
    log.append([draft(1)])
    say(log, ONE, 5)
    database = Database(where(place))
    with database.write() as connection:
        connection.execute(update(cosignature_table).values(changes))
    database.close()
    with pytest.raises(IntegrityError, match=r"cosignature of witness\.example/w"):
        log.last_cosignatures()
