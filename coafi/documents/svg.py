"""SVG as a still image: written anew from an allow list, with nothing in it that runs, loads or leads anywhere.

An SVG is a document that a browser may run: opened on its own it has scripts, event handlers and embedded HTML, and it
can load whatever it names. What is on the lists below only draws. References stay within the file: ``#id``, or raster
images that the file carries itself. The text is XML without entities, read by expat in one pass with bounded depth and
number of elements; the same input gives the same output.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_XML = "http://www.w3.org/XML/1998/namespace"

_MAX_DEPTH = 64
_MAX_ELEMENTS = 50_000
_MAX_DRAWN = 200_000
_MAX_DECLARED = 50


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ELEMENTS = _words(
    "svg g defs symbol use switch title desc path rect circle ellipse line polyline polygon text tspan textPath image "
    "style linearGradient radialGradient stop pattern clipPath mask marker filter feBlend feColorMatrix "
    "feComponentTransfer feComposite feConvolveMatrix feDiffuseLighting feDisplacementMap feDistantLight feDropShadow "
    "feFlood feFuncA feFuncB feFuncG feFuncR feGaussianBlur feMerge feMergeNode feMorphology feOffset fePointLight "
    "feSpecularLighting feSpotLight feTile feTurbulence"
)
_UNWRAPPED = frozenset({"a"})
"""Elements that are left out while what is in them stays."""

_WORDS = _words("aria-hidden aria-label class d id lang points role")
"""Attributes that hold text, which no renderer reads as a reference."""

_ATTRIBUTES = _WORDS | _words(
    "alignment-baseline amplitude azimuth baseFrequency baseline-shift bias clip-path clip-rule clipPathUnits color "
    "color-interpolation color-interpolation-filters cx cy diffuseConstant direction display divisor "
    "dominant-baseline dx dy edgeMode elevation exponent fill fill-opacity fill-rule filter filterUnits flood-color "
    "flood-opacity font-family font-size font-size-adjust font-stretch font-style font-variant font-weight fr fx fy "
    "gradientTransform gradientUnits height image-rendering in in2 intercept isolation k1 k2 k3 k4 kernelMatrix "
    "kernelUnitLength lengthAdjust letter-spacing lighting-color limitingConeAngle marker-end marker-mid marker-start "
    "markerHeight markerUnits markerWidth mask mask-type maskContentUnits maskUnits method mix-blend-mode mode "
    "numOctaves offset opacity operator order orient overflow paint-order pathLength patternContentUnits "
    "patternTransform patternUnits pointer-events points pointsAtX pointsAtY pointsAtZ preserveAlpha "
    "preserveAspectRatio primitiveUnits r radius refX refY result rotate rx ry scale seed shape-rendering side slope "
    "space spacing specularConstant specularExponent spreadMethod startOffset stdDeviation stitchTiles stop-color "
    "stop-opacity stroke stroke-dasharray stroke-dashoffset stroke-linecap stroke-linejoin stroke-miterlimit "
    "stroke-opacity stroke-width style surfaceScale systemLanguage tableValues targetX targetY text-anchor "
    "text-decoration text-rendering textLength transform transform-origin type values vector-effect version viewBox "
    "visibility width word-spacing writing-mode x x1 x2 xChannelSelector y y1 y2 yChannelSelector z"
)

_REFERRING = _words("use textPath linearGradient radialGradient pattern filter")
_INNER = re.compile(r"\s*#([^\s#]+)\s*")
_EMBEDDED = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]*")

# A name starts where no name was before it, and gives nothing back: a long word would be read again from every letter.
_FUNCTION = re.compile(r"(?<![\w-])([\w-]++)\(")
_FUNCTIONS = _words(
    "blur brightness calc circle clamp contrast cubic-bezier drop-shadow ellipse grayscale hsl hsla hue-rotate hwb "
    "inset invert is lab lch matrix matrix3d max min not nth-child nth-last-child nth-of-type oklab oklch opacity path "
    "polygon rgb rgba rotate rotatex rotatey rotatez saturate scale scalex scaley scalez sepia skew skewx skewy steps "
    "translate translatex translatey translatez var where"
)
_URL = re.compile(r"url\(\s*(?:'#([^'()\s]+)'|\"#([^\"()\s]+)\"|#([^'\"()\s]+))\s*\)", re.IGNORECASE)
_AT_RULE = re.compile(r"@(?!media\b)", re.IGNORECASE)


class NotSvg(Exception):
    """The bytes are no SVG that can be drawn; the text says why, for a person.

    Attributes:
        line: where, from 1, if it is known.
        column: likewise.
    """

    def __init__(self, reason: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(reason)
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class CleanSvg:
    """An SVG that only draws.

    Attributes:
        content: it, in UTF-8.
        removed: what was left out for being active or leading elsewhere: names of elements and attributes, in the
            order in which they appear.
    """

    content: bytes
    removed: tuple[str, ...]


def clean_svg(content: bytes) -> CleanSvg:
    """Write an SVG anew, from what draws.

    Args:
        content: XML in any encoding that it names.

    Raises:
        NotSvg: it is not well-formed, no SVG, defines entities, or is too deep, too large or too much to draw.
    """
    return _Writer().write(content)


@dataclass
class _Part:
    """An element with an id, or the whole: how many elements it draws itself, and which parts it holds or repeats."""

    drawn: int = 0
    refers: Counter[str] = field(default_factory=Counter)


class _Writer:
    def __init__(self) -> None:
        self._out: list[str] = []
        self._removed: dict[str, None] = {}
        self._open: list[str] = []
        """Tags to write at the end of each open element; empty for one that is left out while its content stays."""
        self._dropped = 0
        """How many elements are open within one that is left out, with that one."""
        self._elements = 0
        self._style: list[str] | None = None
        self._parts: dict[str, _Part] = {"": _Part()}
        self._within: list[tuple[int, str]] = [(0, "")]
        self._declared = 0
        """How many attributes a document type gives to elements: each element gets all of them."""
        self._parser = expat.ParserCreate(namespace_separator=" ")

    def write(self, content: bytes) -> CleanSvg:
        parser = self._parser
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.ProcessingInstructionHandler = self._instruction
        parser.EntityDeclHandler = self._entity
        parser.AttlistDeclHandler = self._attribute
        # Without this handler entities that are not declared would vanish when there is a document type.
        parser.SkippedEntityHandler = self._skipped
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        try:
            parser.Parse(content, True)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise NotSvg(f"it is not well-formed XML: {reason}", error.lineno, error.offset + 1) from None
        except (LookupError, ValueError) as error:
            raise NotSvg(f"its encoding cannot be read: {error}") from None
        self._refuse_bomb()
        return CleanSvg("".join(self._out).encode("utf-8", "replace"), tuple(self._removed))

    def _refuse(self, reason: str) -> NotSvg:
        return NotSvg(reason, self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1)

    def _instruction(self, target: str, _: str) -> None:
        self._removed[target] = None

    def _entity(self, name: str, *_: object) -> None:
        raise self._refuse(f"it defines the entity {name}")

    def _attribute(self, *_: object) -> None:
        self._declared += 1
        if self._declared > _MAX_DECLARED:
            raise self._refuse(f"it declares more than {_MAX_DECLARED} attributes")

    def _skipped(self, name: str, _: bool) -> None:
        raise self._refuse(f"it uses the entity {name}, which is not defined")

    def _start(self, qualified: str, attributes: dict[str, str]) -> None:
        space, _, name = qualified.rpartition(" ")
        self._elements += 1
        if self._elements > _MAX_ELEMENTS:
            raise self._refuse(f"it has more than {_MAX_ELEMENTS} elements")
        if len(self._open) + self._dropped >= _MAX_DEPTH:
            raise self._refuse(f"it is nested deeper than {_MAX_DEPTH} elements")
        if self._elements == 1 and (space, name) != (_SVG, "svg"):
            raise self._refuse("its outermost element is not svg, of the namespace http://www.w3.org/2000/svg")
        if self._dropped or self._style is not None:
            self._dropped += 1
        elif space != _SVG:
            # Notes that editors keep for themselves: nothing draws them, so nobody misses them.
            self._dropped = 1
        elif name in _UNWRAPPED:
            self._removed[name] = None
            self._open.append("")
        elif name not in _ELEMENTS:
            if name != "metadata":
                self._removed[name] = None
            self._dropped = 1
        elif name == "style":
            self._style = []
            self._open.append("")
        else:
            self._element(name, attributes)

    def _element(self, name: str, attributes: dict[str, str]) -> None:
        kept = self._attributes(name, attributes)
        if "id" in kept:
            self._parts[self._within[-1][1]].refers[kept["id"]] += 1
            self._parts.setdefault(kept["id"], _Part())
            self._within.append((len(self._open) + 1, kept["id"]))
        part = self._parts[self._within[-1][1]]
        part.drawn += 1
        part.refers.update(_refers(kept))
        if not self._out:
            kept = {"xmlns": _SVG, **kept}
        self._out.append(f"<{name}{''.join(f' {key}={quoteattr(value)}' for key, value in kept.items())}>")
        self._open.append(f"</{name}>")

    def _attributes(self, element: str, attributes: dict[str, str]) -> dict[str, str]:
        kept: dict[str, str] = {}
        for qualified, value in attributes.items():
            space, _, name = qualified.rpartition(" ")
            if space not in ("", _XLINK, _XML):
                continue
            if name == "href" and space in ("", _XLINK):
                if _is_harmless_reference(element, value):
                    kept.setdefault("href", value)
                else:
                    self._removed[f"{element} href"] = None
            elif space == _XML and name in ("lang", "space"):
                kept[f"xml:{name}"] = value
            elif space == "" and name in _ATTRIBUTES and (name in _WORDS or _is_harmless_css(value)):
                kept[name] = value
            elif space == "" and not name.startswith(("data-", "aria-")) and (name in _ATTRIBUTES or name[:2] == "on"):
                self._removed[f"{element} {name}"] = None
        return kept

    def _end(self, _: str) -> None:
        if self._dropped:
            self._dropped -= 1
            return
        if self._within[-1][0] == len(self._open):
            self._within.pop()
        closing = self._open.pop()
        if self._style is not None:
            text, self._style = "".join(self._style), None
            if not _is_harmless_css(text):
                self._removed["style"] = None
                return
            text, closing = escape(_without_comments(text)), "</style>"
            self._out.append(f"<style>{text}")
        self._out.append(closing)

    def _text(self, text: str) -> None:
        if self._style is not None and not self._dropped:
            self._style.append(text)
        elif not self._dropped:
            self._out.append(escape(text))

    def _refuse_bomb(self) -> None:
        """Refuse what draws itself again and again: a dozen lines of ``use`` can stand for billions of shapes."""
        sizes: dict[str, int] = {}
        todo = [""]
        while todo:
            name = todo[-1]
            part = self._parts[name]
            missing = [one for one in part.refers if one in self._parts and one not in sizes]
            if missing and name not in sizes:
                sizes[name] = 0  # Who meets itself again draws nothing: renderers stop there, too.
                todo.extend(missing)
                continue
            todo.pop()
            sizes[name] = part.drawn + sum(sizes.get(one, 0) * count for one, count in part.refers.items())
            if sizes[name] > _MAX_DRAWN:
                raise NotSvg(f"it draws more than {_MAX_DRAWN} elements, by repeating its parts")


def _refers(attributes: dict[str, str]) -> list[str]:
    """The ids that an element draws, or fills with, by its attributes."""
    found: list[str] = []
    for name, value in attributes.items():
        if name == "href":
            inner = _INNER.fullmatch(value)
            found += [inner[1]] if inner else []
        elif "(" in value and name not in _WORDS:
            found += [single or double or bare for single, double, bare in _URL.findall(value)]
    return found


def _is_harmless_reference(element: str, value: str) -> bool:
    if element == "image":
        return _EMBEDDED.fullmatch(value) is not None
    return element in _REFERRING and _INNER.fullmatch(value) is not None


def _is_harmless_css(text: str) -> bool:
    """Whether CSS, or the value of an attribute that may be CSS, names nothing outside of the file.

    Without backslashes a function's name is what it looks like, so those that load nothing can be listed.
    """
    if "(" not in text and "@" not in text and "\\" not in text:
        return True
    text = _without_comments(text)
    if "\\" in text or "/*" in text or _AT_RULE.search(text):
        return False
    return all(name.lower() in _FUNCTIONS for name in _FUNCTION.findall(_URL.sub(" ", text)))


def _without_comments(css: str) -> str:
    """CSS with a space for every comment; one that has no end stays."""
    kept: list[str] = []
    at = 0
    while (start := css.find("/*", at)) >= 0 and (end := css.find("*/", start + 2)) >= 0:
        kept += (css[at:start], " ")
        at = end + 2
    return "".join([*kept, css[at:]])
