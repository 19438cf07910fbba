"""reprobox.yaml's bytes -> plain values that remember where they stand; the faults of the YAML itself.

The text is composed into YAML nodes: no object is ever constructed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reprobox.errors import InvalidConfig, Problem

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

CONFIG_FILE = "reprobox.yaml"
MOST_BYTES = 256 * 1024
MOST_NODES = 4_000
"""How many values a config may hold with its aliases written out: a few lines of YAML can stand for billions."""
DEEPEST = 32

TAG = "tag:yaml.org,2002:"


# --- bytes -> YAML nodes ----------------------------------------------------------------------


def decode(data: bytes) -> str:
    if len(data) > MOST_BYTES:
        raise one_problem(f"is larger than {MOST_BYTES // 1024} KiB", hint="this is not a config")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise one_problem("the text is not UTF-8", line=line, hint="save the file as UTF-8") from error


def compose(text: str) -> MappingNode:
    """The nodes of a YAML document that is a mapping."""
    import yaml  # noqa: PLC0415

    try:
        node: Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = ", ".join(part for part in (error.context, error.problem) if part)
        raise one_problem(
            f"not YAML: {show(words, limit=200)}", line=mark.line + 1 if mark else None, hint=_yaml_hint(words)
        ) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise one_problem(f"not YAML: character U+{ord(text[error.position]):04X} is not allowed", line=line) from error
    except RecursionError as error:
        raise one_problem("values are nested too deeply", hint=f"no key of {CONFIG_FILE} needs this") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise one_problem(f"not YAML: {show(str(error), limit=200)}") from error
    if node is None:
        raise one_problem("the file is empty", hint=needed())
    if not isinstance(node, yaml.MappingNode):
        raise one_problem("the file is not a mapping of keys to values", line=line_of(node), hint=needed())
    return node


def _yaml_hint(words: str) -> str | None:
    if "'\\t'" in words:
        return "indent with spaces, not with tabs"
    if "single document" in words:
        return "remove the line `---`"
    return None


# --- YAML nodes -> plain values ---------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """A value that YAML takes for a date."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a value stands: its line, and for a scalar the text as written and what YAML makes of it."""

    line: int
    text: str | None = None
    kind: str = ""


Location = tuple[str | int, ...]


@dataclass
class Reading:
    """One reading of a config: the places of its values, and the problems met so far."""

    problems: dict[Problem, None] = field(default_factory=dict)
    places: dict[Location, Place] = field(default_factory=dict)
    broken: set[Location] = field(default_factory=set)
    nodes: int = 0

    def read(self, node: MappingNode) -> dict[str, Any]:
        values = self._value(node, (), line_of(node))
        if () in self.broken:
            raise InvalidConfig(CONFIG_FILE, list(self.problems))
        assert isinstance(values, dict)
        return values

    def problem(self, location: Location, message: str, *, line: int | None, hint: str | None = None) -> None:
        message, hint = printable(message), None if hint is None else printable(hint)
        self.problems[Problem(message=message, path=key_path(location), line=line, hint=hint)] = None

    def _break(self, location: Location, message: str, *, line: int, hint: str | None = None) -> None:
        """A value that cannot be read; the models need not complain about it again."""
        self.broken.add(location)
        self.problem(location, message, line=line, hint=hint)

    def _value(self, node: Node, location: Location, line: int) -> Any:
        import yaml  # noqa: PLC0415

        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise one_problem(
                f"holds more than {MOST_NODES} values with its aliases written out",
                line=line,
                hint="write values out instead of using `&` and `*`",
            )
        if len(location) > DEEPEST:
            raise one_problem(
                "values are nested too deeply", line=line, hint="write values out instead of using `&` and `*`"
            )
        kind = node.tag.removeprefix(TAG)
        collection = "map" if isinstance(node, yaml.MappingNode) else "seq"
        self.places[location] = Place(line=line, kind=collection)
        expected = frozenset({collection})
        if isinstance(node, yaml.ScalarNode):
            self.places[location] = Place(line=line_of(node), text=node.value, kind=kind)
            expected = SCALARS
        if not node.tag.startswith(TAG) or kind not in expected:
            return self._break(location, f"the YAML tag {show(node.tag.replace(TAG, '!!'))} has no use here", line=line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return self._sequence(node, location)
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, kind, location)

    def _mapping(self, node: MappingNode, location: Location) -> dict[str, Any]:
        import yaml  # noqa: PLC0415

        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = line_of(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem(location, "a key must be a plain word", line=line)
                continue
            key: str = key_node.value
            if key_node.tag == f"{TAG}merge":
                self.problem(location, "merge keys (<<) are not supported", line=line, hint="write the keys out")
            elif not is_text(key):
                self.problem(location, f"the key {show(key)} is not text", line=line)
            elif key in values:
                self.problem((*location, key), f"the key stands twice, first on line {lines[key]}", line=line)
            else:
                lines[key] = line
                values[key] = self._value(value_node, (*location, key), line)
        return values

    def _sequence(self, node: SequenceNode, location: Location) -> list[Any]:
        return [self._value(item, (*location, index), line_of(item)) for index, item in enumerate(node.value)]

    def _scalar(self, node: ScalarNode, kind: str, location: Location) -> Any:
        text: str = node.value
        line = line_of(node)
        if not is_text(text):
            return self._break(location, f"{show(text)} holds characters that are not text", line=line)
        if kind == "null":
            return self._break(
                location, "has no value", line=line, hint='remove the key, or write "" where an empty text is meant'
            )
        if kind in {"int", "float"}:
            number = as_number(node, kind)
            if number is None:
                message = f"YAML takes {show(text)} for a number that it is not"
                return self._break(location, message, line=line, hint=f"quote it: {quote(text)}")
            return number
        if kind == "bool":
            # YAML 1.1 reads a bare `off` as the truth value, and this key has a value of that name.
            return "off" if location == ("determinism",) and text.lower() == "off" else as_bool(text)
        return Moment(text) if kind == "timestamp" and location != ("exclude-newer",) else text


SCALARS = frozenset({"str", "int", "float", "bool", "null", "timestamp", "merge", "value"})


def is_text(text: str) -> bool:
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)


def as_bool(text: str) -> bool:
    return text.lower() in {"yes", "true", "on"}


def as_number(node: ScalarNode, kind: str) -> int | float | None:
    from yaml.constructor import SafeConstructor  # noqa: PLC0415

    constructor = SafeConstructor()
    if len(node.value) > 64:
        return None
    try:
        read = constructor.construct_yaml_int if kind == "int" else constructor.construct_yaml_float
        number: int | float = read(node)
    except (ValueError, IndexError, OverflowError):
        return None
    return number


# --- words ------------------------------------------------------------------------------------


def key_path(location: Iterable[str | int]) -> str:
    """A key's place as people write it: ``smoke.outputs[1].ignore``."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else show(part))
    return text


def printable(text: str) -> str:
    """A message on one line, with control characters spelled out."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def show(text: str, *, limit: int = 60) -> str:
    """A user's text inside a message: on one line, without control characters, not too long."""
    short = text if len(text) <= limit else text[: limit - 3] + "..."
    return short if short and short.isprintable() else json.dumps(short)


def quote(text: str) -> str:
    """A user's text as a quoted YAML scalar."""
    return json.dumps(text if len(text) <= 60 else text[:57] + "...", ensure_ascii=not text.isprintable())


def one_problem(message: str, *, line: int | None = None, hint: str | None = None) -> InvalidConfig:
    return InvalidConfig(CONFIG_FILE, [Problem(message=message, line=line, hint=hint)])


def by_line(problem: Problem) -> tuple[bool, int, str, str]:
    return problem.line is None, problem.line or 0, problem.path, problem.message


def line_of(node: Node) -> int:
    return int(node.start_mark.line) + 1


def needed() -> str:
    return "it needs the keys name, environment, python and base"
