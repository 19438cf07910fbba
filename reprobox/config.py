"""reprobox.yaml -> Project: all of its faults at once, each with its line.

What `reprobox.config_yaml` read is checked by the models of `reprobox.config_model`, and becomes frozen nouns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from reprobox import config_memory
from reprobox.config_yaml import (
    CONFIG_FILE,
    MOST_BYTES,
    TAG,
    Location,
    Place,
    Reading,
    as_bool,
    as_number,
    by_line,
    compose,
    decode,
    needed,
    quote,
    show,
)
from reprobox.errors import InvalidConfig, InvalidInput
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

    from reprobox.config_model import Config

__all__ = [
    "CONFIG_FILE", "OTHER_CONFIG_FILES", "OWN_FILES", "OWN_FOLDERS", "RENDERED_FILES", "is_own", "load", "loads",
    "schema",
]  # fmt: skip

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
    found = Reading()
    plain = found.read(compose(decode(data)))
    config = _check(plain, found)
    if found.problems or config is None:
        raise InvalidConfig(CONFIG_FILE, sorted(found.problems, key=by_line))
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


# --- plain values -> a checked model ----------------------------------------------------------


def _check(plain: Mapping[str, Any], found: Reading) -> Config | None:
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


def _translate(detail: ErrorDetails, found: Reading) -> None:
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


def _locate(path: Sequence[str | int], found: Reading) -> tuple[Location, str | int | None]:
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


def _not_one_of(place: Place, expected: str) -> tuple[str, str | None]:
    import difflib  # noqa: PLC0415

    values = re.findall(r"'([^']+)'", expected)
    choice = f"one of {', '.join(values)}"
    if place.text is None:
        return f"must be {choice}", None
    word = OTHER_NAMES.get(place.text.lower(), place.text.lower())
    near = difflib.get_close_matches(word, values, n=1)
    return f"{show(place.text)} is not {choice}", f"did you mean `{near[0]}`?" if near else None


def _wrong_type(kind: str, place: Place, words: str) -> tuple[str, str | None]:
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


def _as_read(place: Place) -> str:
    """What YAML makes of a scalar that is not a text: ``the number 3.1``."""
    from yaml.nodes import ScalarNode  # noqa: PLC0415

    if place.kind == "timestamp":
        return "a date"
    text = place.text or ""
    if place.kind == "bool":
        return "true" if as_bool(text) else "false"
    return f"the number {as_number(ScalarNode(f'{TAG}{place.kind}', text), place.kind)}"


# --- what no key says alone -------------------------------------------------------------------


def _check_together(plain: Mapping[str, Any], found: Reading) -> None:
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


def _check_repeated(values: Any, location: Location, found: Reading) -> None:
    seen: set[str] = set()
    for index, value in enumerate(values if isinstance(values, list) else []):
        if not isinstance(value, str):
            continue
        if value in seen:
            at = (*location, index)
            found.problem(at, f"{show(value)} stands twice", line=found.places[at].line)
        seen.add(value)


def _check_paths(smoke: Mapping[str, Any], found: Reading) -> None:
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


def _check_removed(smoke: Mapping[str, Any], environment: PurePosixPath | None, found: Reading) -> None:
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


def _write_one(folder: Path) -> str:
    for name in OTHER_CONFIG_FILES:
        if (folder / name).is_file():
            return f"rename {name} to {CONFIG_FILE}"
    return f"`reprobox init` drafts one; {needed()}"


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
