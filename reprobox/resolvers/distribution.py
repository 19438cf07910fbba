"""A distribution's suite -> its hashed packages, assembled once for the digest.

No updates, no security: a released suite moves only with its point releases.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from reprobox import cache
from reprobox.console import Console
from reprobox.errors import ResolutionFailed
from reprobox.files import scratch
from reprobox.model import BootstrapBase, LockedBootstrap, LockedInterpreter, Platform, PythonVersion
from reprobox.resolvers.apt import Apt, Source
from reprobox.resolvers.debian import distribution_named, mirror, require_native
from reprobox.resolvers.rootfs import build

FOUNDATION = ("?essential", "?exact-name(usr-is-merged)", "python3", "python3-venv", "ca-certificates", "libstdc++6")
"""What every bootstrapped base holds, as apt patterns: the distribution's core (with usr-is-merged where there is
one, else apt takes usrmerge and perl), its Python, pip's wheel, the certificates that this pip insists on, and the
C++ runtime that manylinux wheels take from the system (PEP 600)."""


def resolve(
    base: BootstrapBase,
    *,
    system: Sequence[str],
    python: PythonVersion,
    platform: Platform,
    epoch: int,
    keep: Mapping[str, str],
    console: Console,
) -> tuple[LockedBootstrap, LockedInterpreter]:
    """The suite's core, its Python and the ``system`` packages with all they depend on; assembled once for the digest.

    ``epoch`` is in seconds; ``keep`` are versions by name that stay where the mirror still has them. Raises
    ResolutionFailed, ProgramMissing, BootstrapFailed, HashMismatch.
    """
    distribution = distribution_named(base.distribution)
    require_native(platform)
    with console.step(f"Resolving {base.distribution} {base.suite}") as step:
        step.say("looking for a mirror")
        place = mirror(base.distribution, base.suite)
        with scratch(cache.folder() / "tmp", "apt-") as folder:
            apt = Apt(
                folder=folder,
                name=f"{base.distribution} {base.suite}",
                distribution=distribution,
                sources=(Source(mirror=place, suite=base.suite),),
                platform=platform,
            )
            plan = apt.solve(system, foundation=FOUNDATION, keep=keep)
    version = next((package.version for package in plan.packages if package.name == "python3"), "none")
    found = re.match(r"(?:\d+:)?(\d+\.\d+)", version)
    if found is None or found.group(1) != str(python):
        there = found.group(1) if found else version
        raise ResolutionFailed(
            f"{base.distribution} {base.suite} has Python {there}, and the project wants {python}",
            hint=f'write python: "{there}", or choose the suite that has {python}, or an image as base',
        )
    rootfs, _ = build(
        base, plan.packages, platform=platform, epoch=epoch, snapshot=plan.snapshot, console=console
    )  # fmt: skip
    locked = LockedBootstrap(
        distribution=base.distribution,
        suite=base.suite,
        platform=platform,
        packages=plan.packages,
        rootfs=rootfs,
        snapshot=plan.snapshot,
    )
    return locked, LockedInterpreter(version=python, path=PurePosixPath(f"/usr/bin/python{python}"))
