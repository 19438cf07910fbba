"""Where this machine finds Python packages, as uv's environment variables."""

from __future__ import annotations

import configparser
import netrc
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from reprobox import credentials, proc
from reprobox.errors import InvalidInput, ResolutionFailed

_UV_SETTINGS = (
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_INDEX",
    "UV_INDEX_STRATEGY",
    "UV_INDEX_URL",
    "UV_INSECURE_HOST",
)
_CREDENTIAL = re.compile(r"UV_INDEX_\w+_(USERNAME|PASSWORD)")
_PIP_OPTIONS = ("extra-index-url", "find-links", "index-url", "no-index", "trusted-host")
_SYSTEM_PIP_FILE = Path("/etc/pip.conf")
_NAMED = re.compile(r"^[\w.-]+=(?=\S)")
"""The name before the URL of an index: ``lab=https://...``."""


# --- the machine's indexes --------------------------------------------------------------------


def index_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that tell uv where this machine gets Python packages; they may hold credentials.

    uv's own variables are kept as they are. For what they leave open, pip's configuration is handed on (its
    variables and its files). pip takes the best version of all its indexes, so extra indexes from pip bring
    that rule with them. Folders of pip's ``find-links`` that do not exist are left out, as pip does.
    Raises InvalidInput where a configuration file of pip's cannot be read.
    """
    environ = os.environ if environ is None else environ
    found = {
        name: value
        for name, value in environ.items()
        if value and (name in _UV_SETTINGS or _CREDENTIAL.fullmatch(name))
    }
    pip = pip_settings(environ)
    if (index := pip.get("index-url")) and not found.keys() & {"UV_DEFAULT_INDEX", "UV_INDEX_URL"}:
        found["UV_INDEX_URL"] = index.strip()
    if (extra := pip.get("extra-index-url", "").split()) and not found.keys() & {"UV_INDEX", "UV_EXTRA_INDEX_URL"}:
        found["UV_EXTRA_INDEX_URL"] = " ".join(extra)
        found.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    if "UV_FIND_LINKS" not in found:
        places = [place for place in pip.get("find-links", "").split() if _is_there(place)]
        if places:
            found["UV_FIND_LINKS"] = ",".join(places)
    if (hosts := pip.get("trusted-host", "").split()) and "UV_INSECURE_HOST" not in found:
        found["UV_INSECURE_HOST"] = " ".join(hosts)
    return dict(sorted(found.items()))


def reachable_from_a_build(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """``index_environment`` without the folders of this machine, which a build does not see."""
    found = {}
    for name, value in index_environment(environ).items():
        separator = "," if name == "UV_FIND_LINKS" else " "
        if name in {"UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX", "UV_INDEX_URL"}:
            places = [place for place in value.split(separator) if local_path(_NAMED.sub("", place)) is None]
            found[name] = separator.join(places)
        else:
            found[name] = value
    return {name: value for name, value in found.items() if value}


def find_links(environ: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """The local folders of wheels that this machine's configuration names, in order."""
    places = index_environment(environ).get("UV_FIND_LINKS", "").split(",")
    return tuple(path for place in places if place and (path := local_path(place)) is not None)


def without_index(environ: Mapping[str, str] | None = None) -> bool:
    """Whether this machine's pip uses no index at all (``no-index``); uv has no variable for it."""
    environ = os.environ if environ is None else environ
    return pip_settings(environ).get("no-index", "").strip().lower() in {"1", "true", "yes", "on", "y", "t"}


def default_index(environ: Mapping[str, str] | None = None) -> str:
    """The URL of the index that packages come from first: this machine's configuration, else uv's own default.

    It may hold credentials. Raises ProgramMissing and ProgramTooSlow; InvalidInput as ``index_environment`` does.
    """
    found = index_environment(environ)
    if named := found.get("UV_DEFAULT_INDEX") or found.get("UV_INDEX_URL"):
        return _NAMED.sub("", named.strip())
    from uv import find_uv_bin  # noqa: PLC0415 (slow to import)

    said = proc.run([find_uv_bin(), "pip", "compile", "--help"], env={**os.environ, "NO_COLOR": "1"}, timeout=10).text
    told = re.search(r"by\s+default:\s+<(https?://[^>]+)>", said)
    if not told:
        raise ResolutionFailed("uv no longer says which index is its default", hint="name one in UV_DEFAULT_INDEX")
    return told[1]


def local_path(place: str) -> Path | None:
    """The path behind a path or a ``file:`` URL; None where it lies on another machine."""
    if place.startswith("file:"):
        return Path(unquote(urlsplit(place).path))
    return None if "://" in place else Path(place)


def _is_there(place: str) -> bool:
    path = local_path(place)
    return path is None or path.exists()


def pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What pip's configuration says of indexes: variables over files, nearer files over farther ones.

    Within a file ``[install]`` goes before ``[global]``.
    """
    settings: dict[str, str] = {}
    for path in _pip_files(environ):
        settings.update(_read_pip_file(path))
    for option in _PIP_OPTIONS:
        value = environ.get("PIP_" + option.upper().replace("-", "_"))
        if value:
            settings[option] = value
    return settings


def _pip_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """pip's documented places, the farthest first."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    for folder in reversed(environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep)):
        if folder:
            yield Path(folder) / "pip" / "pip.conf"
    yield _SYSTEM_PIP_FILE
    if not (named and Path(named).exists()):
        home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
        yield home / ".pip" / "pip.conf"
        yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    yield Path(sys.prefix) / "pip.conf"
    if named:
        yield Path(named)


def _read_pip_file(path: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidInput(
            f"cannot read pip's configuration {path}: {reason}",
            hint="repair the file, or set PIP_CONFIG_FILE=/dev/null to do without pip's configuration",
        ) from error
    try:
        parser.read_string(text)
    except configparser.Error as error:
        reason = type(error).__name__  # its words would quote the line, which may hold a password
        line = getattr(error, "lineno", None) or next(iter(getattr(error, "errors", [])), (None,))[0]
        raise InvalidInput(
            f"cannot read pip's configuration {path}{f', line {line}' if line else ''}: {reason}",
            hint="repair the file, or set PIP_CONFIG_FILE=/dev/null to do without pip's configuration",
        ) from error
    found: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            for key, value in parser.items(section):
                option = key.replace("_", "-").removeprefix("--")
                if option in _PIP_OPTIONS and value:
                    found[option] = value
    return found


def authorization(url: str, known: Iterable[str]) -> dict[str, str]:
    """The header that opens ``url``: by its own credentials, those of an index of the same host, or ~/.netrc.

    ``known`` are URLs of indexes that may hold credentials; those of this machine are looked at too.
    """
    wanted = urlsplit(url)
    for place in (url, *known, *_machine_indexes()):
        parts = urlsplit(place)
        own = credentials.basic_of(place)
        if own and (parts.scheme, parts.hostname, parts.port) == (
            wanted.scheme, wanted.hostname, wanted.port,
        ):  # fmt: skip
            return {"Authorization": own}
    try:
        found = netrc.netrc(os.environ.get("NETRC")).authenticators(wanted.hostname or "")
    except (OSError, netrc.NetrcParseError):
        found = None
    return {"Authorization": credentials.basic(found[0], found[2] or "")} if found else {}


def with_credentials(url: str, name: str, environ: Mapping[str, str] | None = None) -> str:
    """The URL of an index with the credentials that uv's variables hold for its ``name``, if any."""
    environ = os.environ if environ is None else environ
    key = "UV_INDEX_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
    user, password = environ.get(f"{key}_USERNAME", ""), environ.get(f"{key}_PASSWORD", "")
    if not (user or password) or "://" not in url:
        return url
    return url.replace("://", f"://{quote(user, safe='')}:{quote(password, safe='')}@", 1)


def _machine_indexes() -> Iterator[str]:
    found = index_environment()
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"):
        for place in re.split(r"[\s,]+", found.get(variable, "")):
            name = _NAMED.match(place)
            yield with_credentials(place[name.end() :], name[0][:-1]) if name else place
