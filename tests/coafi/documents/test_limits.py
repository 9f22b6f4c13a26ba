"""Large files wait for each other, so that what parsers make of them is never there many times at once."""

import threading

import pytest

from coafi.documents.limits import LARGE, in_turn


def at_once(size: int, threads: int = 4) -> int:
    """How many of several threads look into a file of this size at the same time, at most."""
    inside = most = 0
    lock = threading.Lock()
    met = threading.Barrier(threads)

    def look() -> None:
        nonlocal inside, most
        met.wait(10)
        with in_turn(size):
            with lock:
                inside += 1
                most = max(most, inside)
            if size < LARGE:
                met.wait(10)
            with lock:
                inside -= 1

    running = [threading.Thread(target=look) for _ in range(threads)]
    for one in running:
        one.start()
    for one in running:
        one.join(20)
    return most


@pytest.mark.parametrize(("size", "most"), [(LARGE - 1, 4), (LARGE, 1)])
def test_large_files_are_looked_into_one_after_the_other(size: int, most: int) -> None:
    assert at_once(size) == most


def test_the_check_of_a_large_file_may_look_into_another() -> None:
    with in_turn(LARGE), in_turn(2 * LARGE):
        pass


def test_whoever_fails_lets_the_next_one_in() -> None:
    with pytest.raises(KeyError), in_turn(LARGE):
        raise KeyError
    assert at_once(LARGE) == 1
