"""Which Docker daemon the user means, found as Docker's own client finds it, and a connection to just that one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from reprobox.engines import docker_words
from reprobox.errors import EngineUnavailable

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.tls import TLSConfig

PATIENCE = 30
"""Seconds that a daemon may take for an answer; a look at an image takes it milliseconds."""

_DEFAULT = "unix:///var/run/docker.sock"
_ADDRESSES = "such as unix:///var/run/docker.sock or tcp://host.example:2376"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A daemon's address, what named it, and for a context its name and its folder of certificates."""

    address: str
    named_by: str
    context: str | None = None
    certificates: Path | None = None
    verify: bool = True

    @property
    def command(self) -> list[str]:
        """Docker's client program, bound to this daemon."""
        return ["docker"] if self.context is None else ["docker", f"--context={self.context}"]

    @property
    def by_socket(self) -> bool:
        return self.address.startswith("unix://")

    def is_here(self, info: Mapping[str, Any]) -> bool:
        """Whether the daemon, by its /info, runs on this machine: one elsewhere, or in a virtual machine, has another
        name."""
        return self.by_socket and info.get("Name") == os.uname().nodename

    def __str__(self) -> str:
        return f"{self.address} ({self.named_by})"


def active(environ: Mapping[str, str] | None = None) -> Endpoint:
    """DOCKER_HOST, else the context of DOCKER_CONTEXT, else that of `docker context use`, else Docker's default.

    Raises EngineUnavailable for a context that is not there or cannot be read, and for an address that cannot be used.
    """
    environ = os.environ if environ is None else environ
    if host := environ.get("DOCKER_HOST"):
        return _usable(Endpoint(address=host, named_by="DOCKER_HOST"))
    folder = Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    config = _read(folder / "config.json")
    name = environ.get("DOCKER_CONTEXT") or str((config or {}).get("currentContext") or "default")
    if name == "default":
        return Endpoint(address=_DEFAULT, named_by="Docker's default", context=name)
    place = hashlib.sha256(name.encode()).hexdigest()  # docker/cli, cli/context/store: a context's folder
    meta = _read(folder / "contexts" / "meta" / place / "meta.json")
    if meta is None:
        raise EngineUnavailable(
            f"there is no Docker context {name!r}",
            hint="`docker context ls` lists them; `docker context use` picks one",
        )
    try:
        told = meta["Endpoints"]["docker"]
        address, verify = str(told["Host"]), not told.get("SkipTLSVerify", False)
    except (KeyError, TypeError, AttributeError) as error:
        raise EngineUnavailable(f"the Docker context {name!r} names no daemon", hint="make it anew") from error
    certificates = folder / "contexts" / "tls" / place / "docker"
    return _usable(
        Endpoint(
            address=address,
            named_by=f"context {name}",
            context=name,
            certificates=certificates if certificates.is_dir() else None,
            verify=verify,
        )
    )


@contextmanager
def connected(endpoint: Endpoint, *, patience: float | None = None, during: str = "") -> Iterator[DockerClient]:
    """A client of this daemon, which has answered once; it waits ``patience`` seconds for each answer.

    Raises EngineUnavailable, for docker-py's errors in the block too; ``during`` says what the block does.
    """
    import docker  # noqa: PLC0415 (slow to import)

    with docker_words.translated(str(endpoint)):
        client = docker.DockerClient(
            base_url=endpoint.address, tls=_tls(endpoint) or False, timeout=int(patience or PATIENCE)
        )
    with closing(client), docker_words.translated(str(endpoint), during=during):
        yield client


def ask(endpoint: Endpoint, *, patience: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the daemon says of itself: its answers to /version and /info. Raises EngineUnavailable."""
    with connected(endpoint, patience=patience) as client:
        return client.version(), client.info()


def _tls(endpoint: Endpoint) -> TLSConfig | None:
    from docker.tls import TLSConfig  # noqa: PLC0415 (slow to import)
    from docker.utils import kwargs_from_env  # noqa: PLC0415

    if endpoint.context is None:
        return kwargs_from_env().get("tls")  # DOCKER_TLS_VERIFY and DOCKER_CERT_PATH
    if endpoint.certificates is None:
        return None
    files = {name: endpoint.certificates / f"{name}.pem" for name in ("ca", "cert", "key")}
    there = {name: str(path) for name, path in files.items() if path.is_file()}
    pair = (there["cert"], there["key"]) if {"cert", "key"} <= there.keys() else None
    return TLSConfig(client_cert=pair, ca_cert=there.get("ca"), verify=endpoint.verify)


def _usable(endpoint: Endpoint) -> Endpoint:
    try:
        parts = urlsplit(endpoint.address)
        whole = parts.scheme == "unix" or (parts.scheme == "tcp" and parts.hostname and parts.port)
    except ValueError:
        whole = False
    if endpoint.address.startswith("ssh://"):
        raise EngineUnavailable(
            f"{endpoint.named_by} names {endpoint.address}; Docker over ssh:// is not supported",
            hint="bring its socket here with `ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock HOST`, and set "
            "DOCKER_HOST=unix:///tmp/docker.sock",
        )
    if not whole:
        raise EngineUnavailable(
            f"{endpoint.named_by} names {endpoint.address}, which is no Docker daemon's address",
            hint=f"name one {_ADDRESSES}, or unset it",
        )
    return endpoint


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is no such file."""
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("no object")
        return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not Docker's JSON"
        raise EngineUnavailable(f"cannot read Docker's {path}: {reason}", hint="repair the file") from error
