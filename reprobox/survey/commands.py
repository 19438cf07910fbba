"""Shell text -> the installs and downloads in it, with what they name and whether it is pinned. Never raises."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from reprobox.survey import shell
from reprobox.survey.shell import Simple


class Kind(Enum):
    """What a command deals with."""

    APT = "apt"
    PIP = "pip"
    CONDA = "conda"
    DOWNLOAD = "download"


@dataclass(frozen=True, kw_only=True)
class Package:
    """What an install names: as written, the bare name (none for a URL or path), and whether it can only be one thing.

    Pinned is an exact version, a full commit, a hash, or a path of the project's own.
    """

    text: str
    name: str | None = None
    version: str | None = None
    pinned: bool = False


@dataclass(frozen=True, kw_only=True)
class Command:
    """An install or a download. ``action`` is the word that says which: install, create, upgrade, clone, get.

    ``files`` are requirements or environment files, ``urls`` what is fetched, ``indexes`` the indexes or channels.
    ``into`` is the program that the output is piped into.
    """

    kind: Kind
    action: str
    words: tuple[str, ...]
    line: int
    packages: tuple[Package, ...] = ()
    files: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    into: str | None = None


def _options(text: str) -> frozenset[str]:
    return frozenset(text.split())


_APT_VALUES = frozenset({"-a", "-c", "-o", "-t", "--config-file", "--default-release", "--option", "--target-release"})
_PIP_FILES = frozenset({"-r", "--requirement", "--requirements"})
_PIP_EDITABLE = frozenset({"-e", "--editable"})
_PIP_INDEXES = frozenset({"-f", "-i", "--default-index", "--extra-index-url", "--find-links", "--index", "--index-url"})
_PIP_VALUES = _options(
    "-C -b -c -d -p -t --abi --build --build-constraint --cache-dir --cert --client-cert --config-settings --constraint"
    " --dest --exclude-newer --exists-action --extra --global-option --group --hash --implementation --install-option"
    " --keyring-provider --link-mode --log --no-binary --only-binary --overrides --platform --prefix --prerelease"
    " --progress-bar --proxy --python --python-platform --python-version --report --resolution --retries --root"
    " --root-user-action --src --target --timeout --torch-backend --trusted-host --upgrade-package"
    " --upgrade-strategy --use-deprecated --use-feature"
)
_CONDA = frozenset({"conda", "mamba", "micromamba"})
_CONDA_FILES = frozenset({"-f", "--file"})
_CONDA_CHANNELS = frozenset({"-c", "--channel"})
_CONDA_VALUES = _options(
    "-n -p -r --name --prefix --root-prefix --repodata-fn --solver --experimental-solver --subdir --platform"
    " --rc-file --log-level --channel-priority"
)
_FETCHERS = {
    "aria2c": _options("-d -i -j -k -o -s -x --checksum --dir --header --input-file --out"),
    "curl": _options(
        "-A -H -X -b -c -d -e -m -o -u -w -x --cacert --connect-timeout --cookie --data --header --max-time --output"
        " --output-dir --proxy --request --retry --retry-delay --user --user-agent --write-out"
    ),
    "gdown": frozenset({"-O", "--output"}),
    "wget": _options("-O -P -T -U -a -o -t --directory-prefix --header --output-document --timeout --tries"),
}
_GIT_VALUES = _options("-b -c -j -o --branch --config --depth --filter --jobs --origin --reference")
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*://|git@|www\.)", re.IGNORECASE)
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?")
_EXACT = re.compile(r"\s*={2,3}\s*(?P<version>[^\s,;*]+)\s*(?:;.*)?")
_COMMIT = re.compile(r"@[0-9a-f]{40}(?:#|$)")
_HASHED = re.compile(r"#(?:.*&)?sha(?:256|384|512)=[0-9a-f]{64,}")


def read(text: str, *, line: int = 1) -> tuple[Command, ...]:
    """The installs and downloads of a shell script, in order; ``line`` is the number of its first line."""
    return tuple(found for simple in shell.split(text, line=line) if (found := _command(simple)) is not None)


def requirement(text: str) -> Package:
    """One requirement as pip takes it: a name with specifiers, a URL, or a path."""
    plain = " ".join(text.split())
    direct = re.fullmatch(r"([A-Za-z0-9][\w.-]*) ?(?:\[[^\]]*\])? ?@ ?(\S.*)", plain)
    name, target = (direct[1], direct[2]) if direct else (None, plain)
    if _URL.match(target) or target.startswith("git+"):
        return Package(text=text, name=name, pinned=bool(_COMMIT.search(target) or _HASHED.search(target)))
    if target.startswith((".", "/", "~")) or re.search(r"\.(?:whl|tar\.gz|zip)$", target) or "/" in target:
        return Package(text=text, name=name, pinned=True)
    match = _NAME.match(target)
    if not match:
        return Package(text=text, name=name)
    exact = _EXACT.fullmatch(target, match.end())
    return Package(text=text, name=match[1], version=exact["version"] if exact else None, pinned=exact is not None)


def _command(simple: Simple) -> Command | None:
    words = list(simple.words)
    program, rest = simple.program, words[1:]
    if re.fullmatch(r"python[0-9.]*", program) and "-m" in rest[:4]:
        at = rest.index("-m")
        program, rest = (rest[at + 1 : at + 2] or [""])[0], rest[at + 2 :]
    if program == "uv" and rest[:1] == ["pip"]:
        program, rest = "pip", rest[1:]
    found: Command | None = None
    if program in {"apt", "apt-get", "aptitude"}:
        found = _apt(rest)
    elif re.fullmatch(r"pip[0-9.]*", program):
        found = _pip(rest)
    elif program in _CONDA:
        found = _conda(rest)
    elif program in _FETCHERS:
        _, urls = _apart(rest, _FETCHERS[program])
        found = _blank(Kind.DOWNLOAD, "get", urls=tuple(urls)) if urls else None
    elif program == "git":
        found = _git(rest)
    return None if found is None else replace(found, words=simple.words, line=simple.line, into=simple.into)


def _blank(
    kind: Kind,
    action: str,
    *,
    packages: Sequence[Package] = (),
    files: Sequence[str] = (),
    urls: Sequence[str] = (),
    indexes: Sequence[str] = (),
) -> Command:
    return Command(
        kind=kind, action=action, words=(), line=0, packages=tuple(packages), files=tuple(files), urls=tuple(urls),
        indexes=tuple(indexes),
    )  # fmt: skip


def _apart(words: Sequence[str], valued: frozenset[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Options, each with its value where it takes one, and the other words."""
    options: list[tuple[str, str]] = []
    plain: list[str] = []
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if word == "--":
            plain += words[place:]
            break
        if not word.startswith("-") or word == "-":
            plain.append(word)
            continue
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if not equals and name in valued and place < len(words):
            value = words[place]
            place += 1
        elif not word.startswith("--") and word[:2] in valued:
            name, value = word[:2], word[2:]
        options.append((name, value))
    return options, plain


def _apt(words: Sequence[str]) -> Command | None:
    _, plain = _apart(words, _APT_VALUES)
    action = plain[0] if plain else ""
    if action in {"dist-upgrade", "full-upgrade", "safe-upgrade", "upgrade"}:
        return _blank(Kind.APT, "upgrade")
    if action not in {"install", "build-dep"}:
        return None
    return _blank(Kind.APT, action, packages=[_distribution(word) for word in plain[1:] if _known(word)])


def _distribution(text: str) -> Package:
    name, equals, version = text.partition("=")
    if text.startswith(("/", "./")):
        return Package(text=text, pinned=True)
    return Package(
        text=text,
        name=name.partition("/")[0].partition(":")[0],
        version=version or None,
        pinned=bool(equals and version) and "*" not in version,
    )


def _pip(words: Sequence[str]) -> Command | None:
    options, plain = _apart(words, _PIP_VALUES | _PIP_FILES | _PIP_EDITABLE | _PIP_INDEXES)
    if not plain or plain[0] not in {"install", "sync"}:
        return None
    files = [value for name, value in options if name in _PIP_FILES]
    named = [requirement(word) for word in plain[1:] if _known(word)]
    editable = [requirement(value) for name, value in options if name in _PIP_EDITABLE]
    return _blank(
        Kind.PIP,
        "install",
        packages=[*named, *editable] if plain[0] == "install" else [],
        files=files if plain[0] == "install" else [*files, *plain[1:]],
        indexes=[value for name, value in options if name in _PIP_INDEXES],
    )


def _conda(words: Sequence[str]) -> Command | None:
    options, plain = _apart(words, _CONDA_VALUES | _CONDA_FILES | _CONDA_CHANNELS)
    if plain[:1] == ["run"]:
        return None
    if plain[:1] == ["env"]:
        plain = plain[1:]
    if not plain or plain[0] not in {"create", "install", "update"}:
        return None
    return _blank(
        Kind.CONDA,
        plain[0],
        packages=[conda_package(word) for word in plain[1:] if _known(word)],
        files=[value for name, value in options if name in _CONDA_FILES],
        indexes=[value for name, value in options if name in _CONDA_CHANNELS],
    )


def conda_package(text: str) -> Package:
    """A conda match specification; ``numpy=1.26`` leaves the last number open, ``=1.26.4`` hardly anything."""
    match = re.fullmatch(r"(?:[^:]*::)?([A-Za-z0-9_.-]+)\s*(?:={1,2}([^=<>!,|*]+)(=[^*]*)?)?", text)
    version = match[2] if match else None
    name = match[1] if match else (_NAME.match(text) or [None, None])[1]
    return Package(text=text, name=name, version=version, pinned=version is not None)


def _git(words: Sequence[str]) -> Command | None:
    _, plain = _apart(words, _GIT_VALUES)
    return _blank(Kind.DOWNLOAD, "clone", urls=plain[1:2]) if plain[:1] == ["clone"] and plain[1:2] else None


def _known(word: str) -> bool:
    """Whether a word says what it names, and is not a variable alone."""
    return bool(word) and not word.startswith(("$", "`"))
