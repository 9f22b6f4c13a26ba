"""Cleaning up: everything that anything names stays, whatever names it; the rest goes when it is old."""

import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coafi.artifacts.cache import artifact_cache
from coafi.artifacts.model import GENERATOR_VERSION
from coafi.canonical import canonical_json, sha256
from coafi.database.statements import insert_missing
from coafi.errors import Unavailable, ValidationError
from coafi.git.limits import GitLimits
from coafi.git.mirror import MirrorStore
from coafi.git.runner import GitRunner
from coafi.objects.local import LocalObjectStore
from coafi.registry.tables import registry_reservation
from coafi.tasks.clean_up import DAY, CleanUp, CleanUpParameters
from coafi.tasks.history import Run
from coafi.trees.commit import CommitTree
from coafi.trees.listing import TreeFile
from coafi.trees.recorder import TreeRecorder
from tests.coafi.ledger.making import draft, opened
from tests.coafi.objects.files import object_file
from tests.coafi.tasks.support import job
from tests.strength import examples

OLD = 40 * DAY


class Histories:
    """Temporal, as far as cleaning up asks it."""

    def __init__(self, *payloads: bytes) -> None:
        self.payloads = payloads

    def retention(self) -> timedelta:
        """A day."""
        return timedelta(days=1)

    def runs(self, closed_after: datetime, beat: Callable[[str], None]) -> Iterator[Run]:
        """None."""
        return iter(())

    def find(self, workflow_id: str) -> Run | None:
        """None."""
        return None

    def open_payloads(self, beat: Callable[[str], None]) -> Iterator[bytes]:
        """What it was given."""
        yield from self.payloads

    def check(self) -> None:
        """It answers."""


class Away(Histories):
    """Temporal that does not answer."""

    def open_payloads(self, beat: Callable[[str], None]) -> Iterator[bytes]:
        """Nothing: it is away."""
        raise Unavailable("Temporal did not answer")


@pytest.fixture
def cleaning(place: Path) -> Iterator[CleanUp]:
    with opened(place) as ledger:
        yield CleanUp(
            ledger._state.database,
            LocalObjectStore(place / "objects"),
            ledger,
            Histories(),
            MirrorStore(place / "mirrors", GitRunner(GitLimits())),
        )


def put(cleaning: CleanUp, data: bytes, *, age: float = OLD) -> str:
    digest = cleaning.objects.put(data)
    then = time.time() - age
    os.utime(object_file(cleaning.objects, digest), (then, then))
    return digest


def test_what_nothing_names_goes_when_it_is_old(cleaning: CleanUp) -> None:
    old, young = put(cleaning, b"old"), put(cleaning, b"young", age=DAY)
    result = cleaning.run(job(dryRun=1))
    assert (result.dry_run, result.objects) == (True, (old,))
    assert object_file(cleaning.objects, old).exists()
    assert cleaning.run(job()).objects == (old,)
    assert not object_file(cleaning.objects, old).exists()
    assert cleaning.objects.get(young) == b"young"
    assert cleaning.run(job()).objects == ()


def test_trees_that_nothing_names_go_and_are_recorded_again(cleaning: CleanUp) -> None:
    """That they were learned is remembered, and names no object."""
    trees = TreeRecorder(cleaning.database, cleaning.objects)
    files = [TreeFile("docs/a.txt", "100644", "a" * 40), TreeFile("b.txt", "100644", "b" * 40)]
    root = trees.record(trees.plan(files), lambda _blobs: iter(()))
    then = time.time() - OLD
    for one in list(cleaning.objects.listed()):
        os.utime(object_file(cleaning.objects, one.digest), (then, then))
    assert cleaning.run(job()).counts["objects"] == 2
    assert not trees.has(root)
    plan = trees.plan(files)
    assert ([one.path for one in plan.lost], plan.new) == (["docs", ""], ())
    assert trees.record(plan, lambda _blobs: iter(())) == root
    assert trees.has(root)
    assert CommitTree(root, cleaning.objects, cleaning.database).names("docs") == ["a.txt"]


def test_what_the_ledger_a_table_or_an_open_run_names_stays_and_what_that_names(cleaning: CleanUp) -> None:
    leaf = put(cleaning, b"leaf")
    middle = put(cleaning, canonical_json({"archive": leaf}))
    in_ledger = put(cleaning, canonical_json({"batches": [middle]}))
    in_table, in_history = put(cleaning, b"a table names me"), put(cleaning, b"a run names me")
    nobody = put(cleaning, b"nobody names me")
    cleaning.ledger.append([draft(1, data={"manifest": in_ledger})])
    with cleaning.database.write() as connection:
        row = {"blob": "b", "generator": GENERATOR_VERSION, "config": "c", "kind": "k", "result": f'"{in_table}"'}
        insert_missing(connection, artifact_cache, [row])
    object.__setattr__(cleaning, "history", Histories(b"\0\x12" + in_history.encode() + b"\0"))
    assert cleaning.run(job()).objects == (nobody,)
    for digest in (leaf, middle, in_ledger, in_table, in_history):
        assert object_file(cleaning.objects, digest).exists()


def test_nothing_goes_while_temporal_cannot_say_what_runs_need(cleaning: CleanUp) -> None:
    old = put(cleaning, b"old")
    object.__setattr__(cleaning, "history", Away())
    with pytest.raises(Unavailable):
        cleaning.run(job())
    assert object_file(cleaning.objects, old).exists()


def test_nothing_goes_while_it_is_not_known_what_a_damaged_object_named(cleaning: CleanUp) -> None:
    leaf = put(cleaning, b"leaf")
    listing = canonical_json({"archive": leaf})
    parent = put(cleaning, listing)
    cleaning.ledger.append([draft(1, data={"manifest": parent})])
    object_file(cleaning.objects, parent).write_bytes(listing.replace(b"archive", b"Archive"))
    result = cleaning.run(job())
    assert result.objects == ()
    (alarm,) = result.alarms
    assert parent in alarm
    object_file(cleaning.objects, parent).write_bytes(listing)
    result = cleaning.run(job())
    assert (result.objects, result.alarms) == ((), ())
    assert cleaning.objects.get(leaf) == b"leaf"


def test_the_oldest_go_first_and_only_as_many_as_must(cleaning: CleanUp) -> None:
    digests = [put(cleaning, bytes([number]) * 1_000, age=OLD + DAY * number) for number in range(5)]
    assert cleaning.run(job(objectsBytes=3_500)).objects == (digests[4], digests[3])


def test_nobody_can_ask_for_young_objects(cleaning: CleanUp) -> None:
    with pytest.raises(ValidationError, match="objectsAge"):
        cleaning.run(job(objectsAge=60))


def test_an_object_that_is_written_or_found_again_is_young(cleaning: CleanUp) -> None:
    written, found = put(cleaning, b"written"), put(cleaning, b"found")
    assert cleaning.objects.put(b"written") == written
    assert cleaning.objects.has(found)
    assert cleaning.run(job()).objects == ()


def test_what_was_renewed_at_the_last_moment_is_put_back(cleaning: CleanUp) -> None:
    digest = put(cleaning, b"needed")
    chosen = cleaning.removable(CleanUpParameters())[1]
    assert [one.digest for one in chosen] == [digest]
    cleaning.objects.put(b"needed")  # between the choice and the removal
    assert not cleaning.objects.remove(digest, older_than=time.time() - 30 * DAY)
    assert cleaning.objects.get(digest) == b"needed"


def test_what_a_killed_clean_up_put_aside_comes_back(cleaning: CleanUp) -> None:
    digest = put(cleaning, b"aside")
    file = object_file(cleaning.objects, digest)
    file.rename(file.with_name(f"{file.name}.removed"))
    list(cleaning.objects.listed())
    assert cleaning.objects.get(digest) == b"aside"
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_caches_of_old_generators_and_dead_reservations_are_forgotten(cleaning: CleanUp) -> None:
    with cleaning.database.write() as connection:
        for generator in ("0", GENERATOR_VERSION):
            row = {"blob": "b", "generator": generator, "config": "c", "kind": "k", "result": "{}"}
            insert_missing(connection, artifact_cache, [row])
        for entry, since in (("dead", 0), ("held", int(time.time()))):
            held: dict[str, object] = {"registry_id": "AERO", "entry_id": entry, "workflow_id": "w", "since": since}
            insert_missing(connection, registry_reservation, [held])
    counts = cleaning.run(job()).counts
    assert (counts["cached"], counts["reservations"]) == (1, 1)
    with cleaning.database.read() as connection:
        assert [row.generator for row in connection.execute(artifact_cache.select())] == [GENERATOR_VERSION]
        assert [row.entry_id for row in connection.execute(registry_reservation.select())] == ["held"]


def test_mirrors_that_nobody_used_for_long_go(cleaning: CleanUp) -> None:
    directory = cleaning.mirrors.directory
    for name, age in (("old", 100 * DAY), ("young", DAY)):
        (directory / name).mkdir(parents=True)
        lock = directory / f"{name}.lock"
        lock.write_text(f"{1_000:020d}")
        os.utime(lock, (time.time() - age,) * 2)
    assert cleaning.run(job(dryRun=1)).mirrors == ("old",)
    assert (directory / "old").exists()
    assert cleaning.run(job()).mirrors == ("old",)
    assert {one.name for one in directory.iterdir() if one.is_dir()} == {"young"}


@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edges=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=24),
    roots=st.sets(st.integers(0, 11)),
    young=st.sets(st.integers(0, 11)),
    binary=st.booleans(),
)
def test_everything_that_is_needed_stays_and_all_else_goes(
    tmp_path_factory: pytest.TempPathFactory,
    edges: list[tuple[int, int]],
    roots: set[int],
    young: set[int],
    binary: bool,
) -> None:
    place = tmp_path_factory.mktemp("needed")
    with opened(place) as ledger:
        cleaning = CleanUp(
            ledger._state.database,
            LocalObjectStore(place / "objects"),
            ledger,
            Histories(),
            MirrorStore(place / "mirrors", GitRunner(GitLimits())),
        )
        # An object can only name objects that were there before it: content addressing has no cycles.
        names: list[str] = []
        children: dict[int, set[int]] = {}
        for number in range(12):
            children[number] = {low for low, high in edges if high == number and low < number}
            listed = "".join(names[child] for child in sorted(children[number]))
            content = f"{number} {listed}".encode()
            names.append(
                put(cleaning, b"\xff\x00" + content if binary else content, age=DAY if number in young else OLD)
            )
        if roots:
            ledger.append([draft(number, data={"digest": names[number]}) for number in sorted(roots)])
        needed, waiting = set(), list(roots)
        while waiting:
            one = waiting.pop()
            if one not in needed:
                needed.add(one)
                waiting += children[one]
        cleaning.run(job())
        there = {number for number in range(12) if object_file(cleaning.objects, names[number]).exists()}
        assert there == needed | young
        assert all(sha256(cleaning.objects.get(names[number])) == names[number] for number in there)
