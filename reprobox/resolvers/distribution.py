"""A distribution's suite -> its hashed packages: apt says which, in a private folder, from the signed index alone.

No updates, no security: a released suite does not move.
"""

from __future__ import annotations

import os
import pwd
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from reprobox import cache, proc
from reprobox.console import Console
from reprobox.errors import ProgramFailed, ResolutionFailed
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
from reprobox.resolvers.debian import Distribution, distribution_named, mirror, require_native, stanzas
from reprobox.resolvers.rootfs import build
from reprobox.web import shown

FOUNDATION = ("?essential", "?exact-name(usr-is-merged)", "python3", "python3-venv", "ca-certificates", "libstdc++6")
"""What every bootstrapped base holds, as apt patterns: the distribution's core (with usr-is-merged where there is
one, else apt takes usrmerge and perl), its Python, pip's wheel, the certificates that this pip insists on, and the
C++ runtime that manylinux wheels take from the system (PEP 600)."""

LONGEST = 1800.0
"""Seconds that apt may take: it bounds a mirror that answers, but by the byte."""

_KEYRINGS = Path("/usr/share/keyrings")


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
    distribution = distribution_named(base.distribution)
    require_native(platform)
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
    rootfs, _ = build(base, packages, platform=platform, epoch=epoch, console=console)
    locked = LockedBootstrap(
        distribution=base.distribution, suite=base.suite, platform=platform, packages=packages, rootfs=rootfs
    )
    return locked, LockedInterpreter(version=python, path=PurePosixPath(f"/usr/bin/python{python}"))


class _Apt:
    """apt with a private state: its answer depends on the suite's signed index and on nothing of the machine."""

    def __init__(
        self, folder: Path, distribution: Distribution, base: BootstrapBase, platform: Platform, place: str
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
        return proc.run(argv, env=self._environment, timeout=LONGEST).text

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


def _keyring(distribution: Distribution) -> Path:
    for name in distribution.keyrings:
        if (_KEYRINGS / name).exists():
            return _KEYRINGS / name
    raise ResolutionFailed(
        f"the keys that sign {distribution.origin} are not on this machine ({_KEYRINGS / distribution.keyrings[0]})",
        hint=f"apt-get install {distribution.keyring_package}",
    )
