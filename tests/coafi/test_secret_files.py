"""Who may read a file with a secret."""

import os
import stat
from unittest.mock import patch

import pytest

from coafi.secret_files import permissions


def file_of(user: int, group: int, mode: int) -> os.stat_result:
    return os.stat_result((stat.S_IFREG | mode, 0, 0, 1, user, group, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("user", "group", "mode", "others"),
    [
        (10001, 10001, 0o600, 0o000),
        (10001, 10001, 0o640, 0o040),  # our own, which a group may read: who else is in it?
        (0, 10001, 0o440, 0o000),  # as Kubernetes mounts a secret
        (0, 10001, 0o640, 0o000),
        (0, 2000, 0o440, 0o000),
        (0, 999, 0o440, 0o040),  # a group that is none of ours
        (0, 10001, 0o444, 0o044),
        (0, 10001, 0o460, 0o060),
        (7, 10001, 0o440, 0o040),
    ],
)
def test_a_secret_that_was_mounted_for_our_group_is_open_to_nobody_else(
    user: int, group: int, mode: int, others: int
) -> None:
    with (
        patch("os.geteuid", lambda: 10001),
        patch("os.getegid", lambda: 10001),
        patch("os.getgroups", lambda: [2000]),
    ):
        assert permissions(file_of(user, group, mode)) & 0o077 == others


def test_root_gets_nothing_mounted() -> None:
    with patch("os.geteuid", lambda: 0), patch("os.getegid", lambda: 0):
        assert permissions(file_of(0, 0, 0o440)) & 0o077 == 0o040
