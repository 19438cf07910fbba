"""A base image -> the distribution packages that `system` adds to it, exact, for what it has installed already.

Unlike a bootstrapped base, an image was made with its distribution's updates: these are searched too, since a package
of the suite's first day does not fit the libraries of today.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from reprobox import cache
from reprobox.console import Step
from reprobox.errors import ResolutionFailed
from reprobox.files import scratch
from reprobox.model import LockedSystem, Platform
from reprobox.resolvers.apt import Apt, Plan, Source
from reprobox.resolvers.debian import DISTRIBUTIONS, distribution_named, mirror, security_mirror
from reprobox.resolvers.image_tree import APT, DPKG_STATUS, OS_RELEASES, ImageTree

_UNRELEASED = ("sid", "unstable")
"""Suites that have neither updates nor security of their own."""


def is_known(tree: ImageTree) -> bool:
    """Whether the layers that were read say all that ``resolve`` asks."""
    return all(tree.read(path) is not None for path in (APT, DPKG_STATUS)) and _release(tree) is not None


def resolve(
    reference: str,
    trees: Mapping[Platform, ImageTree],
    system: Sequence[str],
    *,
    keep: Mapping[Platform, Mapping[str, str]],
    step: Step,
) -> LockedSystem:
    """The packages that each platform's image lacks of ``system`` and of what that depends on.

    ``keep`` are versions by name that stay where the mirror still has them. Raises ResolutionFailed, ProgramMissing.
    """
    suites = {platform: _suite(reference, tree) for platform, tree in trees.items()}
    if len(set(suites.values())) > 1:
        raise ResolutionFailed(
            f"{reference} is another distribution on each platform: "
            + ", ".join(f"{' '.join(suite)} ({platform.value})" for platform, suite in suites.items()),
            hint="lock one platform, or choose another image",
        )
    distribution, suite = next(iter(suites.values()))
    plans: dict[Platform, Plan] = {}
    for platform, tree in trees.items():
        step.say(f"asking apt for {', '.join(system)} ({distribution} {suite}, {platform.value})")
        with scratch(cache.folder() / "tmp", "apt-") as folder:
            apt = Apt(
                folder=folder,
                name=f"{distribution} {suite}",
                distribution=distribution_named(distribution),
                sources=_sources(distribution, suite),
                platform=platform,
                status=tree.read(DPKG_STATUS) or b"",
            )
            plans[platform] = apt.solve(system, keep=keep.get(platform, {}))
    return LockedSystem(
        distribution=distribution,
        suite=suite,
        snapshot=max(plan.snapshot for plan in plans.values()),
        packages={platform: plan.packages for platform, plan in plans.items()},
    )


def _sources(distribution: str, suite: str) -> tuple[Source, ...]:
    place = mirror(distribution, suite)
    if suite in _UNRELEASED:
        return (Source(mirror=place, suite=suite),)
    return (
        Source(mirror=place, suite=suite),
        Source(mirror=place, suite=f"{suite}-updates"),
        Source(mirror=security_mirror(distribution, suite), suite=f"{suite}-security"),
    )


def _release(tree: ImageTree) -> bytes | None:
    return next((content for path in OS_RELEASES if (content := tree.read(path)) is not None), None)


def _suite(reference: str, tree: ImageTree) -> tuple[str, str]:
    """The image's distribution and suite, as its os-release names them (os-release(5))."""
    fields = {}
    for line in (_release(tree) or b"").decode("utf-8", "replace").splitlines():
        name, _, value = line.partition("=")
        try:
            fields[name.strip()] = "".join(shlex.split(value))
        except ValueError:
            continue
    distribution, suite = fields.get("ID", ""), fields.get("VERSION_CODENAME", "")
    if distribution not in DISTRIBUTIONS or not suite:
        there = fields.get("PRETTY_NAME") or distribution or "of an unknown distribution"
        raise ResolutionFailed(
            f"system packages cannot be added to {reference}: it is {there}, not a release of Debian or Ubuntu",
            hint="choose an image of Debian or Ubuntu, one that has the packages, or a bootstrapped base",
        )
    for path, what in ((APT, "apt"), (DPKG_STATUS, "dpkg's list of packages")):
        if tree.read(path) is None:
            raise ResolutionFailed(
                f"system packages cannot be added to {reference}: it has no {what} (/{path})",
                hint="choose an image with apt, or a bootstrapped base",
            )
    return distribution, suite
