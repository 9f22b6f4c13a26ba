"""Trees for tests, in memory."""

from collections.abc import Mapping, Sequence

from coafi.documents.facts import DocumentFacts, document_facts
from coafi.documents.kinds import FileKind, kind_of_name
from coafi.documents.tree import EntryKind, is_support_file


class MemoryTree:
    """A tree of files that are given.

    Args:
        files: contents by path.
        links: paths of symbolic links and submodules.
    """

    def __init__(self, files: Mapping[str, bytes | str], links: Sequence[str] = ()) -> None:
        self._files = {path: one if isinstance(one, bytes) else one.encode() for path, one in files.items()}
        self._links = frozenset(links)
        self._directories: dict[str, set[str]] = {"": set()}
        for path in (*self._files, *links):
            while path:
                above, _, name = path.rpartition("/")
                self._directories.setdefault(above, set()).add(name)
                path = above

    def kind(self, path: str) -> EntryKind | None:
        """See ``Tree``."""
        if path in self._links:
            return EntryKind.LINK
        if path in self._files:
            return EntryKind.FILE
        return EntryKind.DIRECTORY if path in self._directories else None

    def names(self, directory: str) -> Sequence[str]:
        """See ``Tree``."""
        return sorted(self._directories.get(directory, ()))

    def facts(self, path: str) -> DocumentFacts | None:
        """See ``Tree``."""
        content = self._files.get(path)
        return None if content is None or kind_of_name(path) is not FileKind.MARKDOWN else document_facts(content)

    def paths_of(self, document_id: str) -> Sequence[str]:
        """See ``Tree``."""
        known = ((path, self.facts(path)) for path in sorted(self._files))
        return [path for path, facts in known if facts is not None and facts.document_id == document_id]

    def read(self, path: str) -> bytes | None:
        """See ``Tree``."""
        return self._files.get(path) if is_support_file(path) else None
