"""reprobox.yaml -> Project: all of its faults at once, each with its line.

The text is composed into YAML nodes (no object is ever constructed), read into plain values that remember
where they stand, checked by the models of `reprobox.config_model`, and converted to the frozen nouns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from reprobox import config_memory
from reprobox.errors import InvalidConfig, InvalidInput, Problem
from reprobox.files import STATE_FOLDER, UNFINISHED, explain, open_plain
from reprobox.model import (
    BootstrapBase,
    Determinism,
    EnvironmentFile,
    ImageBase,
    Output,
    Platform,
    Project,
    PythonVersion,
    Smoke,
)

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails
    from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

    from reprobox.config_model import Config

CONFIG_FILE = "reprobox.yaml"
OTHER_CONFIG_FILES = ("reprobox.yml", "Reprobox.yaml")
"""What users name it by mistake; never read."""

OWN_FILES = frozenset(
    {
        CONFIG_FILE,
        "reprobox.lock",
        "requirements.lock",
        "build-requirements.lock",
        "sdists.lock",
        "conda-lock.yml",
        "reprobox.baseline.json",
        "reprobox.base.tar",
    }
)
"""Files at the project's root that reprobox writes or reads for itself; they are no part of the project's tree."""

OWN_FOLDERS = frozenset({STATE_FOLDER, "reprobox.baseline", "reprobox.system"})
"""Folders at the project's root that are reprobox's own, with all that is in them."""

RENDERED_FILES = frozenset({"Dockerfile", ".dockerignore", "apptainer.def"})
"""Files at the project's root that are reprobox's own where reprobox has rendered them, else the user's."""

LATER_KEYS = frozenset({"cuda", "publish", "smoke.notebook"})
"""Keys that the design names and this version does not know yet."""

OTHER_NAMES = {
    "linux-amd64": "linux-64",
    "linux-arm64": "linux-aarch64",
    "linux-x86_64": "linux-64",
    "linux/amd64": "linux-64",
    "linux/arm64": "linux-aarch64",
}
"""What other tools call the platforms, for hints."""

SCRIPTS = frozenset({".py", ".sh", ".R", ".r", ".jl", ".pl", ".ipynb"})
"""How the name of a program ends that an interpreter is given."""

MOST_BYTES = 256 * 1024
MOST_NODES = 4_000
"""How many values a config may hold with its aliases written out: a few lines of YAML can stand for billions."""
DEEPEST = 32

_TAG = "tag:yaml.org,2002:"


def is_own(path: PurePosixPath) -> bool:
    """Whether a path, relative to the project's root, is by its name alone reprobox's own."""
    if not path.parts:
        return False
    if path.parts[0] in OWN_FOLDERS or path.parts[0].startswith(UNFINISHED):
        return True
    return len(path.parts) == 1 and (
        path.name in OWN_FILES or re.fullmatch(r"conda-[a-z0-9]+(-[a-z0-9]+)*\.lock", path.name) is not None
    )


def load(folder: Path) -> Project:
    """The project that ``folder/reprobox.yaml`` describes.

    Raises InvalidInput where the file cannot be read, InvalidConfig with every problem it has.
    """
    try:
        root = folder.resolve()
        with open_plain(root / CONFIG_FILE) as stream:
            data = stream.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise InvalidInput(f"there is no {CONFIG_FILE} in {folder}", hint=_write_one(folder)) from error
    except OSError as error:
        raise explain(error, f"cannot read {CONFIG_FILE}") from error
    if remembered := config_memory.recall(data):
        return _convert(remembered, root)
    config = _checked(data)
    values = config.model_dump(mode="json")
    config_memory.keep(data, values | {"env": list(values["env"].items())})
    return _convert(config, root)


def loads(data: bytes, *, root: Path) -> Project:
    """The project that the bytes of a reprobox.yaml describe; ``root`` is the folder it stands in.

    Raises InvalidConfig with every problem.
    """
    return _convert(_checked(data), root)


def _checked(data: bytes) -> Config:
    found = _Reading()
    plain = found.read(_compose(_decode(data)))
    config = _check(plain, found)
    if found.problems or config is None:
        raise InvalidConfig(CONFIG_FILE, sorted(found.problems, key=_by_line))
    return config


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of reprobox.yaml, for editors."""
    from reprobox.config_model import Config  # noqa: PLC0415

    generated = _tidy(Config.model_json_schema(by_alias=True))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": CONFIG_FILE,
        **{key: value for key, value in generated.items() if key != "title"},
    }


# --- bytes -> YAML nodes ----------------------------------------------------------------------


def _decode(data: bytes) -> str:
    if len(data) > MOST_BYTES:
        raise _one(f"is larger than {MOST_BYTES // 1024} KiB", hint="this is not a config")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _one("the text is not UTF-8", line=line, hint="save the file as UTF-8") from error


def _compose(text: str) -> MappingNode:
    """The nodes of a YAML document that is a mapping."""
    import yaml  # noqa: PLC0415

    try:
        node: Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = ", ".join(part for part in (error.context, error.problem) if part)
        raise _one(
            f"not YAML: {show(words, limit=200)}", line=mark.line + 1 if mark else None, hint=_yaml_hint(words)
        ) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _one(f"not YAML: character U+{ord(text[error.position]):04X} is not allowed", line=line) from error
    except RecursionError as error:
        raise _one("values are nested too deeply", hint=f"no key of {CONFIG_FILE} needs this") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise _one(f"not YAML: {show(str(error), limit=200)}") from error
    if node is None:
        raise _one("the file is empty", hint=_needed())
    if not isinstance(node, yaml.MappingNode):
        raise _one("the file is not a mapping of keys to values", line=_line(node), hint=_needed())
    return node


def _yaml_hint(words: str) -> str | None:
    if "'\\t'" in words:
        return "indent with spaces, not with tabs"
    if "single document" in words:
        return "remove the line `---`"
    return None


# --- YAML nodes -> plain values ---------------------------------------------------------------


@dataclass(frozen=True)
class _Moment:
    """A value that YAML takes for a date."""

    text: str


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a value stands: its line, and for a scalar the text as written and what YAML makes of it."""

    line: int
    text: str | None = None
    kind: str = ""


Location = tuple[str | int, ...]


@dataclass
class _Reading:
    """One reading of a config: the places of its values, and the problems met so far."""

    problems: dict[Problem, None] = field(default_factory=dict)
    places: dict[Location, _Place] = field(default_factory=dict)
    broken: set[Location] = field(default_factory=set)
    nodes: int = 0

    def read(self, node: MappingNode) -> dict[str, Any]:
        values = self._value(node, (), _line(node))
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
            raise _one(
                f"holds more than {MOST_NODES} values with its aliases written out",
                line=line,
                hint="write values out instead of using `&` and `*`",
            )
        if len(location) > DEEPEST:
            raise _one("values are nested too deeply", line=line, hint="write values out instead of using `&` and `*`")
        kind = node.tag.removeprefix(_TAG)
        collection = "map" if isinstance(node, yaml.MappingNode) else "seq"
        self.places[location] = _Place(line=line, kind=collection)
        expected = frozenset({collection})
        if isinstance(node, yaml.ScalarNode):
            self.places[location] = _Place(line=_line(node), text=node.value, kind=kind)
            expected = SCALARS
        if not node.tag.startswith(_TAG) or kind not in expected:
            return self._break(
                location, f"the YAML tag {show(node.tag.replace(_TAG, '!!'))} has no use here", line=line
            )
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
            line = _line(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem(location, "a key must be a plain word", line=line)
                continue
            key: str = key_node.value
            if key_node.tag == f"{_TAG}merge":
                self.problem(location, "merge keys (<<) are not supported", line=line, hint="write the keys out")
            elif not _is_text(key):
                self.problem(location, f"the key {show(key)} is not text", line=line)
            elif key in values:
                self.problem((*location, key), f"the key stands twice, first on line {lines[key]}", line=line)
            else:
                lines[key] = line
                values[key] = self._value(value_node, (*location, key), line)
        return values

    def _sequence(self, node: SequenceNode, location: Location) -> list[Any]:
        return [self._value(item, (*location, index), _line(item)) for index, item in enumerate(node.value)]

    def _scalar(self, node: ScalarNode, kind: str, location: Location) -> Any:
        text: str = node.value
        line = _line(node)
        if not _is_text(text):
            return self._break(location, f"{show(text)} holds characters that are not text", line=line)
        if kind == "null":
            return self._break(
                location, "has no value", line=line, hint='remove the key, or write "" where an empty text is meant'
            )
        if kind in {"int", "float"}:
            number = _as_number(node, kind)
            if number is None:
                message = f"YAML takes {show(text)} for a number that it is not"
                return self._break(location, message, line=line, hint=f"quote it: {quote(text)}")
            return number
        if kind == "bool":
            # YAML 1.1 reads a bare `off` as the truth value, and this key has a value of that name.
            return "off" if location == ("determinism",) and text.lower() == "off" else _as_bool(text)
        return _Moment(text) if kind == "timestamp" and location != ("exclude-newer",) else text


SCALARS = frozenset({"str", "int", "float", "bool", "null", "timestamp", "merge", "value"})


def _is_text(text: str) -> bool:
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)


def _as_bool(text: str) -> bool:
    return text.lower() in {"yes", "true", "on"}


def _as_number(node: ScalarNode, kind: str) -> int | float | None:
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


# --- plain values -> a checked model ----------------------------------------------------------


def _check(plain: Mapping[str, Any], found: _Reading) -> Config | None:
    """The checked model; what is wrong goes to ``found.problems``, and then there may be none."""
    from pydantic import ValidationError  # noqa: PLC0415

    from reprobox.config_model import Config  # noqa: PLC0415

    config: Config | None = None
    try:
        config = Config.model_validate(plain)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            _translate(detail, found)
    _check_together(plain, found)
    return config


def _translate(detail: ErrorDetails, found: _Reading) -> None:
    """One of pydantic's complaints in our own words, at its place in the file."""
    location, missing = _locate(detail["loc"], found)
    if any(location[: len(broken)] == broken for broken in found.broken):
        return
    place = found.places[location]
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind == "missing":
        found.problem(
            (*location, missing or ""),
            "is missing",
            line=place.line if location else None,
            hint=_example(location, str(missing)),
        )
    elif kind == "extra_forbidden":
        message, hint = _unknown(location)
        found.problem(location, message, line=place.line, hint=hint)
    elif kind == "refused":
        found.problem(location, context["message"], line=place.line, hint=context["hint"])
    elif kind == "literal_error":
        message, hint = _not_one_of(place, str(context["expected"]))
        found.problem(location, message, line=place.line, hint=hint)
    else:
        message, hint = _wrong_type(kind, place, detail["msg"])
        found.problem(location, message, line=place.line, hint=hint)


def _locate(path: Sequence[str | int], found: _Reading) -> tuple[Location, str | int | None]:
    """The value that an error is about, and the name below it that is not in the file."""
    location: Location = ()
    for part in path:
        if (*location, part) in found.places:
            location = (*location, part)
        elif part not in {"[key]", "<text>", "<mapping>"}:
            return location, part
    return location, None


def _dotted(location: Location) -> str:
    return ".".join(part for part in location if isinstance(part, str))


def _example(location: Location, key: str) -> str | None:
    import yaml  # noqa: PLC0415

    from reprobox.config_model import known_keys  # noqa: PLC0415

    example = known_keys(_dotted(location)).get(key)
    if example is None:
        return None
    text: str = yaml.safe_dump([example], default_flow_style=True, width=10**9)
    return f"write {key}: {text.strip()[1:-1]}".replace("'", '"')


def _unknown(location: Location) -> tuple[str, str | None]:
    import difflib  # noqa: PLC0415

    from reprobox.config_model import MODELS, known_keys  # noqa: PLC0415

    key = str(location[-1])
    if _dotted(location) in LATER_KEYS:
        return "not supported yet", "a later version of reprobox will know this key; remove it for now"
    parent = _dotted(location[:-1])
    known = known_keys(parent)
    near = difflib.get_close_matches(key.lower(), known, n=1)
    if near:
        return "unknown key", f"did you mean `{near[0]}`?"
    homes = [name for name in MODELS if name != parent and key in known_keys(name)]
    if homes:
        return "unknown key", f"it belongs under `{homes[0]}`" if homes[0] else "it belongs at the top, not indented"
    return "unknown key", f"known here: {', '.join(known)}"


def _not_one_of(place: _Place, expected: str) -> tuple[str, str | None]:
    import difflib  # noqa: PLC0415

    values = re.findall(r"'([^']+)'", expected)
    choice = f"one of {', '.join(values)}"
    if place.text is None:
        return f"must be {choice}", None
    word = OTHER_NAMES.get(place.text.lower(), place.text.lower())
    near = difflib.get_close_matches(word, values, n=1)
    return f"{show(place.text)} is not {choice}", f"did you mean `{near[0]}`?" if near else None


def _wrong_type(kind: str, place: _Place, words: str) -> tuple[str, str | None]:
    """Message and hint for a value that is of another type than its key wants."""
    text = place.text
    if kind == "string_type":
        if text is None:
            return f"must be a text, not a {'mapping' if place.kind == 'map' else 'list'}", None
        return f"YAML reads {show(text)} as {_as_read(place)}: quote it", f"write {quote(text)}"
    if kind == "list_type":
        return "must be a list", None if text is None else f"write [{show(text)}]"
    if kind in {"model_type", "dict_type", "model_attributes_type"}:
        return "must be a mapping of keys to values", None
    if kind in {"int_type", "int_from_float"}:
        bare = text is not None and place.kind == "str" and re.fullmatch(r"[0-9]+", text)
        return "must be a whole number", f"write {text}, without quotes" if bare else None
    return show(words, limit=200), None


def _as_read(place: _Place) -> str:
    """What YAML makes of a scalar that is not a text: ``the number 3.1``."""
    from yaml.nodes import ScalarNode  # noqa: PLC0415

    if place.kind == "timestamp":
        return "a date"
    text = place.text or ""
    if place.kind == "bool":
        return "true" if _as_bool(text) else "false"
    return f"the number {_as_number(ScalarNode(f'{_TAG}{place.kind}', text), place.kind)}"


# --- what no key says alone -------------------------------------------------------------------


def _check_together(plain: Mapping[str, Any], found: _Reading) -> None:
    """What is wrong between keys; looks at the plain values, so that it is said beside all other problems."""
    for key in ("platforms", "system"):
        _check_repeated(plain.get(key), (key,), found)
    environment = plain.get("environment")
    at: Location = ("environment",)
    if isinstance(environment, dict):
        environment, at = environment.get("file"), (*at, "file")
    path = _path(environment)
    if path is not None and is_own(path) and path.name != "conda-lock.yml":
        found.problem(
            at, f"{path} is a file that reprobox itself writes", line=found.places[at].line, hint="name its source"
        )
    smoke = plain.get("smoke")
    if isinstance(smoke, dict):
        _check_paths(smoke, found)
        _check_removed(smoke, path, found)
        if smoke.get("control") is not None and smoke.get("control") == smoke.get("command"):
            location = ("smoke", "control")
            found.problem(
                location,
                "is the same as the command",
                line=found.places[location].line,
                hint="a negative control must give other bytes: change the seed",
            )


def _check_repeated(values: Any, location: Location, found: _Reading) -> None:
    seen: set[str] = set()
    for index, value in enumerate(values if isinstance(values, list) else []):
        if not isinstance(value, str):
            continue
        if value in seen:
            at = (*location, index)
            found.problem(at, f"{show(value)} stands twice", line=found.places[at].line)
        seen.add(value)


def _check_paths(smoke: Mapping[str, Any], found: _Reading) -> None:
    outputs = list(_paths(smoke.get("outputs"), ("smoke", "outputs")))
    inputs = list(_paths(smoke.get("inputs"), ("smoke", "inputs")))
    for location, path in (*outputs, *inputs):
        rendered = path.name in RENDERED_FILES and len(path.parts) == 1 and location[1] == "outputs"
        if is_own(path) or rendered:
            found.problem(location, f"{path} is reprobox's own", line=found.places[location].line, hint="rename it")
    written: set[PurePosixPath] = set()
    for location, path in outputs:
        if path in written:
            found.problem(location, f"{path} stands twice", line=found.places[location].line)
        written.add(path)
    around = {parent: path for path in written for parent in path.parents}
    for location, path in outputs:
        outer = next((parent for parent in path.parents if parent in written), None)
        if outer is not None:
            message = f"{path} is inside {outer}, another output"
            found.problem(location, message, line=found.places[location].line, hint="keep one of them")
    read: set[PurePosixPath] = set()
    for location, path in inputs:
        if path in read:
            found.problem(location, f"{path} stands twice", line=found.places[location].line)
        read.add(path)
        clash = next((place for place in (path, *path.parents) if place in written), around.get(path))
        if clash is not None:
            found.problem(
                location,
                f"{path} is input, and {clash} is output",
                line=found.places[location].line,
                hint="outputs are removed before the command starts; keep inputs elsewhere",
            )


def _check_removed(smoke: Mapping[str, Any], environment: PurePosixPath | None, found: _Reading) -> None:
    """Outputs are left out of the image and removed before a run: what is needed there must not be one."""
    needed = {environment: "names the packages"} if environment else {}
    for key in ("command", "control"):
        words = smoke.get(key)
        for number, word in enumerate(words[:2] if isinstance(words, list) else []):
            script = _path(word)
            if script and (number == 0 or script.suffix in SCRIPTS):
                needed[script] = f"is what the {key} runs"
    for location, output in _paths(smoke.get("outputs"), ("smoke", "outputs")):
        for path, why in needed.items():
            if output in (path, *path.parents):
                message = f"{output} is an output, and {path} {why}"
                hint = "name the files that the command writes"
                found.problem(location, message, line=found.places[location].line, hint=hint)


def _paths(values: Any, location: Location) -> Iterator[tuple[Location, PurePosixPath]]:
    """The paths in a list that are well formed, each with its place."""
    for index, value in enumerate(values if isinstance(values, list) else []):
        at: Location = (*location, index)
        if isinstance(value, dict):
            value, at = value.get("path"), (*at, "path")  # noqa: PLW2901
        path = _path(value)
        if path is not None:
            yield at, path


def _path(value: Any) -> PurePosixPath | None:
    from pydantic_core import PydanticCustomError  # noqa: PLC0415

    from reprobox.config_model import project_path  # noqa: PLC0415

    try:
        return project_path(value) if isinstance(value, str) else None
    except PydanticCustomError:
        return None


# --- the model -> the nouns -------------------------------------------------------------------


def _convert(config: Config, root: Path) -> Project:
    return Project(
        root=root,
        name=config.name,
        environment=_environment(config),
        python=PythonVersion.parse(config.python),
        base=_base(config),
        platforms=tuple(Platform(value) for value in config.platforms),
        system=tuple(config.system),
        determinism=Determinism(config.determinism),
        env=dict(sorted(dict(config.env).items())),
        epoch=config.epoch,
        exclude_newer=config.exclude_newer,
        smoke=_smoke(config),
    )


def _environment(config: Config) -> EnvironmentFile:
    environment = config.environment
    if isinstance(environment, str):
        return EnvironmentFile(path=PurePosixPath(environment))
    return EnvironmentFile(
        path=PurePosixPath(environment.file), extras=tuple(environment.extras), groups=tuple(environment.groups)
    )


def _base(config: Config) -> ImageBase | BootstrapBase:
    if isinstance(config.base, str):
        return ImageBase(reference=config.base)
    return BootstrapBase(distribution=config.base.bootstrap, suite=config.base.suite)


def _smoke(config: Config) -> Smoke | None:
    smoke = config.smoke
    if smoke is None:
        return None
    outputs = [
        Output(path=PurePosixPath(output))
        if isinstance(output, str)
        else Output(path=PurePosixPath(output.path), ignore=tuple(output.ignore))
        for output in smoke.outputs
    ]
    return Smoke(
        command=tuple(smoke.command),
        outputs=tuple(outputs),
        inputs=tuple(PurePosixPath(path) for path in smoke.inputs),
        control=None if smoke.control is None else tuple(smoke.control),
        timeout=smoke.timeout,
        cpus=smoke.cpus,
        memory=smoke.memory,
    )


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


def _one(message: str, *, line: int | None = None, hint: str | None = None) -> InvalidConfig:
    return InvalidConfig(CONFIG_FILE, [Problem(message=message, line=line, hint=hint)])


def _by_line(problem: Problem) -> tuple[bool, int, str, str]:
    return problem.line is None, problem.line or 0, problem.path, problem.message


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _needed() -> str:
    return "it needs the keys name, environment, python and base"


def _write_one(folder: Path) -> str:
    for name in OTHER_CONFIG_FILES:
        if (folder / name).is_file():
            return f"rename {name} to {CONFIG_FILE}"
    return f"`reprobox init` drafts one; {_needed()}"


def _tidy(value: Any) -> Any:
    """A generated schema without its generated titles, and without null, which no key takes."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    tidy = {key: _tidy(item) for key, item in value.items() if not (key == "title" and isinstance(item, str))}
    if tidy.get("default", "") is None:
        del tidy["default"]
    choices = [choice for choice in tidy.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        del tidy["anyOf"]
        tidy = {**choices[0], **tidy}
    return tidy
