"""How much a test does: little in the suite, which runs all the time, and all that it can in the soak.

``make soak`` runs the tests that are marked ``soak``, and with the profile ``soak`` of Hypothesis once more those whose
strength depends on it: every property, and what is marked ``also_in_soak``.
"""

from collections.abc import Mapping
from typing import TypeVar

from hypothesis import settings

T = TypeVar("T")

SHARE = 10
"""In the suite a property is tried with one of so many examples."""


def register_profiles() -> None:
    """Register the profiles of Hypothesis, and load that of the suite; ``--hypothesis-profile`` may load another."""
    # Machines vary; what hangs is ended by pytest-timeout.
    settings.register_profile("soak", deadline=None, max_examples=100)
    settings.register_profile("suite", deadline=None, max_examples=100 // SHARE)
    settings.load_profile("suite")


def thorough() -> bool:
    """Whether this is the soak."""
    return settings.get_current_profile_name() == "soak"


def size(suite: int, *, soak: int) -> int:
    """How much of something a test does."""
    return soak if thorough() else suite


def some(cases: Mapping[str, T], *few: str) -> dict[str, T]:
    """The cases of a test: all of them in the soak, a few in the suite."""
    return {name: case for name, case in cases.items() if thorough() or name in few}


def examples(count: int) -> int:
    """How many examples a property is tried with that wants ``count`` of them in the soak."""
    return count if thorough() else max(count // SHARE, 5)
