from __future__ import annotations

import dataclasses
import re
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import digest, lock, project
from reprobox import config_model, lockfile
from reprobox.errors import InvalidInput, InvalidLock, ReproboxError
from reprobox.model import Determinism, Digest, EnvironmentFile, LockedFile, PythonVersion, Smoke


@pytest.mark.parametrize("image", [False, True])
def test_a_lock_survives_the_way_to_its_file_and_back(image: bool) -> None:
    made = lock(project(image=image), image=image)
    assert lockfile.dumps(lockfile.loads(lockfile.dumps(made))) == lockfile.dumps(made)


def test_a_shuffled_twin_gives_the_same_bytes() -> None:
    made = lock(project())
    twin = dataclasses.replace(
        made,
        wants=dict(reversed(made.wants.items())),
        variables=dict(reversed(made.variables.items())),
        base=dataclasses.replace(made.base, packages=tuple(reversed(made.base.packages))),  # type: ignore[union-attr]
    )
    assert lockfile.dumps(twin) == lockfile.dumps(made)


def test_one_package_is_one_line() -> None:
    text = lockfile.dumps(lock(project())).decode()
    assert re.search(r"^  - \{name: bash, version: '5.2', .*, sha256: [0-9a-f]{64}\}$", text, re.MULTILINE)


def test_a_newer_version_is_one_sentence() -> None:
    data = lockfile.dumps(lock(project())).replace(b"version: 1\n", b"version: 7\n", 1)
    with pytest.raises(InvalidLock, match="version 7 and this reprobox reads up to version 1") as caught:
        lockfile.loads(data)
    assert caught.value.hint == "upgrade reprobox"


def test_a_hand_edited_lock_is_refused() -> None:
    data = lockfile.dumps(lock(project())).replace(b"C.UTF-8", b"C.UTF-9")
    with pytest.raises(InvalidLock, match="changed by hand"):
        lockfile.loads(data)


def test_a_lock_without_its_last_line_is_cut_short() -> None:
    data = lockfile.dumps(lock(project()))
    with pytest.raises(InvalidLock, match="cut short"):
        lockfile.loads(data[: data.rindex(b"checksum")])


def test_a_lock_that_leaves_the_project_is_refused_whatever_its_checksum_says() -> None:
    made = dataclasses.replace(lock(project()), natives=(LockedFile(name="../../etc/passwd", digest=digest("x")),))
    with pytest.raises(InvalidLock, match="leaves its folder"):
        lockfile.loads(lockfile.dumps(made))


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0), st.binary(max_size=8))
def test_no_truncation_or_splice_is_taken_for_a_lock(cut: int, splice: bytes) -> None:
    whole = lockfile.dumps(lock(project()))
    at = cut % len(whole)
    damaged = whole[:at] + splice
    if damaged != whole:
        with pytest.raises(ReproboxError):
            lockfile.loads(damaged)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_give_a_traceback(data: bytes) -> None:
    with pytest.raises(InvalidLock):
        lockfile.loads(data)


def test_a_missing_lock_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no reprobox\.lock") as caught:
        lockfile.read(tmp_path)
    assert caught.value.hint == "run `reprobox lock` first"


# --- does it still fit ---


def _on_disk(root: Path) -> tuple[LockedFile, ...]:
    (root / "requirements.lock").write_text("numpy==2.4.6\n")
    return (LockedFile(name="requirements.in", digest=digest("numpy\n")),)


def test_a_lock_fits_the_project_it_was_made_for(tmp_path: Path) -> None:
    inputs = _on_disk(tmp_path)
    wanted = project(tmp_path)
    assert lockfile.misfits(lock(wanted), wanted, inputs=inputs) == ()


def test_every_change_is_a_reason_with_both_sides(tmp_path: Path) -> None:
    _on_disk(tmp_path)
    (tmp_path / "requirements.lock").write_text("numpy==2.4.5\n")
    (tmp_path / "data.csv").write_text("1\n")
    wanted = project(tmp_path)
    assert wanted.smoke
    changed = dataclasses.replace(
        wanted,
        python=PythonVersion(3, 12),
        environment=EnvironmentFile(path=PurePosixPath("requirements.in"), groups=("plot",)),
        smoke=Smoke(command=("x",), outputs=wanted.smoke.outputs, inputs=(PurePosixPath("data.csv"),)),
    )
    now = (
        LockedFile(name="requirements.in", digest=digest("numpy>=2\n")),
        LockedFile(name="more.in", digest=digest("scipy\n")),
    )
    said = [str(misfit) for misfit in lockfile.misfits(lock(wanted), changed, inputs=now)]
    assert "python: the lock has 3.11, the project has 3.12" in said
    assert any(
        line.startswith("environment: the lock has {file: requirements.in}, the project has {file:") for line in said
    )
    assert any(line.startswith("environment file requirements.in: ") for line in said)
    assert any(line.startswith("environment file more.in: the lock has nothing") for line in said)
    assert "smoke input data.csv: the lock has nothing, the project has it" in said
    was, is_now = digest("numpy==2.4.6\n").short, digest("numpy==2.4.5\n").short
    assert f"lock file requirements.lock: the lock has {was}, the project has {is_now}" in said
    assert len(said) == 6


def test_a_changed_or_missing_smoke_input_is_a_reason(tmp_path: Path) -> None:
    inputs = _on_disk(tmp_path)
    wanted = project(tmp_path)
    assert wanted.smoke
    wanted = dataclasses.replace(wanted, smoke=dataclasses.replace(wanted.smoke, inputs=(PurePosixPath("d.csv"),)))
    made = dataclasses.replace(lock(wanted), data=(LockedFile(name="d.csv", digest=Digest.of(b"1\n")),))
    (misfit,) = lockfile.misfits(made, wanted, inputs=inputs)
    assert (misfit.what, misfit.found) == ("smoke input d.csv", "no such file")
    (tmp_path / "d.csv").write_bytes(b"1\n")
    assert lockfile.misfits(made, wanted, inputs=inputs) == ()


# --- threads ---


@pytest.mark.parametrize(("profile", "stale"), [("pinned", True), ("portable", False), ("off", False)])
def test_other_threads_make_a_lock_stale_where_they_are_pinned(profile: str, stale: bool, tmp_path: Path) -> None:
    inputs = _on_disk(tmp_path)
    wanted = dataclasses.replace(project(tmp_path), determinism=Determinism(profile))
    assert wanted.smoke
    more = dataclasses.replace(wanted, smoke=dataclasses.replace(wanted.smoke, cpus=4))
    said = [str(misfit) for misfit in lockfile.misfits(lock(wanted), more, inputs=inputs)]
    assert said == (["smoke.cpus: the lock has 1, the project has 4"] if stale else [])


@settings(max_examples=60, deadline=None)
@given(st.from_regex(config_model._IMAGE, fullmatch=True))
def test_every_image_that_a_config_may_name_may_stand_in_a_lock(reference: str) -> None:
    made = lock(project(image=True), image=True)
    made = dataclasses.replace(made, base=dataclasses.replace(made.base, reference=reference))  # type: ignore[call-arg]
    assert lockfile.loads(lockfile.dumps(made)).base == made.base
