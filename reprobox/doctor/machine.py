"""The machine: processor, clock, disks, user namespaces, Apptainer -> diagnoses."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reprobox import cache, hardware, proc
from reprobox.console import size
from reprobox.doctor.diagnosis import Diagnosis, absent, ok, problem, warning
from reprobox.errors import ProgramMissing
from reprobox.model import Platform
from reprobox.resolvers import debian

_CPUINFO = Path("/proc/cpuinfo")
_GIB = 1 << 30
_ENOUGH = 5 * _GIB
_TOO_LITTLE = 1 * _GIB
_YEAR_2020 = 1577836800
_PATIENCE = 5.0


# --- processor, clock -------------------------------------------------------------------------


def processor() -> Iterator[Diagnosis]:
    yield ok("Python", f"{sys.version.split()[0]} ({sys.executable})")
    yield judge_clock(time.time())
    machine = os.uname().machine
    platform = next((one for one in Platform if one.machine == machine), None)
    if platform is None:
        known = " and ".join(one.machine for one in Platform)
        yield problem("Processor", f"{machine}, for which no image can be built", f"use a machine of {known}")
        return
    cpu = hardware.read_cpu(_CPUINFO.read_text(encoding="utf-8", errors="replace"))
    if platform is not Platform.LINUX_64:
        yield ok("Processor", cpu.name)
    elif lacking := hardware.portable_lacks(cpu):
        yield warning(
            "Processor",
            f"{cpu.name} lacks {', '.join(lacking)}, which `determinism: portable` needs",
            "use `determinism: pinned` here",
        )
    else:
        yield ok("Processor", f"{cpu.name}; fits `determinism: portable`")


def judge_clock(now: float) -> Diagnosis:
    """``now``: seconds since 1970."""
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    if now < _YEAR_2020:
        return problem("Clock", f"{shown}: certificates seem not yet valid", "set the clock (timedatectl set-ntp true)")
    return ok("Clock", shown)


# --- disks ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Space:
    """Room on the file system of a folder, in bytes; ``free`` None: it could not be asked, with the reason."""

    path: str
    free: int | None
    reason: str = ""
    writable: bool = True


def read_space(folder: Path) -> Space:
    """The room where ``folder`` is, or will be."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        return Space(path=str(folder), free=shutil.disk_usage(there).free, writable=os.access(there, os.W_OK))
    except OSError as error:
        return Space(path=str(folder), free=None, reason=error.strerror or str(error))


def judge_space(subject: str, found: Space, *, used: str = "", written: bool = False) -> Diagnosis:
    """Warns below 5 GiB; below 1 GiB nothing can be built. ``written``: reprobox itself writes there."""
    if found.free is None:
        return warning(subject, f"{found.path}: {found.reason}", "see that the folder can be read")
    if written and not found.writable:
        return problem(subject, f"{found.path} cannot be written by this user", "correct its owner or mode")
    fact = f"{size(found.free)} free in {found.path}{used}"
    if found.free < _TOO_LITTLE:
        return problem(subject, fact, "free some: below 1 GiB builds fail")
    if found.free < _ENOUGH:
        return warning(subject, fact, "free some: an image with its caches takes several GiB")
    return ok(subject, fact)


def disks(root: Path) -> Iterator[Diagnosis]:
    held = sum(path.stat().st_size for path in (cache.folder() / "sha256").rglob("*") if path.is_file())
    yield judge_space("Cache", read_space(cache.folder()), used=f" ({size(held)} used)", written=True)
    yield judge_space("Project's disk", read_space(root))
    yield judge_space("Temporary files", read_space(Path(tempfile.gettempdir())), written=True)


# --- user namespaces --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Namespaces:
    """What the kernel and the system's files allow this user; None: the kernel has no such switch."""

    root: bool
    user: str
    clone: str | None = None
    most: str | None = None
    apparmor: str | None = None
    without_ids: tuple[str, ...] = ()
    newuidmap: bool = True


def namespaces() -> Iterator[Diagnosis]:
    def switch(path: str) -> str | None:
        try:
            return (Path("/proc/sys") / path).read_text(encoding="utf-8").strip()
        except OSError:
            return None

    yield judge_namespaces(
        Namespaces(
            root=os.geteuid() == 0,
            user=debian.user_name() or str(os.geteuid()),
            clone=switch("kernel/unprivileged_userns_clone"),
            most=switch("user/max_user_namespaces"),
            apparmor=switch("kernel/apparmor_restrict_unprivileged_userns"),
            without_ids=debian.files_without_ids(),
            newuidmap=shutil.which("newuidmap") is not None,
        )
    )


def judge_namespaces(found: Namespaces) -> Diagnosis:
    """Bootstrapped bases, rootless Docker and Apptainer want them; root does not."""
    subject = "User namespaces"
    if found.root:
        return ok(subject, "not needed: this is root")
    if "0" in (found.most, found.clone):
        switch = "user.max_user_namespaces=15000" if found.most == "0" else "kernel.unprivileged_userns_clone=1"
        return warning(subject, "only root may make them", f"as root: sysctl {switch}")
    if found.without_ids:
        files = " and ".join(found.without_ids)
        return warning(
            subject,
            f"{found.user} has no ids of their own in {files}",
            f"{debian.ADD_IDS} {found.user}",
        )
    if not found.newuidmap:
        return warning(subject, "newuidmap is not installed", "apt-get install uidmap, or the package of your system")
    if found.apparmor == "1":
        return warning(
            subject,
            "AppArmor restricts them to programs with a profile",
            "as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or give the program a profile",
        )
    return ok(subject, f"{found.user} may make them, with ids of their own")


# --- Apptainer --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ApptainerFacts:
    """``said`` is what its --version says; ``squashfs`` the first line of mksquashfs's."""

    said: str | None
    setuid: bool = False
    fuse: bool = False
    squashfuse: bool = False
    squashfs: str | None = None


def apptainer() -> Iterator[Diagnosis]:
    def ask(*words: str) -> str | None:
        try:
            done = proc.run(words, check=False, timeout=_PATIENCE)
        except ProgramMissing:
            return None
        return (done.stdout + done.stderr).decode("utf-8", "replace")

    program = next((name for name in ("apptainer", "singularity") if shutil.which(name)), None)
    if program is None:
        yield from judge_apptainer(ApptainerFacts(said=None))
        return
    where = re.search(r"^LIBEXECDIR=(.+)$", ask(program, "buildcfg") or "", re.MULTILINE)
    starter = Path(where[1]) / program / "bin" / "starter-suid" if where else None
    yield from judge_apptainer(
        ApptainerFacts(
            said=ask(program, "--version"),
            setuid=bool(starter and starter.exists()),
            fuse=os.access("/dev/fuse", os.R_OK | os.W_OK),
            squashfuse=any(shutil.which(name) for name in ("squashfuse_ll", "squashfuse")),
            squashfs=ask("mksquashfs", "-version"),
        )
    )


def judge_apptainer(found: ApptainerFacts) -> Iterator[Diagnosis]:
    if not found.said:
        yield absent("Apptainer", "not installed (optional)", "only for .sif images: install Apptainer 1.5 or newer")
        return
    told = re.search(r"(\d+)\.(\d+)\S*", found.said)
    name = "Apptainer" if "apptainer" in found.said.lower() else "Singularity"
    version = told[0] if told else found.said.strip()
    how = "setuid" if found.setuid else "user namespaces"
    if name == "Apptainer" and told and (int(told[1]), int(told[2])) >= (1, 5):
        yield ok("Apptainer", f"{version}, {how}")
    else:
        yield ok("Apptainer", f"{name} {version}, {how}; its .sif files differ in time stamps (from 1.5 on not)")
    if not found.setuid and not (found.fuse and found.squashfuse):
        lacking = "/dev/fuse cannot be used" if not found.fuse else "squashfuse is not installed"
        yield warning(
            "Mounting .sif", lacking, "install squashfuse and fuse: without them images are unpacked at each start"
        )
    if found.squashfs:
        shown = re.search(r"version (\S+)", found.squashfs)
        yield ok("mksquashfs", shown[1] if shown else found.squashfs.splitlines()[0])
    else:
        yield absent("mksquashfs", "not installed (optional)", "only for .sif images: install squashfs-tools")
