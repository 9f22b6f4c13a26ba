"""Damages input at random, and in the same way for the same seed."""

from collections.abc import Callable, Sequence
from random import Random

LARGEST = 64 * 1024
"""Bytes of an input at most: quadratic time shows long before."""

_TOKENS = [
    *(b"\x00", b"\n", b"\r", b"\r\n\r\n", b"\t", b" ", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80"),
    *(b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\xc2\x85", b"\xc3\x83\xc2\xa9", b"\\ud800"),
    *(b"\\u0000", b"\\", b'"', b"'", b"\x1b", b"---\n", b"...\n", b"&a ", b"*a", b"<<: "),
    *(b"!!python/object:os.system ", b"? ", b": ", b"- ", b"|\n", b"%YAML 9.9\n", b"[", b"]", b"{", b"}", b","),
    *(b":", b"null", b"true", b"NaN", b"1e999", b"-0.0", b"9" * 30, b"-" + b"9" * 400, b"0x1F", b"12:30:45"),
    *(b"2025-13-45", b"no", b"~", b".inf", b"1_000", b"0o17", b'{"a":', b"[[", b'"$ref": "#"', b'"$schema": "'),
    *(b"# ", b"## ", b"> ", b"* ", b"```", b"~~~\n", b"|", b"|-|\n", b"![", b"](", b"<", b">", b"&", b"&#0;"),
    *(b"&lt;", b"[^1]", b"<script>", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<!DOCTYPE a [<!ENTITY b 'c'>]>"),
    *(b"<?xml ", b"<svg>", b"</svg>", b" onload=x", b"javascript:", b"data:text/html,", b"url(#"),
    *(b"xlink:href=", b"../", b"/", b"//", b"%2e%2e%2f", b"%00", b"%", b"$.", b"(a+)+$", b"**/", b"!", b"@"),
    *(b"=", b"?", b"; ", b"refs/heads/", b"0" * 40, b"-----", b"\xe2\x80\x94"),
]  # fmt: skip


def mutant(seeds: Sequence[bytes], seed: str) -> bytes:
    """One damaged input.

    Args:
        seeds: what is damaged.
        seed: chooses one of them and what is done to it; the same on every machine.
    """
    random = Random(seed)
    data = random.choice(seeds)
    for _ in range(random.choice((0, 1, 1, 2, 3, 5, 8, 20))):
        data = random.choice(_WAYS)(data, random, seeds)[:LARGEST]
    return data


def _slice(data: bytes, random: Random, longest: int = 64) -> tuple[int, int]:
    start = random.randint(0, len(data))
    return start, min(len(data), start + random.randint(0, random.choice((1, 4, 16, longest))))


def _flip(data: bytes, random: Random, _seeds: Sequence[bytes]) -> bytes:
    if not data:
        return b"\x80"
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _insert(data: bytes, random: Random, _seeds: Sequence[bytes]) -> bytes:
    start, end = _slice(data, random)
    return data[:start] + random.choice(_TOKENS) + data[random.choice((start, end)) :]


def _remove(data: bytes, random: Random, _seeds: Sequence[bytes]) -> bytes:
    start, end = _slice(data, random, 1_000)
    return data[:start] + data[end:]


def _repeat(data: bytes, random: Random, _seeds: Sequence[bytes]) -> bytes:
    start, end = _slice(data, random, 200)
    return data[:start] + data[start:end] * random.choice((2, 3, 10, 100, 5_000)) + data[end:]


def _pile_up(data: bytes, random: Random, _seeds: Sequence[bytes]) -> bytes:
    at, token = random.randint(0, len(data)), random.choice(_TOKENS)
    return data[:at] + token * random.choice((5, 99, 101, 1_000, 20_000)) + data[at:]


def _cut(data: bytes, random: Random, _seeds: Sequence[bytes]) -> bytes:
    at = random.randint(0, len(data))
    return random.choice((data[:at], data[at:]))


def _cross(data: bytes, random: Random, seeds: Sequence[bytes]) -> bytes:
    other = random.choice(seeds)
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


def _swap_lines(data: bytes, random: Random, _seeds: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def _recode(data: bytes, random: Random, _seeds: Sequence[bytes]) -> bytes:
    text = data.decode("utf-8", "replace")
    return text.encode(random.choice(("utf-16", "utf-8-sig", "cp1252", "utf-32-be")), "replace")


_WAYS: tuple[Callable[[bytes, Random, Sequence[bytes]], bytes], ...] = (
    *(_flip, _insert, _insert, _insert, _remove, _repeat, _pile_up, _cut, _cross, _swap_lines, _recode),
)
