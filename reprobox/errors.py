"""What can go wrong, in the reader's words: a message, a hint, an exit code."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class ReproboxError(Exception):
    """Something the user can act on: printed without a traceback.

    ``message`` says what happened, with names and both values; ``hint`` says what to do; ``folder`` is the
    project's, once a verb has one.
    """

    exit_code = 2
    folder: Path | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One fault in a file of the user's: where it is and what it is. ``line`` counts from 1."""

    message: str
    path: str = ""
    line: int | None = None
    hint: str | None = None


class InvalidConfig(ReproboxError):
    """A file of the user's has faults; all of them at once."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(problems)
        lines = [f"{file} has {len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}:"]
        for problem in self.problems:
            place = f"{file}:{problem.line}" if problem.line else file
            key = f" {problem.path}:" if problem.path else ""
            lines.append(f"  {place}:{key} {problem.message}" + (f" ({problem.hint})" if problem.hint else ""))
        super().__init__("\n".join(lines))


class InvalidInput(ReproboxError):
    """An argument or a file of the user's cannot be used as it stands."""


class InvalidLock(ReproboxError):
    """A lock file that cannot be trusted: damaged, edited, or written by a newer reprobox."""


class StaleLock(ReproboxError):
    """The lock does not answer what the project asks now."""

    exit_code = 1


class Unlockable(ReproboxError):
    """A requirement that no lock can hold still."""


class ResolutionFailed(ReproboxError):
    """The resolver found no answer; the message carries its reason."""


class ProgramMissing(ReproboxError):
    """A program that is needed is not installed."""


class ProgramFailed(ReproboxError):
    """A program ran and failed; ``tail`` holds the last of what it said."""

    def __init__(self, program: str, code: int, tail: str, *, hint: str | None = None) -> None:
        self.program, self.code, self.tail = program, code, tail
        super().__init__(f"{program} failed with exit code {code}" + (f":\n{tail}" if tail else ""), hint=hint)


class ProgramTooSlow(ReproboxError):
    """A program did not end within the time that it was given."""


class EngineUnavailable(ReproboxError):
    """A container engine is absent, down, too old, or died."""


class ProbeFailed(ReproboxError):
    """What an experiment's libraries do on this hardware could not be read inside its image."""


class BuildFailed(ReproboxError):
    """The engine could not build the image."""


class RegistryFailed(ReproboxError):
    """A registry is unreachable, refuses, or gave another answer than the protocol allows."""


class HashMismatch(ReproboxError):
    """Bytes that are not the ones a digest names."""


class OutputRefused(ReproboxError):
    """An output that is not taken out of the container: a link, a device, too large."""


class Uncomparable(ReproboxError):
    """A rule declared for an output cannot be applied to it; in a verdict this is INCOMPLETE."""


class Busy(ReproboxError):
    """Another reprobox process works in this project."""


class BootstrapFailed(ReproboxError):
    """A distribution's root file system could not be assembled from its packages."""
