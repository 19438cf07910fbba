"""The table in reprobox/__init__.py is the architecture; these tests hold it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import reprobox

ROOT = Path(reprobox.__file__).parent


def _rooms() -> list[str]:
    assert reprobox.__doc__
    header, *rooms = re.findall(r"^(\w+) {2,}", reprobox.__doc__, re.MULTILINE)
    assert header == "room"
    return rooms


def _room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path.name}: imports are absolute"
            names = [
                f"{node.module}.{alias.name}" if node.module == "reprobox" else node.module for alias in node.names
            ]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("reprobox.")}
    return found - {"__version__"}


def test_every_module_is_in_the_table_and_every_row_exists() -> None:
    modules = {_room_of(path) for path in ROOT.rglob("*.py")} - {"__init__", "__main__"}
    assert modules == set(_rooms())


def test_a_module_imports_only_from_rows_above_its_own() -> None:
    order = {room: place for place, room in enumerate(_rooms())}
    wrong = [
        f"{path.relative_to(ROOT)} imports {imported}"
        for path in ROOT.rglob("*.py")
        if (room := _room_of(path)) in order
        for imported in _imports(path)
        if imported != room and order[imported] > order[room]
    ]
    assert wrong == []


def test_a_pure_room_neither_speaks_nor_starts_nor_fetches() -> None:
    pure = re.findall(r"^(\w+) {2,}.*\(pure", reprobox.__doc__ or "", re.MULTILINE)
    assert "compare" in pure
    wrong = [
        f"{path.relative_to(ROOT)} imports {imported}"
        for path in ROOT.rglob("*.py")
        if _room_of(path) in pure
        for imported in sorted(_imports(path) & {"cache", "console", "engines", "proc", "registry", "web"})
    ]
    assert wrong == []


def _loaded(program: str) -> set[str]:
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(found.stdout.split())


def test_help_imports_little_more_than_click() -> None:
    program = "import sys, click; before = {*sys.modules}; import reprobox.cli; print(*{*sys.modules} - before)"
    modules = {name for name in _loaded(program) if not name.startswith("_")}
    ours = {"reprobox", "reprobox.cli", "reprobox.command_line", "reprobox.streams"}
    assert modules <= ours | {"signal", "locale"}


def test_the_wheel_holds_the_package_and_its_templates(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT.parent,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        archive.extractall(tmp_path / "site")
    assert {name for name in names if not name.endswith(".py")} == {
        "reprobox/py.typed",
        "reprobox/templates/dockerignore.j2",
        "reprobox/templates/uv.Dockerfile.j2",
    }
    assert {name for name in names if name.endswith(".py")} == {
        path.relative_to(ROOT.parent).as_posix() for path in ROOT.rglob("*.py")
    }
    found = subprocess.run(
        [sys.executable, "-c", "from reprobox.resources import templates; print(templates())"],
        cwd=tmp_path / "site",
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert Path(found) == (tmp_path / "site" / "reprobox" / "templates").resolve()
