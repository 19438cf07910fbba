from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from examples import lock, project
from reprobox import config, lockfile, tree
from reprobox.errors import InvalidInput
from reprobox.workflow import building

CONFIG = """\
name: warm-start
environment: requirements.in
python: "3.11"
base: {bootstrap: debian, suite: bookworm}
smoke: {command: [python, train.py], outputs: [{path: out/a.json, ignore: [$.seconds]}]}
"""


def test_a_look_at_what_is_built_already_imports_nothing_slow(tmp_path: Path) -> None:
    (tmp_path / "reprobox.yaml").write_text(CONFIG)
    (tmp_path / "requirements.in").write_text("numpy\n")
    (tmp_path / "requirements.lock").write_text("numpy==2.4.6\n")
    wanted = config.load(tmp_path)  # remembered from here on, as after any `reprobox lock`
    (tmp_path / "reprobox.lock").write_bytes(lockfile.dumps(dataclasses.replace(lock(wanted), wants=wanted.wants)))
    program = f"""
import pathlib, sys
from reprobox import cli
from reprobox.workflow import building
prepared = building.prepare(pathlib.Path({str(tmp_path)!r}))
prepared.digest, prepared.reference, building.engine()
print(*{{name.partition(".")[0] for name in sys.modules}}, *{{"http.client", "ssl"}} & sys.modules.keys())
"""
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    slow = {"docker", "http.client", "jinja2", "jsonpath", "pydantic", "requests", "rich", "ssl", "urllib3", "uv"}
    assert slow & set(loaded) == set()


def test_a_file_edited_while_a_build_is_prepared_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "requirements.in").write_text("")
    (tmp_path / "train.py").write_text("print(1)\n")
    wanted = project(tmp_path)
    prepared: Any = SimpleNamespace(project=wanted, tree=tree.read(wanted))
    building._require_unchanged(prepared)
    (tmp_path / "train.py").write_text("print(2)\n")
    with pytest.raises(InvalidInput, match="files changed while the build was being prepared"):
        building._require_unchanged(prepared)
