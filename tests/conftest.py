"""What a test needs and a machine may lack: skipped with its reason, or a failure where REPROBOX_REQUIRE names it."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="write what is produced now as the expected text")


def _docker() -> str | None:
    try:
        subprocess.run(["docker", "buildx", "version"], check=True, capture_output=True, timeout=30)
        subprocess.run(["docker", "info"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        return f"no Docker daemon with buildx answers ({type(error).__name__})"
    return None


def _network() -> str | None:
    asked = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-cache", "-"],
        input="six",
        text=True,
        capture_output=True,
        check=False,
        timeout=120,
    )
    return None if asked.returncode == 0 else "the package index does not answer"


def _program(name: str) -> Callable[[], str | None]:
    return lambda: None if shutil.which(name) else f"{name} is not installed"


NEEDS: dict[str, Callable[[], str | None]] = {
    "docker": functools.cache(_docker),
    "network": functools.cache(_network),
    "apptainer": _program("apptainer"),
    "slurm": _program("srun"),
    "registry": _program("docker-registry"),
    "gpu": _program("nvidia-smi"),
    "qemu": _program("qemu-x86_64-static"),
    "micromamba": lambda: (
        None
        if os.environ.get("REPROBOX_MICROMAMBA_IMAGE")
        else "REPROBOX_MICROMAMBA_IMAGE names no image that holds micromamba"
    ),
}
REQUIRED = set(filter(None, os.environ.get("REPROBOX_REQUIRE", "").split(",")))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers():
        lacking = NEEDS[marker.name]() if marker.name in NEEDS else None
        if lacking and marker.name in REQUIRED:
            pytest.fail(f"REPROBOX_REQUIRE names {marker.name}, but {lacking}", pytrace=False)
        elif lacking:
            pytest.skip(lacking)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with ``tests/goldens/NAME``; ``--update-goldens`` writes it instead."""

    def compare(name: str, text: str) -> None:
        path = ROOT / "tests" / "goldens" / name
        if request.config.getoption("--update-goldens"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"there is no golden {name}; write it with --update-goldens"
        assert text == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture(autouse=True)
def _own_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Unit tests never see the user's cache."""
    if "unit" in Path(str(request.node.path)).parts:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
