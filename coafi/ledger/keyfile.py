"""Where a process has its signing key from, and how the key that follows takes its place.

A key in a file can change while processes run: they look at the file each time they sign. Its successor waits beside
it, and takes its name, which destroys the old key, once a checkpoint is signed by both (see coafi.ledger.handover)::

    ledger-key        signs
    ledger-key.next   signs together with it the one checkpoint that hands over, then becomes ledger-key
"""

from pathlib import Path
from typing import Protocol

from coafi.errors import ResourceNotFoundError, Unavailable
from coafi.ledger.keys import Signer, generate_key, load_key, sync_directory


class KeySource(Protocol):
    """The key of a process, as it is now. May be asked by several threads."""

    def current(self) -> Signer:
        """The key that signs."""
        ...

    def successor(self) -> Signer | None:
        """The key that is to follow, if there is one."""
        ...

    def promote(self) -> None:
        """Let the successor, which must exist or have followed already, be the key that signs."""
        ...


class HeldKey:
    """A key that was given to the process, by its environment for instance, and cannot change behind its back.

    Args:
        successor: the key to hand over to; the operator gives it to all processes afterwards.
    """

    def __init__(self, signer: Signer, successor: Signer | None = None) -> None:
        self._signer = signer
        self._successor = successor

    def current(self) -> Signer:
        """The key that signs."""
        return self._signer

    def successor(self) -> Signer | None:
        """The key that is to follow, if one was given."""
        return self._successor

    def promote(self) -> None:
        """Sign with the successor from now on."""
        if self._successor is not None:
            self._signer, self._successor = self._successor, None


class KeyFile:
    """A key in a file that :func:`coafi.ledger.keys.generate_key` made.

    Raises:
        ResourceNotFoundError, AuthorizationError, ValidationError, Unavailable: as ``load_key`` does, whenever the
            key is asked for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.next_path = path.with_name(f"{path.name}.next")
        self._loaded: tuple[tuple[int, ...], Signer] | None = None

    def current(self) -> Signer:
        """The key that signs: read again when the file is another one."""
        try:
            found = self.path.stat()
        except OSError:
            return load_key(self.path)  # it knows what to say
        identity = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
        loaded = self._loaded
        if loaded is None or loaded[0] != identity:
            loaded = self._loaded = (identity, load_key(self.path))
        return loaded[1]

    def successor(self) -> Signer | None:
        """The key that waits, if one does."""
        try:
            return load_key(self.next_path)
        except ResourceNotFoundError:
            return None

    def prepare(self) -> Signer:
        """The key that is to follow; made unless it waits already."""
        return self.successor() or generate_key(self.next_path, self.current().name)

    def promote(self) -> None:
        """Put the successor's file into the place of the key's, durably."""
        try:
            self.next_path.replace(self.path)
            sync_directory(self.path.parent)
        except FileNotFoundError:
            return  # another process was quicker
        except OSError as error:
            raise Unavailable(
                f"the new key cannot take the place of {self.path}: {error}", remedy="check its directory"
            ) from error
