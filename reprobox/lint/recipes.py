"""Dockerfiles, definition files, shell scripts and a notebook's shell lines: what they take that moves."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reprobox.lint.findings import Finding, listed
from reprobox.lint.requirements import is_on_host
from reprobox.lint.sources import Source
from reprobox.survey import commands, definition, dockerfile, notebook
from reprobox.survey.commands import Command, Kind

_SHELLS = frozenset({"ash", "bash", "dash", "ksh", "sh", "zsh"})
_INTERPRETERS = re.compile(r"python[0-9.]*|perl|ruby|node")
_CHECKED = re.compile(r"\b(?:sha(?:1|224|256|384|512)sum|shasum|b2sum|gpgv?|cosign|minisign)\b|--checksum")
_SNAPSHOT = re.compile(r"snapshot", re.IGNORECASE)
_TOOLS = frozenset({"pip", "setuptools", "uv", "wheel"})
_COMMIT = re.compile(r"\b[0-9a-f]{40}\b")
_REGISTRIES = frozenset({"docker", "library", "oras", "shub"})
_BOOTSTRAPPERS = frozenset({"arch", "busybox", "debootstrap", "dnf", "yum", "zypper"})

_PIN_BASE = "name it by its digest: `docker buildx imagetools inspect IMAGE` shows it, IMAGE@sha256:... uses it"
_PIN_APT = "name them under `system:` in reprobox.yaml, or take them from a snapshot of the distribution by its date"
_PIN_PIP = "install from a lock: `pip install --require-hashes -r requirements.lock`"
_VERIFY = "check what came against a sha256 before it is used"


def check_dockerfile(source: Source) -> Iterator[Finding]:
    """The findings of a Dockerfile that is the user's own."""
    instructions = dockerfile.read(source.text)
    for stage in dockerfile.stages(instructions):
        if not stage.earlier and stage.base != "scratch" and (what := _moves(stage.base)):
            yield _finding(source, "unpinned-base", stage.line, what, _PIN_BASE)
    snapshot = _SNAPSHOT.search(source.text) is not None
    for written in instructions:
        one = written.trigger or written
        if one.keyword == "RUN":
            yield from check_commands(source, commands.read(one.shell, line=one.line), one.value, snapshot=snapshot)
        elif one.keyword == "ADD" and "checksum" not in one.flags:
            urls = [word for word in one.arguments[:-1] if re.match(r"https?://", word)]
            if urls and not all(_is_git_commit(url) for url in urls):
                yield _finding(
                    source,
                    "unverified-download",
                    one.line,
                    f"ADD takes whatever {urls[0]} gives",
                    "write ADD --checksum=sha256:...",
                )


def check_definition(source: Source) -> Iterator[Finding]:
    """The findings of a definition file. Raises InvalidInput where it is none."""
    for stage in definition.read(source.text, name=str(source.path)).stages:
        if stage.bootstrap in _REGISTRIES and stage.base and (what := _moves(stage.base)):
            yield _finding(source, "unpinned-base", stage.line, what, _PIN_BASE)
        elif stage.bootstrap in _BOOTSTRAPPERS:
            yield _finding(
                source,
                "unpinned-base",
                stage.line,
                f"{stage.bootstrap} takes the packages of the day",
                "begin from an image by its digest",
            )
        elif stage.bootstrap == "localimage" and stage.base.startswith(("/", "~")):
            yield _finding(
                source,
                "host-path",
                stage.line,
                f"{stage.base} is a path of one machine",
                "begin from an image by its digest",
            )
        script = stage.script
        snapshot = _SNAPSHOT.search(source.text) is not None
        yield from check_commands(source, commands.read(script), script, snapshot=snapshot)


def check_script(source: Source, *, runs: bool) -> Iterator[Finding]:
    """The findings of a shell script; ``runs``: it is taken for a part of the experiment."""
    found = commands.read(source.text)
    if runs:
        yield from _at_run_time(source, found)
    yield from (one for one in check_commands(source, found, source.text, snapshot=True) if one.rule not in _LATER)


_LATER = frozenset({"apt-upgrade", "unpinned-apt", "unverified-download"})
"""What a script does to a machine, and not to an image."""


def check_notebook_shell(source: Source, cells: tuple[notebook.Cell, ...]) -> Iterator[Finding]:
    """The findings of what a notebook gives to a shell."""
    for cell in cells:
        for command in commands.read(cell.shell):
            line = cell.line_of(command.line)
            if command.kind is Kind.DOWNLOAD:
                yield _fetch(source, command, line)
            elif command.action in {"create", "install", "update"}:
                names = listed([package.name or package.text for package in command.packages] or list(command.files))
                yield _finding(
                    source,
                    "install-at-run-time",
                    line,
                    f"cell {cell.number} installs {names or 'packages'}; a run has no network",
                    "name them in the environment file, and remove the line",
                )


def check_commands(source: Source, found: tuple[Command, ...], text: str, *, snapshot: bool) -> Iterator[Finding]:
    """Installs and downloads while an image is built. ``text`` is what might verify them."""
    for command in found:
        loose = [package.name or package.text for package in command.packages if not package.pinned]
        if command.kind is Kind.APT and command.action == "upgrade":
            yield _finding(
                source,
                "apt-upgrade",
                command.line,
                "an upgrade takes the packages of the day",
                "leave it out: a newer base by its digest has them",
            )
        elif command.kind is Kind.APT and loose and not snapshot:
            yield _finding(
                source,
                "unpinned-apt",
                command.line,
                f"{listed(loose)}: no fixed version",
                _PIN_APT,
            )
        elif command.kind in {Kind.PIP, Kind.CONDA}:
            yield from _installed(source, command, loose)
        elif command.kind is Kind.DOWNLOAD:
            yield from _downloaded(source, command, text)


def _installed(source: Source, command: Command, loose: list[str]) -> Iterator[Finding]:
    moving = [package.text for package in command.packages if not package.pinned and "git+" in package.text]
    on_host = [
        package.text
        for package in command.packages
        if re.search(r"file:/|/(?:home|Users)/", package.text) and is_on_host(package.text, source.path.parent)
    ]
    names = [name for name in loose if name.lower() not in _TOOLS and "git+" not in name and not _is_variable(name)]
    if on_host:
        yield _finding(
            source,
            "host-requirement",
            command.line,
            f"{listed(on_host)}: a path of one machine",
            "name the package by its version, or keep the wheel in the project",
        )
    if moving:
        yield _finding(
            source,
            "git-without-commit",
            command.line,
            f"{listed(moving)}: a branch or tag of a git repository moves",
            "write the full commit: ...@<40 hex>",
        )
    if names and "--require-hashes" not in command.words:
        verb = "has" if len(names) == 1 else "have"
        yield _finding(
            source, "unpinned-requirement", command.line, f"{listed(names)} {verb} no exact version", _PIN_PIP
        )


def _downloaded(source: Source, command: Command, text: str) -> Iterator[Finding]:
    url = command.urls[0]
    if command.into and (command.into in _SHELLS or _INTERPRETERS.fullmatch(command.into)):
        yield _finding(
            source, "unverified-download", command.line, f"{command.into} runs whatever {url} gives", _VERIFY
        )
    elif command.action == "clone" and not _COMMIT.search(text):
        yield _finding(
            source,
            "unverified-download",
            command.line,
            f"{url} is cloned as it is on the day",
            "check out a full commit: `git checkout <40 hex>`",
        )
    elif command.action == "get" and not _is_variable(url) and not _CHECKED.search(text) and _is_file(command):
        yield _finding(source, "unverified-download", command.line, f"{url} is taken without a look", _VERIFY)


def _at_run_time(source: Source, found: tuple[Command, ...]) -> Iterator[Finding]:
    for command in found:
        if command.kind is Kind.DOWNLOAD:
            yield _fetch(source, command, command.line)


def _fetch(source: Source, command: Command, line: int) -> Finding:
    words = f"{command.words[0]} {command.urls[0]}"
    return _finding(
        source,
        "fetch-at-run-time",
        line,
        f"`{words}` goes to the network; a run has none",
        "fetch it once, keep it in the project, and name it in `smoke.inputs`",
    )


def _moves(reference: str) -> str | None:
    """Why a reference to an image may mean another one tomorrow."""
    if "$" in reference or "{{" in reference or "@sha256:" in reference or ":sha256." in reference:
        return None
    name = reference.rpartition("://")[2].removeprefix("//")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    if not colon or tag == "latest":
        return f"{reference} is {'the tag latest' if colon else 'without a tag: latest'}, which moves"
    return f"{reference} is a tag without a digest; it may be pushed again"


def _is_git_commit(url: str) -> bool:
    return ".git" in url and _COMMIT.search(url) is not None


def _is_variable(text: str) -> bool:
    return "$" in text


def _is_file(command: Command) -> bool:
    """Whether a download is kept, and is no question to a service."""
    return not any(re.match(r"https?://(?:localhost|127\.)", url) for url in command.urls)


def _finding(source: Source, rule: str, line: int, what: str, todo: str) -> Finding:
    return Finding(rule=rule, file=str(source.path), line=line, what=what, todo=todo)
