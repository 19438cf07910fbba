"""`reprobox lock` as a user runs it: what moves, what stays, and what a killed or failed lock leaves behind."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import pytest
from conftest import Project

pytestmark = pytest.mark.network
NewProject = Callable[[], Project]
OLD = "six==1.15.0\nidna==3.6\n"
OPEN = "idna\nsix\n"


def _files(here: Project) -> dict[str, bytes]:
    return {name: (here.root / name).read_bytes() for name in ("reprobox.lock", "requirements.lock")}


def _versions(here: Project) -> dict[str, str]:
    lines = (here.root / "requirements.lock").read_text().splitlines()
    return dict(line.removesuffix(" \\").split("==") for line in lines if "==" in line)


@pytest.fixture
def old(project: NewProject) -> Project:
    """Locked to old versions, by a file that now admits newer ones."""
    here = project()
    here.write("requirements.in", OLD)
    here("lock")
    here.write("requirements.in", OPEN)
    return here


def test_a_lock_that_fits_is_left_alone_without_a_question_to_anybody(project: NewProject) -> None:
    here = project()
    before = _files(here)
    said = here("lock", env={"HTTPS_PROXY": "http://127.0.0.1:1", "UV_OFFLINE": "1"})
    assert said.out == "reprobox.lock is up to date.\n"
    assert _files(here) == before


def test_what_nobody_asked_to_move_stays(old: Project) -> None:
    old("lock")
    assert _versions(old) == {"idna": "3.6", "six": "1.15.0"}


def test_an_upgrade_moves_the_package_named_and_nothing_else(old: Project) -> None:
    old("lock")
    base = (old.root / "reprobox.lock").read_text().partition("interpreter:")[0]
    old("lock", "--upgrade", "six")
    assert _versions(old)["idna"] == "3.6"
    assert _versions(old)["six"] not in ("1.15.0", "")
    assert (old.root / "reprobox.lock").read_text().partition("interpreter:")[0] == base


def test_an_upgrade_of_everything_moves_everything(old: Project) -> None:
    old("lock", "--upgrade")
    assert _versions(old)["idna"] != "3.6"
    assert _versions(old)["six"] != "1.15.0"


def test_an_upgrade_of_what_is_not_there_names_the_nearest(old: Project) -> None:
    old("lock")
    before = _files(old)
    assert "do you mean six?" in old("lock", "--upgrade", "sixx", code=2).err
    assert _files(old) == before


def test_as_of_a_date_nothing_newer_is_taken(project: NewProject) -> None:
    here = project()
    here.write("requirements.in", "idna\n")
    here.change("reprobox.yaml", "timeout: 60", "timeout: 60\nexclude-newer: 2023-12-01")
    here("lock")
    assert _versions(here) == {"idna": "3.6"}


def test_a_failed_lock_leaves_the_old_one(project: NewProject) -> None:
    here = project()
    before = _files(here)
    here.write("requirements.in", "six==1.15.0\nsix>1.15\n")
    said = here("lock", code=2).err
    assert "six" in said
    assert _files(here) == before


def test_a_lock_killed_at_any_moment_leaves_the_old_one_or_the_new_one(project: NewProject) -> None:
    here = project()
    for wait in (0.1, 0.3, 0.6, 0.9):
        here.write("requirements.in", OLD)
        here("lock")
        old = _files(here)
        here.write("requirements.in", OPEN)
        process = subprocess.Popen(
            here.command("lock", "--upgrade"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(wait)
        process.kill()
        process.wait()
        assert _files(here) == old
        assert here("lock", "--check", code=None).code in (0, 1)
    here("lock", "--upgrade")
    here("lock", "--check")


def test_a_damaged_lock_is_refused_by_every_verb_and_never_replaced(project: NewProject) -> None:
    here = project()
    path = here.root / "reprobox.lock"
    path.write_bytes(path.read_bytes()[:-20])
    for words in (["lock", "--check"], ["build"], ["verify"], ["render"]):
        assert "remove it and run `reprobox lock`" in here(*words, code=2).err
    before = _files(here)
    for words in (["lock"], ["lock", "--upgrade"]):
        assert "cut short" in here(*words, code=2).err
    assert _files(here) == before
    path.unlink()
    here("lock")
    here("lock", "--check")


def test_a_changed_native_lock_is_noticed_offline(project: NewProject) -> None:
    here = project()
    with (here.root / "requirements.lock").open("a") as stream:
        stream.write("\n")
    said = here("lock", "--check", "--json", code=1).json
    assert said["fits"] is False
    assert [reason["what"] for reason in said["reasons"]] == ["lock file requirements.lock"]


def test_a_recorded_baseline_and_rendered_files_do_not_make_a_lock_stale_or_an_image_old(project: NewProject) -> None:
    here = project()
    (here.root / "reprobox.baseline.json").write_text('{"version": 1, "baselines": []}\n')
    here("render", "-o", str(here.root))
    here("lock", "--check")
    here.git("add", "--all")
    assert here("render").out == (here.root / "Dockerfile").read_text()


def test_a_development_group_never_changes_the_lock(project: NewProject) -> None:
    here = project()
    text = '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["six==1.15.0"]\n'
    here.write("pyproject.toml", text + '[dependency-groups]\ndev = ["idna==3.6"]\n')
    here.change("reprobox.yaml", "environment: requirements.in", "environment: pyproject.toml")
    here("lock")
    first = (here.root / "requirements.lock").read_bytes()
    here.write("pyproject.toml", text + '[dependency-groups]\ndev = ["idna==3.7", "attrs"]\n')
    here("lock")
    assert (here.root / "requirements.lock").read_bytes() == first
    assert b"idna" not in first
