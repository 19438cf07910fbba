"""Project, Lock -> Recipe: every decision about an image is taken here. Pure."""

from __future__ import annotations

from reprobox import __version__, lockfile
from reprobox.errors import InvalidInput
from reprobox.model import HOME_FOLDER, Lock, LockedBootstrap, LockedImage, Platform, Project, Recipe

VERSION = 2
"""Rises with every change that gives another image for the same lock and files."""

BASE_TAR = "reprobox.base.tar"
SYSTEM_FOLDER = "reprobox.system"
REQUIREMENTS_LOCK = "requirements.lock"
SDISTS_LOCK = "sdists.lock"
BUILD_REQUIREMENTS_LOCK = "build-requirements.lock"
LABELS = "io.github.reprobox."


def make(
    project: Project,
    lock: Lock,
    platform: Platform,
    *,
    local_wheels: tuple[str, ...] = (),
    local_sdists: tuple[str, ...] = (),
    sdists: bool = False,
) -> Recipe:
    """The recipe of this project's image on ``platform``.

    ``local_wheels`` and ``local_sdists`` are the project's own, by path; ``sdists``: this platform needs packages
    that are built from source. Raises InvalidInput where the lock lacks the platform.
    """
    known = {lock.base.platform} if isinstance(lock.base, LockedBootstrap) else set(lock.base.manifests)
    if platform not in known or platform not in lock.uv.wheels:
        raise InvalidInput(
            f"the lock holds no {platform.value}, only {', '.join(sorted(p.value for p in known))}",
            hint=f"add {platform.value} to `platforms` in reprobox.yaml and run `reprobox lock`",
        )
    bootstrapped = isinstance(lock.base, LockedBootstrap)
    system = lock.base.system.packages[platform] if isinstance(lock.base, LockedImage) and lock.base.system else ()
    return Recipe(
        platform=platform,
        base=lock.base,
        python=lock.interpreter.path,
        uv_version=lock.uv.version,
        uv_wheel=lock.uv.wheels[platform],
        epoch=lock.epoch,
        variables={"HOME": str(HOME_FOLDER), "LOGNAME": "user", "USER": "user", **lock.variables},
        labels=_labels(lock),
        indexes=lock.indexes,
        find_links=lock.find_links,
        local_wheels=local_wheels,
        leave_out=(
            REQUIREMENTS_LOCK,
            *(name for name in (SDISTS_LOCK, BUILD_REQUIREMENTS_LOCK) if name in {file.name for file in lock.natives}),
            *((BASE_TAR,) if bootstrapped else ()),
            *((SYSTEM_FOLDER,) if system else ()),
        ),
        ignored=(
            ".dockerignore",
            ".git",
            ".reprobox",
            "Dockerfile",
            "apptainer.def",
            "reprobox.baseline",
            "reprobox.baseline.json",
            "reprobox.lock",
            "reprobox.yaml",
            *sorted(str(output.path) for output in (project.smoke.outputs if project.smoke else ())),
        ),
        sdists=sdists,
        local_sdists=local_sdists,
        own_package=lock.own_package,
        system=system,
    )


def _labels(lock: Lock) -> dict[str, str]:
    labels = {
        f"{LABELS}lock": str(lockfile.digest(lock)),
        f"{LABELS}recipe": str(VERSION),
        f"{LABELS}version": __version__,
    }
    if isinstance(lock.base, LockedImage):
        labels["org.opencontainers.image.base.name"] = lock.base.reference
        labels["org.opencontainers.image.base.digest"] = str(lock.base.digest)
    else:
        labels[f"{LABELS}base"] = f"{lock.base.distribution} {lock.base.suite}"
        labels[f"{LABELS}base.digest"] = str(lock.base.rootfs)
    return labels
