"""Docker's and BuildKit's own words for what went wrong -> our errors. No other module knows these words."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator

from reprobox import proc
from reprobox.credentials import redact
from reprobox.errors import (
    BuildFailed,
    EngineUnavailable,
    HashMismatch,
    RegistryFailed,
    ReproboxError,
)

NO_BUILDX = "Docker has no buildx, and so no BuildKit"
INSTALL_BUILDX = "install the docker-buildx plugin (package docker-buildx or docker-buildx-plugin)"
INSTALL = "install Docker 23 or newer with its buildx plugin, or start its daemon"
AGAIN = "start it again, then repeat the command: nothing was written"
NOT_STARTED = b"[FATAL tini"
"""How Docker's init begins to say that it could not execute the command (tini, src/tini.c)."""
FOREIGN = b"Exec format error"
"""And why, where the program is another CPU's."""

_EXCERPT = re.compile(r"\s*\d+ \| |Dockerfile:\d+$|-+$")
_STEP = re.compile(r"^#\d+ (?:\d+\.\d+ ?)?")
GONE = re.compile(
    r"rpc error: code = (?:Unavailable|Canceled).*|error reading from server: EOF|Cannot connect to the Docker daemon.*"
    r"|error during connect.*|graceful_stop"
)
_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_UV_HASH = re.compile(
    r"Hash mismatch for `(?P<package>[^`]+)`(?:\s+Expected:\s+(?P<expected>\S+))?(?:.*?Computed:\s+(?P<found>\S+))?",
    re.S,
)
_PIP_HASH = re.compile(
    r"DO NOT MATCH THE HASHES.*?\n\s+(?P<package>\S+)[^\n]*\n"
    r"\s+Expected sha256 (?P<expected>\w+)\s+Got\s+(?P<found>\w+)",
    re.S,
)
_FOREIGN = re.compile(r"exec (?:\S+): exec format error|exec format error")
_SOURCE = re.compile(r"failed to resolve source metadata for (?P<reference>\S+): (?P<why>.*)")
_TRANSFER = re.compile(r"(?:failed to copy|failed to do request|failed commit on ref)\b.*")
_OTHER_BYTES = re.compile(
    r"unexpected commit digest (?P<found>sha256:\w+), expected (?P<expected>sha256:\w+)|failed size validation"
)
_REGISTRY = (
    (
        re.compile(r"429 Too Many Requests|toomanyrequests"),
        "{host} wants fewer requests ({why}): {base}",
        "wait a while, or log in with `docker login {host}`",
    ),
    (
        re.compile(r"401 Unauthorized|403 Forbidden|pull access denied|insufficient_scope|authorization failed"),
        "{host} refuses {base} ({why})",
        "`docker login {host}` as someone who may read it",
    ),
    (
        re.compile(r"not found\s*$"),
        "{host} does not have {base}",
        "if it was removed, `reprobox lock --upgrade` takes what is there now, which is another image",
    ),
    (
        re.compile(r"(?:x509|tls): .*"),
        "Docker does not trust {host} ({why}), from which it takes {base}",
        "give the certificate to Docker's daemon: /etc/docker/certs.d/HOST/ca.crt, or the system's store",
    ),
    (re.compile(r"\b5\d\d [A-Z].*"), "{host} is out of order ({why}): {base}", "try again later"),
    (
        re.compile(r"(?:dial tcp|proxyconnect|net/http: |context deadline|EOF|connection reset).*"),
        "Docker cannot reach {host} ({why}), from which it takes {base}",
        "is the daemon behind a proxy? It needs HTTPS_PROXY in its own environment",
    ),
)
"""What BuildKit says of a registry, what it means, what to do; the first that fits."""


@contextlib.contextmanager
def translated(where: str, *, during: str = "") -> Iterator[None]:
    """docker-py's errors in our words; ``where`` is the daemon, ``during`` what it had already taken on."""
    import requests  # noqa: PLC0415 (slow to import)
    from docker.errors import APIError, DockerException, InvalidVersion  # noqa: PLC0415

    try:
        yield
    except APIError as error:
        raise EngineUnavailable(f"Docker refused: {error.explanation or error}") from error
    except InvalidVersion as error:
        raise too_old("") from error
    except (DockerException, requests.exceptions.RequestException) as error:
        raise _unanswered(str(error), where, during) from error


def too_old(version: str) -> EngineUnavailable:
    return EngineUnavailable(
        f"Docker {version or 'here'} is too old: 23 or newer is needed", hint="upgrade Docker, or use another daemon"
    )


def _unanswered(text: str, where: str, during: str) -> EngineUnavailable:
    if "Permission denied" in text:
        return EngineUnavailable(
            f"Docker's socket may not be used by this user: {where}",
            hint="join the group `docker` (`sudo usermod -aG docker $USER`, then log in again), or use rootless Docker",
        )
    if "timed out" in text or "timeout" in text.lower():
        told = re.search(r"timeout=(\d+)", text)
        within = f"within {told[1]} s" if told else "in time"
        return EngineUnavailable(
            f"the Docker daemon at {where} does not answer {within}{f' {during}' if during else ''}",
            hint="it is overloaded or stuck: look at its log, or restart it",
        )
    if during:
        return EngineUnavailable(f"the Docker daemon at {where} went away {during}", hint=AGAIN)
    gone = ("No such file", "Connection refused", "Name or service not known", "name resolution", "Failed to resolve")
    if any(words in text for words in gone):
        return EngineUnavailable(f"no Docker daemon answers at {where}", hint=INSTALL)
    return EngineUnavailable(
        f"Docker at {where} stopped answering: {redact(text)}", hint="is its daemon still running?"
    )


def build_failure(lines: Iterable[str], *, where: str, data_root: Callable[[], str]) -> ReproboxError:
    """What a failed `docker buildx build` said -> the error to raise. ``data_root`` is asked where a disk is full."""
    told = [line for line in lines if line.strip() and not _EXCERPT.match(line)]
    text = redact("\n".join(_STEP.sub("", line) for line in told))
    reason = redact("\n".join(told[-proc.TAIL_LINES :]))
    if found := _UV_HASH.search(text) or _PIP_HASH.search(text):
        return HashMismatch(
            f"{found['package']} is not what the lock names: expected {found['expected'] or 'another hash'}, "
            f"got {found['found'] or 'these bytes'}",
            hint="the file was changed at its source or damaged on the way; nothing of it was kept",
        )
    if _FULL.search(text):
        return BuildFailed(
            f"Docker could not build the image: no space is left in its data folder {data_root()}\n{reason}",
            hint="free some: `docker system df` shows what is used, `docker builder prune` drops build caches",
        )
    if _FOREIGN.search(text):
        return BuildFailed(
            f"Docker cannot run programs of the image's platform on this machine\n{reason}",
            hint="build on a machine of that kind, or install qemu-user-static with its binfmt registration",
        )
    if (found := _SOURCE.search(text)) or (found := _TRANSFER.search(text)):
        return _registry_failure(found.groupdict().get("reference") or "", found.groupdict().get("why") or found[0])
    if GONE.search(text):
        return EngineUnavailable(f"the Docker daemon at {where} went away during the build", hint=AGAIN)
    return BuildFailed(f"Docker could not build the image:\n{reason}")


def _registry_failure(reference: str, why: str) -> ReproboxError:
    names = {"base": reference or "the base image", "host": reference.partition("/")[0] or "the registry"}
    if found := _OTHER_BYTES.search(why):
        said = f": expected {found['expected']}, got {found['found']}" if found["expected"] else ""
        return HashMismatch(
            f"{names['host']} sent other bytes than {names['base']} names{said}",
            hint="the registry or something on the way changes images; nothing of it was kept",
        )
    for pattern, message, hint in _REGISTRY:
        if found := pattern.search(why):
            return RegistryFailed(message.format(**names, why=found[0]), hint=hint.format(**names))
    return RegistryFailed(f"Docker could not take {names['base']} from {names['host']}: {why}")
