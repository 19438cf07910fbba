"""A distribution's suite -> hashed packages -> a root file system that is the same bits wherever it is assembled.

Which packages: apt says, in a private folder, from the suite's signed index alone (no updates, no security: a
released suite does not move). What they are: each .deb by its sha256. What becomes of them: mmdebstrap lends its
sandbox only, the target's own dpkg installs everything in an order decided here, and the tar is written here.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import os
import pwd
import re
import shlex
import stat
import struct
import tarfile
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from reprobox import cache, proc
from reprobox.console import Console
from reprobox.errors import BootstrapFailed, HashMismatch, InvalidInput, ProgramFailed, ProgramMissing, ResolutionFailed
from reprobox.files import scratch
from reprobox.model import (
    BootstrapBase,
    Digest,
    LockedBootstrap,
    LockedInterpreter,
    Platform,
    PythonVersion,
    SystemPackage,
)
from reprobox.registry import Patience, Web, WebFailed, shown

THREADS = 8
"""Downloads at a time."""

_NEEDS_DEBIAN = "on Debian or Ubuntu: apt-get install mmdebstrap; elsewhere choose an image as `base`"
_SNAPSHOT = "the mirror no longer has it: name one that has (a snapshot archive of that time) in {variable}"

FOUNDATION = ("?essential", "?exact-name(usr-is-merged)", "python3", "python3-venv", "ca-certificates", "libstdc++6")
"""What every bootstrapped base holds, as apt patterns: the distribution's core (with usr-is-merged where there is
one, else apt takes usrmerge and perl), its Python, pip's wheel, the certificates that this pip insists on, and the
C++ runtime that manylinux wheels take from the system (PEP 600)."""


@dataclass(frozen=True, kw_only=True)
class _Distribution:
    origin: str
    components: tuple[str, ...]
    keyrings: tuple[str, ...]
    keyring_package: str
    variable: str


_DISTRIBUTIONS = {
    "debian": _Distribution(
        origin="Debian",
        components=("main",),
        keyrings=("debian-archive-keyring.gpg", "debian-archive-keyring.pgp"),
        keyring_package="debian-archive-keyring",
        variable="REPROBOX_DEBIAN_MIRROR",
    ),
    "ubuntu": _Distribution(
        origin="Ubuntu",
        components=("main", "universe"),  # python3-venv is in universe
        keyrings=("ubuntu-archive-keyring.gpg",),
        keyring_package="ubuntu-keyring (on Debian: ubuntu-archive-keyring)",
        variable="REPROBOX_UBUNTU_MIRROR",
    ),
}
_KEYRINGS = Path("/usr/share/keyrings")


# --- which packages ---------------------------------------------------------------------------


def resolve(
    base: BootstrapBase,
    *,
    system: Sequence[str],
    python: PythonVersion,
    platform: Platform,
    epoch: int,
    console: Console,
) -> tuple[LockedBootstrap, LockedInterpreter]:
    """The suite's core, its Python and the ``system`` packages with all they depend on; assembled once for the digest.

    ``epoch`` is in seconds. Raises ResolutionFailed, ProgramMissing, BootstrapFailed, HashMismatch.
    """
    distribution = _distribution(base.distribution)
    _native(platform)
    with console.step(f"Resolving {base.distribution} {base.suite}") as step:
        step.say("looking for a mirror")
        place = mirror(base.distribution, base.suite)
        with scratch(cache.folder() / "tmp", "apt-") as folder:
            packages = _Apt(folder, distribution, base, platform, place).solve(system)
    version = next(package.version for package in packages if package.name == "python3")
    found = re.match(r"(?:\d+:)?(\d+\.\d+)", version)
    if found is None or found.group(1) != str(python):
        there = found.group(1) if found else version
        raise ResolutionFailed(
            f"{base.distribution} {base.suite} has Python {there}, and the project wants {python}",
            hint=f'write python: "{there}", or choose the suite that has {python}, or an image as base',
        )
    rootfs, _ = _build(base, packages, platform=platform, epoch=epoch, console=console)
    locked = LockedBootstrap(
        distribution=base.distribution, suite=base.suite, platform=platform, packages=packages, rootfs=rootfs
    )
    return locked, LockedInterpreter(version=python, path=PurePosixPath(f"/usr/bin/python{python}"))


def mirror(distribution: str, suite: str) -> str:
    """Where packages come from, without a slash at its end: the user's variable, else the machine's apt
    configuration where that serves this distribution, else mmdebstrap's own default.

    Raises ResolutionFailed where none of these names one.
    """
    facts = _distribution(distribution)
    chosen = os.environ.get(facts.variable) or _mirror_of_apt(facts) or _mirror_of_mmdebstrap(suite)
    if not chosen or urllib.parse.urlsplit(chosen).scheme not in ("http", "https"):
        said = f"{shown(chosen)!r} is not an http address" if chosen else "neither apt nor mmdebstrap names one"
        raise ResolutionFailed(
            f"no mirror of {distribution} {suite} is known: {said}",
            hint=f"name one in {facts.variable}, such as http://mirror.example/{distribution}",
        )
    return chosen.rstrip("/")


def _mirror_of_apt(facts: _Distribution) -> str | None:
    """The archive proper, not its security or backports side: of this origin, and with no label of its own."""
    form = "$(REPO_URI)|$(COMPONENT)|$(ORIGIN)|$(LABEL)"
    try:
        listed = proc.run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"], check=False)
    except ProgramMissing:
        return None
    for line in listed.text.splitlines():
        uri, component, origin, label = (*line.split("|"), "", "", "", "")[:4]
        is_it = (component, origin, label) == ("main", facts.origin, facts.origin)
        if is_it and urllib.parse.urlsplit(uri).scheme in ("http", "https"):
            return uri
    return None


def _mirror_of_mmdebstrap(suite: str) -> str | None:
    """mmdebstrap writes the sources that it would use before its first hook, which here shows and stops it."""
    asked = proc.run(
        ["mmdebstrap", "--variant=custom", "--format=null", "--components=main", f"--mode={_mode()}",
         '--setup-hook=cat "$1"/etc/apt/sources.list; exit 1', suite, "/dev/null"],
        check=False,
        hint=_NEEDS_DEBIAN,
    )  # fmt: skip
    said = (asked.stdout + asked.stderr).decode("utf-8", "replace")
    found = re.search(rf"^deb (?:\[[^\]]*\] )?(\S+) {re.escape(suite)} main", said, re.MULTILINE)
    return found.group(1) if found else None


def _distribution(name: str) -> _Distribution:
    if name not in _DISTRIBUTIONS:
        raise InvalidInput(
            f"{name!r} cannot be bootstrapped, only {' and '.join(sorted(_DISTRIBUTIONS))}",
            hint="choose one of them, or an image as base",
        )
    return _DISTRIBUTIONS[name]


def _native(platform: Platform) -> None:
    """Raises BootstrapFailed where this machine's architecture is another one, ProgramMissing without its tools."""
    proc.find("mmdebstrap", hint=_NEEDS_DEBIAN)
    here = proc.run(["dpkg", "--print-architecture"], hint=_NEEDS_DEBIAN).text.strip()
    if here != platform.oci_architecture:
        raise BootstrapFailed(
            f"{platform.value} is bootstrapped on a machine of its own kind ({platform.oci_architecture}); "
            f"this one is {here}",
            hint="run it there, or choose an image as base",
        )


class _Apt:
    """apt with a private state: its answer depends on the suite's signed index and on nothing of the machine."""

    def __init__(
        self, folder: Path, distribution: _Distribution, base: BootstrapBase, platform: Platform, place: str
    ) -> None:
        self._base, self._place, self._distribution = base, place, distribution
        for name in ("etc", "lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        architecture = platform.oci_architecture
        components = " ".join(distribution.components)
        source = f"deb [arch={architecture} signed-by={_keyring(distribution)}] {place} {base.suite} {components}\n"
        (folder / "sources.list").write_text(source, encoding="utf-8")
        (folder / "apt.conf").write_text(
            f"""{self._connection()}
Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Etc "{folder}/etc";
Dir::Etc::main "{folder}/none";
Dir::Etc::parts "{folder}/etc";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "{folder}/etc";
Dir::Etc::preferences "{folder}/none";
Dir::Etc::preferencesparts "{folder}/etc";
APT::Architecture "{architecture}";
APT::Architectures "{architecture}";
APT::Get::Show-User-Simulation-Note "false";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "{pwd.getpwuid(os.geteuid()).pw_name}";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
pkgCacheGen::ForceEssential ",";
""",
            encoding="utf-8",
        )
        self._environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C.UTF-8"}
        self._environment.pop("LANGUAGE", None)

    @staticmethod
    def _connection() -> str:
        """How this machine reaches a mirror: apt's own proxies and certificates, and the user's CA bundle."""
        settings = proc.run(["apt-config", "dump", "Acquire::http", "Acquire::https"], check=False).text
        bundle = os.environ.get("SSL_CERT_FILE")
        if bundle and "Acquire::https::CAInfo" not in settings:
            settings += f'Acquire::https::CAInfo "{bundle}";\n'
        return settings

    def _run(self, *argv: str) -> str:
        return proc.run(argv, env=self._environment).text

    def solve(self, system: Sequence[str]) -> tuple[SystemPackage, ...]:
        """Every package that is to be installed, sorted by name."""
        named = f"{self._base.distribution} {self._base.suite}"
        try:
            self._run("apt-get", "update")
        except ProgramFailed as error:
            raise self._no_index(error.tail) from None
        wanted = sorted({*FOUNDATION, *system})
        try:
            plan = self._run("apt-get", "--simulate", "install", *wanted)
        except ProgramFailed as error:
            missing = re.search(r"Unable to locate package (\S+)|Package '?(\S+?)'? has no installation", error.tail)
            if missing:
                raise ResolutionFailed(
                    f"{named} has no package {missing.group(1) or missing.group(2)}",
                    hint=f"check its name under `system`; {', '.join(self._distribution.components)} of the suite "
                    "itself is what is searched",
                ) from None
            raise ResolutionFailed(
                f"apt finds no set of packages for {named} with {', '.join(system) or 'nothing more'}:\n{error.tail}",
                hint="take one of the packages out of `system`",
            ) from None
        chosen = dict(re.findall(r"^Inst (\S+) \((\S+) ", plan, re.MULTILINE))
        shown_text = self._run("apt-cache", "show", *(f"{name}={version}" for name, version in chosen.items()))
        packages = {package.name: package for package in map(self._package, stanzas(shown_text))}
        if packages.keys() != chosen.keys() or any(packages[name].version != chosen[name] for name in chosen):
            raise ResolutionFailed(
                f"apt names other packages of {named} than it describes: "
                f"{', '.join(sorted(packages.keys() ^ chosen.keys())) or 'versions differ'}",
                hint="report this with the versions of apt and of the suite",
            )
        return tuple(packages[name] for name in sorted(packages))

    def _package(self, fields: Mapping[str, str]) -> SystemPackage:
        try:
            return SystemPackage(
                name=fields["Package"],
                version=fields["Version"],
                architecture=fields["Architecture"],
                file=fields["Filename"].removeprefix("./"),
                digest=Digest.parse(fields["SHA256"]),
            )
        except (KeyError, ValueError) as error:
            raise ResolutionFailed(
                f"the index of {self._base.distribution} {self._base.suite} says too little about "
                f"{fields.get('Package', 'a package')}: {error}",
                hint=f"choose another mirror in {self._distribution.variable}",
            ) from None

    def _no_index(self, tail: str) -> ResolutionFailed:
        named, at = f"{self._base.distribution} {self._base.suite}", shown(self._place)
        tail = tail.replace(urllib.parse.urlsplit(self._place).netloc, urllib.parse.urlsplit(at).netloc)
        other = f"or name another mirror in {self._distribution.variable}"
        if "does not have a Release file" in tail or re.search(r"\b404\b", tail):
            return ResolutionFailed(f"the mirror {at} has no {named}", hint=f"check the suite's name, {other}")
        if re.search(r"NO_PUBKEY|not signed|signatures? (?:couldn't be verified|were invalid|verification)", tail):
            return ResolutionFailed(
                f"the index of {named} at {at} is not signed by a key of {self._distribution.keyring_package}:\n{tail}",
                hint=f"upgrade {self._distribution.keyring_package}, {other}",
            )
        return ResolutionFailed(
            f"the mirror {at} gave no index of {named}:\n{tail}", hint=f"check the network, {other}"
        )


def _keyring(distribution: _Distribution) -> Path:
    for name in distribution.keyrings:
        if (_KEYRINGS / name).exists():
            return _KEYRINGS / name
    raise ResolutionFailed(
        f"the keys that sign {distribution.origin} are not on this machine ({_KEYRINGS / distribution.keyrings[0]})",
        hint=f"apt-get install {distribution.keyring_package}",
    )


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Debian's control format -> one mapping per paragraph; a continued value keeps its lines, joined by \\n."""
    for paragraph in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line[:1] in (" ", "\t"):
                if name:
                    fields[name] += f"\n{line.strip()}"
            elif ":" in line:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        if fields:
            yield fields


# --- the packages themselves ------------------------------------------------------------------


def fetch(locked: LockedBootstrap, *, console: Console) -> tuple[Path, ...]:
    """The .deb files, in the lock's order, from the cache or a mirror.

    Raises HashMismatch for a changed one, ResolutionFailed for one that cannot be had.
    """
    base = BootstrapBase(distribution=locked.distribution, suite=locked.suite)
    return _fetch(base, locked.packages, console=console)


def _fetch(base: BootstrapBase, packages: Sequence[SystemPackage], *, console: Console) -> tuple[Path, ...]:
    with console.step(f"Fetching {len(packages)} packages of {base.distribution} {base.suite}") as step:
        files = [cache.get(package.digest) for package in packages]
        missing = [index for index, file in enumerate(files) if file is None]
        if missing:
            place = mirror(base.distribution, base.suite)
            web = Web(plain=True, patience=Patience(), proxies=_apt_proxies())
            with ThreadPoolExecutor(THREADS) as threads:
                jobs = [threads.submit(_download, web, place, base, packages[index]) for index in missing]
                try:
                    for done, (index, job) in enumerate(zip(missing, jobs, strict=True), 1):
                        files[index] = job.result()
                        step.advance(len(packages) - len(missing) + done, len(packages))
                except BaseException:
                    threads.shutdown(wait=False, cancel_futures=True)
                    raise
        return tuple(file for file in files if file is not None)


def _apt_proxies() -> dict[str, str]:
    """apt's own proxies, for a machine that names them there and not in the environment."""
    try:
        said = proc.run(
            ["apt-config", "shell", "http", "Acquire::http::Proxy", "https", "Acquire::https::Proxy"], check=False
        ).text
    except ProgramMissing:
        return {}
    words = dict(line.partition("=")[::2] for line in said.splitlines())
    return {
        scheme: proxy for scheme, word in words.items() if (proxy := "".join(shlex.split(word))) not in ("", "DIRECT")
    }


def _download(web: Web, place: str, base: BootstrapBase, package: SystemPackage) -> Path:
    what = f"{package.name} {package.version} of {base.distribution} {base.suite}"
    variable = _distribution(base.distribution).variable
    parts = urllib.parse.urlsplit(place)
    headers = {}
    if parts.username is not None:
        secret = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode()
    url = f"{shown(place)}/{urllib.parse.quote(package.file, safe='/+~:@_-.')}"
    for attempt in itertools.count(1):
        try:
            with web.request(url, headers) as answer:
                if answer.status == 200:
                    return cache.put(answer.chunks(), expected=package.digest, what=what)[1]
                if answer.status in (404, 410):
                    raise ResolutionFailed(
                        f"{shown(place)} does not have {what} (HTTP {answer.status})",
                        hint=_SNAPSHOT.format(variable=variable),
                    )
                raise ResolutionFailed(
                    f"{shown(place)} failed to give {what} (HTTP {answer.status})",
                    hint=f"try again later, or name another mirror in {variable}",
                )
        except WebFailed as error:
            if attempt == web.patience.tries:
                raise ResolutionFailed(
                    f"{what} cannot be fetched from {shown(place)}: {error.reason}",
                    hint=f"check the network, or name another mirror in {variable}",
                ) from None
            web.patience.wait(attempt - 1)
    raise AssertionError("counting does not end")


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
    fields = next(stanzas(proc.run(["dpkg-deb", "--field", deb], hint=_NEEDS_DEBIAN).text), {})
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
    out, else what ``fetch`` raises, ProgramMissing and BootstrapFailed.
    """
    kept = cache.get(locked.rootfs)
    if kept:
        return kept
    base = BootstrapBase(distribution=locked.distribution, suite=locked.suite)
    digest, path = _build(base, locked.packages, platform=locked.platform, epoch=epoch, console=console)
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


_WORK = ".reprobox"
"""The folder inside the growing root file system that holds the packages; gone when it is done."""

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


def _build(
    base: BootstrapBase, packages: Sequence[SystemPackage], *, platform: Platform, epoch: int, console: Console
) -> tuple[Digest, Path]:
    if epoch > time.time():
        raise InvalidInput(
            f"the epoch {epoch} is in the future, so the times of today would show in the root file system",
            hint="choose an earlier `epoch`, or leave it out",
        )
    _native(platform)
    mode = _mode()
    debs = _fetch(base, packages, console=console)
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
                step.advance(min(next(counter), total), total)
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
                hint=_NEEDS_DEBIAN,
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
    unpack = _UNPACK.replace("WORK", _WORK).replace("LINKS", _MERGED[platform])
    return unpack, _ENTER.replace("WORK", _WORK).replace("SETTINGS", settings)


def _mode() -> str:
    """How mmdebstrap gets its sandbox: by being root, or by a user namespace with subordinate ids."""
    if os.geteuid() == 0:
        return "root"
    proc.find("newuidmap", hint="apt-get install uidmap, or run as root")
    user = pwd.getpwuid(os.geteuid())
    for file in (Path("/etc/subuid"), Path("/etc/subgid")):
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        if not any(line.split(":")[0] in (user.pw_name, str(user.pw_uid)) for line in lines):
            raise BootstrapFailed(
                f"the user {user.pw_name} has no ids of their own in {file}, which a build without root needs",
                hint="as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "
                f"{user.pw_name}; or run as root",
            )
    return "unshare"


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
        for name, text in (("install.sh", _INSTALL.replace("WORK", _WORK)), ("compile.py", _COMPILE)):
            entry = tarfile.TarInfo(f"{_WORK}/{name}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
        for batch, names in enumerate(install_order(controls)):
            for number, name in enumerate(names):
                entry = tarfile.TarInfo(f"{_WORK}/{batch:03}/{number:04}-{name}.deb")
                with files[name].open("rb") as stream:
                    entry.size = os.fstat(stream.fileno()).st_size
                    tar.addfile(entry, stream)


# --- its tar ----------------------------------------------------------------------------------

LEFT_OUT = (
    "dev/*", "proc/*", "sys/*", "run/*", "tmp/*", "var/tmp/*",
    f"{_WORK}", f"{_WORK}/*",
    "etc/.pwd.lock", "etc/fstab", "etc/group-", "etc/gshadow-", "etc/hostname", "etc/hosts", "etc/passwd-",
    "etc/resolv.conf", "etc/shadow-", "etc/subgid-", "etc/subuid-",
    "etc/apt/sources.list", "etc/apt/sources.list.d/*", "etc/apt/apt.conf.d/*mmdebstrap",
    "usr/share/info/*", "usr/share/locale/*", "usr/share/man/*",
    "var/cache/apt/*", "var/cache/debconf/*-old", "var/cache/ldconfig/*", "var/cache/man/*",
    "var/lib/apt/*", "var/lib/dbus/machine-id", "var/lib/dpkg/*-old", "var/lib/dpkg/lock*",
    "var/lib/dpkg/triggers/Lock", "var/lib/systemd/random-seed", "var/lib/urandom/*",
)  # fmt: skip
"""Paths that are the run's and not the distribution's, and documentation; ``*`` crosses slashes."""

EMPTIED = frozenset({"etc/machine-id"})
"""Files that must be there and must say nothing."""


JAVA_KEYSTORE = "etc/ssl/certs/java/cacerts"
"""Java's own copy of the certificates, written when ca-certificates-java is installed, with the time in it."""


def is_kept(path: str, *, folder: bool, link: bool = False) -> bool:
    """Whether a path (without a slash in front) belongs in the root file system. Pure."""
    if not folder and path.startswith("var/log/"):
        return False
    if not folder and not link and path.startswith("usr/share/doc/"):
        return path.endswith("/copyright")
    return not any(fnmatchcase(path, pattern) for pattern in LEFT_OUT)


def normalised(source: Path, epoch: int) -> Iterator[bytes]:
    """A root file system's tar -> the bytes of one whose every bit follows from names, modes, owners and contents.

    Entries are sorted by their bytes and have no ``./`` in front; the root folder has none. Numeric owners only;
    a time later than ``epoch`` (seconds) becomes the epoch; of extended attributes only file capabilities stay;
    devices, pipes and sockets do not. Plain ustar, with a pax header only where a value does not fit.
    """
    with tarfile.open(source, "r:", encoding="utf-8", errors="surrogateescape") as tar:
        members: dict[str, tarfile.TarInfo] = {}
        contents: dict[str, tarfile.TarInfo] = {}
        for member in tar:
            path = str(PurePosixPath(member.name)).lstrip("/")
            if member.isfile():
                contents[path] = member
            elif member.islnk():
                contents[path] = contents[str(PurePosixPath(member.linkname)).lstrip("/")]
            if path == "." or not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
                continue
            if is_kept(path, folder=member.isdir(), link=member.issym()):
                members[path] = member
        first: dict[int, str] = {}
        for path in sorted(members, key=_encoded):
            member = members[path]
            mtime = min(int(member.mtime), epoch)
            if member.isdir():
                yield entry_header(path + "/", b"5", mode=member.mode, uid=member.uid, gid=member.gid, mtime=mtime)
                continue
            if member.issym():
                yield entry_header(
                    path, b"2", mode=0o777, uid=member.uid, gid=member.gid, mtime=mtime, link=member.linkname
                )
                continue
            content = contents[path]
            known = first.setdefault(content.offset_data, path) if content.size else path
            size = 0 if path in EMPTIED or known != path else content.size
            yield entry_header(
                path, b"0" if known == path else b"1", mode=content.mode, uid=content.uid, gid=content.gid,
                mtime=min(int(content.mtime), epoch), size=size, link="" if known == path else known,
                capability=content.pax_headers.get("SCHILY.xattr.security.capability") if known == path else None,
            )  # fmt: skip
            if size:
                chunks = _content(source, content.offset_data, size)
                yield from [timeless_keystore(b"".join(chunks), epoch)] if path == JAVA_KEYSTORE else chunks
                yield bytes(-size % 512)
    yield bytes(1024)


def timeless_keystore(data: bytes, epoch: int) -> bytes:
    """Java's keystore of certificates (JKS, version 2) with every entry's date set to ``epoch`` (seconds). Pure.

    Its seal is a SHA-1 over the store's public password and the entries. Raises BootstrapFailed for another format.
    """

    def seal(entries: bytes) -> bytes:
        return hashlib.sha1(
            "changeit".encode("utf-16-be") + b"Mighty Aphrodite" + entries, usedforsecurity=False
        ).digest()

    entries, place = bytearray(data[:-20]), 12
    try:
        magic, version, count = struct.unpack_from(">III", entries)
        if (magic, version) != (0xFEEDFEED, 2) or seal(data[:-20]) != data[-20:]:
            raise ValueError
        for _ in range(count):
            tag, alias = struct.unpack_from(">IH", entries, place)
            if tag != 2:
                raise ValueError
            struct.pack_into(">q", entries, place + 6 + alias, epoch * 1000)
            place += 14 + alias
            place += 2 + struct.unpack_from(">H", entries, place)[0]
            place += 4 + struct.unpack_from(">I", entries, place)[0]
        if place != len(entries):
            raise ValueError
    except (struct.error, ValueError):
        raise BootstrapFailed(
            f"/{JAVA_KEYSTORE} is in a format whose dates cannot be taken out, so no two machines would agree on it",
            hint="take Java out of `system`",
        ) from None
    return bytes(entries) + seal(bytes(entries))


def _content(source: Path, offset: int, size: int) -> Iterator[bytes]:
    with source.open("rb") as stream:
        stream.seek(offset)
        while size:
            chunk = stream.read(min(size, 1024 * 1024))
            if not chunk:
                raise BootstrapFailed("the root file system's tar is cut short", hint="is the disk full? try again")
            size -= len(chunk)
            yield chunk


def entry_header(
    path: str,
    kind: bytes,
    *,
    mode: int,
    uid: int,
    gid: int,
    mtime: int,
    size: int = 0,
    link: str = "",
    capability: str | None = None,
) -> bytes:
    """One entry's ustar header, behind a pax header where name, link, owner, size or a capability needs one. Pure."""
    name_bytes, link_bytes = _encoded(path), _encoded(link)
    records: list[tuple[str, bytes]] = []
    if capability is not None:
        records.append(("SCHILY.xattr.security.capability", _encoded(capability)))
    for key, value in (("gid", gid), ("uid", uid)):
        if value > 0o7777777:
            records.append((key, str(value).encode()))
    for key, text in (("linkpath", link_bytes), ("path", name_bytes)):
        if len(text) > 100 or not text.isascii():
            records.append((key, text))
    if size > 0o77777777777:
        records.append(("size", str(size).encode()))
    header = _ustar(name_bytes, kind, mode=mode, uid=uid, gid=gid, size=size, mtime=mtime, link=link_bytes)
    if not records:
        return header
    body = b"".join(_record(key, value) for key, value in sorted(records))
    return _ustar(b"././@PaxHeader", b"x", mode=0o644, size=len(body)) + body + bytes(-len(body) % 512) + header


def _encoded(text: str) -> bytes:
    """A name's bytes as the tar had them, whatever this machine's locale says."""
    return text.encode("utf-8", "surrogateescape")


def _record(key: str, value: bytes) -> bytes:
    tail = b" " + key.encode() + b"=" + value + b"\n"
    length = len(tail) + 1
    while len(str(length)) + len(tail) != length:
        length = len(str(length)) + len(tail)
    return str(length).encode() + tail


def _ustar(
    name: bytes, kind: bytes, *, mode: int, uid: int = 0, gid: int = 0, size: int = 0, mtime: int = 0, link: bytes = b""
) -> bytes:
    def octal(value: int, width: int) -> bytes:
        return b"%0*o\0" % (width - 1, value if 0 <= value < 8 ** (width - 1) else 0)

    header = b"".join(
        (
            name[:100].ljust(100, b"\0"), octal(stat.S_IMODE(mode), 8), octal(uid, 8), octal(gid, 8), octal(size, 12),
            octal(max(mtime, 0), 12), b" " * 8, kind, link[:100].ljust(100, b"\0"), b"ustar\x0000", bytes(64),
            octal(0, 8), octal(0, 8), bytes(167),
        )
    )  # fmt: skip
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]
