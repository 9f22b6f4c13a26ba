"""The documentation index of a branch: what its documents are, what became of each, and which index is the newest."""
