"""Image, smoke -> Run: one sealed run of the experiment, with its outputs taken out and its words kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from io import FileIO
from pathlib import Path

from reprobox import tree as trees
from reprobox.engines import Engine
from reprobox.errors import HashMismatch, InvalidInput
from reprobox.files import explain, remove
from reprobox.model import MEBIBYTE, WORK_FOLDER, Image, Job, Lock, Mount, Project, ProjectTree, Run, Smoke

LOG_LIMIT = 64 * MEBIBYTE
"""Bytes of a command's words that are kept in full; of what is said beyond, the end."""
LOG_END = MEBIBYTE
"""Bytes."""

Listener = Callable[[str, bytes], None]


def smoke_of(project: Project) -> Smoke:
    """The project's experiment. Raises InvalidInput where it declares none."""
    if project.smoke is None:
        raise InvalidInput(
            f"{project.name} declares no experiment",
            hint="add `smoke:` with a command and its outputs to reprobox.yaml",
        )
    return project.smoke


def mounts(project: Project, lock: Lock, tree: ProjectTree) -> tuple[Mount, ...]:
    """The smoke inputs that are too large for the image, checked against the lock.

    Raises HashMismatch where one is not what was locked.
    """
    inside = {file.path for file in tree.files}
    locked = {file.name: file.digest for file in lock.data}
    found = []
    outside = [path for path in (project.smoke.inputs if project.smoke else ()) if path not in inside]
    for path, digest in trees.digests(project.root, outside).items():
        if digest != locked.get(str(path)):
            raise HashMismatch(
                f"smoke input {path} is not what the lock names: expected {locked.get(str(path))}, got {digest}",
                hint="restore the file, or run `reprobox lock` if the change is meant",
            )
        found.append(Mount(source=project.root / path, target=WORK_FOLDER / path))
    return tuple(found)


class _Log:
    """A command's words in a file: the first of them, and the last ones where there are too many."""

    def __init__(self, stream: FileIO) -> None:
        self._stream = stream
        self._room = LOG_LIMIT
        self._end = bytearray()
        self._left_out = 0

    def write(self, data: bytes) -> None:
        """Raises InvalidInput where the disk is full."""
        first, rest = data[: self._room], data[self._room :]
        self._room -= len(first)
        self._put(first)
        self._end += rest
        if len(self._end) > 2 * LOG_END:
            self._left_out += len(self._end) - LOG_END
            del self._end[:-LOG_END]

    def close(self) -> None:
        """Write the end. Raises InvalidInput where the disk is full."""
        with self._stream:
            if self._left_out:
                self._put(f"\n[reprobox left out {self._left_out} bytes here]\n".encode())
            self._put(self._end)

    def _put(self, data: bytes | bytearray) -> None:
        try:
            while data:
                data = data[self._stream.write(data) :]
        except OSError as error:
            raise explain(error, f"cannot keep the command's words in {self._stream.name}") from error


def run(
    engine: Engine,
    image: Image,
    smoke: Smoke,
    *,
    command: tuple[str, ...],
    inputs: tuple[Mount, ...],
    into: Path,
    listen: Listener | None = None,
) -> Run:
    """Run ``command`` once under the smoke's limits; outputs and log go to the folder ``into``, made anew."""
    remove(into)
    try:
        into.mkdir(parents=True)
        log = _Log((into / "log.txt").open("xb", buffering=0))
    except OSError as error:
        raise explain(error, f"cannot keep a run in {into}") from error
    with closing(log):

        def hear(stream: str, data: bytes) -> None:
            log.write(data)
            if listen:
                listen(stream, data)

        job = Job(
            command=command,
            outputs=tuple(output.path for output in smoke.outputs),
            mounts=inputs,
            timeout=smoke.timeout,
            cpus=smoke.cpus,
            memory=smoke.memory,
        )
        completed, outputs = engine.run(image, job, into=into / "outputs", listen=hear)
    return Run(
        command=command,
        exit_code=completed.exit_code,
        seconds=completed.seconds,
        outputs=outputs,
        log=into / "log.txt",
        reason=completed.reason,
    )
