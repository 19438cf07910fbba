"""The programs beside the engine: uv, git, and what bootstraps a distribution -> diagnoses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reprobox import proc
from reprobox.credentials import without_credentials
from reprobox.doctor.diagnosis import Diagnosis, absent, ok, problem, warning
from reprobox.errors import ProgramMissing, ReproboxError
from reprobox.model import BootstrapBase
from reprobox.resolvers import debian
from reprobox.resolvers.apt import keyring
from reprobox.web import Patience, Web, WebFailed

_PATIENCE = 5.0
_OTHERWISE = BootstrapBase(distribution="debian", suite="stable")
"""Whose mirror is looked at where no project names one."""


def uv() -> Iterator[Diagnosis]:
    from uv import find_uv_bin  # noqa: PLC0415 (slow to import)

    try:
        program = find_uv_bin()
        said = proc.run([program, "--version"], timeout=_PATIENCE).text
    except (FileNotFoundError, ReproboxError) as error:
        yield problem("uv", f"does not run: {error}", "install it again: pip install --force-reinstall uv")
        return
    yield ok("uv", f"{' '.join(said.split()[1:2])} ({program})")


# --- git --------------------------------------------------------------------------------------


def git(root: Path) -> Iterator[Diagnosis]:
    def ask(*words: str) -> str | None:
        try:
            done = proc.run(["git", *words], check=False, timeout=_PATIENCE)
        except ProgramMissing:
            return None
        return done.text.strip() if done.code == 0 else None

    attributes = root / ".gitattributes"
    wants = attributes.is_file() and "filter=lfs" in attributes.read_text(encoding="utf-8", errors="replace")
    yield from judge_git(ask("--version"), ask("lfs", "version") if wants else None, wants_lfs=wants)


def judge_git(version: str | None, lfs: str | None, *, wants_lfs: bool) -> Iterator[Diagnosis]:
    """What `git --version` and `git lfs version` said; None: not installed."""
    if version is None:
        yield warning("git", "not installed: a project under git cannot be read", "install git")
        return
    yield ok("git", version.removeprefix("git version "))
    if wants_lfs and lfs is None:
        yield problem(
            "git-lfs", "not installed, and .gitattributes keeps files in LFS", "install git-lfs, then `git lfs pull`"
        )
    elif lfs:
        yield ok("git-lfs", lfs.split()[0])


# --- bootstrapped bases -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """What is here to assemble ``base``; ``wanted``: the project asks for it. ``missing`` are programs."""

    base: BootstrapBase
    wanted: bool
    missing: tuple[str, ...]
    version: str = ""
    sandbox: str = ""
    keys: str = ""


def bootstrap(base: BootstrapBase | None) -> Iterator[Diagnosis]:
    """``base``: the one that the project asks for."""
    missing = tuple(name for name in ("mmdebstrap", "apt-get", "dpkg") if shutil.which(name) is None)
    wanted, base = base is not None, base or _OTHERWISE
    found = Bootstrap(base=base, wanted=wanted, missing=missing)
    if not missing:
        try:
            keys = debian.distribution_named(base.distribution)
            found = Bootstrap(
                base=base,
                wanted=wanted,
                missing=(),
                version=proc.run(["mmdebstrap", "--version"], timeout=_PATIENCE).text.strip(),
                sandbox=debian.sandbox_mode(),
                keys=str(keyring(keys)),
            )
        except ReproboxError as error:
            grave = problem if wanted else warning
            yield grave("mmdebstrap", error.message, error.hint or debian.NEEDS_DEBIAN)
            return
    yield judge_bootstrap(found)
    if not missing:
        yield _mirror(base)


def judge_bootstrap(found: Bootstrap) -> Diagnosis:
    if found.missing:
        fact = f"{' and '.join(found.missing)} not installed"
        if found.wanted:
            said = f"{fact}, and the project's base is bootstrapped"
            return problem("mmdebstrap", said, debian.NEEDS_DEBIAN)
        return absent("mmdebstrap", f"{fact} (optional)", f"only for bootstrapped bases: {debian.NEEDS_DEBIAN}")
    return ok("mmdebstrap", f"{found.version.removeprefix('mmdebstrap ')}, as {found.sandbox}, keys in {found.keys}")


def _mirror(base: BootstrapBase) -> Diagnosis:
    named = f"{base.distribution} {base.suite}"
    variable = debian.distribution_named(base.distribution).variable
    try:
        place = debian.mirror(base.distribution, base.suite)
    except ReproboxError as error:
        return warning("Mirror", error.message, error.hint or f"name one in {variable}")
    try:
        web = Web(plain=True, patience=Patience(tries=1, timeout=_PATIENCE))
        with web.request(f"{place}/dists/{base.suite}/InRelease") as answer:
            status = answer.status
    except WebFailed as error:
        return judge_mirror(named, without_credentials(place), error.reason, variable)
    return judge_mirror(named, without_credentials(place), status, variable)


def judge_mirror(named: str, place: str, answer: int | str, variable: str) -> Diagnosis:
    """``answer``: the status of its Release file, or why there was none."""
    if answer == 200:
        return ok("Mirror", f"{place} has {named}")
    why = f"answers {answer} for {named}" if isinstance(answer, int) else f"cannot be reached: {answer}"
    return warning("Mirror", f"{place} {why}", f"check the network, or name another mirror in {variable}")
