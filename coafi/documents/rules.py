"""The table of rules: everything that a check of a document can find has an id here, and the id never changes.

Ids are stored in the ledger, in settings and in people's heads: add rules, do not rename them. The severity here is
the default; a schema may set another with ``x-severity`` (see ``coafi.documents.frontmatter``), and the repository has
the last word (see ``coafi.documents.repository``).

Every rule has an example that breaks it and one that keeps it. The tests run both, and the documentation shows them.
"""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from coafi.documents.source import Position, visible
from coafi.findings import Finding, Severity

MESSAGE_LIMIT = 500
"""Characters that a message or remedy may have."""


@dataclass(frozen=True, slots=True)
class Example:
    """A file that breaks a rule, or keeps it.

    Attributes:
        path: of the file.
        content: of the file; ``None`` when it is not at hand.
        around: other files of its repository, by their paths.
        limits: other ``DocumentLimits`` than usual.
        without_schemas: whether the registry is empty.
        broken_schema: whether the schema of front matter in the registry cannot be used.
    """

    path: str
    content: str | bytes | None
    around: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    without_schemas: bool = False
    broken_schema: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that is checked.

    Attributes:
        id: stable name, ``<what is looked at>/<what is wrong>``.
        severity: how bad it is, unless a schema says otherwise.
        meaning: what is wrong, in one line.
        remedy: what to do about it.
        breaks: an example that breaks it.
        keeps: one that does not.
    """

    id: str
    severity: Severity
    meaning: str
    remedy: str
    breaks: Example
    keeps: Example

    def finding(
        self,
        message: str = "",
        *,
        at: Position | None = None,
        pointer: str | None = None,
        severity: Severity | None = None,
        remedy: str = "",
    ) -> Finding:
        """A finding of this rule.

        Args:
            message: what is wrong here; the rule's meaning by default.
            at: where.
            pointer: JSON Pointer to the value, where it fits.
            severity: another severity than the rule's.
            remedy: a more fitting remedy than the rule's.
        """
        return Finding(
            severity=severity or self.severity,
            rule=self.id,
            message=visible(message or self.meaning, MESSAGE_LIMIT),
            remedy=visible(remedy or self.remedy, MESSAGE_LIMIT),
            line=at.line if at else None,
            column=at.column if at else None,
            pointer=None if pointer is None else visible(pointer, MESSAGE_LIMIT),
        )


def _table(*rules: Rule) -> Mapping[str, Rule]:
    return MappingProxyType({rule.id: rule for rule in rules})


_PNG = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAAAAADRSSBWAAAAC0lEQVR4nGNgYAAAAAMAAbitOmMAAAAASUVORK5CYII=")
"""Two black pixels."""

_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO

RULES = _table(
    # ------------------------------------------------------------------ any file
    Rule(
        "file/omitted",
        _W,
        "the content was not looked at",
        "commit it in a form and size that can be checked",
        Example("a.md", None),
        Example("a.md", "text"),
    ),
    Rule(
        "file/too-large",
        _W,
        "the file is too large to be checked",
        "split it, or keep large data out of git",
        Example("a.txt", "01234567890", limits={"max_bytes": 10}),
        Example("a.txt", "0123456789", limits={"max_bytes": 10}),
    ),
    Rule(
        "file/not-checked",
        _I,
        "no check exists for this kind of file",
        "nothing, unless it should be a document",
        Example("a.bin", b"\x00"),
        Example("a.txt", "text"),
    ),
    Rule(
        "file/encoding",
        _E,
        "the file is not UTF-8 text, as its name says it is",
        "save it as UTF-8",
        Example("a.md", b"caf\xe9"),
        Example("a.md", "café"),
    ),
    Rule(
        "file/bom",
        _W,
        "the file starts with a byte order mark",
        "save it as UTF-8 without a byte order mark",
        Example("a.json", "\ufeff{}"),
        Example("a.json", "{}"),
    ),
    Rule(
        "file/more-findings",
        _I,
        "there are more findings than are shown",
        "mend these first, then check again",
        Example("a.yaml", "- no\n- no\n- no\n", limits={"max_findings": 2}),
        Example("a.yaml", "- no\n- no\n", limits={"max_findings": 2}),
    ),
    Rule(
        "data/too-deep",
        _E,
        "the data is nested too deeply",
        "flatten it, or split it into several files",
        Example("a.json", "[[[]]]", limits={"max_depth": 2}),
        Example("a.json", "[[]]", limits={"max_depth": 2}),
    ),
    Rule(
        "data/too-many-values",
        _E,
        "the data has too many values",
        "split it into several files",
        Example("a.json", "[1,2,3]", limits={"max_nodes": 3}),
        Example("a.json", "[1,2,3]", limits={"max_nodes": 4}),
    ),
    Rule(
        "data/number",
        _W,
        "the number has no exact form in JSON",
        "write it as text, in quotes: beyond ±(2^53-1) other programs round it",
        Example("a.json", "9007199254740993"),
        Example("a.json", "9007199254740991"),
    ),
    # ------------------------------------------------------------------ text
    Rule(
        "text/mojibake",
        _W,
        "the text was read in the wrong encoding once",
        "write what it was before",
        Example("a.md", "2025 â€“ 2026"),
        Example("a.md", "2025 – 2026, or `â€“` as code"),
    ),
    Rule(
        "text/lost-character",
        _W,
        "a character got lost in a conversion",
        "write it again, from an older version",
        Example("a.md", "Gr��e"),
        Example("a.md", "Größe"),
    ),
    Rule(
        "text/control-character",
        _W,
        "the text holds a character that nobody sees",
        "remove it",
        Example("a.md", "2025 \x96 2026"),
        Example("a.md", "2025 – 2026"),
    ),
    # ------------------------------------------------------------------ YAML
    Rule(
        "yaml/syntax",
        _E,
        "this is not YAML",
        "mend the syntax at this place",
        Example("a.yaml", "a: ["),
        Example("a.yaml", "a: []"),
    ),
    Rule(
        "yaml/control-character",
        _E,
        "YAML does not allow this character",
        "remove it, or escape it in quotes",
        Example("a.yaml", "a: \x01"),
        Example("a.yaml", 'a: "\\x01"'),
    ),
    Rule(
        "yaml/duplicate-key",
        _E,
        "a key appears twice in one mapping",
        "keep one of them",
        Example("a.yaml", "a: 1\na: 2"),
        Example("a.yaml", "a: 1\nA: 2"),
    ),
    Rule(
        "yaml/alias",
        _E,
        "anchors and aliases are not accepted: a few lines of them can stand for terabytes",
        "write the value out where it is needed",
        Example("a.yaml", "a: &x 1\nb: *x"),
        Example("a.yaml", "a: 1\nb: 1"),
    ),
    Rule(
        "yaml/key",
        _E,
        "a key is a list or a mapping",
        "use a plain text key",
        Example("a.yaml", "? [a]\n: 1"),
        Example("a.yaml", "'[a]': 1"),
    ),
    Rule(
        "yaml/tag",
        _W,
        "the tag has no meaning in JSON and is ignored",
        "remove the tag, or quote the value",
        Example("a.yaml", "a: !Ref b"),
        Example("a.yaml", "a: !!str b"),
    ),
    Rule(
        "yaml/ambiguous",
        _W,
        "programs of YAML 1.1 and YAML 1.2 read this value differently",
        "put it in quotes if text is meant; otherwise write it plainly (true, false, decimal numbers)",
        Example("a.yaml", "country: no"),
        Example("a.yaml", "country: 'no'"),
    ),
    # ------------------------------------------------------------------ JSON
    Rule(
        "json/syntax",
        _E,
        "this is not JSON",
        "mend the syntax at this place",
        Example("a.json", "[1,]"),
        Example("a.json", "[1]"),
    ),
    Rule(
        "json/duplicate-key",
        _E,
        "a key appears twice in one object",
        "keep one of them",
        Example("a.json", '{"a": 1, "a": 1}'),
        Example("a.json", '{"a": 1, "A": 1}'),
    ),
    Rule(
        "json/surrogate",
        _W,
        "the text has half of a surrogate pair, which is no character",
        "write the character itself, or both halves",
        Example("a.json", '"\\ud800"'),
        Example("a.json", '"\\ud83d\\ude00"'),
    ),
    # ------------------------------------------------------------------ images
    Rule(
        "image/mismatch",
        _E,
        "the image is not what its name says",
        "give it the suffix of its format, or save it in the format of its suffix",
        Example("a.jpg", _PNG),
        Example("a.png", _PNG),
    ),
    Rule(
        "image/damaged",
        _E,
        "the image cannot be read",
        "export it again from the program that made it",
        Example("a.png", _PNG[:20]),
        Example("a.png", _PNG),
    ),
    Rule(
        "image/too-large",
        _E,
        "the image has too many pixels",
        "make it smaller: few screens are wider than 4,000",
        Example("a.png", _PNG, limits={"max_image_pixels": 1}),
        Example("a.png", _PNG, limits={"max_image_pixels": 2}),
    ),
    Rule(
        "image/active",
        _W,
        "the SVG does more than draw",
        "export it as a plain, still SVG, without scripts, links, animation and references to other files",
        Example("a.svg", '<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>'),
        Example("a.svg", '<svg xmlns="http://www.w3.org/2000/svg"><g/></svg>'),
    ),
    # ------------------------------------------------------------------ front matter
    Rule(
        "frontmatter/missing",
        _W,
        "the document has no front matter",
        "start the file with a line ---, the keys title, document_id, version, status, infoCode, and a line ---",
        Example("a.md", "# Plan\n"),
        Example("a.md", "---\ntitle: Plan\n---\n# Plan\n"),
    ),
    Rule(
        "frontmatter/misplaced",
        _E,
        "the front matter is not at the top of the file, so nothing reads it",
        "move it to the first line of the file",
        Example("a.md", "# Plan\n---\ntitle: Plan\nstatus: DRAFT\n---\n"),
        Example("a.md", "---\ntitle: Plan\nstatus: DRAFT\n---\n# Plan\n"),
    ),
    Rule(
        "frontmatter/unclosed",
        _E,
        "the front matter has no end",
        "close it with a line that is only ---",
        Example("a.md", "---\ntitle: Plan\n"),
        Example("a.md", "---\ntitle: Plan\n---\n"),
    ),
    Rule(
        "frontmatter/too-large",
        _E,
        "the front matter is too large",
        "move its content into the body",
        Example("a.md", "---\ntitle: Plan\n---\n", limits={"max_front_matter_bytes": 10}),
        Example("a.md", "---\ntitle: Plan\n---\n", limits={"max_front_matter_bytes": 20}),
    ),
    Rule(
        "frontmatter/not-a-mapping",
        _E,
        "the front matter has no keys and values",
        "write lines of key: value",
        Example("a.md", "---\n- title\n---\n"),
        Example("a.md", "---\ntitle: Plan\n---\n"),
    ),
    Rule(
        "frontmatter/several",
        _E,
        "the front matter holds several YAML documents",
        "keep one",
        Example("a.md", "---\ntitle: Plan\n--- two\n---\n"),
        Example("a.md", "---\ntitle: Plan\n---\n--- two\n"),
    ),
    Rule(
        "frontmatter/required-key",
        _E,
        "a required key is missing",
        "add it to the front matter",
        Example("a.md", "---\nstatus: DRAFT\n---\n"),
        Example("a.md", "---\ntitle: Plan\nstatus: DRAFT\n---\n"),
    ),
    Rule(
        "frontmatter/recommended-key",
        _W,
        "a key that such documents should have is missing",
        "add it, if you can",
        Example("a.md", "---\ntitle: Plan\n---\n"),
        Example(
            "a.md",
            "---\ntitle: Plan\ndocument_id: GP-DOCS-0001-PLAN-A\nversion: v1.0\n"
            "status: DRAFT\ndate: 2025-04-27\nauthor: Ada\n---\n",
        ),
    ),
    Rule(
        "frontmatter/value",
        _E,
        "the value of a key breaks the schema",
        "change it to what the schema asks for",
        Example("a.md", "---\ntitle: [Plan]\n---\n"),
        Example("a.md", "---\ntitle: Plan\n---\n"),
    ),
    Rule(
        "frontmatter/unusual-value",
        _W,
        "the value of a key is not one of the usual ones",
        "use one of the usual values, if one fits",
        Example("a.md", "---\ntitle: Plan\nstatus: On hold\n---\n"),
        Example("a.md", "---\ntitle: Plan\nstatus: DRAFT\n---\n"),
    ),
    Rule(
        "frontmatter/no-schema",
        _W,
        "no schema for this front matter is in the registry, so its values were not checked",
        "register the schema frontmatter.general",
        Example("a.md", "---\ntitle: Plan\n---\n", without_schemas=True),
        Example("a.md", "---\ntitle: Plan\n---\n"),
    ),
    Rule(
        "frontmatter/unusable-schema",
        _E,
        "the schema for this front matter cannot be used, so its values were not checked",
        "mend the schema in the registry, then check again; the document itself may be right",
        Example("a.md", "---\ntitle: Plan\n---\n", broken_schema=True),
        Example("a.md", "---\ntitle: Plan\n---\n"),
    ),
    # ------------------------------------------------------------------ documents
    Rule(
        "document/file-name",
        _W,
        "the name of the file and its document_id are two different ids",
        "rename the file, or correct the document_id",
        Example("GP-DOCS-0002-PLAN-A.md", "---\ntitle: Plan\ndocument_id: GP-DOCS-0001-PLAN-A\n---\n"),
        Example("gp-docs-0001-plan-a-draft.md", "---\ntitle: Plan\ndocument_id: GP-DOCS-0001-PLAN-A\n---\n"),
    ),
    Rule(
        "document/duplicate-id",
        _E,
        "another document has the same document_id",
        "give one of them an id of its own: usually the copy",
        Example(
            "a.md",
            "---\ntitle: Plan\ndocument_id: GP-DOCS-0001-PLAN-A\n---\n",
            around={"b.md": "---\ntitle: Plan\ndocument_id: GP-DOCS-0001-PLAN-A\n---\n"},
        ),
        Example(
            "a.md",
            "---\ntitle: Plan\ndocument_id: GP-DOCS-0001-PLAN-A\n---\n",
            around={"b.md": "---\ntitle: Plan\ndocument_id: GP-DOCS-0002-PLAN-A\n---\n"},
        ),
    ),
    # ------------------------------------------------------------------ links
    Rule(
        "link/missing-file",
        _W,
        "a link or an image leads to a file that does not exist",
        "correct the target, or remove the link",
        Example("a.md", "[plan](plam.md)", around={"plan.md": ""}),
        Example("a.md", "[plan](plan.md)", around={"plan.md": ""}),
    ),
    Rule(
        "link/other-directory",
        _W,
        "a link resolves only from another directory than that of its document",
        "write it relative to the document",
        Example("guides/a.md", "[plan](plan.md)", around={"plan.md": ""}),
        Example("guides/a.md", "[plan](../plan.md)", around={"plan.md": ""}),
    ),
    Rule(
        "link/missing-heading",
        _W,
        "a link leads to a heading that does not exist",
        "correct what follows the #, or add the heading",
        Example("a.md", "[goals](plan.md#goal)", around={"plan.md": "# Goals"}),
        Example("a.md", "[goals](plan.md#goals)", around={"plan.md": "# Goals"}),
    ),
    Rule(
        "link/outside",
        _W,
        "a link leads out of the repository",
        "use the web address, or bring the file into the repository",
        Example("a.md", "[plan](../plan.md)"),
        Example("a.md", "[plan](https://example.org/plan)"),
    ),
    Rule(
        "link/empty",
        _W,
        "a link has no target",
        "write where it leads, or remove the link",
        Example("a.md", "[plan]()"),
        Example("a.md", "[plan](#top)"),
    ),
    Rule(
        "link/undefined",
        _W,
        "a reference has no definition, and is shown as plain text",
        r"define it on a line of its own, [label]: target, or write \[ where brackets are meant",
        Example("a.md", "See [the plan][plan]."),
        Example("a.md", "See [the plan][plan] and a[i][j].\n\n[plan]: #top"),
    ),
    Rule(
        "link/not-checked",
        _I,
        "there are more links than are checked",
        "split the document",
        Example("a.md", "".join(f"[x](?{number}) " for number in range(20_001))),
        Example("a.md", "[x](?1)"),
    ),
    # ------------------------------------------------------------------ schemas
    Rule(
        "schema/violation",
        _E,
        "the data breaks its schema",
        "change it to what the schema asks for",
        Example(
            "a.yaml",
            "# yaml-language-server: $schema=a.schema.json\nname: x",
            around={"a.schema.json": '{"type": "object", "required": ["id"]}'},
        ),
        Example(
            "a.yaml",
            "# yaml-language-server: $schema=a.schema.json\nid: x",
            around={"a.schema.json": '{"type": "object", "required": ["id"]}'},
        ),
    ),
    Rule(
        "schema/invalid",
        _E,
        "this is not a JSON Schema",
        "mend it as its meta-schema asks for",
        Example("a.schema.json", '{"type": "text"}'),
        Example("a.schema.json", '{"type": "string"}'),
    ),
    Rule(
        "schema/missing",
        _W,
        "the schema of the data is not there, so the data was not checked",
        "correct its path, or add the schema",
        Example("a.json", '{"$schema": "b.schema.json"}'),
        Example("a.json", '{"$schema": "b.schema.json"}', around={"b.schema.json": "{}"}),
    ),
    Rule(
        "schema/remote",
        _I,
        "the schema of the data is elsewhere, and nothing is fetched, so the data was not checked",
        "copy the schema into the repository and name the copy, here or in schemas.yaml",
        Example("a.json", '{"$schema": "https://example.org/b.json"}'),
        Example("a.json", '{"$schema": "b.schema.json"}', around={"b.schema.json": "{}"}),
    ),
    Rule(
        "schema/unusable",
        _E,
        "the schema of the data cannot be used, so the data was not checked",
        "mend the schema, then check again; the data itself may be right",
        Example(
            "a.json", '{"$schema": "b.schema.json"}', around={"b.schema.json": '{"$ref": "https://example.org/c"}'}
        ),
        Example(
            "a.json",
            '{"$schema": "b.schema.json"}',
            around={"b.schema.json": '{"$ref": "#/$defs/c", "$defs": {"c": {}}}'},
        ),
    ),
    Rule(
        "schema/unknown-draft",
        _W,
        "the draft of this JSON Schema is not known, so it was not checked",
        "name a draft from 3 to 2020-12",
        Example("a.json", '{"$schema": "https://json-schema.org/draft/2099-01/schema"}'),
        Example("a.json", '{"$schema": "https://json-schema.org/draft/2020-12/schema"}'),
    ),
    # ------------------------------------------------------------------ settings of a repository
    Rule(
        "settings/value",
        _E,
        ".coafi.yaml is not as it must be; what is wrong in it has no effect",
        "write rules: and lines of <rule>: error, warning, info or off",
        Example(".coafi.yaml", "rules:\n  link/empty: never"),
        Example(".coafi.yaml", "rules:\n  link/empty: off"),
    ),
    Rule(
        "settings/unknown-rule",
        _W,
        ".coafi.yaml names a rule that does not exist",
        "use an id from the table of rules",
        Example(".coafi.yaml", "rules:\n  link/void: off"),
        Example(".coafi.yaml", "rules:\n  link/empty: off"),
    ),
    Rule(
        "bindings/value",
        _W,
        "schemas.yaml is not as it must be; what is wrong in it has no effect",
        "write schemas: and a list of schema: <path> with files: <list of patterns>",
        Example("schemas.yaml", "schemas:\n  - schema: a.schema.json"),
        Example("schemas.yaml", "schemas:\n  - schema: a.schema.json\n    files: ['data/**/*.yaml']"),
    ),
)
"""All rules by their ids."""
