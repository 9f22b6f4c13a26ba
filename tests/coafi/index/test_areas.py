"""The registry area of a document."""

import pytest

from coafi.index.areas import area_of


@pytest.mark.parametrize(
    ("document_id", "path", "area"),
    [
        ("COAFI-POL-0001-EVENT-A", "x.md", "POL"),
        ("COAFI-REG-AERO-0001-SPEC-A", "x.md", "AERO"),
        ("COAFI-greentech-0001-SPEC-A", "x.md", "GREENTECH"),
        ("GP-DOCS-0001-PROTOCOL-A", "x.md", "DOCS"),
        ("COAFI-0001-SPEC-A", "x.md", None),
        ("COAFI-", "registries/space/x.md", "SPACE"),
        ("CIVIL-AV-42", "x.md", None),
        (None, "registry/aero.yaml", "AERO"),
        (None, "COM/x.json", "COM"),
        (None, "README.md", None),
        ("COAFI-<script>-1", "x.md", None),
    ],
)
def test_the_id_tells_or_else_the_path(document_id: str | None, path: str, area: str | None) -> None:
    assert area_of(document_id, path) == area
