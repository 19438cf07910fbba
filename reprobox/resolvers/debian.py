"""What resolving and assembling both ask of Debian and its kin: facts, mirrors, control files, this machine's tools."""

from __future__ import annotations

import os
import pwd
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reprobox import proc
from reprobox.credentials import without_credentials
from reprobox.errors import BootstrapFailed, InvalidInput, ProgramMissing, ResolutionFailed
from reprobox.model import Platform

NEEDS_DEBIAN = "on Debian or Ubuntu: apt-get install mmdebstrap; elsewhere choose an image as `base`"
ADD_IDS = "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535"
NEEDS_APT = "distribution packages are locked on Debian or Ubuntu, with their apt; the lock then serves everywhere"


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """What is known of a distribution; ``variable`` is where the user names a mirror of it, and
    ``security_variable`` one of its security archive, where that is an archive of its own."""

    origin: str
    components: tuple[str, ...]
    keyrings: tuple[str, ...]
    keyring_package: str
    variable: str
    security_variable: str | None = None


DISTRIBUTIONS = {
    "debian": Distribution(
        origin="Debian",
        components=("main",),
        keyrings=("debian-archive-keyring.gpg", "debian-archive-keyring.pgp"),
        keyring_package="debian-archive-keyring",
        variable="REPROBOX_DEBIAN_MIRROR",
        security_variable="REPROBOX_DEBIAN_SECURITY_MIRROR",
    ),
    "ubuntu": Distribution(
        origin="Ubuntu",
        components=("main", "universe"),  # python3-venv is in universe
        keyrings=("ubuntu-archive-keyring.gpg",),
        keyring_package="ubuntu-keyring (on Debian: ubuntu-archive-keyring)",
        variable="REPROBOX_UBUNTU_MIRROR",
    ),
}


def mirror(distribution: str, suite: str) -> str:
    """Where packages come from, without a slash at its end: the user's variable, else the machine's apt
    configuration where that serves this distribution, else mmdebstrap's own default.

    Raises ResolutionFailed where none of these names one.
    """
    facts = distribution_named(distribution)
    chosen = os.environ.get(facts.variable) or _mirror_of_apt(facts) or _mirror_of_mmdebstrap(suite)
    if not chosen or urllib.parse.urlsplit(chosen).scheme not in ("http", "https"):
        said = (
            f"{without_credentials(chosen)!r} is not an http address"
            if chosen
            else "neither apt nor mmdebstrap names one"
        )
        raise ResolutionFailed(
            f"no mirror of {distribution} {suite} is known: {said}",
            hint=f"name one in {facts.variable}, such as http://mirror.example/{distribution}",
        )
    return chosen.rstrip("/")


def security_mirror(distribution: str, suite: str) -> str:
    """Where a distribution's security updates come from: the user's variable; else the place beside the user's own
    mirror (a snapshot archive has both); else the machine's apt configuration; else the place beside any mirror.

    Raises ResolutionFailed.
    """
    facts = distribution_named(distribution)
    if facts.security_variable is None:
        return mirror(distribution, suite)
    chosen = os.environ.get(facts.security_variable)
    if not chosen and not os.environ.get(facts.variable):
        chosen = _mirror_of_apt(facts, security=True)
    if not chosen:
        main = mirror(distribution, suite)
        chosen, found = re.subn(rf"/{distribution}(?=/|$)", f"/{distribution}-security", main, count=1)
        chosen = chosen if found else None
    if not chosen or urllib.parse.urlsplit(chosen).scheme not in ("http", "https"):
        raise ResolutionFailed(
            f"no mirror of {distribution} {suite}'s security updates is known",
            hint=f"name one in {facts.security_variable}",
        )
    return chosen.rstrip("/")


def _mirror_of_apt(facts: Distribution, *, security: bool = False) -> str | None:
    """The archive proper (of this origin, with no label of its own), or its security side."""
    wanted = f"{facts.origin}-Security" if security else facts.origin
    form = "$(REPO_URI)|$(COMPONENT)|$(ORIGIN)|$(LABEL)"
    try:
        listed = proc.run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"], check=False)
    except ProgramMissing:
        return None
    for line in listed.text.splitlines():
        uri, component, origin, label = (*line.split("|"), "", "", "", "")[:4]
        is_it = (component, origin, label) == ("main", facts.origin, wanted)
        if is_it and urllib.parse.urlsplit(uri).scheme in ("http", "https"):
            return uri
    return None


def _mirror_of_mmdebstrap(suite: str) -> str | None:
    """mmdebstrap writes the sources that it would use before its first hook, which here shows and stops it."""
    asked = proc.run(
        ["mmdebstrap", "--variant=custom", "--format=null", "--components=main", f"--mode={sandbox_mode()}",
         '--setup-hook=cat "$1"/etc/apt/sources.list; exit 1', suite, "/dev/null"],
        check=False,
        hint=NEEDS_DEBIAN,
    )  # fmt: skip
    said = (asked.stdout + asked.stderr).decode("utf-8", "replace")
    found = re.search(rf"^deb (?:\[[^\]]*\] )?(\S+) {re.escape(suite)} main", said, re.MULTILINE)
    return found.group(1) if found else None


def distribution_named(name: str) -> Distribution:
    """Raises InvalidInput for one that is not known here."""
    if name not in DISTRIBUTIONS:
        raise InvalidInput(
            f"{name!r} cannot be bootstrapped, only {' and '.join(sorted(DISTRIBUTIONS))}",
            hint="choose one of them, or an image as base",
        )
    return DISTRIBUTIONS[name]


def require_native(platform: Platform) -> None:
    """Raises BootstrapFailed where this machine's architecture is another one, ProgramMissing without its tools."""
    proc.find("mmdebstrap", hint=NEEDS_DEBIAN)
    here = proc.run(["dpkg", "--print-architecture"], hint=NEEDS_DEBIAN).text.strip()
    if here != platform.oci_architecture:
        raise BootstrapFailed(
            f"{platform.value} is bootstrapped on a machine of its own kind ({platform.oci_architecture}); "
            f"this one is {here}",
            hint="run it there, or choose an image as base",
        )


def sandbox_mode() -> str:
    """How mmdebstrap gets its sandbox: by being root, or by a user namespace with subordinate ids.

    Raises ProgramMissing and BootstrapFailed where it gets none.
    """
    if os.geteuid() == 0:
        return "root"
    proc.find("newuidmap", hint="apt-get install uidmap, or run as root")
    user, lacking = user_name(), files_without_ids()
    if user is None:
        raise BootstrapFailed(
            f"the user {os.geteuid()} has no name on this machine, which a build without root needs (newuidmap)",
            hint="run as a user with an entry in /etc/passwd, or as root",
        )
    if lacking:
        raise BootstrapFailed(
            f"the user {user} has no ids of their own in {lacking[0]}, which a build without root needs",
            hint=f"{ADD_IDS} {user}; or run as root",
        )
    return "unshare"


def user_name() -> str | None:
    """The name of the user that this process runs as; None for a number without one, as containers give."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return None


def files_without_ids() -> tuple[str, ...]:
    """Those of /etc/subuid and /etc/subgid that give this user no subordinate ids (subuid(5))."""

    def listed(file: str) -> bool:
        try:
            lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return False
        return any(line.split(":")[0] in (user_name(), str(os.geteuid())) for line in lines)

    return tuple(file for file in ("/etc/subuid", "/etc/subgid") if not listed(file))


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
