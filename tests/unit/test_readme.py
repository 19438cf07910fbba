"""What the README says is so: its config, its words, its table of verbs."""

from __future__ import annotations

import importlib.machinery
import re
import types
from pathlib import Path

import pytest

from reprobox import config
from reprobox.cli import cli
from reprobox.command_line import ORDER
from reprobox.model import Status

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def docs() -> types.ModuleType:
    """The script behind `make docs`."""
    loader = importlib.machinery.SourceFileLoader("docs", str(ROOT / ".ci" / "docs"))
    module = types.ModuleType(loader.name)
    module.__file__ = loader.path
    exec(loader.get_source("docs") or "", module.__dict__)  # no bytecode is left beside it
    return module


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_table_of_verbs_is_what_their_help_says(docs: types.ModuleType) -> None:
    assert docs.written(README) == README, "run `make docs`"
    for verb in cli.commands:
        assert re.search(rf"^\| `{verb}\b", docs.table(), re.MULTILINE)


def test_a_stale_table_is_exit_code_1_and_a_lost_marker_an_error(
    docs: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    monkeypatch.setattr(docs, "README", readme)
    readme.write_text(f"before\n{docs.BEGIN}old\n{docs.END}after\n")
    assert docs.main(["--check"]) == 1
    assert "make docs" in capsys.readouterr().err
    assert docs.main([]) == 0
    assert readme.read_text() == f"before\n{docs.BEGIN}{docs.table()}{docs.END}after\n"
    assert docs.main(["--check"]) == 0
    for lost in (docs.BEGIN, docs.END, docs.END + docs.BEGIN):
        with pytest.raises(ValueError, match="once"):
            docs.written(lost)


def test_the_config_by_example_is_valid(tmp_path: Path) -> None:
    (block,) = _blocks("yaml")
    project = config.loads(block.encode(), root=tmp_path)
    assert project.smoke and project.smoke.control
    written = set(re.findall(r"^ *(?:- \{)?([a-z-]+):", block, re.MULTILINE))
    missing = {*config.schema()["properties"]} - written
    assert missing == {"epoch", "exclude-newer", "env"}, "name a new key in the example, or here"


def test_transcripts_use_only_verdicts_and_verbs_that_exist() -> None:
    told = "\n".join(_blocks("console"))
    words = set(re.findall(r"^[✓✗!]  ([A-Z_]+)", told, re.MULTILINE))
    assert {"IDENTICAL", "DIFFERENT", "RUN_FAILED"} <= words <= {status.value for status in Status}
    verbs = set(re.findall(r"^\$ reprobox (\w+)", told, re.MULTILINE))
    assert {"lock", "build", "record", "verify"} <= verbs <= set(ORDER)


def test_the_text_names_only_verdicts_that_exist() -> None:
    named = set(re.findall(r"\b(?:[A-Z]+_[A-Z]+|IDENTICAL|DIFFERENT|MISSING|EXTRA|UNSTABLE|INCOMPLETE)\b", README))
    variables = {name for name in named if name.startswith(("REPROBOX_", "SSL_", "SOURCE_", "NO_COLOR", "GITHUB_"))}
    assert named - variables <= {status.value for status in Status}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_file_that_is_linked_or_named_exists(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    linked = {path for path in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in path}
    named = set(re.findall(r"`((?:reprobox|tests|\.ci|\.github)/[\w./-]+)`", text))
    assert linked
    assert [path for path in sorted(linked | named) if not (ROOT / path).exists()] == []


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len(README.splitlines()) <= 260
