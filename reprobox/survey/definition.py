"""An Apptainer or Singularity definition file -> its stages. spython reads the sections; none of its types leaves.

spython knows no bootstrap agent but docker, writes the From line in lower case, and takes a section's line that says
``bootstrap`` or ``from:`` for a header. So the headers are read here, and such words reach it with a mark inside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from reprobox.errors import InvalidInput

MOST_LINES = 10_000
"""spython's time grows with the square of the number of lines."""

_MARK = "\u2060"  # a word joiner: it prints nothing, and stands in no definition file
_BOOTSTRAP = re.compile(r"bootstrap:", re.IGNORECASE)
_HEADER = re.compile(r"\s*([A-Za-z]+)\s*:\s*(.*?)\s*(?:(?:^|\s)#.*)?")
_TAKEN = re.compile(r"(boot)(strap)|(from|stage)(:)|^(\s*)(#)", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)")
_SCRIPT = re.compile(r"/(?:entrypoint|tests)\.sh")


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a section, without its indentation; ``number`` is the file's, from 1."""

    number: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Copied:
    """A line of %files: what is copied where; ``stage`` is the earlier stage that it comes from, else the host."""

    source: str
    target: str
    stage: str | None = None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage. ``line`` is that of its From, or where there is none of its Bootstrap. Values are shell text."""

    bootstrap: str
    base: str
    line: int
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    post: tuple[Line, ...] = ()
    files: tuple[Copied, ...] = ()
    runscript: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    @property
    def script(self) -> str:
        """%post as a shell script whose line numbers are the file's."""
        lines = [""] * (self.post[-1].number if self.post else 0)
        for line in self.post:
            lines[line.number - 1] = line.text
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A definition file: its stages in order, at least one."""

    stages: tuple[Stage, ...]


def read(text: str, *, name: str) -> Definition:
    """What the text of the file ``name`` defines.

    Raises InvalidInput where it has no Bootstrap line, or where spython gives up.
    """
    lines = [line.rstrip("\r") for line in text.removeprefix("\ufeff").split("\n")]
    if len(lines) > MOST_LINES:
        raise InvalidInput(f"{name} has {len(lines)} lines; at most {MOST_LINES} are read")
    starts = [number for number, line in enumerate(lines) if _BOOTSTRAP.match(line)]
    if not starts:
        raise InvalidInput(
            f"{name} is no definition file: it has no Bootstrap line", hint="begin it with `Bootstrap: docker`"
        )
    ends = [*starts[1:], len(lines)]
    return Definition(stages=tuple(_stage(lines, start, end, name) for start, end in zip(starts, ends, strict=True)))


def _stage(lines: Sequence[str], start: int, end: int, name: str) -> Stage:
    body = next((place for place in range(start, end) if lines[place].lstrip().startswith("%")), end)
    headers: dict[str, str] = {}
    at = start + 1
    for number in range(start, body):
        if match := _HEADER.fullmatch(lines[number]):
            key = match[1].lower()
            headers.setdefault(key, match[2])
            at = number + 1 if key == "from" else at
    recipe, scripts = _sections(lines[body:end], name)
    base = headers.get("from", "")
    return Stage(
        bootstrap=headers["bootstrap"].lower(),
        base=base,
        line=at,
        name=headers.get("stage") or None,
        labels=dict(_pair(line) for line in recipe.labels if not line.startswith((_MARK, "#"))),
        environment=dict(_assignments(recipe.environ)),
        post=tuple(_found(recipe.install, lines, body, end)),
        files=tuple(_copies(recipe)),
        runscript=_script(scripts.get("/entrypoint.sh"), recipe.cmd),
        test=_script(scripts.get("/tests.sh"), recipe.test),
    )


# --- spython ----------------------------------------------------------------------------------


def _sections(lines: Sequence[str], name: str) -> tuple[Any, dict[str, list[str]]]:
    """spython's recipe of one stage's sections, and the scripts that it would have the build write."""
    from spython.main.parse.parsers import get_parser  # type: ignore[import-untyped]  # noqa: PLC0415

    scripts: dict[str, list[str]] = {}

    class Parser(get_parser("singularity")):  # type: ignore[misc]
        """A script of several lines stays one, instead of becoming `echo` lines of %post."""

        def _write_script(self, path: str, lines: list[str], chmod: bool = True) -> None:
            scripts.setdefault(path, []).extend(lines)

    with _contained(name):
        parser = Parser(None)
        parser.lines = [line if line.lstrip().startswith("%") else _hidden(line) for line in lines]
        (recipe,) = parser.parse().values()
        return recipe, scripts


@contextmanager
def _contained(name: str) -> Iterator[None]:
    """Nothing that spython prints is seen, and what it raises or exits with is an InvalidInput."""
    from spython.logger import bot  # type: ignore[import-untyped]  # noqa: PLC0415

    level, said = bot.level, len(bot.history)
    bot.level = 0
    try:
        yield
    except (Exception, SystemExit) as error:
        words = " ".join(bot.history[said:]).strip() or str(error) or type(error).__name__
        raise InvalidInput(f"{name} cannot be read as a definition file: {words}") from error
    finally:
        bot.level = level
        del bot.history[said:]


def _hidden(line: str) -> str:
    return _TAKEN.sub(lambda match: _MARK.join(part for part in match.groups() if part is not None), line)


def _shown(line: str) -> str:
    return line.replace(_MARK, "").strip()


# --- its lists -> our nouns -------------------------------------------------------------------


def _found(texts: Sequence[str], lines: Sequence[str], body: int, end: int) -> Iterator[Line]:
    """The lines of %post with their numbers: the same texts, in the same order, behind the first %post."""
    place = next((at for at in range(body, end) if lines[at].strip().lower().startswith("%post")), body)
    for text in map(_shown, texts):
        place = next((at for at in range(place, end) if lines[at].strip() == text), place)
        yield Line(number=place + 1, text=text)
        place += 1


def _pair(line: str) -> tuple[str, str]:
    key, _, value = _shown(line).partition(" ")
    return key, _unquoted(value.strip())


def _assignments(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for line in map(_shown, lines):
        if match := _ASSIGNMENT.fullmatch(line):
            yield match[1], _unquoted(match[2].strip())


def _copies(recipe: Any) -> Iterator[Copied]:
    from_host = [(None, line) for line in recipe.files]
    for stage, line in [*from_host, *((name, line) for name, some in recipe.layer_files.items() for line in some)]:
        words = _shown(line).split()
        if words and not words[0].startswith("#"):
            yield Copied(source=words[0], target=words[1] if len(words) > 1 else words[0], stage=stage)


def _script(several: Sequence[str] | None, one: str | None) -> tuple[str, ...]:
    if several is None:
        several = [one] if one and not _SCRIPT.search(one) else []
    return tuple(map(_shown, several))


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value
