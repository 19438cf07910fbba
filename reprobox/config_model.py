"""The shape of reprobox.yaml as pydantic models: what each key is, and which values it takes.

Only `reprobox.config` imports this module, and late: pydantic is not quick to load.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from reprobox.model import DEFAULT_EPOCH, MEBIBYTE, UNPRINTABLE

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
"""One part of an image's name, as registries allow it."""

REFUSED = "refused"
"""The error type of every check written here; its context holds the message and the hint."""

TEXT, MAPPING = "<text>", "<mapping>"
"""The two ways to write a value, as they appear in the place of a pydantic error."""

LATEST_EPOCH = 2**32 - 1
"""Seconds: the latest time that a squashfs file system, an Apptainer image's, can hold."""

LONGEST_TIMEOUT = 30 * 24 * 3600
"""Seconds: a run that is given longer than this is a typing error."""

LEAST_MEMORY = 6 * MEBIBYTE
"""Bytes: container engines refuse less."""

MOST_CPUS = 4096

OF_THE_IMAGE = frozenset({"HOME", "PATH"})
"""Variables that the image and the sealed run set: with another value neither works."""

SECONDS = {"s": 1, "m": 60, "h": 3600}
POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}


def refuse(message: str, hint: str | None = None) -> PydanticCustomError:
    return PydanticCustomError(REFUSED, "{message}", {"message": message, "hint": hint})


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


# --- single values ----------------------------------------------------------------------------


def _name(text: str) -> str:
    if not re.fullmatch(_COMPONENT, text) or len(text) > 128:
        raise refuse(
            f"{_shown(text)} cannot be the name of an image",
            "lower-case letters and digits, joined by single `.`, `_` or `-`; at most 128 characters",
        )
    return text


def _python(text: str) -> str:
    if re.fullmatch(r"3\.[0-9]+\.[0-9]+", text):
        raise refuse(
            f"{_shown(text)} names a patch release; the base decides that one",
            f'write "{text.rpartition(".")[0]}"',
        )
    if not re.fullmatch(r"3\.(0|[1-9][0-9]?)", text):
        raise refuse(f"{_shown(text)} is not a Python version", 'write it as "3.11"')
    return text


def project_path(text: str) -> PurePosixPath:
    """A path below the project's root, in normal form. Refuses, as a pydantic error, everything else."""
    path = PurePosixPath(text)
    if not text:
        raise refuse("an empty path")
    if "\\" in text:
        raise refuse(f"{_shown(text)} holds a backslash", "paths are written with `/`")
    if "\t" in text or UNPRINTABLE.search(text):
        raise refuse(f"{_shown(text)} holds a control character")
    if path.is_absolute():
        raise refuse(f"{_shown(text)} is an absolute path", "name it relative to the project's folder")
    if ".." in path.parts:
        raise refuse(f"{_shown(text)} holds `..`", "only what is inside the project's folder can be named")
    if not path.parts:
        raise refuse(f"{_shown(text)} is the work folder itself", "name files or folders inside it")
    if path.parts[0].startswith("~"):
        raise refuse(f"{_shown(text)} begins with `~`", "name it relative to the project's folder")
    if re.search(r"[*?]", text):
        raise refuse(f"{_shown(text)} is a pattern", "name the file, or the folder that holds the files")
    return path


def _path(text: str) -> str:
    return str(project_path(text))


_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::[0-9]+)?/)?"
_IMAGE = re.compile(
    _HOST + _COMPONENT + rf"(?:/{_COMPONENT})*" + r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)


def _image(text: str) -> str:
    if "://" in text:
        raise refuse(f"{_shown(text)} has a transport", f"write {text.partition('://')[2]}")
    if len(text) > 512 or not _IMAGE.fullmatch(text):
        raise refuse(f"{_shown(text)} is not an image reference", "write it as debian:bookworm-slim or host/name:tag")
    return text


def _suite(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9.-]*", text):
        raise refuse(f"{_shown(text)} is not the name of a suite", "write it as bookworm or noble")
    return text


def _package(text: str) -> str:
    if re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", text):
        return text
    bare = re.match(r"([a-z0-9][a-z0-9+.-]+)[=:<>~\s]", text)
    if bare:
        raise refuse(
            f"{_shown(text)} says more than a package's name",
            f"write {bare.group(1)}; its version and architecture are the lock's business",
        )
    raise refuse(f"{_shown(text)} is not the name of a distribution package")


def _extra(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", text):
        raise refuse(f"{_shown(text)} is not the name of an extra or a group")
    return text


def _variable(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise refuse(
            f"{_shown(text)} cannot be the name of an environment variable",
            "letters, digits and `_`, not beginning with a digit",
        )
    if text in OF_THE_IMAGE:
        raise refuse(f"{text} is the image's own", "remove it; the environment's programs are on the PATH already")
    return text


def _value(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise refuse("the value holds a line break", "a Dockerfile cannot carry one; put the text into a file")
    if UNPRINTABLE.search(text):
        raise refuse("the value holds a control character", "put the text into a file")
    return text


def _epoch(value: int) -> int:
    if not 0 <= value <= LATEST_EPOCH:
        raise refuse(f"{value} is not between 0 and {LATEST_EPOCH}", "seconds since 1970-01-01T00:00:00Z")
    return value


def _moment(text: str) -> str:
    form = "write a date (2026-01-31) or an RFC 3339 timestamp (2026-01-31T12:00:00Z)"
    upper = text.upper()
    clock = r"T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?"
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}" + clock, upper):
        raise refuse(f"{_shown(text)} has no time zone", f"write {upper}Z for UTC")
    if not re.fullmatch(rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?:{clock}(?:Z|[+-][0-9]{{2}}:[0-9]{{2}}))?", upper):
        raise refuse(f"{_shown(text)} is not a date", form)
    try:
        datetime.fromisoformat(upper)
    except ValueError as error:
        raise refuse(f"{_shown(text)} is not a date: {error}", form) from error
    return upper


def _timeout(value: Any) -> float:
    form = "write seconds as a number, or 90s, 10m, 2h"
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([smh])", value)
        if not match or len(value) > 32:
            raise refuse(f"{_shown(value)} is not a length of time", form)
        seconds = float(match.group(1)) * SECONDS[match.group(2)]
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse("is not a length of time", form)
    else:
        seconds = value
    if not 0 < seconds <= LONGEST_TIMEOUT:
        raise refuse(f"{value} is not more than 0 and at most 30 days", form)
    return float(seconds)


def _cpus(value: int) -> int:
    if not 1 <= value <= MOST_CPUS:
        raise refuse(f"{value} is not a number of CPUs", "write a whole number from 1 on")
    return value


def _memory(value: Any) -> int:
    form = "write it with its unit: 4GiB, 512MiB, 2g"
    if not isinstance(value, str):
        raise refuse("is not an amount of memory", form)
    if re.fullmatch(r"[0-9.]+\s*[KMGTkmgt][Bb]", value):
        exact = f"{value[:-1].rstrip()}iB"
        raise refuse(f"{_shown(value)} may mean powers of 1000 or of 1024", f"write {exact}, which is powers of 1024")
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGTkmgt])(?:i|iB)?", value)
    if not match or len(value) > 32:
        raise refuse(f"{_shown(value)} is not an amount of memory", form)
    size = int(float(match.group(1)) * 1024 ** POWERS[match.group(2).lower()])
    if not LEAST_MEMORY <= size < 2**60:
        raise refuse(f"{_shown(value)} is less than 6MiB or more than any machine has", form)
    return size


MEMBERS = re.compile(r"\$(?:\.[A-Za-z_][A-Za-z0-9_]*)+")
"""A JSONPath of names alone, such as $.seconds: it needs no parser (slow to import) to be known as one."""


def _rule(text: str) -> str:
    if not text.startswith("$"):
        raise refuse(f"{_shown(text)} is not a JSONPath", f"it begins at the root: $.{text.lstrip('.') or 'seconds'}")
    if text.strip() == "$":
        raise refuse("'$' ignores the whole output", "name what is to be ignored, such as $.seconds")
    if MEMBERS.fullmatch(text):
        return text
    from jsonpath import JSONPathError, compile  # noqa: A004, PLC0415

    try:
        compile(text)
    except (JSONPathError, RecursionError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise refuse(f"{_shown(text)} is not a JSONPath: {reason}") from error
    return text


# --- lists ------------------------------------------------------------------------------------


def _words(value: Any) -> Any:
    if isinstance(value, str):
        raise refuse("must be a list of words, not one text", _as_list(value))
    if isinstance(value, list) and not value:
        raise refuse("is an empty list", "write the program and its arguments: [python, train.py]")
    if isinstance(value, list) and value[0] == "":
        raise refuse("begins with an empty word", "the first word is the program")
    return value


def _as_list(command: str) -> str:
    """A shell's line as the list that means the same, as a hint."""
    import shlex  # noqa: PLC0415

    import yaml  # noqa: PLC0415

    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words:
        return "write the program and its arguments: [python, train.py]"
    return "write " + yaml.safe_dump(words, default_flow_style=True, width=10**9, allow_unicode=True).strip()


def _some(value: Any) -> Any:
    if isinstance(value, list) and not value:
        raise refuse("is an empty list", "name at least one")
    return value


# --- the models -------------------------------------------------------------------------------


def _text_or_mapping(value: Any) -> str:
    return MAPPING if isinstance(value, dict | BaseModel) else TEXT


_either = Discriminator(_text_or_mapping)

Name = Annotated[str, AfterValidator(_name)]
ProjectPath = Annotated[str, AfterValidator(_path)]
Extra = Annotated[str, AfterValidator(_extra)]
Package = Annotated[str, AfterValidator(_package)]
Rule = Annotated[str, AfterValidator(_rule)]
Words = Annotated[list[str], BeforeValidator(_words)]
Timeout = Annotated[
    float,
    BeforeValidator(_timeout),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_TIMEOUT},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*[smh]$"},
            ]
        }
    ),
]
Memory = Annotated[
    int,
    BeforeValidator(_memory),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*[KMGTkmgt](i|iB)?$"}),
]
Moment = Annotated[str, AfterValidator(_moment)]
Variable = Annotated[str, AfterValidator(_variable)]


class Keys(BaseModel):
    """A mapping whose keys are all known."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Environment(Keys):
    """A file that names the Python packages, and what is wanted of it."""

    file: ProjectPath = Field(description="The file, relative to the project's folder.", examples=["pyproject.toml"])
    extras: list[Extra] = Field(default=[], description="Extras of a pyproject.toml to install.")
    groups: list[Extra] = Field(default=[], description="Dependency groups of a pyproject.toml to install.")


class Bootstrap(Keys):
    """A distribution assembled from its own hashed packages; no registry needed."""

    bootstrap: Literal["debian", "ubuntu"] = Field(description="The distribution.", examples=["debian"])
    suite: Annotated[str, AfterValidator(_suite)] = Field(
        description="The distribution's release, by its code name.", examples=["bookworm"]
    )


class OutputWithRules(Keys):
    """An output, and what of it may differ."""

    path: ProjectPath = Field(
        description="The file or folder, relative to the work folder.", examples=["out/metrics.json"]
    )
    ignore: list[Rule] = Field(
        default=[], description="JSONPaths of values that may differ, such as $.seconds.", examples=[["$.seconds"]]
    )


class Experiment(Keys):
    """The experiment whose outputs must come out the same."""

    command: Words = Field(
        description="The program and its arguments, one word an entry; no shell.",
        examples=[["python", "train.py", "--seed", "0"]],
        json_schema_extra={"minItems": 1},
    )
    outputs: Annotated[
        list[Annotated[Annotated[ProjectPath, Tag(TEXT)] | Annotated[OutputWithRules, Tag(MAPPING)], _either]],
        BeforeValidator(_some),
    ] = Field(
        description="Files and folders the command writes, relative to the work folder; their bytes must be equal.",
        examples=[["out/model.npz"]],
        json_schema_extra={"minItems": 1},
    )
    inputs: list[ProjectPath] = Field(
        default=[], description="Data files the command reads: hashed, and read-only.", examples=[["data/digits.npz"]]
    )
    control: Words | None = Field(
        default=None,
        description="A negative control: a command that must NOT give the same bytes, such as another seed.",
        examples=[["python", "train.py", "--seed", "1"]],
        json_schema_extra={"minItems": 1},
    )
    timeout: Timeout = Field(
        default=600.0, description="How long the command may run: seconds, or 90s, 10m, 2h.", examples=["10m"]
    )
    cpus: Annotated[int, AfterValidator(_cpus)] = Field(
        default=1,
        description="How many CPUs the command may use.",
        examples=[1],
        json_schema_extra={"minimum": 1, "maximum": MOST_CPUS},
    )
    memory: Memory = Field(
        default=4096 * MEBIBYTE,
        description="How much memory the command may use: 4GiB, 512MiB, 2g (powers of 1024).",
        examples=["4GiB"],
        json_schema_extra={"default": "4GiB"},
    )


class Config(Keys):
    """reprobox.yaml: what is wanted of a project's image and of its experiment."""

    name: Name = Field(
        description="The image's name: lower-case letters and digits, joined by `.`, `_` or `-`.",
        examples=["warm-start"],
        json_schema_extra={"pattern": rf"^{_COMPONENT}$", "maxLength": 128},
    )
    environment: Annotated[Annotated[ProjectPath, Tag(TEXT)] | Annotated[Environment, Tag(MAPPING)], _either] = Field(
        description="The file that names the Python packages, relative to the project's folder.",
        examples=["requirements.in"],
    )
    python: Annotated[str, AfterValidator(_python)] = Field(
        description='The Python version, quoted, such as "3.11".',
        examples=["3.11"],
        json_schema_extra={"pattern": r"^3\.(0|[1-9][0-9]?)$"},
    )
    base: Annotated[Annotated[str, AfterValidator(_image), Tag(TEXT)] | Annotated[Bootstrap, Tag(MAPPING)], _either] = (
        Field(
            description="The image to build on, or a distribution to assemble from its packages.",
            examples=["debian:bookworm-slim"],
        )
    )
    platforms: Annotated[list[Literal["linux-64", "linux-aarch64"]], BeforeValidator(_some)] = Field(
        default=["linux-64"],
        description="The platforms to lock and build for.",
        json_schema_extra={"minItems": 1, "uniqueItems": True},
    )
    system: list[Package] = Field(
        default=[],
        description="Distribution packages to install, by name; the lock holds versions and hashes.",
        examples=[["libgomp1"]],
        json_schema_extra={"uniqueItems": True},
    )
    determinism: Literal["off", "pinned", "portable"] = Field(
        default="pinned", description="How far the numerics are pinned by variables."
    )
    env: dict[Variable, Annotated[str, AfterValidator(_value)]] = Field(
        default={},
        description="Environment variables of the image; values are quoted.",
        examples=[{"OMP_NUM_THREADS": "1"}],
        json_schema_extra={"propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}},
    )
    epoch: Annotated[int, AfterValidator(_epoch)] = Field(
        default=DEFAULT_EPOCH,
        description="The time of everything in the image: seconds since 1970-01-01T00:00:00Z.",
        examples=[DEFAULT_EPOCH],
        json_schema_extra={"minimum": 0, "maximum": LATEST_EPOCH},
    )
    exclude_newer: Moment | None = Field(
        default=None,
        alias="exclude-newer",
        description="Packages published later are not considered: a date, or an RFC 3339 timestamp.",
        examples=["2026-01-31"],
    )
    smoke: Experiment | None = Field(default=None, description="The experiment that proves the image.")


MODELS: dict[str, type[Keys]] = {
    "": Config,
    "environment": Environment,
    "base": Bootstrap,
    "smoke": Experiment,
    "smoke.outputs": OutputWithRules,
}
"""Which model stands behind which key (list indexes left out)."""


def known_keys(place: str) -> dict[str, Any]:
    """The keys of the mapping at ``place``, each with one example of its value."""
    model = MODELS.get(place)
    if model is None:
        return {}
    return {field.alias or name: (field.examples or [None])[0] for name, field in model.model_fields.items()}
