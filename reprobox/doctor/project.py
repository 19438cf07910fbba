"""The project in this folder: its lock, its baseline for this machine, its image -> diagnoses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reprobox import baseline as baselines
from reprobox import config, hardware, image_note, lockfile
from reprobox.doctor.diagnosis import Diagnosis, absent, ok, problem, warning
from reprobox.errors import ReproboxError
from reprobox.lockfile import LOCK_FILE
from reprobox.model import Project

_CORRECT = "correct what it says"


def load(root: Path) -> Project | ReproboxError | None:
    """The project of ``root``, or why it cannot be read; None where there is none."""
    if not (root / config.CONFIG_FILE).exists():
        return None
    try:
        return config.load(root)
    except ReproboxError as error:
        return error


def project(root: Path, found: Project | ReproboxError | None) -> Iterator[Diagnosis]:
    if found is None:
        yield absent("Project", f"no {config.CONFIG_FILE} here", "only inside a project: write one, or use -C FOLDER")
        return
    if isinstance(found, ReproboxError):
        yield problem("Project", found.message, found.hint or _CORRECT)
        return
    yield ok("Project", found.name)
    yield _lock(root, found)
    yield _baseline(root, found)
    yield _image(root)


def _lock(root: Path, found: Project) -> Diagnosis:
    from reprobox.resolvers import python  # noqa: PLC0415 (slow to import)

    if not (root / LOCK_FILE).exists():
        return warning("Lock", f"there is no {LOCK_FILE}", "run `reprobox lock`")
    try:
        reasons = lockfile.misfits(lockfile.read(root), found, inputs=python.read_inputs(found))
    except ReproboxError as error:
        return problem("Lock", error.message, error.hint or _CORRECT)
    if reasons:
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        return warning("Lock", f"no longer fits: {reasons[0]}{more}", "run `reprobox lock`")
    return ok("Lock", "fits")


def _baseline(root: Path, found: Project) -> Diagnosis:
    # which class of hardware this is only an image can say: see the probe
    if found.smoke is None:
        return absent("Baseline", "the project declares no experiment", "for `reprobox verify`: add `smoke:`")
    try:
        recorded = baselines.read(root).each
    except ReproboxError as error:
        return problem("Baseline", error.message, error.hint or _CORRECT)
    if not recorded:
        return warning("Baseline", "none is recorded", "run `reprobox record`, then commit")
    return ok("Baseline", "recorded for " + "; ".join(hardware.describe(one.hardware) for one in recorded))


def _image(root: Path) -> Diagnosis:
    note = image_note.read(root, "docker")
    if note is None:
        return absent("Image", "not built in this checkout", "run `reprobox build`")
    return ok("Image", f"last built: {note.image.reference}")
