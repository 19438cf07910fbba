"""Image, smoke -> Run: one sealed run of the experiment, with its outputs taken out and its words kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from reprobox.engines import Engine
from reprobox.errors import HashMismatch, InvalidInput
from reprobox.files import explain
from reprobox.model import WORK_FOLDER, Digest, Image, Job, Lock, Mount, Project, ProjectTree, Run, Smoke

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
    for path in smoke_of(project).inputs if project.smoke else ():
        if path in inside:
            continue
        source = project.root / path
        digest = Digest.of_file(source)
        if digest != locked.get(str(path)):
            raise HashMismatch(
                f"smoke input {path} is not what the lock names: expected {locked.get(str(path))}, got {digest}",
                hint="restore the file, or run `reprobox lock` if the change is meant",
            )
        found.append(Mount(source=source, target=WORK_FOLDER / path))
    return tuple(found)


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
    shutil.rmtree(into, ignore_errors=True)
    try:
        into.mkdir(parents=True)
        log = (into / "log.txt").open("xb")
    except OSError as error:
        raise explain(error, f"cannot keep a run in {into}") from error
    with log:

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
        log=Path(log.name),
        reason=completed.reason,
    )
