"""What the index of a branch costs, over writing down what it says."""

from contextlib import ExitStack
from itertools import count

from coafi.index.build import decode, encode
from coafi.index.model import DocumentationIndex
from coafi.index.pages import index_page
from tests.bench.measure import Bench
from tests.coafi.index.making import Indexes, files, indexes, task

COMMIT = "a" * 40


async def measure(bench: Bench) -> None:
    """The first index of a branch, and one after a document has changed."""
    documents = bench.amount(5_000, 200)
    homes, rounds = count(), _Rounds(documents)
    with ExitStack() as stack:

        def empty() -> None:
            stack.close()
            rounds.made = stack.enter_context(indexes(bench.directory / str(next(homes))))
            rounds.change(documents)

        empty()
        rounds.update()
        index = rounds.index()
        written = "writing its JSON and its page alone"
        units = documents, "documents"
        await bench.compare(
            f"first index of {documents:,} documents",
            rounds.update,
            written,
            lambda: _write(index),
            units,
            prepare=empty,
        )
        await bench.compare(
            f"index of {documents:,} documents after one has changed",
            rounds.update,
            written,
            lambda: _write(index),
            units,
            prepare=lambda: rounds.change(1),
        )


class _Rounds:
    """Trees of one branch, each with other documents changed; one update for each."""

    made: Indexes

    def __init__(self, documents: int) -> None:
        self._documents = documents
        self._versions = count(1)
        self._tree = ""
        self._generation = 0

    def change(self, changed: int) -> None:
        """Record a tree with this many documents changed, and their verdicts; all are new in an empty database."""
        found = files(self._documents, version=str(next(self._versions)), changed=changed)
        if changed == self._documents:
            self._generation = 0
        self.made.check(found[:changed])
        self._tree = self.made.tree(found)

    def update(self) -> None:
        """Publish the index of that tree."""
        update = self.made.updater.update(task(COMMIT, self._tree, generation=self._generation))
        assert update.outcome == "moved"
        self._digest = update.index
        self._generation = update.generation

    def index(self) -> DocumentationIndex:
        """What was published."""
        assert self._digest is not None
        return decode(self.made.objects.get(self._digest))


def _write(index: DocumentationIndex) -> None:
    encode(index)
    index_page(index)
