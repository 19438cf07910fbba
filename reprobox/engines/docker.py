"""Docker: `docker buildx` builds (docker-py cannot drive BuildKit), docker-py does the rest."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from reprobox import proc
from reprobox.console import Console
from reprobox.credentials import redact
from reprobox.engines import Listener, Machine, Secrets, Supplies, buildkit_progress, docker_context
from reprobox.engines.docker_container import archive, bindable, cpus_for, sealed
from reprobox.engines.docker_context import Endpoint
from reprobox.engines.docker_look import CannotLook, image_id
from reprobox.engines.docker_words import (
    FOREIGN,
    INSTALL,
    INSTALL_BUILDX,
    NO_BUILDX,
    NOT_STARTED,
    build_failure,
    too_old,
)
from reprobox.engines.staging import OUTPUT_LIMIT, lay_out, take_out
from reprobox.errors import BuildFailed, EngineUnavailable, OutputRefused, ProgramFailed
from reprobox.model import WORK_FOLDER, Completed, Context, Digest, Image, Job, OutputFile

if TYPE_CHECKING:
    from docker import DockerClient

_BUILD_ENV = "REPROBOX_BUILD_ENV"
_FOREVER = 10**8
"""Seconds."""
_MINIMUM_API = (1, 42)
"""The API of Docker 23 (docs.docker.com, Engine API version matrix)."""
_LINK = 1 << 27
"""Go's os.ModeSymlink, as Docker's path stat carries it (Go, io/fs: ModeSymlink)."""
_FOLDER = 1 << 31
"""Go's os.ModeDir."""

Frame = tuple[bytes | None, bytes | None]
"""What a command wrote to stdout and to stderr."""


class Docker:
    """The engine port on a Docker daemon: the one that Docker's own client would use."""

    name = "docker"

    @cached_property
    def _endpoint(self) -> Endpoint:
        return docker_context.active()

    def probe(self) -> str:
        with self._connected() as client:
            version = client.version()
        require_usable(version)
        try:
            proc.run([*self._endpoint.command, "buildx", "version"], hint=INSTALL)
        except ProgramFailed as error:
            raise EngineUnavailable(NO_BUILDX, hint=INSTALL_BUILDX) from error
        return f"Docker {version['Version']}"

    def machine(self) -> Machine:
        with self._connected() as client:
            info = client.info()
        names = ("ID", "Name", "KernelVersion", "NCPU", "MemTotal", "ServerVersion")
        return Machine(
            engine=f"Docker {info['ServerVersion']}", identity=" ".join(str(info.get(name)) for name in names)
        )

    def holds(self, image: Image) -> bool:
        with contextlib.suppress(CannotLook):
            return image_id(image.reference, address=self._endpoint.address) == image.handle
        from docker.errors import ImageNotFound  # noqa: PLC0415 (slow to import)

        with self._connected() as client:
            try:
                return bool(client.images.get(image.reference).id == image.handle)
            except ImageNotFound:
                return False

    def build(self, context: Context, *, reference: str, supplies: Supplies, console: Console) -> Image:
        lay_out(context, supplies.staging)
        supplies.check()
        metadata = supplies.staging / "metadata.json"
        command = [
            *self._endpoint.command,
            "buildx", "build", "--progress=plain", "--provenance=false", "--sbom=false",
            f"--platform={context.platform.value.split('-')[0]}/{context.platform.oci_architecture}",
            f"--build-arg=SOURCE_DATE_EPOCH={context.epoch}",
            f"--file={supplies.staging / 'Dockerfile'}",
            f"--metadata-file={metadata}",
            # uncompressed: the config digest is the same, and neither side has to compress and unpack
            f"--output=type=docker,name={reference},compression=uncompressed",
            *(f"--label={name}={value}" for name, value in sorted(context.labels.items())),
            *_secret_options(supplies.secrets),
            *([f"--build-context=wheels={supplies.wheels}"] if supplies.wheels else []),
            str(supplies.staging / "context"),
        ]  # fmt: skip
        said: deque[str] = deque(maxlen=500)
        with console.step("Building the image with Docker") as step:
            follow = buildkit_progress.follow(step)

            def hear(line: str) -> None:
                said.append(line)
                follow(redact(line))

            try:
                proc.run(command, env=_environment(supplies.secrets, context.epoch), on_line=hear, hint=INSTALL)
            except ProgramFailed as error:
                raise build_failure(said, where=str(self._endpoint), data_root=self._data_root) from error
        facts = json.loads(metadata.read_text(encoding="utf-8"))
        digest = Digest.parse(facts["containerimage.config.digest"])
        return Image(engine=self.name, reference=reference, handle=self._handle(reference), digest=digest)

    def run(self, image: Image, job: Job, *, into: Path, listen: Listener) -> tuple[Completed, tuple[OutputFile, ...]]:
        name = f"reprobox-{uuid.uuid4().hex[:12]}"
        removal = [*self._endpoint.command, "rm", "--force", "--volumes", name]
        with self._connected(during="while the command ran") as client, proc.guardian(removal, hint=INSTALL):
            info = client.info()
            binds = [mount for mount in job.mounts if bindable(mount, info, here=self._endpoint.is_here(info))]
            copied = [mount for mount in job.mounts if mount not in binds]
            with cpus_for(client, job.cpus, available=int(info["NCPU"])) as cpus:
                container = sealed(client, job, binds=binds, cpus=cpus)
                client.api.create_container(name=name, image=image.handle, **container)
            if job.mounts:
                client.api.put_archive(name, str(WORK_FOLDER), archive(job.mounts, copied))
            completed = _follow(client, name, job, listen)
            outputs: list[OutputFile] = []
            if completed.exit_code == 0 and completed.reason is None:
                for path in job.outputs:
                    room = OUTPUT_LIMIT - sum(output.size for output in outputs)
                    outputs += _fetch(client, name, path, into, room)
        return completed, tuple(sorted(outputs, key=lambda output: output.path))

    def _connected(self, *, during: str = "") -> AbstractContextManager[DockerClient]:
        return docker_context.connected(self._endpoint, during=during)

    def _handle(self, reference: str) -> str:
        from docker.errors import ImageNotFound  # noqa: PLC0415 (slow to import)

        with self._connected() as client:
            try:
                return str(client.images.get(reference).id)
            except ImageNotFound as error:
                raise BuildFailed(
                    f"buildx built the image, but not in the Docker daemon at {self._endpoint}",
                    hint="buildx's active builder belongs to another daemon: `docker buildx use default`, "
                    "and unset BUILDX_BUILDER",
                ) from error

    def _data_root(self) -> str:
        with self._connected() as client:
            return str(client.info()["DockerRootDir"])


def require_usable(version: Mapping[str, Any]) -> None:
    """Docker's answer to /version -> nothing. Raises EngineUnavailable for a Docker too old, or for Podman."""
    names = [str(component.get("Name", "")) for component in version.get("Components") or ()]
    if any("podman" in name.lower() for name in names):
        raise EngineUnavailable(
            f"Podman {version['Version']} answers in Docker's place, and it has no BuildKit",
            hint="start Docker 23 or newer (rootless will do), or point DOCKER_HOST at one",
        )
    api = tuple(int(number) for number in re.findall(r"\d+", str(version["ApiVersion"]))[:2])
    if api < _MINIMUM_API:
        raise too_old(str(version["Version"]))


def _follow(client: DockerClient, name: str, job: Job, listen: Listener) -> Completed:
    """Start the container, hand on what it says, and stop it when its time is over."""
    patience = int(job.timeout or _FOREVER) + 60
    client.api.timeout, short = patience, client.api.timeout  # for the next word of a command that may be silent
    stream = client.api.attach(name, stdout=True, stderr=True, stream=True, demux=True)
    client.api.timeout = short
    late = threading.Event()

    def stop() -> None:
        late.set()
        with contextlib.suppress(Exception):
            client.api.kill(name)

    started = time.monotonic()
    client.api.start(name)
    timer = threading.Timer(job.timeout, stop) if job.timeout else None
    if timer:
        timer.daemon = True
        timer.start()
    complaint = b""
    try:
        for stdout, stderr in _as_they_come(stream):
            complaint = complaint or stderr or b""
            if stdout:
                listen("stdout", stdout)
            if stderr:
                listen("stderr", stderr)
        code = int(client.api.wait(name, timeout=patience)["StatusCode"])
    finally:
        stream.close()
        if timer:
            timer.cancel()
    seconds = time.monotonic() - started
    reason = None
    if late.is_set():
        reason = f"stopped after {job.timeout:g} s, its time-out"
    elif code in {126, 127} and complaint.startswith(NOT_STARTED):
        reason = f"not started: the image has no program {job.command[0]}, or it cannot be executed"
        if FOREIGN in complaint:
            reason = "not started: the image is for another kind of CPU, and this machine has no qemu-user for it"
    elif client.api.inspect_container(name)["State"]["OOMKilled"]:
        reason = f"killed: it needed more than {(job.memory or 0) >> 20} MiB of memory"
    return Completed(exit_code=code, seconds=seconds, reason=reason)


def _as_they_come(stream: Iterable[Frame]) -> Iterator[Frame]:
    """The stream, with a connection that breaks in it told from what its listener raises."""
    import requests  # noqa: PLC0415 (slow to import)

    try:
        yield from stream
    except OSError as error:
        raise requests.exceptions.ConnectionError(str(error)) from error


def _fetch(client: DockerClient, name: str, path: PurePosixPath, into: Path, room: int) -> list[OutputFile]:
    """One declared output, or nothing where it is absent. No folder on the way to it may be a link."""
    from docker.errors import NotFound  # noqa: PLC0415 (slow to import)

    try:
        for folder in reversed(path.parents[:-1]):
            chunks, stat = client.api.get_archive(name, str(WORK_FOLDER / folder))
            chunks.close()
            if not stat["mode"] & _FOLDER:
                raise OutputRefused(
                    f"output {path}: {folder} is {'a link' if stat['mode'] & _LINK else 'not a folder'}",
                    hint="let the command write plain files into plain folders",
                )
        chunks, _ = client.api.get_archive(name, str(WORK_FOLDER / path))
    except NotFound:
        return []
    with contextlib.closing(chunks):  # an open answer would keep the container from being removed
        return take_out(path, chunks, into, limit=room)


def _secret_options(secrets: Secrets) -> Iterator[str]:
    if secrets.ca:
        source = str(secrets.ca).replace('"', '""')
        yield f'--secret=id=ca,"src={source}"'
    if secrets.env:
        yield f"--secret=id=env,env={_BUILD_ENV}"


def _environment(secrets: Secrets, epoch: int) -> dict[str, str]:
    """buildx's own environment; what is secret is handed on in a variable, so that no file of it can be left behind."""
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in sorted(secrets.env.items())]
    return {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), _BUILD_ENV: "".join(lines)}
