"""What a sealed container is made of: its limits, the CPUs that it gets, the inputs that are put into it."""

from __future__ import annotations

import fcntl
import os
import stat
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from reprobox import cache
from reprobox.errors import InvalidInput
from reprobox.files import explain
from reprobox.model import DEFAULT_EPOCH, HOME_FOLDER, MEBIBYTE, USER_ID, WORK_FOLDER, Job, Mount

if TYPE_CHECKING:
    from docker import DockerClient

HOST_NAME = "reprobox"
LABEL = "io.github.reprobox.run"
CPUS_LABEL = "io.github.reprobox.cpus"

_SHARED_MEMORY = "1g"
_PROCESSES = 4096
_OPEN_FILES = 4096
"""The kernel's own default hard limit (include/uapi/linux/fs.h, INR_OPEN_MAX), which any daemon may grant."""
_TEMPORARY = 4096 * MEBIBYTE
"""Bytes in each of /tmp, /var/tmp and HOME where the job has no memory limit: else half the host's memory is shown."""
_CHUNK = MEBIBYTE


def sealed(client: DockerClient, job: Job, *, binds: Sequence[Mount], cpus: Sequence[int]) -> dict[str, Any]:
    """The container that DESIGN.md's journey of one output demands: only /work, HOME and /tmp can be written.

    What Docker would take from the host (name servers, limits, sizes) is given a value of its own.
    """
    from docker.types import LogConfig, Ulimit  # noqa: PLC0415 (slow to import)
    from docker.types import Mount as DockerMount  # noqa: PLC0415

    temporary = f"rw,exec,nosuid,nodev,size={job.memory or _TEMPORARY}"
    numbers = ",".join(map(str, cpus))
    return {
        "command": list(job.command),
        "hostname": HOST_NAME,
        "working_dir": str(WORK_FOLDER),
        "environment": dict(job.env),
        "volumes": [str(WORK_FOLDER)],
        "labels": {LABEL: "1", CPUS_LABEL: numbers},
        "host_config": client.api.create_host_config(
            log_config=LogConfig(type="none"),  # what it says is read as it comes; a second copy could fill the disk
            network_mode="none",
            dns=["127.0.0.1"],
            dns_search=["."],
            dns_opt=["ndots:1"],
            read_only=True,
            init=True,  # as process 1 the command would be deaf to signals that it sends itself
            tmpfs={
                "/tmp": f"{temporary},mode=1777",  # noqa: S108 (inside the container)
                "/var/tmp": f"{temporary},mode=1777",  # noqa: S108
                str(HOME_FOLDER): f"{temporary},mode=0700,uid={USER_ID},gid={USER_ID}",
            },
            mounts=[DockerMount(str(m.target), str(m.source), type="bind", read_only=True) for m in binds],
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            pids_limit=_PROCESSES,
            ulimits=[Ulimit(name="nofile", soft=_OPEN_FILES, hard=_OPEN_FILES), Ulimit(name="core", soft=0, hard=0)],
            shm_size=_SHARED_MEMORY,
            cpuset_cpus=numbers or None,
            mem_limit=job.memory,
            memswap_limit=job.memory,
        ),
    }


# --- CPUs -------------------------------------------------------------------------------------


@contextmanager
def cpus_for(client: DockerClient, wanted: int | None, *, available: int) -> Iterator[tuple[int, ...]]:
    """The CPUs for a container that the block creates: those that the fewest of our containers use.

    Two experiments at once then do not share a core while another idles. Raises InvalidInput where more are wanted
    than the daemon has.
    """
    if wanted is None:
        yield ()
        return
    if wanted > available:
        raise InvalidInput(
            f"the experiment wants {wanted} CPUs and this engine has {available}",
            hint="lower `smoke.cpus` in reprobox.yaml, or run it on a larger machine",
        )
    place = cache.folder() / "cpus.lock"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        turn = place.open("a")
    except OSError as error:
        raise explain(error, f"cannot write the cache in {place.parent}") from error
    with turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # the next one looks when this container can be seen
        ours = client.api.containers(all=True, filters={"label": CPUS_LABEL, "status": ["created", "running"]})
        yield least_used(wanted, available, [one["Labels"][CPUS_LABEL] for one in ours])


def least_used(wanted: int, available: int, labels: Iterable[str]) -> tuple[int, ...]:
    """``wanted`` of the CPUs 0 to ``available`` - 1, the least used first, then the lowest; pure."""
    used = Counter(int(number) for label in labels for number in label.split(",") if number.isdecimal())
    return tuple(sorted(sorted(range(available), key=lambda number: (used[number], number))[:wanted]))


# --- inputs -----------------------------------------------------------------------------------


def bindable(mount: Mount, info: Mapping[str, Any], *, here: bool) -> bool:
    """Whether the daemon (``info``) sees the same file under the same path, and any user may read it.

    Only one that is ``here`` does. SELinux denies containers what is not labelled for them.
    """
    labelled = any("selinux" in option for option in info.get("SecurityOptions") or ())
    return here and not labelled and bool(mount.source.stat().st_mode & stat.S_IROTH)


def archive(mounts: Sequence[Mount], copied: Sequence[Mount]) -> Iterator[bytes]:
    """A tar for the work folder: the folders on the way to the ``mounts`` in it, now the user's; the ``copied`` files.

    Raises InvalidInput where a file changes under our hands.
    """
    inside = [mount for mount in mounts if mount.target.is_relative_to(WORK_FOLDER)]
    targets = {mount.target.relative_to(WORK_FOLDER) for mount in inside}
    for folder in sorted({parent for target in targets for parent in target.parents} - {PurePosixPath()}):
        yield _header(folder, kind=tarfile.DIRTYPE, mode=0o755)
    for mount in copied:
        with mount.source.open("rb") as stream:
            size = left = os.fstat(stream.fileno()).st_size
            yield _header(mount.target.relative_to(WORK_FOLDER), size=size, mode=0o444)
            while left:
                chunk = stream.read(min(_CHUNK, left))
                if not chunk:
                    raise InvalidInput(
                        f"{mount.source} became shorter while it was read", hint="let it rest, run again"
                    )
                left -= len(chunk)
                yield chunk
        yield bytes(-size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(path: PurePosixPath, *, mode: int, kind: bytes = tarfile.REGTYPE, size: int = 0) -> bytes:
    entry = tarfile.TarInfo(str(path))
    entry.type, entry.mode, entry.size, entry.mtime = kind, mode, size, DEFAULT_EPOCH
    entry.uid = entry.gid = USER_ID
    return entry.tobuf(format=tarfile.PAX_FORMAT)
