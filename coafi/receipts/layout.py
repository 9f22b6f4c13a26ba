r"""How a receipt lies in its file: JSON, laid out so that it can be written and read entry by entry.

::

    {"format":"coafi.receipt/1","entries":[
    {"entry":"…","proof":"c2sp.org/tlog-proof@v1\nindex 4\n…"},
    {"entry":"…","proof":"c2sp.org/tlog-proof@v1\nindex 5\n…"}
    ],"envelope":{"payload":"…","payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":"…","sig":"…"}]}}

Any JSON parser reads it. This one takes nothing but this layout, byte for byte, so that there is one spelling of each
receipt: what it does not look at cannot be changed unnoticed.
"""

import json
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from coafi.errors import ValidationError
from coafi.ledger.entry import MAX_BODY
from coafi.receipts.dsse import Envelope

MEDIA_TYPE = "application/json"
MAX_LINE = 8 * MAX_BODY
"""Bytes of the line of an entry at most: a body and a proof of 64 KiB each, and as much again for escapes."""

_HEAD = b'{"format":"coafi.receipt/1","entries":[\n'
_TAIL = b'],"envelope":'
_END = b"}\n"


class Item(NamedTuple):
    """One entry.

    Attributes:
        body: its exact bytes.
        proof: its tlog-proof, as text.
    """

    body: bytes
    proof: str


class ReceiptWriter:
    """Writes a receipt to ``file``: entries in the order of the log, at least one, then the envelope."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._between = _HEAD

    def add(self, item: Item) -> None:
        """Write the next entry."""
        self._file.write(self._between + _line(item))
        self._between = b",\n"

    def end(self, envelope: Envelope) -> None:
        """Write what comes after the last entry."""
        self._file.write(b"\n" + _TAIL + _json(envelope.model_dump(mode="json")) + _END)


class ReceiptReader:
    """Reads a receipt from ``file``: first all :meth:`items`, then the :meth:`envelope`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def items(self) -> Iterator[Item]:
        """The entries.

        Raises:
            ValidationError: this is no receipt, or it is cut off; the message says in which line.
        """
        if self._file.readline(len(_HEAD)) != _HEAD:
            raise _malformed(1, "it does not begin like a receipt")
        number, more = 2, True
        while more:
            line = self._file.readline(MAX_LINE + 1)
            if len(line) > MAX_LINE:
                raise _malformed(number, f"it is longer than {MAX_LINE:,} bytes")
            more = line.endswith(b",\n")
            yield _item(number, line.removesuffix(b",\n" if more else b"\n"), whole=line.endswith(b"\n"))
            number += 1
        self._number = number

    def envelope(self, size: int) -> bytes:
        """The JSON of the envelope, to be compared with :func:`render_envelope` of what it means.

        Args:
            size: bytes that it may have.

        Raises:
            ValidationError: the receipt is cut off, goes on after its end, or its envelope is longer.
        """
        line = self._file.readline(len(_TAIL) + size + len(_END) + 1)
        if len(line) > len(_TAIL) + size + len(_END):
            raise _malformed(self._number, "its envelope is longer than any statement about these entries can be")
        if not line.startswith(_TAIL) or not line.endswith(_END):
            raise _malformed(self._number, "the envelope is missing or cut off")
        if self._file.read(1):
            raise _malformed(self._number + 1, "something follows after the end")
        return line[len(_TAIL) : -len(_END)]


def render_envelope(envelope: Envelope) -> bytes:
    """The one spelling of an envelope."""
    return _json(envelope.model_dump(mode="json"))


def _line(item: Item) -> bytes:
    return _json({"entry": item.body.decode(), "proof": item.proof})


def _item(number: int, line: bytes, *, whole: bool) -> Item:
    if not whole:
        raise _malformed(number, "it is cut off")
    try:
        value = json.loads(line)
        item = Item(value["entry"].encode(), value["proof"])
        same = _line(item) == line
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):  # of json, str and dict
        raise _malformed(number, "it holds no entry with its proof") from None
    if not same or not isinstance(item.proof, str):
        raise _malformed(number, "it is not spelled as receipts are")
    return item


def _json(value: object) -> bytes:
    """RFC 8785, for the texts, arrays and objects with sorted members that a receipt is made of."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def _malformed(number: int, problem: str) -> ValidationError:
    return ValidationError(f"line {number} of the receipt: {problem}", remedy="get it again, byte for byte")
