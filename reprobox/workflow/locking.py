"""lock: Project -> reprobox.lock and the lock files beside it; what nobody asked to move stays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reprobox import config, determinism, files, lockfile, tree
from reprobox.console import Console
from reprobox.lockfile import LOCK_FILE, Misfit
from reprobox.model import (
    Digest,
    Lock,
    LockedFile,
    Project,
)
from reprobox.workflow.turns import OWN_CHECKOUT, at_work

if TYPE_CHECKING:
    from reprobox.resolvers.python import Upgrade


@dataclass(frozen=True, kw_only=True)
class Locked:
    """What `lock` did: the lock, and the files that it wrote (none: it fitted already)."""

    lock: Lock
    written: tuple[str, ...]

    @property
    def digest(self) -> Digest:
        return lockfile.digest(self.lock)


def lock(root: Path, *, upgrade: Upgrade, console: Console) -> Locked:
    """Resolve every input and write the lock files; what nobody asked to move stays where it is.

    Raises ReproboxError, with the old lock as it was.
    """
    from reprobox.resolvers import base, python  # noqa: PLC0415 (slow to import)

    project = config.load(root)
    with at_work(root, console):
        old = lockfile.read(root) if _is_there(root / LOCK_FILE) else None
        data = _smoke_inputs(project)
        inputs = python.read_inputs(project)
        if old and upgrade.nothing and not lockfile.misfits(old, project, inputs=inputs):
            return Locked(lock=old, written=())
        files.require_writable(root, hint=OWN_CHECKOUT)
        # the packages first: they are the quicker to say no
        environment = python.resolve(
            project,
            previous=_previous(root, old),
            upgrade=upgrade,
            console=console,
            uv=old.uv if old and not upgrade.all else None,
        )
        locked_base, interpreter = base.resolve(project, console=console, previous=old, again=upgrade.all)
        new = Lock(
            wants=project.wants,
            inputs=environment.inputs,
            data=data,
            base=locked_base,
            interpreter=interpreter,
            uv=environment.uv,
            natives=tuple(LockedFile(name=n, digest=Digest.of(c)) for n, c in sorted(environment.natives.items())),
            own_package=environment.own_package,
            variables=determinism.variables(
                project.determinism,
                packages=environment.versions,
                platform=project.platforms[0],
                cpus=project.smoke.cpus if project.smoke else 1,
                env=project.env,
                epoch=project.epoch,
            ),
            epoch=project.epoch,
            indexes=environment.indexes,
            find_links=environment.find_links,
        )
        whole = {**environment.natives, LOCK_FILE: lockfile.dumps(new)}
        changed = {name: data for name, data in whole.items() if not _holds(root / name, data)}
        files.write_together(root, changed)
        for file in old.natives if old else ():
            if file.name in config.OWN_FILES and file.name not in whole:
                (root / file.name).unlink(missing_ok=True)
        return Locked(lock=new, written=tuple(changed))


def _is_there(path: Path) -> bool:
    """Whether there is something to read, be it unreadable: an old lock that cannot be read is never replaced."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def check(root: Path) -> tuple[Misfit, ...]:
    """Why the lock no longer fits the project: offline, without a solver. Empty: it fits."""
    project = config.load(root)
    return misfits(project, lockfile.read(root))


def misfits(project: Project, lock: Lock) -> tuple[Misfit, ...]:
    from reprobox.resolvers import python  # noqa: PLC0415 (slow to import)

    return lockfile.misfits(lock, project, inputs=python.read_inputs(project))


def _previous(root: Path, old: Lock | None) -> dict[str, bytes]:
    """The lock files in the ecosystem's own formats, as they are now."""
    names = [file.name for file in old.natives] if old else []
    return {name: (root / name).read_bytes() for name in names if (root / name).is_file()}


def _smoke_inputs(project: Project) -> tuple[LockedFile, ...]:
    paths = project.smoke.inputs if project.smoke else ()
    found = tree.digests(project.root, paths)
    return tuple(LockedFile(name=str(path), digest=digest) for path, digest in sorted(found.items()))


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data
