"""Publishing an index: compare-and-swap, repetition, what the ledger says, and what it costs."""

import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coafi.documents.check import Verdict
from coafi.errors import IntegrityError
from coafi.index.build import decode
from coafi.index.model import DocumentationIndex, IndexUpdate
from coafi.index.pages import PAGE_SIZE, Selection, index_page
from coafi.index.pointers import IndexReader
from coafi.names import index_workflow_id, parse_index_workflow_id
from coafi.trees.recorder import TreeRecorder
from tests.coafi.index.making import REPOSITORY, Indexes, files, indexes, task

A, B, C = ("a" * 40, "b" * 40, "c" * 40)


@pytest.fixture
def made(place: Path) -> Iterator[Indexes]:
    with indexes(place) as one:
        yield one


def read(made: Indexes, update: IndexUpdate) -> DocumentationIndex:
    assert update.index is not None
    return decode(made.objects.get(update.index))


def test_an_update_is_recorded_with_its_pointer_and_again_is_the_same(made: Indexes) -> None:
    tree = made.tree(files(3))
    first = made.updater.update(task(A, tree))
    assert (first.outcome, first.generation, first.commit) == ("moved", 1, A)
    assert first.entry is not None
    entry = made.ledger.entry(first.entry).entry
    assert parse_index_workflow_id(entry.workflow_id) == (REPOSITORY, "main")
    assert (entry.step, entry.data["index"], entry.data["page"]) == ("index/1", first.index, first.page)
    made.check(files(3))  # what is found out meanwhile does not change what was recorded
    assert made.updater.update(task(A, tree)) == first
    assert made.ledger.size() == 1


def test_a_page_that_was_lost_is_stored_again_by_an_update_that_changes_nothing(made: Indexes) -> None:
    tree = made.tree(files(3))
    first = made.updater.update(task(A, tree))
    assert first.page is not None
    page = made.objects.get(first.page)
    made.objects.path(first.page).unlink()
    again = made.updater.update(task(A, tree, generation=1))
    assert (again.outcome, again.page, made.ledger.size()) == ("unchanged", first.page, 1)
    assert made.objects.get(first.page) == page


def test_a_page_that_was_lost_and_would_be_another_today_is_published(
    made: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = made.tree(files(3))
    first = made.updater.update(task(A, tree))
    assert first.page is not None
    made.objects.path(first.page).unlink()
    monkeypatch.setattr("coafi.index.update.index_page", lambda _index: b"newer software")
    again = made.updater.update(task(A, tree, generation=1))
    assert (again.outcome, again.index, made.ledger.size()) == ("moved", first.index, 2)
    assert again.page is not None
    assert made.objects.get(again.page) == b"newer software"


def test_a_listing_that_an_update_cannot_read_is_to_be_recorded_again(made: Indexes) -> None:
    trees = TreeRecorder(made.database, made.objects)
    plan = trees.plan(files(3))
    tree = trees.record(plan, lambda _blobs: iter(()))
    assert trees.has(tree)
    damaged = made.objects.path(next(one.digest for one in plan.new if one.path == "docs/000"))
    damaged.write_bytes(bytes(damaged.stat().st_size))
    with pytest.raises(IntegrityError):
        made.updater.update(task(A, tree))
    assert not trees.has(tree), "so the next look at the branch fetches it"
    assert trees.record(trees.plan(files(3)), lambda _blobs: iter(())) == tree
    assert made.updater.update(task(A, tree)).outcome == "moved"


def test_what_is_late_cannot_move_the_index_back(made: Indexes) -> None:
    old, new = made.tree(files(1)), made.tree(files(2))
    assert made.updater.update(task(A, old)).outcome == "moved"
    assert made.updater.update(task(B, new, generation=1)).outcome == "moved"
    late = made.updater.update(task(A, old, generation=1, commits=2))
    assert (late.outcome, late.generation) == ("superseded", 2)
    newest = IndexReader(made.database).newest(REPOSITORY, "main")
    assert newest is not None
    assert newest.commit == B
    assert made.updater.update(task(A, old, generation=7)).outcome == "superseded"
    assert made.ledger.size() == 2


def test_of_many_at_once_one_wins(made: Indexes) -> None:
    trees = [made.tree(files(number + 1)) for number in range(8)]
    barrier = threading.Barrier(8)

    def publish(number: int) -> str:
        barrier.wait()
        return made.updater.update(task(f"{number}" * 40, trees[number])).outcome

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(publish, range(8)))
    assert sorted(outcomes) == ["moved"] + ["superseded"] * 7
    assert made.ledger.size() == 1


def test_a_branch_that_is_gone_has_no_index_until_it_is_back(made: Indexes) -> None:
    tree = made.tree(files(1))
    assert made.updater.update(task(None, None)).outcome == "absent"
    made.updater.update(task(A, tree))
    gone = made.updater.update(task(None, None, generation=1))
    assert (gone.outcome, gone.commit, gone.index) == ("moved", None, None)
    assert made.updater.update(task(None, None, generation=1)) == gone
    assert made.updater.update(task(None, None, generation=2)).outcome == "absent"
    reader = IndexReader(made.database)
    assert reader.all() == []
    of_commit = reader.of_commit(REPOSITORY, A)
    assert of_commit is not None
    assert of_commit.generation == 1
    assert made.updater.update(task(A, tree, generation=2)).outcome == "moved"
    assert [one.generation for one in reader.all()] == [3]


def test_an_entry_names_as_many_commits_as_it_has_room_for(made: Indexes) -> None:
    update = made.updater.update(task(A, made.tree(files(1)), commits=5_000))
    assert update.entry is not None
    recorded = made.ledger.entry(update.entry)
    assert len(recorded.body) < 65_535
    assert recorded.data["commitCount"] == 5_000
    assert isinstance(recorded.data["commits"], list)
    assert 100 < len(recorded.data["commits"]) < 5_000
    assert len(json.loads(made.objects.get(str(recorded.data["commitsDigest"])))) == 5_000


def test_an_entry_counts_the_commits_that_nobody_has_room_to_name(made: Indexes) -> None:
    tree = made.tree(files(1))
    some = task(A, tree, commits=3)
    counted = some.model_copy(update={"omitted": 7})
    update = made.updater.update(counted)
    assert update.entry is not None
    data = made.ledger.entry(update.entry).data
    assert (data["commitCount"], data["omitted"]) == (10, 7)
    assert len(json.loads(made.objects.get(str(data["commitsDigest"])))) == 3
    assert made.updater.update(counted) == update
    assert made.updater.update(some).outcome == "superseded", "it would say something else"


def test_an_entry_that_names_all_its_commits_omits_none(made: Indexes) -> None:
    update = made.updater.update(task(A, made.tree(files(1)), commits=3))
    assert update.entry is not None
    data = made.ledger.entry(update.entry).data
    assert data["commitCount"] == 3
    assert "omitted" not in data


def test_a_document_shows_the_newest_verdict_of_its_content_and_its_history(made: Indexes) -> None:
    old, new = files(2), files(2, version="1", changed=1)
    made.check(old, commit=A, verdict=Verdict.INVALID)
    made.check(new[:1], commit=B)
    made.check(old[:1], commit=C, verdict=Verdict.INVALID)
    index = read(made, made.updater.update(task(B, made.tree(new))))
    first, second = index["documents"]
    assert (first["verdict"], first["commit"], first["title"]) == ("valid", B, f"Title of {new[0].path}")
    assert [one["commit"] for one in first["history"]] == [B, A], "not what came after it"
    assert (first["version"], first.get("date")) == ("1.5", None)
    assert (second["verdict"], second["findings"]["error"]) == ("invalid", 1)
    assert index["counts"]["verdicts"] == {"invalid": 1, "unchecked": 0, "skipped": 0, "valid": 1}
    back = read(made, made.updater.update(task(A, made.tree(old), generation=1)))
    assert [one["commit"] for one in back["documents"][0]["history"]] == [C, B, A]


def test_reports_that_are_lost_cost_their_details_and_no_more(made: Indexes) -> None:
    made.check(files(1))
    for path in made.objects.root.rglob("*"):
        if path.is_file():
            path.unlink()
    (document,) = read(made, made.updater.update(task(A, made.tree(files(1)))))["documents"]
    assert document["verdict"] == "valid"
    assert "title" not in document


def test_an_entry_whose_pointer_was_never_moved_is_followed_by_whoever_comes_next(made: Indexes) -> None:
    left, right = task(A, made.tree(files(1))), task(B, made.tree(files(2)))
    digest = made.objects.put(b"{}")
    (orphan,) = made.ledger.append([made.updater._draft(left, digest, digest, {})])  # and then its worker died
    update = made.updater.update(right)
    assert (update.outcome, update.generation) == ("superseded", 1)
    followed = IndexReader(made.database).newest(REPOSITORY, "main")
    assert followed is not None
    assert (followed.commit, followed.index_digest, followed.entry) == (A, digest, orphan.index)
    assert (followed.updated_at, followed.deleted) == (orphan.entry.time, False)
    update = made.updater.update(task(B, made.tree(files(2)), generation=1))
    assert (update.outcome, update.generation) == ("moved", 2)


def test_a_long_index_has_pages(made: Indexes) -> None:
    index = read(made, made.updater.update(task(A, made.tree(files(PAGE_SIZE + 5)))))
    first, second, beyond = (index_page(index, Selection(), number).decode() for number in (1, 2, 99))
    assert "Page 1 of 2" in first
    assert 'href="./?page=2"' in first
    assert second.count("<code>docs/") == 5
    assert beyond == second
    assert "No document is like this" in index_page(index, Selection(q="nothing")).decode()
    assert "NONE (0)" in index_page(index, Selection(status="NONE")).decode()


def test_the_workflow_id_of_an_entry_is_that_of_the_run(made: Indexes) -> None:
    update = made.updater.update(task(A, made.tree(files(1))))
    assert update.entry is not None
    assert made.ledger.entry(update.entry).entry.event_id == index_workflow_id(REPOSITORY, "main")


DOCUMENTS = 20_000
SECONDS = 15.0
"""Of CPU, for one update of an index of ``DOCUMENTS``; it takes about 1.4 on two cores of 2026."""
MEGABYTES = 200


def measure(home: Path) -> dict[str, float]:
    """What updates of a large index cost: CPU seconds, and what the memory of this process grows by."""
    with indexes(home) as one:
        made = files(DOCUMENTS)
        one.check(made)
        tree = one.tree(made)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        assert one.updater.update(task(A, tree)).outcome == "moved"
        first = time.process_time() - started
        made = files(DOCUMENTS, version="1", changed=100)
        one.check(made[:100])
        tree = one.tree(made)
        started = time.process_time()
        assert one.updater.update(task(B, tree, generation=1)).outcome == "moved"
        second = time.process_time() - started
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"first": first, "second": second, "megabytes": grown}


@pytest.mark.soak
@pytest.mark.timeout(700)
def test_an_index_of_20_000_documents_is_bounded_in_time_and_memory(tmp_path: Path) -> None:
    script = (
        "import json, pathlib, sys\n"
        "from tests.coafi.index.test_update import measure\n"
        "print(json.dumps(measure(pathlib.Path(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True, text=True, timeout=600
    )
    cost = json.loads(done.stdout.splitlines()[-1])
    assert cost["first"] < SECONDS, cost
    assert cost["second"] < SECONDS, cost
    assert cost["megabytes"] < MEGABYTES, cost
