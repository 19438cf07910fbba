"""What a folder says of its environment and its experiment: facts, each with the place it came from. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """A file, relative to the folder, and the line in it, counted from 1, where one is known."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A value as the folder says it."""

    value: str
    place: Place


@dataclass(frozen=True, kw_only=True)
class Note:
    """A sentence about a place. ``lacking``: the draft is known to miss what stands there."""

    place: Place
    text: str
    lacking: bool = False


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line for a requirements file, and where it comes from; one with a ``because`` is only written as a comment."""

    text: str
    place: Place
    note: str = ""
    because: str = ""


@dataclass(frozen=True, kw_only=True)
class EnvironmentFound:
    """A file that the resolver takes as it is. ``names`` are the packages in it, normalised; ``choices`` the extras
    and groups that it offers."""

    path: str
    names: frozenset[str] = frozenset()
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PackageList:
    """What a file of another tool asks of Python packages, in lines for a requirements file.

    ``pins`` are constraints: the versions that its lock file held, of what is not asked for by name.
    ``indexes`` are further package indexes, without credentials.
    """

    place: Place
    lines: tuple[Line, ...]
    pins: tuple[Line, ...] = ()
    indexes: tuple[Fact, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PythonSaid:
    """A Python version (``exact``: ``3.11``) or what a project allows (a PEP 440 specifier)."""

    value: str
    place: Place
    exact: bool
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command that starts the experiment, in words. ``guess``: nobody says it, only its script is there."""

    words: tuple[str, ...]
    place: Place
    guess: bool = False

    @property
    def why(self) -> str:
        """Where it comes from, for a comment."""
        return "a guess: the script is there" if self.guess else str(self.place)


@dataclass(frozen=True, kw_only=True)
class Script:
    """A Python file: what it imports from outside the folder, which literal paths it writes, how it takes a seed.

    ``main``: it has an ``if __name__ == "__main__"``. ``seed`` is the default of its option ``--seed``.
    """

    path: str
    main: bool = False
    imports: tuple[Fact, ...] = ()
    outputs: tuple[Fact, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that was seen in a folder, the best source of a kind first.

    ``taken`` are the names that exist in the folder itself, which no draft may overwrite; ``imports`` map what
    scripts and notebooks import, by module, to the places; ``unseen`` is what could not be read.
    """

    folder: str
    taken: frozenset[str] = frozenset()
    names: tuple[Fact, ...] = ()
    environments: tuple[EnvironmentFound, ...] = ()
    lists: tuple[PackageList, ...] = ()
    installs: tuple[Line, ...] = ()
    imports: Mapping[str, Place] = field(default_factory=dict)
    pythons: tuple[PythonSaid, ...] = ()
    images: tuple[Fact, ...] = ()
    system: tuple[Fact, ...] = ()
    commands: tuple[Command, ...] = ()
    scripts: tuple[Script, ...] = ()
    notebooks: tuple[str, ...] = ()
    unseen: tuple[Note, ...] = ()
