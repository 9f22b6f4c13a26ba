"""What entries are searched by: the words of an entry, and a query for some of them.

An entry's words are its id, its owner, its tags and every text in its data, case-folded, in one column. A word of a
query is looked for anywhere in it, by position and not by pattern: no character has a meaning of its own.
"""

import unicodedata
from collections.abc import Iterable, Iterator

from pydantic import JsonValue

from coafi.database import storable
from coafi.registry.entry import EntryUpdate

MAX_WORDS = 16_384
"""Characters of an entry that can be searched; what comes later in its data is not found."""

MAX_ASKED = 10
"""Words of a query."""


def words_of(update: EntryUpdate, owner: str, tags: Iterable[str]) -> str:
    """The words of an entry, as the column ``words`` holds them."""
    return words(update.entry_id, owner, tags, update.data)


def words(entry_id: str, owner: str, tags: Iterable[str], data: JsonValue) -> str:
    """See :func:`words_of`."""
    found: list[str] = []
    left = MAX_WORDS
    for text in (entry_id, owner, *tags, *_texts(data)):
        piece = folded(text[:left])
        found.append(piece)
        left -= len(piece) + 1
        if left <= 0:
            break
    return "\n".join(found)[:MAX_WORDS]


def asked(text: str) -> tuple[str, ...]:
    """The words that a query asks for, all of which must be there."""
    return tuple(dict.fromkeys(folded(word) for word in text.split()))


def folded(text: str) -> str:
    """``text`` as it is compared: without regard to case and to how accents are written, fit for both databases."""
    return storable(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()))


def _texts(data: JsonValue) -> Iterator[str]:
    """Every text in a value, in order."""
    waiting: list[JsonValue] = [data]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting.extend(reversed(list(one.values())))
        elif isinstance(one, list):
            waiting.extend(reversed(one))
