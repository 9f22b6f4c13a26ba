"""Images: what they are by their bytes, and whether their header can be believed."""

from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from pathlib import PurePosixPath

import imagesize

from coafi.documents.limits import DocumentLimits
from coafi.documents.rules import RULES
from coafi.documents.source import Position
from coafi.documents.svg import CleanSvg, NotSvg, clean_svg
from coafi.findings import Finding


class ImageFormat(StrEnum):
    """The image formats that every browser shows."""

    PNG = "png"
    JPEG = "jpeg"
    GIF = "gif"
    WEBP = "webp"
    SVG = "svg"


_BY_SUFFIX = {f".{one.value}": one for one in ImageFormat} | {".jpg": ImageFormat.JPEG}
_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """What the check of an image says.

    Attributes:
        findings: what is wrong.
        clean: an SVG as it may be served; ``None`` for other formats, and for one that cannot be read.
    """

    findings: tuple[Finding, ...] = ()
    clean: CleanSvg | None = None


def format_of_name(path: str) -> ImageFormat | None:
    """The image format that the name claims, if it claims one."""
    return _BY_SUFFIX.get(PurePosixPath(path).suffix.lower())


def format_of_content(content: bytes) -> ImageFormat | None:
    """The raster format whose signature the bytes begin with; an SVG has none."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return ImageFormat.PNG
    if content.startswith(b"\xff\xd8\xff"):
        return ImageFormat.JPEG
    if content.startswith((b"GIF87a", b"GIF89a")):
        return ImageFormat.GIF
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return ImageFormat.WEBP
    return None


def is_lfs_pointer(content: bytes) -> bool:
    """Whether the bytes are what git has in place of a file that Git LFS keeps elsewhere."""
    return content.startswith(_POINTER) and len(content) < 1024


def check_image(path: str, content: bytes, limits: DocumentLimits) -> CheckedImage:
    """Whether an image is what its name says, its header can be read, and its size is in bounds.

    Args:
        path: its name counts.
        content: its bytes.
        limits: the most pixels.
    """
    found = format_of_content(content)
    claimed = format_of_name(path) or found
    if claimed is ImageFormat.SVG and found is None:
        return _check_svg(content)
    if claimed is not found:
        what = f"are {found.upper()}" if found else "are of none of the formats PNG, JPEG, GIF, WebP"
        message = f"the name says {str(claimed).upper()}, the bytes {what}" if content else "the file is empty"
        return CheckedImage((RULES["image/mismatch"].finding(message),))
    try:
        width, height = imagesize.get(BytesIO(content), exif_rotation=False)
    except Exception:
        # A pure reader of headers: whatever it stumbles over is in the bytes.
        width = height = -1
    if width <= 0 or height <= 0:
        return CheckedImage(
            (RULES["image/damaged"].finding(f"no width and height can be read from the {found} header"),)
        )
    if width * height > limits.max_image_pixels:
        message = f"the image has {width} × {height} pixels; up to {limits.max_image_pixels} are accepted"
        return CheckedImage((RULES["image/too-large"].finding(message),))
    return CheckedImage()


def _check_svg(content: bytes) -> CheckedImage:
    try:
        clean = clean_svg(content)
    except NotSvg as error:
        place = Position(error.line, error.column) if error.line and error.column else None
        return CheckedImage((RULES["image/damaged"].finding(f"this is no SVG that can be shown: {error}", at=place),))
    if not clean.removed:
        return CheckedImage(clean=clean)
    names = ", ".join(clean.removed[:10]) + (" …" if len(clean.removed) > 10 else "")
    message = f"the SVG does more than draw; what is shown of it leaves this out: {names}"
    return CheckedImage((RULES["image/active"].finding(message),), clean)
