"""``deploy/terraform`` as Terraform reads it, as far as that needs neither Terraform nor AWS.

Files are read, references are followed, and the whole is worked out for given variables: what a process gets is then
known word for word. What only AWS knows (an ARN, an address) is a :class:`Later`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import hcl2

from tests.deploy.compose import ROOT

DIRECTORY = ROOT / "deploy" / "terraform"

Body = dict[str, Any]
Scope = Mapping[str, Any]

META = {"for_each", "count", "depends_on", "lifecycle", "source"}
"""What every resource or module may have."""


class Later(str):
    """What is known when it was made, shown as the reference to it."""

    __slots__ = ()


# ---------------------------------------------------------------------- expressions

TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z_][\w-]*)|(?P<quote>\")"
    r"|(?P<sign>\[\*\]|=>|==|!=|<=|>=|&&|\|\||[-+*/%!<>?:.,=(){}\[\]]))"
)

LEVELS = (("||",), ("&&",), ("==", "!="), ("<", ">", "<=", ">="), ("+", "-"), ("*", "/", "%"))

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "||": lambda left, right: left or right,
    "&&": lambda left, right: left and right,
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    ">": lambda left, right: left > right,
    "<=": lambda left, right: left <= right,
    ">=": lambda left, right: left >= right,
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
    "%": lambda left, right: left % right,
}


def _replace(text: str, old: str, new: str) -> str:
    if len(old) > 1 and old.startswith("/") and old.endswith("/"):
        return re.sub(old[1:-1], new, text)
    return text.replace(old, new)


def _merge(*maps: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for one in maps for key, value in one.items()}


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "can": lambda value: value is not None,
    "coalesce": lambda *values: next(value for value in values if value not in (None, "")),
    "concat": lambda *lists: [one for some in lists for one in some],
    "contains": lambda some, one: one in some,
    "jsonencode": json.dumps,
    "length": len,
    "lower": str.lower,
    "merge": _merge,
    "regex": lambda pattern, text: (re.search(pattern, text) or [None])[0],
    "replace": _replace,
    "setproduct": lambda left, right: [[one, other] for one in left for other in right],
    "setunion": lambda *sets: sorted({one for some in sets for one in some}),
    "tonumber": int,
    "toset": lambda some: sorted(set(some)),
    "tostring": lambda value: _text(value),
    "trimprefix": str.removeprefix,
    "upper": str.upper,
    "values": lambda some: list(some.values()),
}
"""Those that are used; ``file`` reads relative to its module."""


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Node:
    """An expression: what it says is done by ``kind`` on ``parts``."""

    kind: str
    parts: tuple[Any, ...]

    def references(self, bound: frozenset[str] = frozenset()) -> Iterator[tuple[str, ...]]:
        """The names that are referred to: ``module.task[each.key].arn`` without its index, which is one by itself.

        Args:
            bound: names that are those of something around this.
        """
        if self.kind in ("attribute", "index", "splat", "name"):
            names: list[str] = []
            node = self
            while node.kind != "name":
                if node.kind not in ("attribute", "index", "splat"):
                    yield from node.references(bound)
                    return
                if node.kind == "attribute":
                    names.insert(0, node.parts[1])
                elif node.kind == "index":
                    yield from node.parts[1].references(bound)
                node = node.parts[0]
            if node.parts[0] not in bound:
                yield (node.parts[0], *names)
            return
        if self.kind == "for":
            names_of_loop, some, *inner = self.parts
            yield from some.references(bound)
            for one in inner:
                if isinstance(one, Node):
                    yield from one.references(bound | set(names_of_loop))
            return
        for part in self.parts:
            for one in part if isinstance(part, tuple) else (part,):
                if isinstance(one, Node):
                    yield from one.references(bound)

    def functions(self) -> Iterator[str]:
        """The functions that are called."""
        if self.kind == "call":
            yield self.parts[0]
        stack = list(self.parts)
        while stack:
            one = stack.pop()
            if isinstance(one, Node):
                yield from one.functions()
            elif isinstance(one, tuple):
                stack.extend(one)

    def value(self, scope: Scope) -> Any:
        """What it comes to."""
        parts: Any = self.parts
        match self.kind:
            case "literal":
                return parts[0]
            case "template":
                return _joined([one.value(scope) if isinstance(one, Node) else one for one in parts])
            case "name":
                return scope[parts[0]]
            case "attribute":
                return _attribute(parts[0].value(scope), parts[1])
            case "index":
                return _attribute(parts[0].value(scope), parts[1].value(scope))
            case "splat":
                value = parts[0].value(scope)
                return value if isinstance(value, list) else [] if value is None else [value]
            case "call":
                if parts[0] == "file":
                    return Path(parts[1].value(scope)).read_text()
                return FUNCTIONS[parts[0]](*(one.value(scope) for one in parts[1:]))
            case "operator":
                return OPERATORS[parts[0]](parts[1].value(scope), parts[2].value(scope))
            case "not":
                return not parts[0].value(scope)
            case "if":
                return parts[1 if parts[0].value(scope) else 2].value(scope)
            case "list":
                return [one.value(scope) for one in parts]
            case "object":
                return {key.value(scope): one.value(scope) for key, one in parts}
            case "for":
                return _loop(self, scope)
        raise AssertionError(self.kind)


def _joined(parts: list[Any]) -> str:
    text = "".join(_text(one) for one in parts)
    return Later(text) if any(isinstance(one, Later) for one in parts) else text


def _attribute(value: Any, name: Any) -> Any:
    if isinstance(value, Later):
        return Later(f"{value}.{name}")
    return value[name]


def _loop(node: Node, scope: Scope) -> Any:
    names, some, key, one, condition = node.parts
    found = some.value(scope)
    pairs = found.items() if isinstance(found, Mapping) else enumerate(found)
    made = []
    for pair in pairs:
        inner = {**scope, **dict(zip(names, pair if len(names) == 2 else pair[1:], strict=True))}
        if condition is None or condition.value(inner):
            made.append((key.value(inner) if key else None, one.value(inner)))
    return dict(made) if key else [value for _, value in made]


class Parser:
    """Reads one expression."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> Node:
        """The expression that the text is.

        Raises:
            ValueError: it is none.
        """
        node = self._expression()
        if self._text[self._at :].strip():
            raise self._error()
        return node

    def _error(self) -> ValueError:
        return ValueError(f"cannot read {self._text[self._at : self._at + 40]!r} in {self._text!r}")

    def _peek(self) -> tuple[str, str]:
        found = TOKEN.match(self._text, self._at)
        return (str(found.lastgroup), found[str(found.lastgroup)]) if found else ("end", "")

    def _take(self, *signs: str) -> str | None:
        found = TOKEN.match(self._text, self._at)
        if found is None or (signs and found[str(found.lastgroup)] not in signs) or (signs and found["quote"]):
            return None
        self._at = found.end()
        return found[str(found.lastgroup)]

    def _must(self, *signs: str) -> str:
        taken = self._take(*signs)
        if taken is None:
            raise self._error()
        return taken

    def _name(self) -> str:
        if self._peek()[0] != "name":
            raise self._error()
        return self._must()

    def _expression(self) -> Node:
        condition = self._binary(0)
        if not self._take("?"):
            return condition
        yes = self._expression()
        self._must(":")
        return Node("if", (condition, yes, self._expression()))

    def _binary(self, level: int) -> Node:
        if level == len(LEVELS):
            return self._unary()
        node = self._binary(level + 1)
        while sign := self._take(*LEVELS[level]):
            node = Node("operator", (sign, node, self._binary(level + 1)))
        return node

    def _unary(self) -> Node:
        if self._take("!"):
            return Node("not", (self._unary(),))
        if self._take("-"):
            return Node("operator", ("-", Node("literal", (0,)), self._unary()))
        node = self._primary()
        while True:
            if self._take("[*]"):
                node = Node("splat", (node,))
            elif self._take("."):
                node = Node("attribute", (node, self._name()))
            elif self._take("["):
                node = Node("index", (node, self._expression()))
                self._must("]")
            else:
                return node

    def _primary(self) -> Node:
        kind, text = self._peek()
        if kind == "number":
            self._must()
            return Node("literal", (float(text) if "." in text else int(text),))
        if kind == "quote":
            self._must()
            return self._string()
        if kind == "name":
            self._must()
            if text in ("true", "false", "null"):
                return Node("literal", ({"true": True, "false": False, "null": None}[text],))
            return Node("call", (text, *self._list(")"))) if self._take("(") else Node("name", (text,))
        if self._take("("):
            node = self._expression()
            self._must(")")
            return node
        if sign := self._take("[", "{"):
            end = {"[": "]", "{": "}"}[sign]
            if self._peek() == ("name", "for"):
                return self._for(end)
            return Node("list", tuple(self._list("]"))) if sign == "[" else self._object()
        raise self._error()

    def _list(self, end: str) -> Iterator[Node]:
        while not self._take(end):
            yield self._expression()
            if not self._take(","):
                self._must(end)
                return

    def _object(self) -> Node:
        pairs = []
        while not self._take("}"):
            key = self._unary()
            self._must("=", ":")
            pairs.append((Node("literal", (key.parts[0],)) if key.kind == "name" else key, self._expression()))
            self._take(",")
        return Node("object", tuple(pairs))

    def _for(self, end: str) -> Node:
        self._must("for")
        names = [self._name()]
        if self._take(","):
            names.append(self._name())
        self._must("in")
        some = self._expression()
        self._must(":")
        key, one = None, self._expression()
        if end == "}":
            self._must("=>")
            key, one = one, self._expression()
        condition = self._expression() if self._take("if") else None
        self._must(end)
        return Node("for", (tuple(names), some, key, one, condition))

    def _string(self) -> Node:
        parts: list[Any] = [""]
        while self._text[self._at] != '"':
            if self._text.startswith("${", self._at):
                self._at += 2
                parts += [self._expression(), ""]
                self._must("}")
                continue
            if self._text.startswith("$${", self._at):
                self._at += 1
            letter = self._text[self._at]
            self._at += 1
            if letter == "\\":
                letter = {"n": "\n", "t": "\t"}.get(self._text[self._at], self._text[self._at])
                self._at += 1
            parts[-1] += letter
        self._at += 1
        return Node("literal", (parts[0],)) if len(parts) == 1 else Node("template", tuple(parts))


def expression(value: Any) -> Node:
    """The expression that a value of :mod:`hcl2` stands for."""
    match value:
        case str() if value.startswith("${"):
            return Parser(value[2:-1]).whole()
        case str():
            return Parser(value).whole()
        case dict():
            pairs = ((Node("literal", (unquoted(key),)), expression(one)) for key, one in plain(value).items())
            return Node("object", tuple(pairs))
        case list():
            return Node("list", tuple(expression(one) for one in value))
    return Node("literal", (value,))


@cache
def read(text: str) -> Body:
    """The blocks of a file. This is slow, and most copies of a test have the same files."""
    return hcl2.loads(text)


def unquoted(name: str) -> str:
    return name.strip('"')


def plain(body: Body) -> Body:
    """A body without what :mod:`hcl2` says about it."""
    return {name: value for name, value in body.items() if not name.startswith("__")}


def is_blocks(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, dict) and "__is_block__" in one for one in value)
    )


# ---------------------------------------------------------------------- modules


@dataclass(frozen=True)
class Module:
    """A directory of files, as they are written."""

    directory: Path

    @cached_property
    def body(self) -> dict[str, list[Body]]:
        """The blocks of all files, by kind."""
        found: dict[str, list[Body]] = {}
        for path in sorted(self.directory.glob("*.tf")):
            for kind, blocks in plain(read(path.read_text())).items():
                found.setdefault(kind, []).extend(blocks)
        return found

    def _labelled(self, kind: str) -> dict[str, Body]:
        blocks = [(unquoted(name), one) for block in self.body.get(kind, ()) for name, one in plain(block).items()]
        assert len(dict(blocks)) == len(blocks), f"{self.directory}: a {kind} is there twice"
        return dict(blocks)

    def _typed(self, kind: str) -> dict[tuple[str, str], Body]:
        found = {}
        for block in self.body.get(kind, ()):
            for type_, named in plain(block).items():
                for name, one in plain(named).items():
                    assert (unquoted(type_), unquoted(name)) not in found, (
                        f"{self.directory}: {type_}.{name} is there twice"
                    )
                    found[unquoted(type_), unquoted(name)] = one
        return found

    @cached_property
    def variables(self) -> dict[str, Body]:
        """What is declared."""
        return self._labelled("variable")

    @cached_property
    def outputs(self) -> dict[str, Body]:
        """What callers see."""
        return self._labelled("output")

    @cached_property
    def calls(self) -> dict[str, Body]:
        """The modules that this one calls."""
        return self._labelled("module")

    @cached_property
    def resources(self) -> dict[tuple[str, str], Body]:
        """What is made, by type and name."""
        return self._typed("resource")

    @cached_property
    def sources(self) -> dict[tuple[str, str], Body]:
        """The data sources."""
        return self._typed("data")

    @cached_property
    def locals(self) -> Body:
        """Names for expressions."""
        return {name: value for block in self.body.get("locals", ()) for name, value in plain(block).items()}

    def called(self, name: str) -> "Module":
        """The module that a call is of."""
        return Module((self.directory / unquoted(self.calls[name]["source"])).resolve())

    def all(self) -> Iterator["Module"]:
        """This module and those that it calls."""
        yield self
        for name in self.calls:
            yield from self.called(name).all()


def expressions(
    body: Body, bound: frozenset[str] = frozenset(), place: str = ""
) -> Iterator[tuple[str, Node, frozenset[str]]]:
    """Every expression of a block: where it is, and which names are bound there."""
    if "for_each" in body or "count" in body:
        bound |= {"each"} if "for_each" in body else {"count"}
    for name, value in plain(body).items():
        if name == "dynamic":
            for block in value:
                for label, one in plain(block).items():
                    yield f"{place}.{label}", expression(one["for_each"]), bound
                    for content in one["content"]:
                        yield from expressions(content, bound | {unquoted(label)}, f"{place}.{unquoted(label)}")
        elif name == "lifecycle":
            continue  # it names arguments of the block itself
        elif is_blocks(value):
            for one in value:
                yield from expressions(one, bound, f"{place}.{name}")
        else:
            yield f"{place}.{name}", expression(value), bound


# ---------------------------------------------------------------------- what is wrong


def problems(module: Module, provider: Any) -> list[str]:
    """What Terraform would refuse, and what is declared in vain, in this module and those that it calls.

    Args:
        provider: what the provider's resources take, see :mod:`tests.deploy.provider`.
    """
    found = [f"{module.directory.name}: {one}" for one in _problems(module, provider)]
    return found + [one for name in module.calls for one in problems(module.called(name), provider)]


def _problems(module: Module, provider: Any) -> Iterator[str]:
    used = {("var", ""), ("local", "")}
    outputs: dict[Path, set[str]] = {}
    for place, node, bound in _everything(module):
        yield from (
            f"{place}: there is no function {one}" for one in node.functions() if one not in {*FUNCTIONS, "file"}
        )
        for names in node.references(bound):
            problem = _unknown(module, names) or _no_attribute(names, provider)
            if problem:
                yield f"{place}: {problem}"
            elif names[0] == "module" and len(names) > 2:
                outputs.setdefault(module.called(names[1]).directory, set()).add(names[2])
            elif not place.startswith(f"variable.{'.'.join(names[1:])}."):
                used.add((names[0], names[1]))
    for name, one in module.variables.items():
        yield from (f"variable {name} has no {word}" for word in ("type", "description") if word not in one)
        if ("var", name) not in used:
            yield f"variable {name} is not used"
    yield from (f"local {name} is not used" for name in module.locals if ("local", name) not in used)
    yield from (f"output {name} has no description" for name, one in module.outputs.items() if "description" not in one)
    for name, call in module.calls.items():
        called = module.called(name)
        given = set(plain(call)) - META
        needed = {one for one, body in called.variables.items() if "default" not in body}
        yield from (f"module.{name}: {one} is not given" for one in sorted(needed - given))
        yield from (f"module.{name}: there is no variable {one}" for one in sorted(given - set(called.variables)))
        unused = set(called.outputs) - outputs.get(called.directory, set())
        yield from (f"module.{name}: output {one} is not used" for one in sorted(unused))
    for kind, blocks in (("resource", module.resources), ("data", module.sources)):
        for (type_, name), body in blocks.items():
            if type_ not in provider[kind]:
                yield f"{type_}.{name}: there is no {kind} of this type"
            else:
                yield from _misfits(f"{type_}.{name}", body, provider[kind][type_]["arguments"])


def _everything(module: Module) -> Iterator[tuple[str, Node, frozenset[str]]]:
    """Every expression of a module."""
    for kind, blocks in module.body.items():
        for block in blocks:
            for label, one in plain(block).items():
                if kind == "locals":
                    yield f"local.{label}", expression(one), frozenset()
                elif kind in ("resource", "data"):
                    for name, body in plain(one).items():
                        yield from expressions(body, frozenset(), f"{unquoted(label)}.{unquoted(name)}")
                elif kind == "variable":
                    for body in one.get("validation", ()):
                        yield from expressions(body, frozenset(), f"variable.{unquoted(label)}.")
                elif kind != "terraform":
                    yield from expressions(one, frozenset(), f"{kind}.{unquoted(label)}")


def _misfits(place: str, body: Body, schema: Mapping[str, Any]) -> Iterator[str]:
    """Arguments that a block does not take, or lacks, or that are blocks where they are none."""
    given: dict[str, list[Body] | None] = {}
    for name, value in plain(body).items():
        if name == "dynamic":
            for block in value:
                for label, one in plain(block).items():
                    given.setdefault(unquoted(label), [])
                    given[unquoted(label)] = [*(given[unquoted(label)] or []), *one["content"]]
        elif name not in META:
            given[name] = value if is_blocks(value) else None
    for name, blocks in given.items():
        if name not in schema:
            yield f"{place}: there is no argument {name}"
        elif (blocks is None) == ("block" in schema[name]):
            yield f"{place}: {name} is {'a block' if blocks is None else 'no block'}"
        else:
            for one in blocks or ():
                yield from _misfits(f"{place}.{name}", one, schema[name]["block"])
    for name, argument in schema.items():
        if argument.get("required") and name not in given:
            yield f"{place}: {name} is not given"


def _no_attribute(names: tuple[str, ...], provider: Any) -> str:
    """What is wrong with a reference to an attribute of a resource or data source that is there."""
    kind, rest = ("data", names[1:]) if names[0] == "data" else ("resource", names)
    known = provider[kind].get(rest[0])
    if known is None or len(rest) < 3 or rest[2] in known["attributes"]:
        return ""
    return f"{'.'.join(rest[:2])} has no attribute {rest[2]}"


def _unknown(module: Module, names: tuple[str, ...]) -> str:
    """What is wrong with a reference."""
    shown = ".".join(names)
    match names:
        case ("path", "module" | "root"):
            return ""
        case ("var", name, *_):
            return "" if name in module.variables else f"there is no variable {name}"
        case ("local", name, *_):
            return "" if name in module.locals else f"there is no local {name}"
        case ("module", name):
            return "" if name in module.calls else f"there is no module {name}"
        case ("module", name, output, *_):
            if name not in module.calls:
                return f"there is no module {name}"
            return "" if output in module.called(name).outputs else f"module {name} has no output {output}"
        case ("data", type_, name, *_):
            return "" if (type_, name) in module.sources else f"there is no {shown}"
        case (type_, name, *_):
            return "" if (type_, name) in module.resources else f"there is no {shown}"
    return f"there is no {shown}"


def needs(module: Module, addresses: set[str]) -> set[str]:
    """The resources and modules that ``terraform apply -target`` makes of ``module``: those, and what they name."""
    named: dict[str, set[str]] = {}
    for place, node, bound in _everything(module):
        block = place.split(".")[:2]
        names = {".".join(one[:2]) for one in node.references(bound)}
        named.setdefault(".".join(block), set()).update(names)
    found: set[str] = set()
    waiting = set(addresses)
    while waiting:
        one = waiting.pop()
        found.add(one)
        waiting |= named.get(one, set()) - found
    return {one for one in found if one.startswith(("module.", "aws_"))}


# ---------------------------------------------------------------------- worked out


@dataclass
class Instance:
    """A module for given variables."""

    module: Module
    given: dict[str, Any]
    known: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def scope(self) -> dict[str, Any]:
        """What expressions may name."""
        return {
            "var": {name: self._variable(name) for name in self.module.variables},
            "path": {"module": str(self.module.directory)},
            "local": _Named(self, "local"),
            "module": _Named(self, "module"),
            "data": _Named(self, "data"),
            **{type_: _Named(self, type_) for type_, _ in self.module.resources},
        }

    def _variable(self, name: str) -> Any:
        if name in self.given:
            return self.given[name]
        return expression(self.module.variables[name]["default"]).value({})

    def look_up(self, kind: str, name: str) -> Any:
        """What a name of a kind stands for: a value, a thing, or things by their keys."""
        key = f"{kind}.{name}"
        if key not in self.known:
            self.known[key] = self._work_out(kind, name)
        return self.known[key]

    def _work_out(self, kind: str, name: str) -> Any:
        if kind == "local":
            return expression(self.module.locals[name]).value(self.scope)
        if kind == "module":
            return self._each(self.module.calls[name], lambda body, scope, _: self._call(name, body, scope))
        if kind == "data":
            return {
                one: self._each(body, self._thing(f"data.{name}.{one}"))
                for (type_, one), body in self.module.sources.items()
                if type_ == name
            }
        return self._each(self.module.resources[kind, name], self._thing(f"{kind}.{name}"))

    def _each(self, body: Body, make: Callable[[Body, Scope, str], Any]) -> Any:
        if "count" in body:
            return [
                make(body, {**self.scope, "count": {"index": index}}, f"[{index}]")
                for index in range(expression(body["count"]).value(self.scope))
            ]
        if "for_each" not in body:
            return make(body, self.scope, "")
        some = expression(body["for_each"]).value(self.scope)
        pairs = some.items() if isinstance(some, Mapping) else ((one, one) for one in some)
        return {
            key: make(body, {**self.scope, "each": {"key": key, "value": value}}, f"[{key}]") for key, value in pairs
        }

    def _call(self, name: str, body: Body, scope: Scope) -> "Called":
        given = {one: expression(value).value(scope) for one, value in plain(body).items() if one not in META}
        return Called(Instance(self.module.called(name), given))

    def _thing(self, address: str) -> Callable[[Body, Scope, str], "Thing"]:
        return lambda body, scope, key: Thing(f"{address}{key}", worked_out(body, scope))


def worked_out(body: Body, scope: Scope) -> Body:
    """A block with values instead of expressions; blocks in it are lists."""
    made: Body = {}
    for name, value in plain(body).items():
        if name in ("lifecycle", "depends_on"):
            continue
        if name == "dynamic":
            for block in value:
                for label, one in plain(block).items():
                    for found in expression(one["for_each"]).value(scope):
                        inner = {**scope, unquoted(label): {"value": found}}
                        made.setdefault(unquoted(label), []).extend(
                            worked_out(content, inner) for content in one["content"]
                        )
        elif is_blocks(value):
            made.setdefault(name, []).extend(worked_out(one, scope) for one in value)
        elif name not in META:
            made[name] = expression(value).value(scope)
    return made


@dataclass(frozen=True)
class Thing:
    """A resource or data source."""

    address: str
    arguments: Body

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name] if name in self.arguments else Later(f"{self.address}.{name}")


@dataclass(frozen=True)
class Called:
    """A module that was called; its outputs by name."""

    instance: Instance

    def __getitem__(self, name: str) -> Any:
        return expression(self.instance.module.outputs[name]["value"]).value(self.instance.scope)


@dataclass(frozen=True)
class _Named:
    instance: Instance
    kind: str

    def __getitem__(self, name: str) -> Any:
        return self.instance.look_up(self.kind, name)
