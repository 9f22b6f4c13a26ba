"""What a check knows beside the file: the tree that it is in, and what the repository wants."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from coafi.documents.tree import Tree
from coafi.findings import Severity


@dataclass(frozen=True)
class CheckContext:
    """The surroundings of the files of one tree. Made once for a tree, used for every file of it.

    Attributes:
        tree: the files around.
        severities: how bad this repository finds which rule; ``None`` is off.
    """

    tree: Tree
    severities: Mapping[str, Severity | None] = field(default_factory=dict)

    @classmethod
    def of(cls, tree: Tree) -> "CheckContext":
        """The context of a tree, with its settings. Never raises: what is wrong in them is left out."""
        return cls(tree)
