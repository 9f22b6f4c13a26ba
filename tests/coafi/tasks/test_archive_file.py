"""Archives prove themselves: what was changed in any way is refused, from nothing but the bytes and the key."""

import gzip
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.canonical import sha256
from coafi.errors import CoafiError, IntegrityError, ValidationError
from coafi.ledger.entry import timestamp
from coafi.ledger.keys import Keyring, Signer
from coafi.names import EntryType
from coafi.objects.local import LocalObjectStore
from coafi.tasks.archive import Archiver, archives_of
from coafi.tasks.archive_file import entries_in, verify_archive
from coafi.tasks.results import TaskResults
from tests.coafi.ledger.making import ORIGIN, SIGNER, draft, opened
from tests.coafi.tasks.support import MOMENT, job

KEYS = Keyring.of(SIGNER.key)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[bytes]]:
    """600 entries, one of them with a body, in archives of 257."""
    place = tmp_path_factory.mktemp("archives")
    with opened(place) as ledger:
        objects = LocalObjectStore(place / "objects")
        body = objects.put(b"what a sender delivered")
        received = draft("receive", data={"bodyDigest": body})
        object.__setattr__(received, "type", EntryType.EVENT_RECEIVED)
        ledger.append([received, *(draft(number) for number in range(599))])
        archiver = Archiver(ledger, objects, TaskResults(ledger._state.database), place / "archive")
        far = MOMENT.replace(year=2100)
        made = archiver.run(job(due=far, age=0, entries=257))
        assert [(one.first, one.stop) for one in made.archives] == [(0, 257), (257, 514), (514, 600)]
        assert made.stop == 600
        assert archives_of(place / "archive") == made.archives
        for one in made.archives:
            assert sha256((place / "archive" / one.file).read_bytes()) == one.digest
        bodies = [recorded.body for recorded in ledger.entries(0, 600)]
        files = [(place / "archive" / one.file).read_bytes() for one in made.archives]
        assert [entry for file in files for entry in entries_in(file)] == bodies
        assert archiver.run(job(due=MOMENT.replace(year=2000))).summary == "nothing is old enough"
        yield files


def test_every_archive_proves_itself_alone(archives: list[bytes]) -> None:
    found = [verify_archive(data, KEYS) for data in archives]
    assert [one.header.first for one in found] == [0, 257, 514]
    assert {one.checkpoint.size for one in found} == {600}
    assert [len(one.header.bodies) for one in found] == [1, 0, 0]
    assert found[0].header.since <= timestamp(MOMENT.replace(year=2100))


def test_another_key_does_not_verify_it(archives: list[bytes]) -> None:
    with pytest.raises(CoafiError):
        verify_archive(archives[0], Keyring.of(Signer(ORIGIN, bytes(32)).key))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"docs/300.md", b"docs/301.md"),
        (b'"first":257', b'"first":258'),
        (b'"first":257', b'"first":256'),
        (b'"stop":514', b'"stop":513'),
        (b'"origin":"test', b'"origin":"rest'),
        (b'"format":"coafi.archive/1"', b'"format":"coafi.archive/2"'),
    ],
)
def test_what_was_changed_by_hand_is_refused(archives: list[bytes], before: bytes, after: bytes) -> None:
    content = gzip.decompress(archives[1])
    assert before in content
    with pytest.raises((IntegrityError, ValidationError)):
        verify_archive(gzip.compress(content.replace(before, after, 1)), KEYS)


def test_a_body_that_was_changed_or_added_is_refused(archives: list[bytes]) -> None:
    content = gzip.decompress(archives[0])
    for changed in (content.replace(b"a sender", b"a vendor"), content + b"\0\0\0\0"):
        with pytest.raises(IntegrityError):
            verify_archive(gzip.compress(changed), KEYS)


@given(st.data())
def test_one_changed_byte_is_enough(archives: list[bytes], data: st.DataObject) -> None:
    content = bytearray(gzip.decompress(archives[2]))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    header = content.index(b"\n")
    try:
        verify_archive(gzip.compress(bytes(content), compresslevel=1), KEYS)
    except CoafiError:
        return
    assert at <= header, "what is not in the entries can only be a word that says nothing, such as a time"


@given(st.binary(max_size=300))
def test_any_bytes_are_an_archive_or_refused(data: bytes) -> None:
    for one in (data, gzip.compress(data)):
        with pytest.raises((ValidationError, IntegrityError)):
            verify_archive(one, KEYS)
