from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import digest, lock, project, tree
from reprobox import lockfile, recipe, render
from reprobox.errors import InvalidInput, InvalidLock
from reprobox.model import (
    Lock,
    LockedBootstrap,
    LockedFile,
    LockedImage,
    LockedInterpreter,
    LockedSystem,
    Output,
    Platform,
    PythonVersion,
    Recipe,
    Smoke,
    SystemPackage,
)
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


HARMLESS = {
    "name",  # of a variable or label, or a path among local_sdists: letters that need no quotes, checked when read
    "package.deb",
    "package.digest.hex",
    "recipe.base.distribution",
    "recipe.base.packages | length",
    "recipe.base.rootfs.hex",
    "recipe.base.suite",
    "recipe.base.system.distribution",
    "recipe.epoch",
    "recipe.from_reference",
    "recipe.home",
    "recipe.prefix",
    "recipe.user",
    "recipe.uv_version",
    "recipe.work",
    "wheel",
}
"""What may be printed as it is: numbers, digests, constants, and what a reader of locks holds to a few letters."""

TEXTS = st.text("a1.:/@ \n\r\t\x0b\x85\u2028\\'\"$#<;,=-", max_size=8) | st.sampled_from(
    ("harmless\nRUN evil", "a <<EOF", "a AS b", "1\\", "x,from=evil.example/a", "EOF", "\nEOF\nRUN evil\n")
)
PLACES = (
    "reference", "uv", "distribution", "suite", "snapshot", "python", "native", "own_package", "index", "place",
    "variable", "value", "deb",
)  # fmt: skip


def _lock_with(place: str = "", text: str = "", *, image: bool) -> Lock:
    """A lock that has everything, with ``text`` in one place."""

    def put(name: str, harmless: str) -> str:
        return text if name == place else harmless

    package = SystemPackage(
        name="git", version=put("deb", "1:2"), architecture="amd64", file="pool/g.deb", digest=digest("g")
    )
    release = {"distribution": put("distribution", "debian"), "suite": put("suite", "bookworm"),
               "snapshot": put("snapshot", "20260711T101637Z")}  # fmt: skip
    made = lock(project(image=image), image=image)
    base: LockedImage | LockedBootstrap
    if isinstance(made.base, LockedImage):
        system = LockedSystem(**release, packages={Platform.LINUX_64: (package,)})
        reference = put("reference", "host.example:5000/python:3.11")
        base = dataclasses.replace(made.base, reference=reference, system=system)
    else:
        base = dataclasses.replace(made.base, **release, packages=(package,))
    return dataclasses.replace(
        made, base=base, uv=dataclasses.replace(made.uv, version=put("uv", "0.13.9")),
        interpreter=LockedInterpreter(version=PythonVersion(3, 11), path=PurePosixPath(put("python", "/usr/python"))),
        natives=(LockedFile(name=put("native", "requirements.lock"), digest=digest("n")),),
        own_package=PurePosixPath(put("own_package", "lib")),
        indexes=(put("index", "https://index.example/simple"),),
        find_links=(put("place", "https://links.example/page"),),
        variables={put("variable", "NAME"): put("value", "value")},
    )  # fmt: skip


def _structure(made: Lock, *, image: bool) -> list[str]:
    """The Dockerfile's lines by their first word; of what says where a stage comes from, all words."""
    text = render.dockerfile(recipe.make(project(image=image), made, Platform.LINUX_64))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", text)
    words = [line.split(" ") for line in text.split("\n")]
    return [f"FROM {len(line)}" if line[0] == "FROM" else line[0] if line[0].isalpha() else "" for line in words]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PLACES), TEXTS, st.booleans())
def test_a_lock_from_anybody_is_refused_or_adds_no_line_to_the_dockerfile(place: str, text: str, image: bool) -> None:
    try:
        made = lockfile.loads(lockfile.dumps(_lock_with(place, text, image=image)))
    except InvalidLock:
        return
    assert _structure(made, image=image) == _structure(_lock_with(image=image), image=image)


@pytest.mark.parametrize("place", ["reference", "uv", "distribution", "suite", "snapshot", "variable", "deb"])
@pytest.mark.parametrize("text", ["a b", "a\nRUN evil", "a\t", "$(evil)", "a'b", "1\n"])
def test_what_is_printed_without_quotes_is_refused_with_anything_to_quote(place: str, text: str) -> None:
    with pytest.raises(InvalidLock, match=r"reprobox\.lock is damaged: ValueError: not (a|an|the) "):
        lockfile.loads(lockfile.dumps(_lock_with(place, text, image=True)))


@pytest.mark.parametrize("place", ["python", "native", "own_package", "index", "place", "value"])
def test_no_value_of_a_lock_holds_a_line_break(place: str) -> None:
    with pytest.raises(InvalidLock, match="a line break or a control character"):
        lockfile.loads(lockfile.dumps(_lock_with(place, "/a\nRUN evil", image=True)))


def test_the_contexts_digest_moves_with_how_a_value_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = render.digest(_recipe(), tree=tree(), natives={})
    (tmp_path / "render.py").write_text(Path(render.__file__).read_text().replace("shlex.quote", "repr"))
    monkeypatch.setattr(render, "_PRINTER", tmp_path / "render.py")
    assert render.digest(_recipe(), tree=tree(), natives={}) != before


def test_templates_print_and_decide_nothing() -> None:
    found = sorted(templates().glob("*.j2"))
    assert [template.name for template in found] == ["dockerignore.j2", "uv.Dockerfile.j2"]
    for template in found:
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
            quoted = re.search(r"\| (shell|dockerfile|pattern|json)$", expression.strip())
            assert quoted or expression.strip() in HARMLESS, f"{template.name} prints {expression} without quotes"
