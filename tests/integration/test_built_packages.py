"""Packages without wheels and the project's own package: locked with what building them takes, built sealed."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Project

from reprobox import lockfile
from reprobox.model import Digest, LockedFile

pytestmark = [pytest.mark.docker, pytest.mark.network]
CONFIG = """\
name: {name}
environment: {environment}
python: "3.11"
base: {{bootstrap: debian, suite: bookworm}}
"""
HATCHLING = """\
[project]
name = "mypkg"
version = "1.0"
dependencies = ["six==1.17.0"]
[project.scripts]
mytool = "mypkg:main"
[build-system]
requires = ["hatchling==1.27.0"]
build-backend = "hatchling.build"
"""
MODULE = "import six\n\n\ndef main() -> None:\n    print('tool', six.__version__, __file__)\n"
SETUP = """\
import pathlib, socket
try:
    socket.create_connection(("192.0.2.1", 80), 3)
    found = "reached"
except OSError as error:
    found = type(error).__name__ + " " + str(error)
pathlib.Path("src/mypkg/network.py").write_text(f"found = {found!r}\\n")
from setuptools import setup
setup()
"""
SETUPTOOLS = HATCHLING.replace("hatchling==1.27.0", "setuptools>=77").replace(
    "hatchling.build", "setuptools.build_meta"
)

NewProject = Callable[..., Project]


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewProject]:
    """A project of the given files (and environment file), each with an image name of its own."""
    names: list[str] = []

    def make(environment: str, **files: str) -> Project:
        name = f"sources-{len(names)}-{os.getpid()}"
        names.append(name)
        here = Project(tmp_path_factory.mktemp("sources"))
        here.git("init", "--quiet")
        for path, text in {"reprobox.yaml": CONFIG.format(name=name, environment=environment), **files}.items():
            here.write(path, text)
        here("lock")
        here.git("add", "--all")
        return here

    yield make
    for name in names:
        listed = subprocess.run(["docker", "images", "--quiet", name], capture_output=True, text=True, check=False)
        if images := listed.stdout.split():
            subprocess.run(["docker", "rmi", "--force", *images], capture_output=True, check=False)


@pytest.fixture(scope="module")
def sdists(new: NewProject) -> Project:
    asked = "antlr4-python3-runtime==4.9.3\nomegaconf==2.3.0\n"
    return new("requirements.in", **{"requirements.in": asked})


@pytest.fixture(scope="module")
def hatchling(new: NewProject) -> Project:
    return new("pyproject.toml", **{"pyproject.toml": HATCHLING, "src/mypkg/__init__.py": MODULE})


def copy(here: Project, place: Path) -> Project:
    shutil.copytree(here.root, place, ignore=shutil.ignore_patterns(".reprobox"))
    return Project(place)


def build(here: Project, place: Path, *options: str) -> str:
    """The config digest that plain `docker build` of the rendered project gives, without any layer cache."""
    here("render", "-o", str(here.root))
    metadata = place / "metadata.json"
    ca = os.environ.get("SSL_CERT_FILE")
    subprocess.run(
        ["docker", "buildx", "build", "--no-cache", "--provenance=false", f"--metadata-file={metadata}",
         *([f"--secret=id=ca,src={ca}"] if ca else []), *options, str(here.root)],
        check=True, env={**os.environ, "SOURCE_DATE_EPOCH": "1577836800"},
    )  # fmt: skip
    return str(json.loads(metadata.read_text())["containerimage.config.digest"])


def layers(here: Project) -> list[str]:
    reference = here("build", "--json").json["image"]["reference"]
    asked = subprocess.run(["docker", "inspect", reference], capture_output=True, text=True, check=True).stdout
    return list(json.loads(asked)[0]["RootFS"]["Layers"])


# --- packages without wheels ------------------------------------------------------------------


def test_a_package_without_a_wheel_is_locked_built_and_imported(sdists: Project) -> None:
    assert "antlr4-python3-runtime==4.9.3" in (sdists.root / "sdists.lock").read_text()
    assert "antlr4" not in (sdists.root / "requirements.lock").read_text()
    assert "setuptools==" in (sdists.root / "build-requirements.lock").read_text()
    program = (
        "import antlr4, omegaconf, glob\n"
        "print(antlr4.__file__, type(omegaconf.OmegaConf.create('a: ${b}')).__name__)\n"
        "print([glob.glob(f'/opt/env/**/{name}', recursive=True) for name in ('direct_url.json', 'setuptools')])\n"
    )
    said = sdists("run", "--", "python", "-c", program).out.splitlines()
    assert said == ["/opt/env/lib/python3.11/site-packages/antlr4/__init__.py DictConfig", "[[], []]"]


def test_a_second_lock_changes_nothing(sdists: Project) -> None:
    before = {path.name: path.read_bytes() for path in sdists.root.glob("*.lock")}
    (sdists.root / "reprobox.lock").unlink()
    assert len(before) == 4
    sdists("lock")
    assert {path.name: path.read_bytes() for path in sdists.root.glob("*.lock")} == before


def test_an_image_with_sources_is_the_same_twice(sdists: Project, hatchling: Project, tmp_path: Path) -> None:
    for number, made in enumerate((sdists, hatchling)):
        here = copy(made, tmp_path / str(number))
        first = build(here, tmp_path)
        assert build(here, tmp_path) == first
        assert here("build", "--json").json["image"]["digest"].startswith("sha256:")


def test_an_sdist_with_other_bytes_than_its_hash_is_refused(sdists: Project, tmp_path: Path) -> None:
    here = copy(sdists, tmp_path / "tampered")
    lock = here.root / "sdists.lock"
    lock.write_text(lock.read_text()[:-9] + "00000000\n")
    made = lockfile.read(here.root)
    natives = [LockedFile(name=file.name, digest=Digest.of_file(here.root / file.name)) for file in made.natives]
    (here.root / "reprobox.lock").write_bytes(lockfile.dumps(dataclasses.replace(made, natives=tuple(natives))))
    said = here("build", code=2).err
    assert "antlr4-python3-runtime==4.9.3 is not what the lock names: expected" in said


def test_sdists_that_are_no_longer_needed_leave_no_lock_file(sdists: Project, tmp_path: Path) -> None:
    here = copy(sdists, tmp_path / "wheels")
    here.write("requirements.in", "six==1.17.0\n")
    here("lock")
    assert sorted(path.name for path in here.root.glob("*.lock")) == ["reprobox.lock", "requirements.lock"]


# --- the project's own package ----------------------------------------------------------------


@pytest.fixture(scope="module")
def setuptools(new: NewProject) -> Project:
    files = {"pyproject.toml": SETUPTOOLS, "setup.py": SETUP, "src/mypkg/__init__.py": MODULE}
    return new("requirements.in", **{"requirements.in": "-e .\n"}, **files)


@pytest.mark.parametrize("kind", ["hatchling", "setuptools"])
def test_the_projects_own_package_is_installed_with_its_script(kind: str, request: pytest.FixtureRequest) -> None:
    here: Project = request.getfixturevalue(kind)
    place = "/opt/env/lib/python3.11/site-packages/mypkg"
    assert here("run", "--", "mytool").out == f"tool 1.17.0 {place}/__init__.py\n"
    program = (
        "import marshal, mypkg, pathlib; data = pathlib.Path(mypkg.__cached__).read_bytes()\n"
        "time = int(pathlib.Path(mypkg.__file__).stat().st_mtime)\n"
        "print(mypkg.__file__, data[4], marshal.loads(data[16:]).co_filename, time)"
    )
    said = here("run", "--", "python", "-c", program).out.split()
    assert said == [f"{place}/__init__.py", "1", f"{place}/__init__.py", "1577836800"]
    installed = here("run", "--", "ls", "/opt/env/lib/python3.11/site-packages/mypkg-1.0.dist-info").out.split()
    assert set(installed) - {"top_level.txt"} == {"METADATA", "RECORD", "WHEEL", "entry_points.txt"}
    assert not {"source", "built", "build", "out", "uv"} & set(here("run", "--", "ls", "/").out.split())


def test_the_stage_that_builds_has_no_network(setuptools: Project) -> None:
    said = setuptools("run", "--", "python", "-c", "import mypkg.network; print(mypkg.network.found)").out
    assert "unreachable" in said


def test_an_edited_source_leaves_the_environment_as_it_is(hatchling: Project, tmp_path: Path) -> None:
    here = copy(hatchling, tmp_path / "edited")
    before = layers(here)
    here.change("src/mypkg/__init__.py", "'tool'", "'edited'")
    after = layers(here)
    assert before[:2] == after[:2]  # the base and the environment
    assert before[2] != after[2]
    assert here("run", "--", "mytool").out.startswith("edited 1.17.0")


def test_a_changed_build_requirement_is_noticed(hatchling: Project, tmp_path: Path) -> None:
    here = copy(hatchling, tmp_path / "changed")
    here("lock", "--check")
    here.change("pyproject.toml", "hatchling==1.27.0", "hatchling==1.28.0")
    assert "environment file pyproject.toml" in here("lock", "--check", code=1).out
    here("lock")
    assert "hatchling==1.28.0" in (here.root / "build-requirements.lock").read_text()
    assert "six==1.17.0" in (here.root / "requirements.lock").read_text()


def test_a_uv_lock_whose_project_is_a_package_installs_it(hatchling: Project, tmp_path: Path) -> None:
    here = copy(hatchling, tmp_path / "uv")
    subprocess.run([sys.executable, "-m", "uv", "lock", "--quiet"], cwd=here.root, check=True)
    here.change("reprobox.yaml", "environment: pyproject.toml", "environment: uv.lock")
    here("lock")
    assert here("run", "--", "mytool").out.startswith("tool 1.17.0 /opt/env/")


def test_a_build_that_fails_says_why(hatchling: Project, tmp_path: Path) -> None:
    here = copy(hatchling, tmp_path / "failing")
    here.change("pyproject.toml", 'version = "1.0"', 'dynamic = ["version"]\n[tool.hatch.version]\nsource = "vcs"')
    here.change("pyproject.toml", '["hatchling==1.27.0"]', '["hatchling==1.27.0", "hatch-vcs"]')
    text = (here.root / "pyproject.toml").read_text()
    table = '[tool.hatch.version]\nsource = "vcs"\n'
    here.write("pyproject.toml", text.replace(table, "") + table)
    here("lock")
    said = here("build", code=2).err
    assert "could not build the image" in said
    assert "SETUPTOOLS_SCM_PRETEND_VERSION" in said  # the build's own words
