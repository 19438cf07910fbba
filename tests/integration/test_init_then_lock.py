"""`reprobox init` in a folder as people have it, and what it writes locks."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TRAIN, Project

pytestmark = pytest.mark.network

DOCKERFILE = """\
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-pip libgomp1
WORKDIR /app
COPY . .
RUN pip install -r requirements.txt && pip install idna==3.6
CMD ["python3", "train.py", "0"]
"""


def test_a_folder_with_requirements_a_dockerfile_and_a_script_is_drafted_and_locks(tmp_path: Path) -> None:
    here = Project(tmp_path)
    here.write("requirements.txt", "six==1.16.0\n")
    here.write("Dockerfile", DOCKERFILE)
    here.write("train.py", TRAIN)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    drafted = here("init", "--json").json
    assert drafted["written"] == ["requirements.in", "reprobox.yaml"]
    here("lock")
    here("lock", "--check")
    lock = (tmp_path / "reprobox.lock").read_text()
    assert "name: libgomp1," in lock
    locked = (tmp_path / "requirements.lock").read_text()
    assert "six==1.16.0" in locked
    assert "idna==3.6" in locked
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_poetry_project_is_drafted_and_locks_to_the_versions_it_had(tmp_path: Path) -> None:
    here = Project(tmp_path)
    here.write(
        "pyproject.toml",
        '[tool.poetry]\nname = "x"\n[tool.poetry.dependencies]\npython = "^3.11"\nrequests = "^2.28"\n',
    )
    versions = {"requests": "2.31.0", "idna": "3.4", "certifi": "2023.7.22", "urllib3": "2.0.7", "colorama": "0.4.6"}
    here.write("poetry.lock", "".join(f'[[package]]\nname = "{n}"\nversion = "{v}"\n' for n, v in versions.items()))
    here("init")
    here("lock")
    locked = (tmp_path / "requirements.lock").read_text()
    for name in ("requests", "idna", "certifi", "urllib3"):
        assert f"{name}=={versions[name]}" in locked
    assert "colorama" not in locked
