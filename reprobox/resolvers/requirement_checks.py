"""One requirement: its name and URL, and whether a lock can hold it. Raises errors that name file and line."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, unquote, urlsplit

from reprobox.credentials import has_credentials, redact
from reprobox.errors import InvalidInput, Unlockable
from reprobox.resolvers.requirement_lines import Place, sha256s

_VERSION_CONTROL = re.compile(r"(git|hg|svn|bzr)\+|git://|ssh://|git@", re.IGNORECASE)
SDISTS = (".tar.gz", ".zip")
"""How the name of an sdist ends."""
_FULL_COMMIT = re.compile(r"@[0-9a-f]{40}(?=[#?&]|$)")


_SIMPLE = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"(?: *(?:==|!=|<=|>=|<|>) *[0-9]+(?:\.[0-9]+)*(?: *, *(?:==|!=|<=|>=|<|>) *[0-9]+(?:\.[0-9]+)*)*)?"
)
"""A requirement of a name and plain versions: it needs no parser (slow to import) to be known as one."""


def parse(text: str, place: Place) -> tuple[str, str | None]:
    """The normalised name and the URL, if any, of a requirement. Raises InvalidInput."""
    if simple := _SIMPLE.fullmatch(text):
        return re.sub(r"[-_.]+", "-", simple["name"]).lower(), None  # as packaging.utils.canonicalize_name
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415 (slow to import)
    from packaging.utils import canonicalize_name  # noqa: PLC0415 (slow to import)

    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        if single := re.fullmatch(r"([A-Za-z0-9._-]+)\s*=\s*([0-9][^\s=]*)", text):
            hint = f"write {single.group(1)}=={single.group(2)}"
        else:
            hint = "a requirement looks like numpy>=2.1 or numpy==2.1.0; a path starts with ./"
        reason = str(error).splitlines()[0]
        raise InvalidInput(f"{place}: not a requirement: {redact(text)} ({redact(reason)})", hint=hint) from error
    return canonicalize_name(requirement.name), requirement.url


def check_url(url: str, name: str, place: Place) -> frozenset[str]:
    """The sha256 that ``url`` itself names, if any. Raises Unlockable for what cannot be locked behind a URL."""
    if _VERSION_CONTROL.match(url):
        refuse_version_control(f"{name} @ {url}", place)
    if has_credentials(url):
        raise Unlockable(
            f"{place}: the URL of {name} holds credentials, and a lock is public: {redact(url)}",
            hint="put them into ~/.netrc and write the URL without them",
        )
    parts = split_url(url, place)
    if parts.scheme not in {"http", "https", "file"}:
        raise Unlockable(
            f"{place}: cannot fetch {name} from {redact(url)}", hint="use an https URL of a wheel or an sdist"
        )
    if parts.scheme == "file":
        raise Unlockable(
            f"{place}: {name} lies on this machine: {url}",
            hint=f"write {name} with its version, or put the wheel into the project and name it by a relative path",
        )
    file = PurePosixPath(unquote(parts.path)).name
    if not file.endswith(".whl") and not is_sdist(file):
        raise Unlockable(
            f"{place}: {name} has neither a wheel nor an sdist behind its URL {redact(url)}",
            hint="name the URL of a wheel or of a NAME-VERSION.tar.gz, or build a wheel and name it as a local file",
        )
    return fragment_hashes(parts.fragment, place)


def split_url(url: str, place: Place) -> SplitResult:
    """The parts of ``url``. Raises InvalidInput where it is none."""
    try:
        return urlsplit(url)
    except ValueError as error:
        raise InvalidInput(f"{place}: not a URL: {redact(url)}", hint="correct the host's name") from error


def is_version_control(text: str) -> bool:
    """Whether ``text`` starts as the address of a repository does."""
    return bool(_VERSION_CONTROL.match(text))


def refuse_version_control(text: str, place: Place) -> None:
    """Raises Unlockable, with other words for a commit than for a branch."""
    url = text.partition(" @ ")[2] or text
    if _FULL_COMMIT.search(url.partition(";")[0].strip()):
        raise Unlockable(
            f"{place}: {redact(text)} comes from a repository; only a file with a sha256 is built from source",
            hint="build a wheel of that commit (pip wheel --no-deps URL) and name it as a local file",
        )
    raise Unlockable(
        f"{place}: {redact(text)} names a branch or tag, which can move",
        hint="use a released version, or build a wheel of one commit and name it as a local file",
    )


def is_sdist(file: str, name: str | None = None) -> bool:
    """Whether ``file`` is named as an sdist, of the package ``name`` where one is given."""
    from packaging.utils import InvalidSdistFilename, parse_sdist_filename  # noqa: PLC0415 (slow to import)

    try:
        return name in {None, parse_sdist_filename(file)[0]}
    except InvalidSdistFilename:
        return False


def package_name(file: str, place: Place) -> str:
    """The normalised name of the package in the file name of a wheel or an sdist. Raises InvalidInput."""
    from packaging.utils import (  # noqa: PLC0415 (slow to import)
        InvalidSdistFilename,
        InvalidWheelFilename,
        parse_sdist_filename,
        parse_wheel_filename,
    )

    sdist = file.endswith(SDISTS)
    try:
        return parse_sdist_filename(file)[0] if sdist else parse_wheel_filename(file)[0]
    except (InvalidSdistFilename, InvalidWheelFilename) as error:
        raise InvalidInput(
            f"{place}: not the name of {'an sdist' if sdist else 'a wheel'}: {file}",
            hint="keep the name that the file was built with",
        ) from error


def inside(root: Path, path: Path, place: Place | str, shown: str, *, hint: str | None = None) -> PurePosixPath:
    """``path`` relative to ``root``, links followed. Raises Unlockable where it lies outside."""
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
        raise InvalidInput(f"{place}: {redact(shown)} cannot be read: links that lead in a circle") from error
    if not resolved.is_relative_to(root.resolve()):
        raise Unlockable(
            f"{place}: {redact(shown)} lies outside the project",
            hint=hint or "copy what is needed into the project and name it by a relative path",
        )
    return PurePosixPath(resolved.relative_to(root.resolve()).as_posix())


def fragment_hashes(fragment: str, place: Place) -> frozenset[str]:
    found = re.search(r"(?:^|&)sha256=([^&]*)", fragment)
    return sha256s([("--hash", f"sha256:{found.group(1)}")], place) if found else frozenset()
