"""The table of rules: everything that a check of a document can find has an id here, and the id never changes.

Ids are stored in the ledger, in settings and in people's heads: add rules, do not rename them. The severity here is
the default; a schema may set another with ``x-severity`` (see ``coafi.documents.frontmatter``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from coafi.documents.source import Position, visible
from coafi.findings import Finding, Severity

MESSAGE_LIMIT = 500
"""Characters that a message or remedy may have."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that is checked.

    Attributes:
        id: stable name, ``<what is looked at>/<what is wrong>``.
        severity: how bad it is, unless a schema says otherwise.
        meaning: what is wrong, in one line.
        remedy: what to do about it.
    """

    id: str
    severity: Severity
    meaning: str
    remedy: str

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


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO

RULES = _table(
    # ------------------------------------------------------------------ any file
    Rule("file/omitted", _W, "the content was not looked at", "commit it in a form and size that can be checked"),
    Rule("file/too-large", _W, "the file is too large to be checked", "split it, or keep large data out of git"),
    Rule("file/not-checked", _I, "no check exists for this kind of file", "nothing, unless it should be a document"),
    Rule("file/encoding", _E, "the file is not UTF-8 text, as its name says it is", "save it as UTF-8"),
    Rule("file/bom", _W, "the file starts with a byte order mark", "save it as UTF-8 without a byte order mark"),
    Rule("file/more-findings", _I, "there are more findings than are shown", "mend these first, then check again"),
    Rule("data/too-deep", _E, "the data is nested too deeply", "flatten it, or split it into several files"),
    Rule("data/too-many-values", _E, "the data has too many values", "split it into several files"),
    Rule(
        "data/number",
        _W,
        "the number has no exact form in JSON",
        "write it as text, in quotes: beyond ±(2^53-1) other programs round it",
    ),
    # ------------------------------------------------------------------ YAML
    Rule("yaml/syntax", _E, "this is not YAML", "mend the syntax at this place"),
    Rule("yaml/control-character", _E, "YAML does not allow this character", "remove it, or escape it in quotes"),
    Rule("yaml/duplicate-key", _E, "a key appears twice in one mapping", "keep one of them"),
    Rule(
        "yaml/alias",
        _E,
        "anchors and aliases are not accepted: a few lines of them can stand for terabytes",
        "write the value out where it is needed",
    ),
    Rule("yaml/key", _E, "a key is a list or a mapping", "use a plain text key"),
    Rule("yaml/tag", _W, "the tag has no meaning in JSON and is ignored", "remove the tag, or quote the value"),
    Rule(
        "yaml/ambiguous",
        _W,
        "programs of YAML 1.1 and YAML 1.2 read this value differently",
        "put it in quotes if text is meant; otherwise write it plainly (true, false, decimal numbers)",
    ),
    # ------------------------------------------------------------------ JSON
    Rule("json/syntax", _E, "this is not JSON", "mend the syntax at this place"),
    Rule("json/duplicate-key", _E, "a key appears twice in one object", "keep one of them"),
    Rule(
        "json/surrogate",
        _W,
        "the text has half of a surrogate pair, which is no character",
        "write the character itself, or both halves",
    ),
    # ------------------------------------------------------------------ images
    Rule(
        "image/mismatch",
        _E,
        "the image is not what its name says",
        "give it the suffix of its format, or save it in the format of its suffix",
    ),
    Rule("image/damaged", _E, "the image cannot be read", "export it again from the program that made it"),
    Rule("image/too-large", _E, "the image has too many pixels", "make it smaller: few screens are wider than 4,000"),
    Rule(
        "image/active",
        _W,
        "the SVG does more than draw",
        "export it as a plain, still SVG, without scripts, links, animation and references to other files",
    ),
    # ------------------------------------------------------------------ front matter
    Rule(
        "frontmatter/missing",
        _W,
        "the document has no front matter",
        "start the file with a line ---, the keys title, document_id, version, status, infoCode, and a line ---",
    ),
    Rule(
        "frontmatter/misplaced",
        _E,
        "the front matter is not at the top of the file, so nothing reads it",
        "move it to the first line of the file",
    ),
    Rule("frontmatter/unclosed", _E, "the front matter has no end", "close it with a line that is only ---"),
    Rule("frontmatter/too-large", _E, "the front matter is too large", "move its content into the body"),
    Rule("frontmatter/not-a-mapping", _E, "the front matter has no keys and values", "write lines of key: value"),
    Rule("frontmatter/several", _E, "the front matter holds several YAML documents", "keep one"),
    Rule("frontmatter/required-key", _E, "a required key is missing", "add it to the front matter"),
    Rule("frontmatter/recommended-key", _W, "a key that such documents should have is missing", "add it, if you can"),
    Rule("frontmatter/value", _E, "the value of a key breaks the schema", "change it to what the schema asks for"),
    Rule(
        "frontmatter/unusual-value",
        _W,
        "the value of a key is not one of the usual ones",
        "use one of the usual values, if one fits",
    ),
    Rule(
        "frontmatter/no-schema",
        _W,
        "no schema for this front matter is in the registry, so its values were not checked",
        "register the schema frontmatter.general",
    ),
    Rule(
        "frontmatter/unusable-schema",
        _E,
        "the schema for this front matter cannot be used, so its values were not checked",
        "mend the schema in the registry, then check again; the document itself may be right",
    ),
)
"""All rules by their ids."""
