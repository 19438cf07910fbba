"""Docker: its client, its daemon, its builder -> diagnoses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprobox import proc
from reprobox.doctor.diagnosis import Diagnosis, ok, problem, warning
from reprobox.doctor.machine import judge_space, read_space
from reprobox.engines import docker_context
from reprobox.engines.docker import require_usable
from reprobox.engines.docker_words import GONE, INSTALL, INSTALL_BUILDX, NO_BUILDX
from reprobox.errors import ProgramMissing, ReproboxError

PATIENCE = 5.0
"""Seconds for each answer of a program or of the daemon."""

_OTHER_BUILDER = "look at `docker buildx ls`; `docker buildx use default` goes back to the daemon's own builder"


def client() -> Iterator[Diagnosis]:
    try:
        said: str | None = proc.run(["docker", "--version"], check=False, timeout=PATIENCE).text
    except ProgramMissing:
        said = None
    yield judge_client(said)


def judge_client(said: str | None) -> Diagnosis:
    """What `docker --version` said; None: there is no such program."""
    if said is None:
        return problem("Docker client", "not installed", INSTALL)
    if "podman" in said.lower():
        return problem(
            "Docker client",
            f"`docker` is Podman's stand-in ({said.strip()}), which has no BuildKit",
            "install Docker's own client with its buildx plugin, ahead of Podman's in PATH",
        )
    found = re.search(r"version (\S+?),", said)
    return ok("Docker client", found[1] if found else said.strip())


def daemon() -> Iterator[Diagnosis]:
    try:
        endpoint = docker_context.active()
        version, info = docker_context.ask(endpoint, patience=PATIENCE)
        require_usable(version)
    except ReproboxError as error:
        yield problem("Docker daemon", error.message, error.hint or INSTALL)
        return
    yield ok("Docker daemon", f"{version['Version']} (API {version['ApiVersion']}) at {endpoint}")
    yield from judge_daemon(info, local=endpoint.is_here(info))
    root = Path(str(info.get("DockerRootDir", "/")))
    if endpoint.is_here(info) and root.is_dir():
        yield judge_space("Docker's data", read_space(root))


def judge_daemon(info: Mapping[str, Any], *, local: bool) -> Iterator[Diagnosis]:
    """The daemon's /info -> what it can give a run."""
    rootless = "name=rootless" in (info.get("SecurityOptions") or ())
    containerd = "io.containerd.snapshotter.v1" in str(info.get("DriverStatus"))
    words = [
        "rootless" if rootless else "as root",
        "on this machine" if local else "on another machine: large inputs are copied there for each run",
        f"{info.get('Driver')}, {'containerd' if containerd else 'classic'} image store",
        f"cgroup v{info.get('CgroupVersion', '1')}",
    ]
    yield ok("Docker's kind", "; ".join(words))
    memory = int(info.get("MemTotal", 0)) / (1 << 30)
    yield ok("Docker's room", f"{info.get('NCPU')} CPUs, {memory:.1f} GiB of memory")
    lacking = [
        word for key, word in (("MemoryLimit", "memory"), ("CPUSet", "CPUs"), ("PidsLimit", "processes"))
        if not info.get(key)
    ]  # fmt: skip
    if lacking:
        how = (
            "hand the controllers cpu, cpuset, memory and pids down to the user's slice (systemd: Delegate=)"
            if rootless
            else "enable the cgroup controllers cpu, cpuset, memory and pids in the kernel's command line"
        )
        yield warning("Docker's limits", f"a run's {' and '.join(lacking)} cannot be limited here", how)


@dataclass(frozen=True, kw_only=True)
class Builder:
    """The part of `docker buildx inspect` that matters here."""

    name: str
    driver: str
    endpoint: str = ""
    status: str = ""
    buildkit: str = ""
    error: str = ""


def builder() -> Iterator[Diagnosis]:
    try:
        plugin = proc.run(["docker", "buildx", "version"], check=False, timeout=PATIENCE)
    except ProgramMissing:
        return  # the client's finding says it
    yield judge_buildx(plugin.code, plugin.text)
    if plugin.code:
        return
    try:
        endpoint = docker_context.active()
    except ReproboxError:
        return  # the daemon's finding says it
    try:
        said = proc.run([*endpoint.command, "buildx", "inspect"], check=False, timeout=PATIENCE)
    except ReproboxError as error:
        yield problem("Builder", error.message, error.hint or _OTHER_BUILDER)
        return
    if not GONE.search(said.text + said.tail):  # else the daemon's finding says it
        yield judge_builder(read_builder(said.text) if said.code == 0 else said.tail, endpoint.context)


def judge_buildx(code: int, said: str) -> Diagnosis:
    """What `docker buildx version` said."""
    if code:
        return problem("buildx", NO_BUILDX, INSTALL_BUILDX)
    if "buildah" in said.lower():
        return problem("buildx", f"Podman's stand-in: {said.strip()}", INSTALL_BUILDX)
    found = re.search(r"\bv?(\d+\.\S+)", said)
    return ok("buildx", found[1] if found else said.strip())


def read_builder(text: str) -> Builder:
    """The text of `docker buildx inspect` -> its first node; pure."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and not line[:1].isspace():
            fields.setdefault(key.strip().lower(), value.strip())
    return Builder(
        name=fields.get("name", ""),
        driver=fields.get("driver", ""),
        endpoint=fields.get("endpoint", ""),
        status=fields.get("status", ""),
        buildkit=fields.get("buildkit version") or fields.get("buildkit", ""),
        error=fields.get("error", ""),
    )


def judge_builder(found: Builder | str, context: str | None) -> Diagnosis:
    """The builder, or buildx's complaint; ``context``: the Docker context that is meant, None for DOCKER_HOST."""
    if isinstance(found, str):
        return problem(
            "Builder", f"buildx shows none: {(found.splitlines() or ['no reason given'])[-1]}", _OTHER_BUILDER
        )
    named = f"{found.name} (driver {found.driver})"
    if found.error or found.status in ("error", "stopping"):
        return problem("Builder", f"{named}: {found.error or found.status}", _OTHER_BUILDER)
    if found.driver == "docker" and context and found.endpoint not in ("", context):
        return problem(
            "Builder", f"{named} builds in another daemon: context {found.endpoint}, not {context}", _OTHER_BUILDER
        )
    if found.driver not in ("docker", "docker-container"):
        return warning("Builder", f"{named} hands its images over the network to the daemon", _OTHER_BUILDER)
    version = f", BuildKit {found.buildkit}" if found.buildkit and "unknown" not in found.buildkit else ""
    asleep = ", starts when it is needed" if found.status == "inactive" else ""
    return ok("Builder", named + version + asleep)
