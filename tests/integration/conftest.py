"""Real projects on a real engine: locked once, copied for each test."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRAIN = """\
import json, pathlib, sys
seed = int(sys.argv[1])
out = pathlib.Path("out")
out.mkdir()
(out / "model.bin").write_bytes(bytes((seed + i) % 256 for i in range(1000)))
(out / "metrics.json").write_text(json.dumps({"accuracy": 0.5 + seed / 10, "seconds": __import__("time").time()}))
"""
CONFIG = """\
name: reprobox-test-small
environment: requirements.in
python: "3.11"
base: {bootstrap: debian, suite: bookworm}
smoke:
  command: [python, train.py, "0"]
  control: [python, train.py, "1"]
  outputs:
    - out/model.bin
    - {path: out/metrics.json, ignore: [$.seconds]}
  timeout: 60
"""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Project:
    """A project's folder, and reprobox as a user runs it there."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, *words: str, env: Mapping[str, str] | None = None, code: int | None = 0) -> Result:
        done = subprocess.run(self.command(*words), capture_output=True, text=True, check=False, env=self.env(env))
        if code is not None:
            assert done.returncode == code, f"exit code {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "reprobox", "-C", str(self.root), *words]

    def env(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**os.environ, **(more or {})}

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if (self.root / ".git").exists():
            self.git("add", "--all")

    def change(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def git(self, *words: str) -> None:
        subprocess.run(["git", "-C", str(self.root), *words], check=True, capture_output=True)


@pytest.fixture(scope="session")
def locked_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small project, locked on the real index and the real distribution."""
    root = tmp_path_factory.mktemp("locked")
    project = Project(root)
    project.git("init", "--quiet")
    project.write("reprobox.yaml", CONFIG)
    project.write("train.py", TRAIN)
    project.write("requirements.in", "six==1.16.0\n")
    project("lock")
    project.git("add", "--all")
    yield root
    listed = ["docker", "images", "--quiet", "--filter", "reference=reprobox-test-small"]
    with contextlib.suppress(OSError):
        images = subprocess.run(listed, capture_output=True, text=True, check=False).stdout.split()
        if images:
            subprocess.run(["docker", "rmi", "--force", *images], capture_output=True, check=False)


@pytest.fixture
def project(locked_project: Path, tmp_path: Path) -> Callable[[], Project]:
    """A fresh copy of the locked project each time it is called."""
    count = 0

    def copy() -> Project:
        nonlocal count
        count += 1
        root = tmp_path / f"project-{count}"
        shutil.copytree(locked_project, root, symlinks=True, ignore=shutil.ignore_patterns(".reprobox"))
        return Project(root)

    return copy


# --- a registry -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """A real registry on loopback, and the folder where it keeps its blobs."""

    address: str
    storage: Path

    def blob(self, hexadecimal: str) -> Path:
        return self.storage / "docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data"


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An empty registry."""
    storage = tmp_path_factory.mktemp("registry")
    server = subprocess.Popen(
        [ROOT / ".ci/engine", "registry", str(storage)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert server.stdout
    address = server.stdout.readline().strip()
    host, port = address.split(":")
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                break
        time.sleep(0.1)
    yield Served(address=address, storage=storage)
    server.terminate()
    server.wait()
    server.stdout.close()
