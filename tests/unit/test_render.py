from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from examples import digest, lock, project, tree
from reprobox import recipe, render
from reprobox.errors import InvalidInput
from reprobox.model import LockedImage, Output, Platform, Recipe, Smoke
from reprobox.resources import templates


def _recipe(*, image: bool = False) -> Recipe:
    wanted = project(image=image)
    return recipe.make(wanted, lock(wanted, image=image), Platform.LINUX_64)


@pytest.mark.parametrize("kind", ["bootstrap", "image"])
def test_the_dockerfile_is_the_golden_one(kind: str, golden: Callable[[str, str], None]) -> None:
    made = dataclasses.replace(_recipe(image=kind == "image"), indexes=("https://index.example/simple",))
    golden(f"{kind}.Dockerfile", render.dockerfile(made))


def test_the_dockerfile_with_sdists_is_the_golden_one(golden: Callable[[str, str], None]) -> None:
    made = dataclasses.replace(
        _recipe(), sdists=True, local_sdists=("src/lab-1.0.tar.gz",), indexes=("https://index.example/simple",),
        find_links=("https://links.example/page.html",),
    )  # fmt: skip
    golden("sdists.Dockerfile", render.dockerfile(made))


def test_the_dockerfile_with_an_own_package_is_the_golden_one(golden: Callable[[str, str], None]) -> None:
    golden("package.Dockerfile", render.dockerfile(dataclasses.replace(_recipe(), own_package=PurePosixPath("lib"))))


def test_the_dockerignore_is_the_golden_one(golden: Callable[[str, str], None]) -> None:
    golden("dockerignore", render.dockerignore(_recipe()))


def test_an_output_with_an_odd_name_is_ignored_as_it_is_written() -> None:
    wanted = dataclasses.replace(project(), smoke=Smoke(command=("x",), outputs=(Output(path=PurePosixPath("!a[1]")),)))
    made = recipe.make(wanted, lock(wanted), Platform.LINUX_64)
    assert "\\!a\\[1\\]" in render.dockerignore(made).splitlines()


def test_a_platform_that_the_lock_lacks_is_refused_with_those_it_has() -> None:
    wanted = project()
    with pytest.raises(InvalidInput, match="the lock holds no linux-aarch64, only linux-64"):
        recipe.make(wanted, lock(wanted), Platform.LINUX_AARCH64)


@pytest.mark.parametrize(
    ("reference", "repository"),
    [
        ("python:3.11", "python"),
        ("host.example:5000/a/b", "host.example:5000/a/b"),
        ("host.example:5000/a/b:tag", "host.example:5000/a/b"),
        ("a/b@sha256:" + "0" * 64, "a/b"),
        ("a/b:1@sha256:" + "0" * 64, "a/b"),
    ],
)
def test_from_names_the_platforms_own_manifest(reference: str, repository: str) -> None:
    base = LockedImage(reference=reference, digest=digest("i"), manifests={Platform.LINUX_64: digest("m")})
    made = dataclasses.replace(_recipe(image=True), base=base)
    assert made.from_reference == f"{repository}@{digest('m')}"


def test_a_value_with_quotes_dollars_and_backslashes_means_itself() -> None:
    assert 'ENV AWKWARD="a \\"quoted\\" \\$dollar \\\\ backslash"' in render.dockerfile(_recipe())


def test_the_context_holds_the_files_links_and_modes_of_the_tree() -> None:
    made = render.context(_recipe(), tree=tree(), root=Path("/p"), natives={"requirements.lock": b"x"})
    assert made.files[PurePosixPath("train.py")] == Path("/p/train.py")
    assert made.files[PurePosixPath("requirements.lock")] == b"x"
    assert made.executables == {PurePosixPath("run.sh")}


@pytest.mark.parametrize("change", ["source", "lock file", "recipe"])
def test_the_contexts_digest_moves_with_everything_that_goes_in(change: str) -> None:
    def digest_of(content: str = "a", native: bytes = b"n", epoch: int = 0) -> object:
        made = dataclasses.replace(_recipe(), epoch=epoch)
        return render.context(made, tree=tree(content), root=Path("/p"), natives={"requirements.lock": native}).digest

    assert digest_of() == digest_of()
    changed = {"source": digest_of(content="b"), "lock file": digest_of(native=b"m"), "recipe": digest_of(epoch=1)}
    assert changed[change] != digest_of()


def test_the_contexts_digest_moves_with_a_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, before = _recipe(), render.digest(_recipe(), tree=tree(), natives={})
    folder = tmp_path / "templates"
    shutil.copytree(templates(), folder)
    monkeypatch.setattr(render, "templates", lambda: folder)
    assert render.digest(made, tree=tree(), natives={}) == before
    (folder / "uv.Dockerfile.j2").write_text("FROM scratch\n")
    assert render.digest(made, tree=tree(), natives={}) != before


def test_the_contexts_digest_moves_with_how_a_value_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = render.digest(_recipe(), tree=tree(), natives={})
    (tmp_path / "render.py").write_text(Path(render.__file__).read_text().replace("shlex.quote", "repr"))
    monkeypatch.setattr(render, "_PRINTER", tmp_path / "render.py")
    assert render.digest(_recipe(), tree=tree(), natives={}) != before


def test_templates_print_and_decide_nothing() -> None:
    for template in templates().glob("*.j2"):
        text = template.read_text()
        statements = re.findall(r"\{%-?\s*(\w+)", text)
        assert set(statements) <= {"for", "endfor", "if", "elif", "else", "endif"}, template.name
        for expression in re.findall(r"\{\{(.*?)\}\}", text):
            bare = re.sub(r'"[^"]*"|\|\s*\w+', "", expression)
            assert set(re.findall(r"[A-Za-z_][\w.]*", bare)) <= set(re.findall(r"recipe[\w.]*", bare)) | {
                "name",
                "place",
                "wheel",
                "package.digest.hex",
                "package.deb",
                "value",
                "index",
            }, expression
