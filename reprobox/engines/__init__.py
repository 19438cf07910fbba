"""The engine port: Context -> Image; Image, Job -> Completed. No type of an engine's own crosses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from reprobox.console import Console
from reprobox.model import Completed, Context, Image, Job, OutputFile


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """What a build may know and its image must not: certificates to trust, and environment variables."""

    ca: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Supplies:
    """What a build is handed beside its context: secrets, a folder of wheels at hand, a folder to work in.

    ``check`` is called when the context is laid out, and raises where that is no longer what was asked for.
    """

    staging: Path
    check: Callable[[], None] = lambda: None
    secrets: Secrets = Secrets()
    wheels: Path | None = None


Listener = Callable[[str, bytes], None]
"""Called with ``stdout`` or ``stderr`` and the bytes that a command wrote there, as they come."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where an engine runs its jobs: the engine's name and version, and a text that is another on another machine."""

    engine: str
    identity: str


class Engine(Protocol):
    """A place where images exist and commands run sealed."""

    name: str

    def probe(self) -> str:
        """The engine's name and version. Raises EngineUnavailable, with the remedy."""

    def machine(self) -> Machine:
        """Where jobs run now; costs a look. Raises EngineUnavailable."""

    def holds(self, image: Image) -> bool:
        """Whether the engine still has just this image under its reference; costs a look."""

    def build(self, context: Context, *, reference: str, supplies: Supplies, console: Console) -> Image:
        """Make the image, after ``probe``. Raises BuildFailed; a failed build leaves no image under ``reference``."""

    def run(self, image: Image, job: Job, *, into: Path, listen: Listener) -> tuple[Completed, tuple[OutputFile, ...]]:
        """Run a job sealed, take its outputs out into the folder ``into``; whatever happens, leave nothing running."""
