"""Names of packages -> exact ones: apt says which, in a private folder, from signed indexes alone."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path

from reprobox import proc
from reprobox.credentials import without_credentials
from reprobox.errors import ProgramFailed, ResolutionFailed
from reprobox.model import Digest, Platform, SystemPackage
from reprobox.resolvers.debian import NEEDS_APT, Distribution, stanzas, user_name

LONGEST = 1800.0
"""Seconds that apt may take: it bounds a mirror that answers, but by the byte."""

_KEYRINGS = Path("/usr/share/keyrings")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A suite at a mirror, whose address has no slash at its end."""

    mirror: str
    suite: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be installed, sorted by name. ``snapshot`` is the time of the newest index that says so."""

    packages: tuple[SystemPackage, ...]
    snapshot: str


@dataclass(frozen=True, kw_only=True)
class Apt:
    """apt with a private state in ``folder``: its answer depends on the indexes of ``sources``, on what is installed
    already (``status``, in dpkg's words) and on nothing of the machine. ``name`` is how errors call the suite.
    """

    folder: Path
    name: str
    distribution: Distribution
    sources: tuple[Source, ...]
    platform: Platform
    status: bytes = b""

    def solve(self, wanted: Sequence[str], *, foundation: Sequence[str] = (), keep: Mapping[str, str]) -> Plan:
        """Every package that is to be installed so that ``wanted`` (the user's) and ``foundation`` (patterns) are.

        ``keep`` are versions by name that stay, where the indexes still have them. Raises ResolutionFailed,
        ProgramMissing.
        """
        self._configure(keep)
        try:
            self._ask("apt-get", "update")
        except ProgramFailed as error:
            raise self._no_index(error.tail) from None
        names = sorted({*foundation, *wanted})
        plan = self._ask("apt-get", "--simulate", "--no-remove", "install", *names, check=False)
        if plan.code:
            raise self._no_plan(plan, wanted)
        chosen = dict(re.findall(r"^Inst (\S+?) (?:\[\S+\] )?\((\S+) ", plan.text, re.MULTILINE))
        described = self._describe(chosen) if chosen else {}
        if described.keys() != chosen.keys():
            raise ResolutionFailed(
                f"apt names other packages of {self.name} than it describes: "
                + ", ".join(sorted(described.keys() ^ chosen.keys())),
                hint="report this with the versions of apt and of the suite",
            )
        return Plan(packages=tuple(described[name] for name in sorted(described)), snapshot=self._snapshot())

    def _describe(self, chosen: Mapping[str, str]) -> dict[str, SystemPackage]:
        text = self._ask("apt-cache", "show", *(f"{name}={version}" for name, version in chosen.items())).text
        return {
            fields["Package"]: self._package(fields)
            for fields in stanzas(text)
            if "Package" in fields and chosen.get(fields["Package"]) == fields.get("Version")
        }

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
                f"the index of {self.name} says too little about {fields.get('Package', 'a package')}: {error}",
                hint=f"choose another mirror in {self.distribution.variable}",
            ) from None

    def _snapshot(self) -> str:
        """The newest date of the indexes' Release files, as snapshot archives write it: 20260711T101637Z."""
        dates = []
        for file in sorted((self.folder / "lists").glob("*Release")):
            found = re.search(r"^Date: (.+)$", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
            if found:
                dates.append(parsedate_to_datetime(found.group(1).strip()).astimezone(UTC))
        return max(dates).strftime("%Y%m%dT%H%M%SZ") if dates else ""

    def _ask(self, *argv: str, check: bool = True) -> proc.Finished:
        environment = {**os.environ, "APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C.UTF-8"}
        environment.pop("LANGUAGE", None)
        return proc.run(argv, env=environment, check=check, timeout=LONGEST, hint=NEEDS_APT)

    def _configure(self, keep: Mapping[str, str]) -> None:
        folder, architecture = self.folder, self.platform.oci_architecture
        for name in ("etc", "lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        (folder / "status").write_bytes(self.status)
        keys, components = keyring(self.distribution), " ".join(self.distribution.components)
        lines = [
            f"deb [arch={architecture} signed-by={keys}] {source.mirror} {source.suite} {components}\n"
            for source in self.sources
        ]
        (folder / "sources.list").write_text("".join(lines), encoding="utf-8")
        pins = [
            f"Package: {name}\nPin: version {version}\nPin-Priority: 999\n" for name, version in sorted(keep.items())
        ]
        (folder / "preferences").write_text("\n".join(pins), encoding="utf-8")
        (folder / "apt.conf").write_text(
            f"""{_connection()}
Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Etc "{folder}/etc";
Dir::Etc::main "{folder}/none";
Dir::Etc::parts "{folder}/etc";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "{folder}/etc";
Dir::Etc::preferences "{folder}/preferences";
Dir::Etc::preferencesparts "{folder}/etc";
APT::Architecture "{architecture}";
APT::Architectures "{architecture}";
APT::Get::Show-User-Simulation-Note "false";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "{user_name() or "root"}";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
pkgCacheGen::ForceEssential ",";
""",
            encoding="utf-8",
        )

    def _no_plan(self, said: proc.Finished, wanted: Sequence[str]) -> ResolutionFailed:
        missing = re.search(r"Unable to locate package (\S+)|Package '?(\S+?)'? has no installation", said.tail)
        if missing:
            return ResolutionFailed(
                f"{self.name} has no package {missing.group(1) or missing.group(2)}",
                hint=f"check its name under `system`; searched is {', '.join(self.distribution.components)} of "
                + ", ".join(source.suite for source in self.sources),
            )
        names = ", ".join(wanted) or "nothing more"
        removed = re.search(r"REMOV(?:ED|ING):\n((?:  .*\n)+)", said.text)
        if removed and "remove is disabled" in said.tail:
            return ResolutionFailed(
                f"{self.name} with {names} takes away what is installed: {', '.join(removed.group(1).split())}",
                hint="take one of the packages out of `system`, or choose another image as base",
            )
        return ResolutionFailed(
            f"apt finds no set of packages for {self.name} with {names}:\n{said.tail}",
            hint="take one of the packages out of `system`, or choose a newer image as base",
        )

    def _no_index(self, tail: str) -> ResolutionFailed:
        at = ", ".join(sorted({without_credentials(source.mirror) for source in self.sources}))
        for source in self.sources:
            secret, public = (
                urllib.parse.urlsplit(place).netloc for place in (source.mirror, without_credentials(source.mirror))
            )
            tail = tail.replace(secret, public)
        other = f"or name another mirror in {self.distribution.variable}"
        if "does not have a Release file" in tail or re.search(r"\b404\b", tail):
            found = re.search(r"repository '\S+ (\S+) Release'", tail)
            missing = self.name
            if found and found.group(1) != self.sources[0].suite:
                missing = f"{found.group(1)}, a part of {self.name}"
            return ResolutionFailed(f"the mirror {at} has no {missing}", hint=f"check the suite's name, {other}")
        if re.search(r"NO_PUBKEY|not signed|signatures? (?:couldn't be verified|were invalid|verification)", tail):
            package = self.distribution.keyring_package
            return ResolutionFailed(
                f"the index of {self.name} at {at} is not signed by a key of {package}:\n{tail}",
                hint=f"upgrade {package}, {other}",
            )
        return ResolutionFailed(
            f"the mirror {at} gave no index of {self.name}:\n{tail}", hint=f"check the network, {other}"
        )


def _connection() -> str:
    """How this machine reaches a mirror: apt's own proxies and certificates, and the user's CA bundle."""
    settings = proc.run(["apt-config", "dump", "Acquire::http", "Acquire::https"], check=False, hint=NEEDS_APT).text
    bundle = os.environ.get("SSL_CERT_FILE")
    if bundle and "Acquire::https::CAInfo" not in settings:
        settings += f'Acquire::https::CAInfo "{bundle}";\n'
    return settings


def keyring(distribution: Distribution) -> Path:
    """The public keys that sign a distribution's index. Raises ResolutionFailed where this machine has none."""
    for name in distribution.keyrings:
        if (_KEYRINGS / name).exists():
            return _KEYRINGS / name
    raise ResolutionFailed(
        f"the keys that sign {distribution.origin} are not on this machine ({_KEYRINGS / distribution.keyrings[0]})",
        hint=f"apt-get install {distribution.keyring_package}",
    )
