"""Hashed packages -> a root file system's tar: mmdebstrap lends its sandbox, dpkg installs in an order decided here."""

from __future__ import annotations

import io
import itertools
import os
import re
import shlex
import tarfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from reprobox import cache, proc
from reprobox.console import Console
from reprobox.errors import BootstrapFailed, HashMismatch, InvalidInput, ProgramFailed
from reprobox.files import scratch
from reprobox.model import BootstrapBase, Digest, LockedBootstrap, Platform, SystemPackage
from reprobox.resolvers.debian import NEEDS_DEBIAN, require_native, sandbox_mode, stanzas
from reprobox.resolvers.packages import THREADS, fetch
from reprobox.resolvers.rootfs_tar import WORK, normalised

# --- the order of installation ----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Control:
    """What a .deb says about itself, as far as the order of installation depends on it."""

    name: str
    version: str
    architecture: str
    essential: bool = False
    pre_depends: tuple[tuple[str, ...], ...] = ()
    depends: tuple[tuple[str, ...], ...] = ()
    provides: tuple[str, ...] = ()


def read_control(deb: Path) -> Control:
    """Raises ProgramFailed for a file that is no .deb."""
    fields = next(stanzas(proc.run(["dpkg-deb", "--field", deb], hint=NEEDS_DEBIAN).text), {})
    return Control(
        name=fields.get("Package", ""),
        version=fields.get("Version", ""),
        architecture=fields.get("Architecture", ""),
        essential=fields.get("Essential") == "yes",
        pre_depends=_relation(fields.get("Pre-Depends", "")),
        depends=_relation(fields.get("Depends", "")),
        provides=tuple(name for names in _relation(fields.get("Provides", "")) for name in names),
    )


def _relation(text: str) -> tuple[tuple[str, ...], ...]:
    """``a (>= 1), b | c:any`` -> (("a",), ("b", "c")): names only."""
    return tuple(
        tuple(found.group() for word in clause.split("|") if (found := re.search(r"[a-z0-9][a-z0-9+.-]*", word)))
        for clause in text.split(",")
        if clause.strip()
    )


def install_order(controls: Iterable[Control]) -> tuple[tuple[str, ...], ...]:
    """Batches of names: first the essential packages with all they depend on, then the rest, each package after
    what it needs, and in a later batch than what must work before it is unpacked (Pre-Depends).

    Circles are cut at the name that comes first in the alphabet: the order depends on the packages alone. Pure.
    """
    by_name = {control.name: control for control in controls}
    providers: dict[str, list[str]] = {name: [name] for name in by_name}
    for name in sorted(by_name):
        for provided in by_name[name].provides:
            providers.setdefault(provided, []).append(name)

    def named(clauses: Iterable[tuple[str, ...]]) -> list[str]:
        return [name for clause in clauses for word in clause for name in providers.get(word, ())]

    needs = {name: named((*control.pre_depends, *control.depends)) for name, control in by_name.items()}
    order: list[str] = []
    seen: set[str] = set()

    def visit(first: str) -> None:
        stack = [(first, iter(needs[first]))]
        seen.add(first)
        while stack:
            name, rest = stack[-1]
            following = next((need for need in rest if need not in seen), None)
            if following is None:
                order.append(name)
                stack.pop()
            else:
                seen.add(following)
                stack.append((following, iter(needs[following])))

    for name in sorted(name for name, control in by_name.items() if control.essential):
        if name not in seen:
            visit(name)
    batches: list[list[str]] = [list(order)]
    for name in sorted(by_name):
        if name not in seen:
            visit(name)
    batches.append([])
    for name in order[len(batches[0]) :]:
        if not set(batches[-1]).isdisjoint(named(by_name[name].pre_depends)):
            batches.append([])
        batches[-1].append(name)
    return tuple(tuple(batch) for batch in batches if batch)


# --- the root file system ---------------------------------------------------------------------


def assemble(locked: LockedBootstrap, *, epoch: int, console: Console) -> Path:
    """The lock's root file system as a tar in the cache, its bytes those that the lock names.

    ``epoch`` is in seconds. Raises HashMismatch with the versions of this machine's tools where other bytes came
    out, else what fetching them raises, ProgramMissing and BootstrapFailed.
    """
    kept = cache.get(locked.rootfs)
    if kept:
        return kept
    base = BootstrapBase(distribution=locked.distribution, suite=locked.suite)
    digest, path = build(
        base, locked.packages, platform=locked.platform, epoch=epoch, snapshot=locked.snapshot, console=console
    )
    if digest != locked.rootfs:
        raise HashMismatch(
            f"the root file system of {locked.distribution} {locked.suite} came out differently: the lock names "
            f"{locked.rootfs}, these packages gave {digest} with {_tools()}",
            hint="lock again with these tools, or assemble where the lock was made; please report the difference",
        )
    return path


def _tools() -> str:
    versions = []
    for program in ("mmdebstrap", "apt-get", "dpkg", "tar"):
        said = proc.run([program, "--version"], check=False).text
        found = re.search(r"\d+(?:\.\d+)+", said)
        versions.append(f"{program} {found.group() if found else 'of an unknown version'}")
    return ", ".join(versions)


_UNPACK = r"""
set -eu
umask 022
cd "$1"
rm -rf etc var
mkdir -p etc proc sys run usr
for link in LINKS; do
  mkdir -p "usr/$link"
  ln -s "usr/$link" "$link"
done
for deb in WORK/000/*.deb; do
  dpkg-deb --fsys-tarfile "$deb" | tar --extract --numeric-owner --keep-directory-symlink --file -
done
"""
"""Puts the essential packages' files in place, so that dpkg and its scripts have something to run with."""

_ENTER = r"""
set -eu
umask 022
db=$1/var/lib/dpkg
mkdir -p "$db"
if mount -t tmpfs -o mode=755 tmpfs "$db" 2>/dev/null; then trap 'umount "$db"' EXIT; fi
mkdir -p "$db/info" "$db/updates" "$db/triggers" "$db/alternatives"
: >"$db/status"
: >"$db/available"
env -i SETTINGS chroot "$1" sh /WORK/install.sh
rm -rf "$db.done"
cp -a "$db" "$db.done"
if trap - EXIT && mountpoint -q "$db"; then umount "$db"; fi
rm -rf "$db"
mv "$db.done" "$db"
"""
"""Installs, with dpkg's records in memory while it runs: it syncs each of them to disk, which takes a minute."""

_INSTALL = r"""
set -eu
umask 022
cd /
mkdir -p usr/sbin
printf '#!/bin/sh\nexit 101\n' >usr/sbin/policy-rc.d
chmod 755 usr/sbin/policy-rc.d
for batch in WORK/[0-9]*; do
  dpkg --force-unsafe-io --force-depends --install "$batch"/*.deb </dev/null
done
rm -f usr/sbin/policy-rc.d
unfinished=$(dpkg --audit)
[ -z "$unfinished" ] || { echo "$unfinished" >&2; exit 1; }
python3 -s -S WORK/compile.py
rm -rf WORK
"""

_COMPILE = r"""
import os, py_compile, re, sys

cached = re.compile(r"(.+)\." + re.escape(sys.implementation.cache_tag) + r"(?:\.opt-(\d))?\.pyc")
for root in ("/usr", "/opt", "/etc", "/var"):
    for folder, folders, names in os.walk(root):
        folders.sort()
        if os.path.basename(folder) != "__pycache__":
            continue
        for name in sorted(names):
            found = cached.fullmatch(name)
            if not found:
                continue
            path, source = os.path.join(folder, name), os.path.join(os.path.dirname(folder), found[1] + ".py")
            if sys.version_info < (3, 11) or not os.path.exists(source):
                os.unlink(path)
                continue
            py_compile.compile(
                source, cfile=path, dfile=source, doraise=True, optimize=int(found[2] or 0),
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
"""
"""Makes every .pyc again: valid by its source's hash and never looked at, so that no time is in it and none matters.

Pythons before 3.11 do not write the same bytes each time (seen in 3.10's json.decoder): theirs are taken out.
"""

_MERGED = {Platform.LINUX_64: "bin sbin lib lib64", Platform.LINUX_AARCH64: "bin sbin lib"}
"""The folders of / that are links into /usr."""


def build(
    base: BootstrapBase,
    packages: Sequence[SystemPackage],
    *,
    platform: Platform,
    epoch: int,
    snapshot: str,
    console: Console,
) -> tuple[Digest, Path]:
    """The root file system's digest, and its tar in the cache. Raises what ``assemble`` does, and InvalidInput."""
    if epoch > time.time():
        raise InvalidInput(
            f"the epoch {epoch} is in the future, so the times of today would show in the root file system",
            hint="choose an earlier `epoch`, or leave it out",
        )
    require_native(platform)
    mode = sandbox_mode()
    debs = fetch(packages, distribution=base.distribution, suite=base.suite, snapshot=snapshot, console=console)
    with (
        console.step(f"Assembling {base.distribution} {base.suite}") as step,
        scratch(cache.folder() / "tmp", "rootfs-") as folder,
    ):
        step.say("reading the packages")
        _stage(folder / "packages.tar", packages, debs)
        total = 2 * len(packages)
        counter = itertools.count(1)
        said: list[str] = []
        unpack, enter = _hooks(platform, epoch)
        scripts = {*unpack.splitlines(), *enter.splitlines()}

        def listen(line: str) -> None:
            if found := re.match(r"(Unpacking|Setting up) (\S+)", line):
                step.say(f"{found.group(1).lower()} {found.group(2)}")
                step.advance(min(next(counter), total), total, unit="steps")
            elif line.strip() and line not in scripts:
                said.append(line)

        try:
            proc.run(
                ["mmdebstrap", "--variant=custom", f"--mode={mode}", "--format=tar",
                 "--skip=update,cleanup,chroot/policy-rc.d,chroot/start-stop-daemon",
                 f"--setup-hook=tar-in {shlex.quote(str(folder / 'packages.tar'))} /",
                 f"--setup-hook={unpack}",
                 f"--customize-hook={enter}",
                 "", str(folder / "rootfs.tar")],
                env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
                on_line=listen,
                hint=NEEDS_DEBIAN,
            )  # fmt: skip
        except ProgramFailed as error:
            raise BootstrapFailed(
                f"{base.distribution} {base.suite} could not be assembled (mmdebstrap, mode {mode}, "
                f"exit code {error.code}):\n" + "\n".join(said[-proc.TAIL_LINES :]),
                hint={
                    "root": "root must be allowed to mount here (in a container: a privileged one)",
                    "unshare": "user namespaces must be allowed here, see kernel.unprivileged_userns_clone; or be root",
                }[mode],
            ) from None
        step.say("writing the tar")
        return cache.put(normalised(folder / "rootfs.tar", epoch))


def _hooks(platform: Platform, epoch: int) -> tuple[str, str]:
    """The two shell scripts that mmdebstrap runs: before it mounts anything, and afterwards."""
    variables = {
        "DEBCONF_NONINTERACTIVE_SEEN": "true",
        "DEBIAN_FRONTEND": "noninteractive",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PERL_HASH_SEED": "0",
        "PERL_PERTURB_KEYS": "0",
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": str(epoch),
        "TZ": "UTC",
    }
    settings = " ".join(f"{name}={value}" for name, value in variables.items())
    unpack = _UNPACK.replace("WORK", WORK).replace("LINKS", _MERGED[platform])
    return unpack, _ENTER.replace("WORK", WORK).replace("SETTINGS", settings)


def _stage(target: Path, packages: Sequence[SystemPackage], debs: Sequence[Path]) -> None:
    """One tar with the packages in their order of installation, and the scripts that install them."""
    with ThreadPoolExecutor(THREADS) as threads:
        controls = list(threads.map(read_control, debs))
    for package, control in zip(packages, controls, strict=True):
        locked = (package.name, package.version, package.architecture)
        inside = (control.name, control.version, control.architecture)
        if locked != inside:
            raise HashMismatch(
                f"the lock names {' '.join(locked)}, and the package with that digest is {' '.join(inside)}",
                hint="the lock was not written by reprobox: lock again",
            )
    files = {package.name: deb for package, deb in zip(packages, debs, strict=True)}
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, text in (("install.sh", _INSTALL.replace("WORK", WORK)), ("compile.py", _COMPILE)):
            entry = tarfile.TarInfo(f"{WORK}/{name}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
        for batch, names in enumerate(install_order(controls)):
            for number, name in enumerate(names):
                entry = tarfile.TarInfo(f"{WORK}/{batch:03}/{number:04}-{name}.deb")
                with files[name].open("rb") as stream:
                    entry.size = os.fstat(stream.fileno()).st_size
                    tar.addfile(entry, stream)
