"""Every bound on what a repository may cost us, in one value."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True)
class GitLimits:
    """Bounds of one fetch and of the mirrors. Bytes and seconds throughout.

    Attributes:
        max_files: changed files of one commit; above it the commit is refused.
        max_blob_bytes: content of one file; above it the file is listed without content.
        max_commit_bytes: contents of one commit together; above it the commit is refused.
        max_batch_bytes: contents of one batch, as long as 64 batches are enough.
        max_file_bytes: the largest file git may write (a pack), and so what one fetch may download.
        max_output_bytes: output of one git command that is held in memory.
        rename_limit: renames and copies with edits are looked for only when the files that appeared, times those that
            could be their origin, are at most the square of this; beyond it only exact renames are found.
        max_similarity_bytes: contents that are compared for it together; beyond it likewise.
        fetch_timeout: wall time of one git command that talks to the remote.
        local_timeout: how long one git command on the mirror is waited for, or the answer to one question to the git
            that reads objects; storing what it answers does not count.
        lock_timeout: how long a fetch waits for another one of the same repository.
        low_speed_bytes: a transfer slower than this many bytes per second ...
        low_speed_seconds: ... for this many whole seconds is given up as stalled.
        mirrors_quota_bytes: all mirrors together; above it the least recently used ones go.
        max_packs: packs of a mirror; above it the mirror is made anew, which is cheaper than repacking it.
    """

    max_files: int = 200_000
    max_blob_bytes: int = 10 * MIB
    max_commit_bytes: int = 512 * MIB
    max_batch_bytes: int = 8 * MIB
    max_file_bytes: int = 4 * GIB
    max_output_bytes: int = 128 * MIB
    rename_limit: int = 1_000
    max_similarity_bytes: int = 64 * MIB
    fetch_timeout: float = 600.0
    local_timeout: float = 120.0
    lock_timeout: float = 900.0
    low_speed_bytes: int = 1_000
    low_speed_seconds: int = 30
    mirrors_quota_bytes: int = 20 * GIB
    max_packs: int = 200

    @property
    def longest_fetch(self) -> float:
        """Seconds after which a fetch that still runs hangs: its own limits should have ended it long ago."""
        return self.lock_timeout + 5 * self.fetch_timeout + 10 * self.local_timeout
