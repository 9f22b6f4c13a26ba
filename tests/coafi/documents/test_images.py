import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.documents.images import format_of_content, format_of_name
from tests.coafi.documents.samples import PNG, SVG, check, png, rules

JPEG = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
    b"\xff\xc0\x00\x0b\x08\x00\x03\x00\x04\x01\x01\x11\x00\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x00\xff\xd9"
)
GIF = b"GIF89a" + struct.pack("<HH", 4, 3) + b"\x00\x00\x00;"
WEBP = b"RIFF\x1a\x00\x00\x00WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\x03\0\0" + b"\x02\0\0"
GOOD = {"a.png": PNG, "a.jpg": JPEG, "a.jpeg": JPEG, "a.gif": GIF, "a.webp": WEBP, "a.svg": (SVG % "<g/>").encode()}


@pytest.mark.parametrize("path", GOOD)
def test_an_image_that_is_what_its_name_says_is_valid(path: str) -> None:
    report = check(path, GOOD[path])
    assert (report.kind, report.verdict, report.findings) == ("image", "valid", ())
    assert check(path.upper(), GOOD[path]).verdict == "valid"


@pytest.mark.parametrize(
    ("path", "content", "rule", "message"),
    [
        ("a.png", JPEG, "image/mismatch", "the name says PNG, the bytes are JPEG"),
        ("a.jpg", b"no photo at all\n", "image/mismatch", "are of none of the formats"),
        ("a.gif", b"", "image/mismatch", "the file is empty"),
        ("a.svg", PNG, "image/mismatch", "the name says SVG, the bytes are PNG"),
        ("a.webp", b"RIFF\0\0\0\0WAVEfmt ", "image/mismatch", "are of none"),
        ("a.png", PNG[:18], "image/damaged", "no width and height"),
        ("a.png", png(0, 3), "image/damaged", "no width and height"),
        ("a.jpg", JPEG[:12], "image/damaged", "no width and height"),
        ("a.gif", GIF[:8], "image/damaged", "no width and height"),
        ("a.webp", WEBP[:18], "image/damaged", "no width and height"),
        ("a.svg", b"<svg", "image/damaged", "this is no SVG that can be shown: it is not well-formed"),
        ("a.svg", b"", "image/damaged", "no element found"),
    ],
)
def test_an_image_that_is_not_is_told_why(path: str, content: bytes, rule: str, message: str) -> None:
    report = check(path, content)
    assert (report.kind, report.verdict, rules(report)) == ("image", "invalid", [rule])
    assert message in report.findings[0].message


def test_images_have_a_limit_of_pixels() -> None:
    assert check("a.png", PNG, max_image_pixels=12).verdict == "valid"
    report = check("a.png", PNG[:16] + struct.pack(">II", 50_000, 50_000) + PNG[24:])
    assert rules(report) == ["image/too-large"]
    assert "50000 × 50000" in report.findings[0].message


def test_what_an_svg_does_besides_drawing_is_a_warning() -> None:
    report = check("a.svg", SVG % ("<script/><g onload='x'/>" + "".join(f"<x{n}/>" for n in range(20))))
    assert (report.verdict, rules(report)) == ("valid", ["image/active"])
    assert "script, g onload, x0, x1" in report.findings[0].message
    assert report.findings[0].message.endswith("…")


def test_the_place_in_an_svg_is_told() -> None:
    (finding,) = check("a.svg", "<svg>\n</g>").findings
    assert (finding.line, finding.column) == (1, 1)


def test_a_pointer_of_git_lfs_is_no_damaged_image() -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    report = check("a.png", pointer)
    assert (report.kind, report.verdict, rules(report)) == ("image", "skipped", ["file/omitted"])
    assert "Git LFS" in report.findings[0].message
    assert check("a.png", pointer + "x" * 2000).verdict == "invalid"


def test_names_and_signatures() -> None:
    assert format_of_name("a/b.JPG") == format_of_name("b.jpeg") == "jpeg"
    assert format_of_name("a.png/b") is None
    assert format_of_content(b"GIF87a") == "gif"
    assert format_of_content(b"GIF88a") is None


STARTS = st.sampled_from([PNG[:8], JPEG[:3], b"GIF89a", WEBP[:12], WEBP[:16], b"RIFF\0\0\0\0WEBPVP8 ", b"<svg "])


@given(st.sampled_from(sorted(GOOD)), st.one_of(st.binary(), st.tuples(STARTS, st.binary(max_size=200)).map(b"".join)))
def test_any_bytes_have_a_verdict(path: str, content: bytes) -> None:
    assert check(path, content).verdict in ("valid", "invalid", "skipped")


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_damaged_image_has_a_verdict(path: str, data: st.DataObject) -> None:
    content = bytearray(GOOD[path])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    assert check(path, bytes(content)).verdict in ("valid", "invalid")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "content",
    [
        JPEG[:2] + b"\xff\xe0\x00\x02" * 500_000,
        JPEG[:2] + b"\xff" * 2_000_000,
        PNG[:8] + b"\x00\x00\x00\x00abcdABCD" * 150_000,
        WEBP[:12] + b"ABCD\x00\x00\x00\x00" * 250_000,
        b"GIF89a" + b"\xff" * 2_000_000,
    ],
    ids=range(5),
)
def test_heavy_headers_take_bounded_time(content: bytes) -> None:
    names = {"png": "a.png", "jpeg": "a.jpg", "gif": "a.gif", "webp": "a.webp"}
    check(names[format_of_content(content) or ""], content)


def test_what_the_reader_of_headers_stumbles_over_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise KeyError

    monkeypatch.setattr("imagesize.get", stumble)
    assert rules(check("a.png", PNG)) == ["image/damaged"]
