"""What a check knows beside the file: the tree that it is in, and what the repository wants."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from coafi.documents.repository import bindings_of, severities_of
from coafi.documents.schemas import SchemaStore
from coafi.documents.tree import BINDINGS_FILE, SETTINGS_FILE, Tree
from coafi.findings import Severity


@dataclass(frozen=True)
class CheckContext:
    """The surroundings of the files of one tree. Made once for a tree, used for every file of it, by one thread.

    Attributes:
        tree: the files around.
        severities: how bad this repository finds which rule; ``None`` is off.
        schemas: its schemas, and which of them holds for which files.
    """

    tree: Tree
    severities: Mapping[str, Severity | None] = field(default_factory=dict)
    schemas: SchemaStore | None = None

    @classmethod
    def of(cls, tree: Tree) -> "CheckContext":
        """The context of a tree, with its settings. Parts of them that are wrong are left out."""
        bindings = bindings_of(tree.read(BINDINGS_FILE))
        return cls(tree, severities_of(tree.read(SETTINGS_FILE)), SchemaStore(tree, bindings))
