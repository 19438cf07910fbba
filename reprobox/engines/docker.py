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
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from reprobox import proc
from reprobox.console import Console
from reprobox.engines import Listener, Secrets, Supplies
from reprobox.engines.docker_look import CannotLook, image_id
from reprobox.engines.staging import OUTPUT_LIMIT, lay_out, take_out
from reprobox.errors import BuildFailed, EngineUnavailable, InvalidInput, OutputRefused, ProgramFailed
from reprobox.model import HOME_FOLDER, USER_ID, WORK_FOLDER, Completed, Context, Digest, Image, Job, OutputFile
from reprobox.resolvers.indexes import redact

if TYPE_CHECKING:
    from docker import DockerClient

HOST_NAME = "reprobox"
LABEL = "io.github.reprobox.run"

_BUILD_ENV = "REPROBOX_BUILD_ENV"
_EXCERPT = re.compile(r"\s*\d+ \| |Dockerfile:\d+$|-+$")
_SHARED_MEMORY = "1g"
_PROCESSES = 4096
_NOT_STARTED = b"[FATAL tini"
"""How Docker's init begins to say that it could not execute the command (tini, src/tini.c)."""
_FOREVER = 10**8
"""Seconds."""
_INSTALL = "install Docker 23 or newer with its buildx plugin, or start its daemon"
_LINK = 1 << 27
"""Go's os.ModeSymlink, as Docker's path stat carries it (Go, io/fs: ModeSymlink)."""
_FOLDER = 1 << 31
"""Go's os.ModeDir."""


class Docker:
    """The engine port on a Docker daemon."""

    name = "docker"

    def probe(self) -> str:
        client = self._client()
        with _translated():
            version = client.version()
        try:
            proc.run(["docker", "buildx", "version"], hint=_INSTALL)
        except ProgramFailed as error:
            raise EngineUnavailable(
                "Docker has no buildx, and so no BuildKit",
                hint="install the docker-buildx plugin (package docker-buildx or docker-buildx-plugin)",
            ) from error
        return f"Docker {version['Version']}"

    def holds(self, image: Image) -> bool:
        with contextlib.suppress(CannotLook):
            address = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
            return image_id(image.reference, address=address) == image.handle
        from docker.errors import ImageNotFound  # noqa: PLC0415 (slow to import)

        client = self._client()
        with _translated():
            try:
                return bool(client.images.get(image.reference).id == image.handle)
            except ImageNotFound:
                return False

    def build(self, context: Context, *, reference: str, supplies: Supplies, console: Console) -> Image:
        self.probe()
        lay_out(context, supplies.staging)
        supplies.check()
        metadata = supplies.staging / "metadata.json"
        command = [
            "docker", "buildx", "build", "--progress=plain", "--provenance=false", "--sbom=false",
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

            def hear(line: str) -> None:
                said.append(line)
                step.say(redact(line))

            try:
                proc.run(command, env=_environment(supplies.secrets, context.epoch), on_line=hear, hint=_INSTALL)
            except ProgramFailed as error:
                raise BuildFailed(f"Docker could not build the image:\n{_reason(said)}") from error
        facts = json.loads(metadata.read_text(encoding="utf-8"))
        with _translated():
            handle = str(self._client().images.get(reference).id)
        digest = Digest.parse(facts["containerimage.config.digest"])
        return Image(engine=self.name, reference=reference, handle=handle, digest=digest)

    def run(self, image: Image, job: Job, *, into: Path, listen: Listener) -> tuple[Completed, tuple[OutputFile, ...]]:
        client = self._client(patience=(job.timeout or _FOREVER) + 60)
        name = f"reprobox-{uuid.uuid4().hex[:12]}"
        with proc.guardian(["docker", "rm", "--force", "--volumes", name]), _translated():
            if job.cpus is not None and job.cpus > (available := int(client.info()["NCPU"])):
                raise InvalidInput(
                    f"the experiment wants {job.cpus} CPUs and this engine has {available}",
                    hint="lower `smoke.cpus` in reprobox.yaml, or run it on a larger machine",
                )
            client.api.create_container(name=name, image=image.handle, **_sealed(client, job))
            completed = _follow(client, name, job, listen)
            outputs: list[OutputFile] = []
            if completed.exit_code == 0 and completed.reason is None:
                for path in job.outputs:
                    room = OUTPUT_LIMIT - sum(output.size for output in outputs)
                    outputs += _fetch(client, name, path, into, room)
        return completed, tuple(sorted(outputs, key=lambda output: output.path))

    def _client(self, *, patience: float = 60) -> DockerClient:
        """A client that waits ``patience`` seconds for an answer, or for the next word of a running command."""
        import docker  # noqa: PLC0415 (slow to import)

        with _translated():
            return docker.from_env(timeout=int(patience))


def _sealed(client: DockerClient, job: Job) -> dict[str, Any]:
    """The container that DESIGN.md's journey of one output demands: only /work, HOME and /tmp can be written."""
    from docker.types import Mount  # noqa: PLC0415 (slow to import)

    temporary = "rw,exec,nosuid,nodev"
    return {
        "command": list(job.command),
        "hostname": HOST_NAME,
        "working_dir": str(WORK_FOLDER),
        "environment": dict(job.env),
        "volumes": [str(WORK_FOLDER)],
        "labels": {LABEL: "1"},
        "host_config": client.api.create_host_config(
            network_mode="none",
            read_only=True,
            init=True,  # as process 1 the command would be deaf to signals that it sends itself
            tmpfs={
                "/tmp": f"{temporary},mode=1777",  # noqa: S108 (inside the container)
                "/var/tmp": f"{temporary},mode=1777",  # noqa: S108
                str(HOME_FOLDER): f"{temporary},mode=0700,uid={USER_ID},gid={USER_ID}",
            },
            mounts=[Mount(str(m.target), str(m.source), type="bind", read_only=True) for m in job.mounts],
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            pids_limit=_PROCESSES,
            shm_size=_SHARED_MEMORY,
            cpuset_cpus=f"0-{job.cpus - 1}" if job.cpus else None,
            mem_limit=job.memory,
            memswap_limit=job.memory,
        ),
    }


def _follow(client: DockerClient, name: str, job: Job, listen: Listener) -> Completed:
    """Start the container, hand on what it says, and stop it when its time is over."""
    stream = client.api.attach(name, stdout=True, stderr=True, stream=True, demux=True)
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
        for stdout, stderr in stream:
            complaint = complaint or stderr or b""
            if stdout:
                listen("stdout", stdout)
            if stderr:
                listen("stderr", stderr)
        code = int(client.api.wait(name)["StatusCode"])
    finally:
        stream.close()
        if timer:
            timer.cancel()
    seconds = time.monotonic() - started
    reason = None
    if late.is_set():
        reason = f"stopped after {job.timeout:g} s, its time-out"
    elif code in {126, 127} and complaint.startswith(_NOT_STARTED):
        reason = f"not started: the image has no program {job.command[0]}, or it cannot be executed"
    elif client.api.inspect_container(name)["State"]["OOMKilled"]:
        reason = f"killed: it needed more than {(job.memory or 0) >> 20} MiB of memory"
    return Completed(exit_code=code, seconds=seconds, reason=reason)


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


def _reason(lines: Iterable[str]) -> str:
    """The end of what BuildKit said, without its excerpts of the Dockerfile and without credentials."""
    told = [line for line in lines if line.strip() and not _EXCERPT.match(line)]
    return redact("\n".join(told[-proc.TAIL_LINES :]))


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Docker's own errors in our words."""
    import requests  # noqa: PLC0415 (slow to import)
    from docker.errors import APIError, DockerException  # noqa: PLC0415 (slow to import)

    try:
        yield
    except APIError as error:
        raise EngineUnavailable(f"Docker refused: {error.explanation or error}") from error
    except (DockerException, requests.exceptions.RequestException) as error:
        text = str(error)
        if "Permission denied" in text:
            raise EngineUnavailable(
                "Docker's socket may not be used by this user", hint="join the group `docker`, or use rootless Docker"
            ) from error
        if "No such file" in text or "Connection refused" in text:
            raise EngineUnavailable("no Docker daemon answers", hint=_INSTALL) from error
        raise EngineUnavailable(f"Docker stopped answering: {text}", hint="is its daemon still running?") from error
