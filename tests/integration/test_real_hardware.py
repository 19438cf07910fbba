"""What libraries do on this machine, read inside a real image; and baselines of several hardware classes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from conftest import Project

from reprobox import files, hardware, probe
from reprobox.console import Console
from reprobox.model import Conditions, Mount
from reprobox.workflow import building

pytestmark = [pytest.mark.docker, pytest.mark.network]

NAME = "reprobox-test-hardware"
CONFIG = f"""\
name: {NAME}
environment: requirements.in
python: "3.11"
base: {{bootstrap: debian, suite: bookworm}}
determinism: pinned
smoke:
  command: [python, train.py, "0"]
  control: [python, train.py, "1"]
  outputs: [exact.bin, rounded.bin]
"""
TRAIN = """\
import sys
import numpy
some = numpy.random.default_rng(int(sys.argv[1]))
whole, real = some.integers(-9, 9, (400, 400)).astype(float), some.standard_normal((400, 400))
open("exact.bin", "wb").write((whole @ whole).tobytes())
open("rounded.bin", "wb").write((real @ real).tobytes())
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with numpy, locked, built, and recorded on this hardware."""
    project = Project(tmp_path_factory.mktemp("hardware"))
    project.git("init", "--quiet")
    project.write("reprobox.yaml", CONFIG)
    project.write("requirements.in", "numpy>=2.4\n")
    project.write("train.py", TRAIN)
    project("lock")
    project.git("add", "--all")
    project("record")
    yield project
    listed = ["docker", "images", "--quiet", "--filter", f"reference={NAME}"]
    images = subprocess.run(listed, capture_output=True, text=True, check=False).stdout.split()
    if images:
        subprocess.run(["docker", "rmi", "--force", *images], capture_output=True, check=False)


@pytest.fixture
def project(recorded: Project, tmp_path: Path) -> Project:
    shutil.copytree(recorded.root, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def _baselines(project: Project) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((project.root / "reprobox.baseline.json").read_text())["baselines"]
    return found


def test_a_baseline_holds_the_conditions_and_nothing_of_the_host(project: Project) -> None:
    (one,) = _baselines(project)
    assert one["conditions"]["engine"].startswith("Docker ")
    assert (one["conditions"]["cpus"], one["conditions"]["memory"]) == (1, 4 << 30)
    numpy = one["conditions"]["libraries"]["numpy"]
    assert numpy["blas"].startswith("OpenBLAS ")
    assert numpy["blas threads"] == "1"
    assert one["hardware"]["numpy blas"] == numpy["blas"]
    assert one["hardware"]["numpy simd"] == numpy["simd"]
    text = json.dumps(one)
    for private in (Path("/etc/hostname").read_text().strip() + '"', str(project.root), "boot"):
        assert private not in text


def test_the_answer_is_read_once_for_an_image(project: Project) -> None:
    project("verify")  # this checkout's first question
    assert "Reading the hardware" not in project("verify").err
    (files.memory_place(project.root) / probe.NOTE).unlink()
    assert "Reading the hardware" in project("verify").err


def test_other_kernels_are_another_class_that_has_no_baseline(project: Project) -> None:
    (first,) = _baselines(project)
    here = first["hardware"]["numpy blas"]
    project.change("reprobox.yaml", "determinism: pinned", "determinism: pinned\nenv: {OPENBLAS_CORETYPE: Nehalem}")
    project("lock")
    found = project("verify", "--json", code=2).json
    details = {one["path"]: (one["status"], one["detail"]) for one in found["findings"]}
    cpu = hardware.describe(hardware.HardwareClass(facts=first["hardware"]))
    assert details == {
        "exact.bin": ("NO_BASELINE", f"equal to the baseline of {cpu}, with numpy blas {here}"),
        "rounded.bin": ("NO_BASELINE", f"differs from the baseline of {cpu}, with numpy blas {here}"),
    }
    (other,) = found["elsewhere"]
    assert other["differs"] == [f"numpy blas: OpenBLAS Nehalem here, {here} there"]
    assert (project.root / ".reprobox/runs/1/outputs/exact.bin").is_file()
    assert f"  numpy blas: OpenBLAS Nehalem here, {here} there" in project("verify", code=2).out
    project("record")
    assert [one for one in _baselines(project) if one["hardware"] == first["hardware"]] == [first]
    assert len(_baselines(project)) == 2
    project("verify")


def test_a_portable_baseline_is_refused_where_the_kernels_are_not_those_asked_for(project: Project) -> None:
    """numpy's OpenBLAS is built without Barcelona's kernels, and says so in no other way."""
    project.change("reprobox.yaml", "pinned", "portable\nenv: {OPENBLAS_CORETYPE: Barcelona}")
    project("lock")
    for verb in ("verify", "record"):
        said = project(verb, code=2).err
        assert "`determinism: portable` is not in effect" in said
        assert "blas is OpenBLAS Nehalem (`env:` sets OPENBLAS_CORETYPE to 'Barcelona')" in said
        assert "take OPENBLAS_CORETYPE out of `env:`" in said
    project.change("reprobox.yaml", "\nenv: {OPENBLAS_CORETYPE: Barcelona}", "")
    project("lock")
    project("record")
    assert {"architecture": "x86_64", "instructions": "x86-64-v3"} in [one["hardware"] for one in _baselines(project)]


@pytest.mark.qemu
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # docker-py's sockets, closed late
def test_another_cpu_is_read_as_another(project: Project, tmp_path: Path) -> None:
    emulator = tmp_path / "qemu"
    shutil.copy(shutil.which("qemu-x86_64-static") or "", emulator)  # where the daemon sees it
    engine = building.engine()
    built = building.build(project.root, engine=engine, console=Console())
    plain = probe.job(("numpy",), cpus=1, memory=4 << 30)
    as_haswell = dataclasses.replace(
        plain,
        command=("/qemu", "-cpu", "Haswell-v1", *plain.command),
        mounts=(Mount(source=emulator, target=PurePosixPath("/qemu")),),
    )

    def ask(name: str, job: probe.Job) -> Conditions:
        return probe.conditions(engine, built.image, job, memory=tmp_path / name, console=Console())

    here, there = ask("here", plain), ask("there", as_haswell)
    assert there.libraries["numpy"]["blas"] == "OpenBLAS Haswell"
    assert there.libraries["numpy"]["simd"] == "X86_V3"
    if here.instructions == "x86-64-v4":
        assert here.libraries["numpy"]["simd"] != "X86_V3"
