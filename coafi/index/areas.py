"""Which registry area a document belongs to."""

import re
from pathlib import PurePosixPath

REGISTRIES = ("AERO", "SPACE", "COM", "GROUND", "GREENTECH", "UTIDS")
"""The registries of the ecosystem."""

_AREA = re.compile(r"[A-Za-z][A-Za-z0-9]{0,39}")


def area_of(document_id: str | None, path: str) -> str | None:
    """The area of a document; ``None`` when neither its id nor its path tells.

    The first registry that ``COAFI-<AREA…>-<NNNN>-…`` names counts (``COAFI-REG-AERO-0001-SPEC-A`` is of ``AERO``),
    else the word after ``COAFI`` or ``GP``. A document without such an id belongs to the registry that its file or
    one of its directories is called after.
    """
    scheme, *words = (document_id or "").split("-")
    if scheme in ("COAFI", "GP") and words:
        named = [word.upper() for word in words if word.upper() in REGISTRIES]
        if named:
            return named[0]
        if _AREA.fullmatch(words[0]):
            return words[0].upper()
    parts = [PurePosixPath(path).stem, *PurePosixPath(path).parent.parts]
    return next((part.upper() for part in parts if part.upper() in REGISTRIES), None)
