"""Starting uv, and its failures in the reader's words."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reprobox import proc
from reprobox.console import Console, Step
from reprobox.credentials import passwords, redact
from reprobox.errors import ProgramMissing, ProgramTooSlow, ReproboxError, ResolutionFailed
from reprobox.files import scratch
from reprobox.model import LockedFile, LockedTool, Platform, PythonVersion
from reprobox.resolvers.indexes import index_environment, without_index
from reprobox.resolvers.pylock import GLIBC, Target, select

LONGEST = 1800.0
"""Seconds that uv may take: it bounds an index that answers, but by the byte."""

_DROPPED = ("UV_FROZEN", "UV_LOCKED", "UV_NO_DEV", "UV_PROJECT", "UV_WORKING_DIR", "UV_PYTHON", "VIRTUAL_ENV")
"""Variables that would make uv read or write another project than the one it is given."""
_NOISE = (
    "will be used to build dependencies",
    "A managed Python download is available",
    "does not contain any dependencies",
    "Requirements file",
)
_CAUSES = (
    (
        r"Failed to read `--find-links`",
        "a folder of wheels cannot be read",
        "correct find-links in the configuration of uv or pip on this machine",
    ),
    (
        r"\b(?:401 Unauthorized|403 Forbidden)\b|valid authentication credentials",
        "a package index wants credentials or refuses those it got",
        "put them into ~/.netrc, or into UV_INDEX_URL or UV_INDEX_<NAME>_PASSWORD",
    ),
    (
        r"network was disabled|not found in the cache",
        "it is not in uv's cache, and the network is off",
        "unset UV_OFFLINE, or fill uv's cache first",
    ),
    (
        r"Failed to build|[Bb]uild backend|Failed to download and build|Failed to generate package metadata",
        "a package has no wheel, and its source does not say what it needs",
        "pin a version that has a wheel, or build a wheel and name it as a local file",
    ),
    (
        r"(?:Missing|Unsupported) `Content-Type`|too many redirects",
        "a package index does not answer as one",
        "check its address in the configuration of uv or pip on this machine; a proxy may want a login",
    ),
    (
        r"Failed to fetch|error sending request|Request failed|tcp connect|dns error|timed out",
        "a package index cannot be reached",
        "check the network, HTTPS_PROXY, SSL_CERT_FILE and the configuration of uv or pip on this machine",
    ),
)
"""Patterns in uv's words, what they mean, and what to do; the first that is found counts."""
_UNKNOWN = r"(?:[Bb]ecause|and) (\S+) was not found in the (?:package registry|provided package locations)"
_LOG = "uv_resolver=debug"
"""What uv logs, in the words of RUST_LOG: without it, it is silent until it is done."""
_LOGGED = re.compile(rb"^(?:TRACE|DEBUG|INFO|WARN|ERROR) .*\n?", re.MULTILINE)
_CHOSEN = re.compile(r"DEBUG Selecting: ([^=\s]+)==(\S+)")
_BREAK = re.compile(r"^(error|warning|hint): ", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Solver:
    """uv on this machine. ``environment`` is its environment; ``secrets`` are never printed; ``folder`` is scratch."""

    program: str
    environment: Mapping[str, str]
    secrets: frozenset[str]
    folder: Path
    console: Console
    no_index: bool = False
    step: Step = field(default_factory=Step)
    warned: set[str] = field(default_factory=set)

    def run(
        self, arguments: Sequence[str | os.PathLike[str]], *, cwd: Path, environment: Mapping[str, str] | None = None
    ) -> proc.Finished:
        """Run uv with ``arguments`` in ``cwd``; its warnings go to the console once. The exit code is the caller's."""
        try:
            finished = proc.run(
                [self.program, *arguments, "--color", "never", "--no-progress"],
                cwd=cwd,
                env={**(self.environment if environment is None else environment), "RUST_LOG": _LOG},
                check=False,
                timeout=LONGEST,
                on_line=self._listen,
            )
        except ProgramTooSlow as error:
            raise ResolutionFailed(
                f"uv had no answer after {LONGEST:g} s and was stopped: a package index is too slow",
                hint="try again later, or name a nearer index in UV_DEFAULT_INDEX",
            ) from error
        finished = replace(finished, stderr=_LOGGED.sub(b"", finished.stderr))
        for kind, text in paragraphs(finished.stderr.decode("utf-8", "replace")):
            if kind == "warning" and not any(noise in text for noise in _NOISE) and text not in self.warned:
                self.warned.add(text)
                self.console.warn(self.redact(f"uv: {text}"))
        return finished

    def _listen(self, line: str) -> None:
        if chosen := _CHOSEN.match(line):
            self.step.say(f"{chosen.group(1)} {chosen.group(2)}")

    def compile(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        *,
        python: PythonVersion,
        platform: Platform,
        cwd: Path,
        preferences: Mapping[str, str],
        explain: Callable[[str], ReproboxError],
    ) -> dict[str, Any]:
        """Solve for one platform; ``preferences`` are versions to keep where they fit. Returns the pylock.

        Its relative paths start at ``folder``. Raises what ``explain`` makes of uv's words where it fails.
        """
        finished = self._compile(arguments, python=python, platform=platform, cwd=cwd, preferences=preferences)
        if finished.code != 0:
            raise explain(self.words(finished))
        return self._output()

    def compile_at(
        self,
        versions: Mapping[str, str],
        arguments: Sequence[str | os.PathLike[str]],
        *,
        python: PythonVersion,
        platform: Platform,
        cwd: Path,
        explain: Callable[[str], ReproboxError],
    ) -> dict[str, Any] | None:
        """Solve with every package of ``versions`` at just that version; None where that has no solution."""
        pins = self.folder / "pins.in"
        pins.write_text("".join(f"{name}=={version}\n" for name, version in sorted(versions.items())), "utf-8")
        finished = self._compile(
            [*arguments, "--constraints", pins], python=python, platform=platform, cwd=cwd, preferences={}
        )
        if finished.code == 0:
            return self._output()
        if b"No solution found" in finished.stderr and b"network was disabled" not in finished.stderr:
            return None
        raise explain(self.words(finished))

    def _compile(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        *,
        python: PythonVersion,
        platform: Platform,
        cwd: Path,
        preferences: Mapping[str, str],
    ) -> proc.Finished:
        output = self.folder / "pylock.toml"
        output.write_text(_preferences(preferences), encoding="utf-8")
        return self.run(
            [
                "pip", "compile", *arguments,
                "--python-version", str(python),
                "--python-platform", f"{platform.machine}-manylinux_{GLIBC[0]}_{GLIBC[1]}",
                "--python", sys.executable,
                "--no-python-downloads",
                "--generate-hashes",
                "--no-header",
                *(["--no-index"] if self.no_index else []),
                "--output-file", output,
            ],
            cwd=cwd,
        )  # fmt: skip

    def _output(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "pylock.toml").read_text(encoding="utf-8"))

    def words(self, finished: proc.Finished) -> str:
        """What uv said of a failure, without secrets."""
        return self.redact(finished.stderr.decode("utf-8", "replace"))

    def redact(self, text: str) -> str:
        """``text`` without the secrets of this run."""
        return redact(text, secrets=self.secrets)


@contextmanager
def solver(console: Console, *, secrets: Iterable[str] = (), step: Step | None = None) -> Iterator[Solver]:
    """uv, ready to run, with a scratch folder that is gone afterwards; ``step`` hears what it chooses.

    Raises ProgramMissing.
    """
    from uv import find_uv_bin  # noqa: PLC0415 (slow to import)

    try:
        program = os.fspath(find_uv_bin())
    except FileNotFoundError as error:
        raise ProgramMissing(
            "uv is not installed, though its package is", hint="install it again: pip install uv"
        ) from error
    indexes = index_environment()
    environment = {name: value for name, value in os.environ.items() if name not in _DROPPED} | indexes
    hidden = {*secrets, *(secret for value in indexes.values() for secret in passwords(value))}
    with scratch(Path(tempfile.gettempdir()), "reprobox-resolve-") as folder:
        yield Solver(
            program=program,
            environment={**environment, "NO_COLOR": "1", "TZ": "UTC"},
            secrets=frozenset(hidden),
            folder=folder,
            console=console,
            no_index=without_index(),
            step=step or Step(),
        )


def _preferences(versions: Mapping[str, str]) -> str:
    """A pylock that holds names and versions only: uv keeps to the versions of its output file."""
    lines = ['lock-version = "1.0"', 'created-by = "reprobox"', "packages = []"]
    if versions:
        lines[-1:] = [
            f'[[packages]]\nname = "{name}"\nversion = "{version}"' for name, version in sorted(versions.items())
        ]
    return "\n".join(lines) + "\n"


def installed_version() -> str:
    """The version of the uv that is installed with reprobox."""
    from importlib.metadata import version  # noqa: PLC0415 (slow to import)

    return version("uv")


def lock_uv(solver: Solver, version: str, python: PythonVersion, platforms: Sequence[Platform]) -> LockedTool:
    """uv itself, exact: one wheel per platform. Raises ResolutionFailed where the indexes do not have it."""

    def explain(words: str) -> ReproboxError:
        return explain_failure(words, asked=f"uv {version}, which installs the packages in the image")

    requirement = solver.folder / "uv.in"
    requirement.write_text(f"uv=={version}\n", encoding="utf-8")
    wheels = {}
    for platform in platforms:
        pylock = solver.compile(
            [requirement], python=python, platform=platform, cwd=solver.folder, preferences={}, explain=explain
        )
        target = Target(root=solver.folder, folder=solver.folder, python=python, platform=platform)
        (wheel,) = select(pylock, target).wheels
        wheels[platform] = LockedFile(name=wheel.file, digest=wheel.digest)
    return LockedTool(version=version, wheels=wheels)


# --- failures ---------------------------------------------------------------------------------


def paragraphs(words: str) -> list[tuple[str, str]]:
    """uv's words as (error, warning or hint; text), each text with its continuation lines."""
    parts = _BREAK.split(words)
    return [(kind, text.strip()) for kind, text in zip(parts[1::2], parts[2::2], strict=True)]


def explain_failure(
    words: str, *, asked: str = "the packages", places: Callable[[str], Sequence[object]] = lambda name: ()
) -> ResolutionFailed:
    """An error from uv's (redacted) words; ``places`` says where a package is required.

    The message keeps uv's explanation; uv's advice about its own options becomes advice about the project.
    """
    said = paragraphs(words)
    errors = "\n".join(text for kind, text in said if kind == "error") or words.strip()
    hints = " ".join(text for kind, text in said if kind == "hint")
    reason = "\n".join("  " + line for line in _clean(errors))
    for pattern, headline, hint in _CAUSES:
        if re.search(pattern, f"{errors}\n{hints}"):
            return ResolutionFailed(f"cannot resolve {asked}: {headline}:\n{reason}", hint=hint)
    if unknown := re.findall(_UNKNOWN, errors):
        named = ", ".join(f"{name}{_at(places(name))}" for name in dict.fromkeys(unknown))
        return ResolutionFailed(
            f"cannot resolve {asked}: the package indexes do not know {named}:\n{reason}",
            hint="correct the name, or name the index that has it (--extra-index-url, or uv's configuration)",
        )
    return ResolutionFailed(f"cannot resolve {asked}:\n{reason}", hint=_advice(errors, hints))


def _advice(errors: str, hints: str) -> str:
    if "requested Python version" in errors or "`--python-version`" in hints:
        return "choose another python: in reprobox.yaml, or a version of the package that supports this one"
    if re.search(r"[Pp]re-?release", hints):
        return "a pre-release would fit: name it in the requirement (such as >=2.0rc1), or add a line --pre"
    if "--index-strategy" in hints:
        return (
            "another index has a version that fits: name the index that is to be asked first, or set UV_INDEX_STRATEGY"
        )
    if "here are no versions of" in errors:
        return "the index has none for this Python and platform, or its page is no package index's: look at its address"
    return "loosen one of the requirements named above"


def _at(places: Sequence[object]) -> str:
    return f" ({', '.join(map(str, places))})" if places else ""


def _clean(text: str) -> list[str]:
    """uv's lines without its labels, its tracebacks cut to their last line."""
    lines = [re.sub(r"^\s*(?:cause: )?", "", line).rstrip() for line in text.splitlines()]
    kept: list[str] = []
    within_traceback = False
    for line, raw in zip(lines, text.splitlines(), strict=True):
        if line.startswith("Traceback (most recent call last)"):
            within_traceback = True
        elif within_traceback and (
            not line or raw.lstrip().startswith("File ") or not re.match(r"[\w.]+(Error|Exception)\b", line)
        ):
            continue
        elif line and line != "No solution found when resolving dependencies":
            within_traceback = False
            kept.append(line)
    return kept
