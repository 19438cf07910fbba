"""From a pylock to requirements.lock without a solver; the machine's indexes; uv's failures in plain words."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobox.console import Console
from reprobox.errors import HashMismatch, InvalidInput, InvalidLock, ReproboxError, Unlockable
from reprobox.model import Digest, EnvironmentFile, ImageBase, Platform, Project, PythonVersion
from reprobox.resolvers import indexes, pylock, python
from reprobox.resolvers.asked import Kind, kind_of
from reprobox.resolvers.pylock import PackageFile, Selection, Target
from reprobox.resolvers.python import Upgrade
from reprobox.resolvers.solver import explain_failure

X86, ARM = Platform.LINUX_64, Platform.LINUX_AARCH64
PYTHON = PythonVersion(3, 11)


def sha(text: str) -> str:
    return Digest.of(text.encode()).hex


def file(name: str, **more: Any) -> dict[str, Any]:
    return {"url": f"https://files.example/{name}", "hashes": {"sha256": sha(name)}, **more}


def package(name: str, version: str, *wheels: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": version, "wheels": [file(wheel) for wheel in wheels], **more}


def target(root: Path = Path("/nowhere"), platform: Platform = X86, version: PythonVersion = PYTHON) -> Target:
    return Target(root=root, folder=root, python=version, platform=platform)


def sdist_only(name: str, version: str) -> dict[str, Any]:
    return {"name": name, "version": version, "sdist": file(f"{name}-{version}.tar.gz")}


def choose(*packages: dict[str, Any], at: Target | None = None, **more: Any) -> list[str]:
    return [wheel.file for wheel in pylock.select({"packages": list(packages)}, at or target(), **more).wheels]


# --- one wheel per package --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("best", "others"),
    [
        ("a-1-cp311-cp311-manylinux_2_28_x86_64.whl", ["a-1-cp311-cp311-manylinux_2_17_x86_64.whl"]),
        ("a-1-cp311-cp311-manylinux_2_17_x86_64.whl", ["a-1-cp311-cp311-manylinux2014_x86_64.whl"]),
        (
            "a-1-cp311-cp311-manylinux1_x86_64.whl",
            ["a-1-cp311-cp311-linux_x86_64.whl", "a-1-cp39-abi3-manylinux1_x86_64.whl"],
        ),
        (
            "a-1-cp39-abi3-manylinux_2_17_x86_64.whl",
            ["a-1-py3-none-any.whl", "a-1-cp312-cp312-manylinux_2_17_x86_64.whl"],
        ),
        ("a-1-py3-none-any.whl", ["a-1-cp311-cp311-musllinux_1_2_x86_64.whl", "a-1-cp311-cp311-win_amd64.whl"]),
        (
            "a-1-py3-none-any.whl",
            ["a-1-cp311-cp311-manylinux_2_34_x86_64.whl", "a-1-cp311-cp311-manylinux_2_17_aarch64.whl"],
        ),
        ("a-1-2-py3-none-any.whl", ["a-1-1-py3-none-any.whl", "a-1-py3-none-any.whl"]),
        ("a-1-cp311-cp311-linux_x86_64.whl", ["a-1-py3-none-any.whl"]),
    ],
)
def test_the_best_wheel_is_taken_whatever_the_order(best: str, others: list[str]) -> None:
    assert choose(package("a", "1", best, *others)) == [best]
    assert choose(package("a", "1", *others, best)) == [best]


def test_each_platform_gets_its_own_wheel() -> None:
    both = package("a", "1", "a-1-cp311-cp311-manylinux2014_aarch64.whl", "a-1-cp311-cp311-manylinux2014_x86_64.whl")
    assert choose(both, at=target(platform=ARM)) == ["a-1-cp311-cp311-manylinux2014_aarch64.whl"]


def test_markers_decide_which_packages_are_needed() -> None:
    packages = (
        package("a", "1", "a-1-py3-none-any.whl", marker="platform_machine == 'aarch64'"),
        package("b", "1", "b-1-py3-none-any.whl", marker="python_full_version < '3.11'"),
        package("c", "1", "c-1-py3-none-any.whl", marker="'plot' in extras or 'dev' in dependency_groups"),
        package("d", "1", "d-1-py3-none-any.whl", marker="sys_platform == 'linux'"),
    )
    assert choose(*packages) == ["d-1-py3-none-any.whl"]
    assert choose(*packages, extras=["plot"]) == ["c-1-py3-none-any.whl", "d-1-py3-none-any.whl"]
    assert choose(*packages, groups=["dev"], at=target(platform=ARM))[:2] == [
        "a-1-py3-none-any.whl",
        "c-1-py3-none-any.whl",
    ]


def test_a_package_without_a_wheel_comes_as_its_sdist() -> None:
    found = pylock.select({"packages": [sdist_only("antlr4", "4.9.3")]}, target())
    assert found.wheels == ()
    (sdist,) = found.sdists
    assert (sdist.requirement, sdist.file) == ("antlr4==4.9.3", "antlr4-4.9.3.tar.gz")
    assert sdist.origin == "https://files.example/antlr4-4.9.3.tar.gz"
    wheel = package("a", "1", "a-1-py3-none-any.whl", sdist=file("a-1.tar.gz"))
    assert choose(wheel) == ["a-1-py3-none-any.whl"]


def test_an_sdist_is_taken_where_only_it_is_admitted_or_it_was_before() -> None:
    both = package("a", "1", "a-1-py3-none-any.whl", sdist=file("a-1.tar.gz"))
    for more in ({"allowed": {"a": frozenset({sha("a-1.tar.gz")})}}, {"kept": {("a", "1"): {sha("a-1.tar.gz")}}}):
        assert [f.file for f in pylock.select({"packages": [both]}, target(), **more).sdists] == ["a-1.tar.gz"]  # type: ignore[arg-type]


def test_an_sdist_without_a_sha256_is_no_reason_to_refuse_a_wheel() -> None:
    bare = {"url": "https://files.example/a-1.tar.gz"}
    assert choose(package("a", "1", "a-1-py3-none-any.whl", sdist=bare)) == ["a-1-py3-none-any.whl"]
    with pytest.raises(Unlockable, match=r"a-1\.tar\.gz has no sha256"):
        choose({"name": "a", "version": "1", "sdist": bare})


@pytest.mark.parametrize("name", ["v4.9.3.tar.gz", "other-4.9.3.tar.gz", "antlr4-4.9.3.tar.bz2"])
def test_a_package_without_wheel_and_sdist_is_refused_by_name(name: str) -> None:
    with pytest.raises(Unlockable) as caught:
        choose({"name": "antlr4", "version": "4.9.3", "sdist": file(name)})
    assert "antlr4 4.9.3 has no wheel for linux-64 with Python 3.11 and glibc 2.28" in caught.value.message
    assert "no sdist (NAME-VERSION.tar.gz)" in caught.value.message
    assert caught.value.hint == "pin a version that has one, or build a wheel and name it as a local file"


def test_a_package_with_other_wheels_says_which() -> None:
    with pytest.raises(Unlockable, match=r"a 1 has no wheel for linux-aarch64.*it has a-1-cp311-cp311-win_amd64\.whl"):
        choose(package("a", "1", "a-1-cp311-cp311-win_amd64.whl"), at=target(platform=ARM))


def test_a_repository_is_refused() -> None:
    with pytest.raises(Unlockable, match="comes from a repository") as caught:
        choose({"name": "a", "vcs": {"type": "git", "url": "https://me:hush@h.example/a", "commit-id": "1" * 40}})
    assert "hush" not in caught.value.message


def test_another_source_tree_is_refused_and_the_project_itself_is_not_a_package(tmp_path: Path) -> None:
    with pytest.raises(Unlockable, match=r"b is a source tree \(lib\)"):
        choose({"name": "b", "directory": {"path": "lib"}}, at=target(tmp_path))
    found = pylock.select({"packages": [{"name": "me", "directory": {"path": "."}}]}, target(tmp_path))
    assert found == Selection(wheels=(), own_project=True)


def test_a_package_that_is_there_twice_is_a_contradiction() -> None:
    with pytest.raises(InvalidInput, match="names a twice for linux-64"):
        choose(package("a", "1", "a-1-py3-none-any.whl"), package("a", "2", "a-2-py3-none-any.whl"))


def test_only_admitted_hashes_are_taken() -> None:
    two = package("a", "1", "a-1-cp311-cp311-manylinux1_x86_64.whl", "a-1-py3-none-any.whl")
    assert choose(two, allowed={"a": frozenset({sha("a-1-py3-none-any.whl")})}) == ["a-1-py3-none-any.whl"]
    with pytest.raises(HashMismatch, match="has a hash that the requirements file admits"):
        choose(two, allowed={"a": frozenset({"0" * 64})})


def test_the_file_of_an_earlier_lock_is_kept_though_a_better_one_came() -> None:
    two = package("a", "1", "a-1-cp311-cp311-manylinux1_x86_64.whl", "a-1-py3-none-any.whl")
    assert choose(two, kept={("a", "1"): frozenset({sha("a-1-py3-none-any.whl")})}) == ["a-1-py3-none-any.whl"]
    assert choose(two, kept={("a", "0"): frozenset({sha("a-1-py3-none-any.whl")})}) == [
        "a-1-cp311-cp311-manylinux1_x86_64.whl"
    ]


def test_a_url_that_a_user_named_is_locked_without_its_fragment() -> None:
    archive = file("a-1-py3-none-any.whl#sha256=x")
    direct = {"name": "a", "version": "1", "archive": archive}
    (wheel,) = pylock.select({"packages": [direct]}, target()).wheels
    assert wheel.requirement == "a @ https://files.example/a-1-py3-none-any.whl"


def test_a_url_with_credentials_never_reaches_the_lock() -> None:
    archive = {"url": "https://me:hush@files.example/a-1-py3-none-any.whl", "hashes": {"sha256": sha("a")}}
    with pytest.raises(Unlockable, match="holds credentials") as caught:
        choose({"name": "a", "version": "1", "archive": archive})
    assert "hush" not in str(caught.value.message)


def test_a_wheel_of_the_project_is_named_by_its_path_and_hashed(tmp_path: Path) -> None:
    wheel = tmp_path / "wheels" / "a-1-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(b"zip")
    for entry in (
        {"archive": {"path": "wheels/a-1-py3-none-any.whl"}},
        {"wheels": [{"url": wheel.as_uri(), "hashes": {}}]},
    ):
        (found,) = pylock.select({"packages": [{"name": "a", "version": "1", **entry}]}, target(tmp_path)).wheels
        assert (found.requirement, found.digest) == ("./wheels/a-1-py3-none-any.whl", Digest.of(b"zip"))


def test_a_wheel_from_a_folder_of_the_machine_is_named_by_version_alone(tmp_path: Path) -> None:
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"zip")
    at = target(tmp_path / "project")
    wheels = [{"url": (tmp_path / "a-1-py3-none-any.whl").as_uri()}]
    (found,) = pylock.select({"packages": [{"name": "a", "version": "1", "wheels": wheels}]}, at).wheels
    assert found.requirement == "a==1"


def test_an_index_in_a_folder_of_the_machine_is_believed_as_any_index_is(tmp_path: Path) -> None:
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"not read")
    url = (tmp_path / "a-1-py3-none-any.whl").as_uri()
    entry = {"name": "a", "version": "1", "wheels": [{"url": url, "hashes": {"sha256": sha("zip")}}]}
    (found,) = pylock.select({"packages": [entry]}, target(tmp_path / "project")).wheels
    assert (found.requirement, found.digest) == ("a==1", Digest.of(b"zip"))


def test_a_local_wheel_with_other_bytes_than_the_lock_file_says_is_a_mismatch(tmp_path: Path) -> None:
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"other")
    archive = {"path": "a-1-py3-none-any.whl", "hashes": {"sha256": sha("zip")}}
    with pytest.raises(HashMismatch, match=r"a-1-py3-none-any\.whl is not what the lock file names"):
        choose({"name": "a", "version": "1", "archive": archive}, at=target(tmp_path))


def test_a_local_wheel_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot read the file of a 1"):
        choose({"name": "a", "version": "1", "archive": {"path": "a-1-py3-none-any.whl"}}, at=target(tmp_path))


def test_a_path_that_a_requirements_file_cannot_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "my wheels").mkdir()
    (tmp_path / "my wheels" / "a-1-py3-none-any.whl").write_bytes(b"zip")
    archive = {"path": "my wheels/a-1-py3-none-any.whl"}
    with pytest.raises(Unlockable, match="cannot name the path my wheels/"):
        choose({"name": "a", "version": "1", "archive": archive}, at=target(tmp_path))


def test_a_file_without_a_sha256_is_refused() -> None:
    with pytest.raises(Unlockable, match=r"a-1-py3-none-any\.whl has no sha256"):
        choose({"name": "a", "version": "1", "wheels": [{"url": "https://files.example/a-1-py3-none-any.whl"}]})


# --- requirements.lock ------------------------------------------------------------------------


def wheel(name: str, version: str, tag: str = "py3-none-any", **more: Any) -> PackageFile:
    plain = f"{name.replace('-', '_')}-{version}-{tag}.whl"
    return PackageFile(name=name, version=version, file=plain, digest=Digest(sha(plain)), **more)


def test_the_lock_reads_as_pip_and_people_read_it() -> None:
    numpy = {p: wheel("numpy", "2.4.6", f"cp311-cp311-manylinux_2_28_{p.machine}") for p in (X86, ARM)}
    local = wheel("lab", "1.0", path=PurePosixPath("wheels/lab-1.0-py3-none-any.whl"))
    lock = pylock.render(
        {
            X86: Selection(wheels=(wheel("torch", "2.13.0+cpu"), local, numpy[X86], wheel("six", "1.17.0"))),
            ARM: Selection(wheels=(numpy[ARM], local, wheel("torch", "2.13.0"), wheel("six", "1.17.0"))),
        }
    ).decode()
    hashes = sorted([numpy[X86].digest.hex, numpy[ARM].digest.hex])
    assert lock == (
        "# written by `reprobox lock`; do not edit\n"
        "# lab-1.0-py3-none-any.whl\n"
        f"./wheels/lab-1.0-py3-none-any.whl \\\n    --hash=sha256:{local.digest.hex}\n"
        "# numpy-2.4.6-cp311-cp311-manylinux_2_28_aarch64.whl\n"
        "# numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl\n"
        f"numpy==2.4.6 \\\n    --hash=sha256:{hashes[0]} \\\n    --hash=sha256:{hashes[1]}\n"
        "# six-1.17.0-py3-none-any.whl\n"
        f"six==1.17.0 \\\n    --hash=sha256:{sha('six-1.17.0-py3-none-any.whl')}\n"
        "# torch-2.13.0-py3-none-any.whl\n"
        f'torch==2.13.0 ; platform_machine == "aarch64" \\\n    --hash=sha256:{sha("torch-2.13.0-py3-none-any.whl")}\n'
        "# torch-2.13.0+cpu-py3-none-any.whl\n"
        'torch==2.13.0+cpu ; platform_machine == "x86_64" \\\n'
        f"    --hash=sha256:{sha('torch-2.13.0+cpu-py3-none-any.whl')}\n"
    )


def test_one_platform_needs_no_markers_and_no_packages_need_no_lines() -> None:
    assert b";" not in pylock.render({X86: Selection(wheels=(wheel("a", "1"),))}).split(b"\n", 1)[1]
    assert pylock.render({X86: Selection(wheels=())}).decode() == pylock.HEADER


names = st.from_regex(r"[a-z][a-z0-9]{0,6}(-[a-z0-9]{1,4})?", fullmatch=True)
selections = st.dictionaries(names, st.sampled_from(["1", "2.0", "3.1+cpu", "4rc1"]), max_size=6)


@settings(max_examples=150, deadline=None)
@given(selections, selections, st.randoms(use_true_random=False))
def test_what_is_written_is_read_back_whatever_the_order(
    on_x86: dict[str, str], on_arm: dict[str, str], dice: random.Random
) -> None:
    def shuffled(versions: dict[str, str]) -> Selection:
        wheels = [wheel(*pair) for pair in versions.items()]
        dice.shuffle(wheels)
        return Selection(wheels=tuple(wheels))

    lock = pylock.render({X86: shuffled(on_x86), ARM: shuffled(on_arm)})
    assert lock == pylock.render({ARM: shuffled(on_arm), X86: shuffled(on_x86)})
    for platform, versions in ((X86, on_x86), (ARM, on_arm)):
        assert python.versions({"requirements.lock": lock}, platform) == versions
        found = {package.name: package.hashes for package in pylock.parse(lock) if package.holds_on(platform)}
        assert found == {name: frozenset({wheel(name, version).digest.hex}) for name, version in versions.items()}


def test_urls_and_paths_are_read_back_by_the_names_of_their_wheels() -> None:
    url = "https://files.example/lab-1.0-py3-none-any.whl"
    for direct in ({"url": url}, {"path": PurePosixPath("lab-1.0-py3-none-any.whl")}):
        (found,) = pylock.parse(pylock.render({X86: Selection(wheels=(wheel("lab", "1.0", **direct),))}))
        assert (found.name, found.version, found.direct) == ("lab", "1.0", True)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"six==1.17.0\n", 1),
        (pylock.HEADER.encode() + b"six==1.17.0\n", 2),
        (pylock.HEADER.encode() + b"# six.whl\nsix==1 \\\n    --hash=sha256:" + b"0" * 64 + b"\n", 2),
        (pylock.render({X86: Selection(wheels=(wheel("a", "1"),))}) + b"six==1.17.0\n", 5),
        (b"\xff\n", 1),
    ],
)
def test_an_edited_lock_is_refused_with_its_line(data: bytes, line: int) -> None:
    with pytest.raises(InvalidLock, match=rf"requirements\.lock:{line} is not as reprobox writes it"):
        pylock.parse(data)


# --- what the project's files ask -------------------------------------------------------------

Make = Callable[..., Project]


@pytest.fixture
def project(tmp_path: Path) -> Make:
    def make(environment: str, /, python: str = "3.11", exclude_newer: str | None = None, **more: Any) -> Project:
        extras, groups = more.pop("extras", ()), more.pop("groups", ())
        for name, content in more.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content, encoding="utf-8")
        return Project(
            root=tmp_path,
            name="lab",
            environment=EnvironmentFile(path=PurePosixPath(environment), extras=extras, groups=groups),
            python=PythonVersion.parse(python),
            base=ImageBase(reference="debian:bookworm-slim"),
            exclude_newer=exclude_newer,
        )

    return make


def input_names(project: Project) -> list[str]:
    return [file.name for file in python.read_inputs(project)]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("requirements.in", Kind.REQUIREMENTS),
        ("env/reqs.txt", Kind.REQUIREMENTS),
        ("pyproject.toml", Kind.PYPROJECT),
        ("uv.lock", Kind.UV_LOCK),
        ("pylock.toml", Kind.PYLOCK),
        ("pylock.gpu.toml", Kind.PYLOCK),
    ],
)
def test_the_name_says_the_kind(name: str, kind: Kind) -> None:
    assert kind_of(PurePosixPath(name)) is kind


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("environment.yml", "requirements.in"),
        ("conda-lock.yml", "requirements.in"),
        ("pixi.toml", "requirements.in"),
        ("pixi.lock", "requirements.in"),
        ("Pipfile", "pipenv requirements"),
        ("poetry.lock", "poetry export"),
        ("setup.py", "-e ."),
    ],
)
def test_other_environment_files_say_what_works_instead(name: str, hint: str) -> None:
    with pytest.raises(InvalidInput, match=r"not supported yet; requirements\.in or \.txt, pyproject\.toml") as caught:
        kind_of(PurePosixPath(name))
    assert hint in (caught.value.hint or "")


def test_an_unknown_environment_file_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"deps\.yaml is no environment file that reprobox knows"):
        kind_of(PurePosixPath("deps.yaml"))


def test_a_requirements_file_has_no_extras_and_no_groups(project: Make) -> None:
    for more in ({"extras": ("plot",)}, {"groups": ("dev",)}):
        with pytest.raises(InvalidInput, match=r"\((plot|dev)\) mean nothing for requirements\.in"):
            python.read_inputs(project("requirements.in", **more, **{"requirements.in": "six"}))


def test_a_missing_environment_file_is_named(project: Make) -> None:
    for name in ("requirements.in", "pylock.toml"):
        with pytest.raises(InvalidInput, match=r"there is no .*, which environment: names"):
            python.read_inputs(project(name))
    with pytest.raises(InvalidInput, match=r"there is no file pyproject\.toml"):
        python.read_inputs(project("pyproject.toml"))


def test_a_uv_lock_needs_to_be_there(project: Make) -> None:
    with pytest.raises(InvalidInput, match=r"there is no uv\.lock"):
        python.read_inputs(project("uv.lock", **{"pyproject.toml": "[project]\nname='a'"}))


def test_an_environment_file_outside_the_project_is_refused(project: Make) -> None:
    with pytest.raises(Unlockable, match="lies outside the project"):
        python.read_inputs(project("../requirements.in"))


def test_inputs_are_every_file_that_decides(project: Make) -> None:
    toml = (
        '[project]\nname = "a"\ndynamic = ["dependencies"]\n[tool.setuptools.dynamic]\n'
        'dependencies = {file = ["deps.txt"]}\noptional-dependencies.plot = {file = "plot.txt"}\n'
        '[tool.uv.sources]\nlab = {path = "lab-1.0-py3-none-any.whl"}\n'
    )
    files = {
        "pyproject.toml": toml, "setup.py": "", "deps.txt": "six", "plot.txt": "six", "uv.toml": "",
        "uv.lock": "version = 1", "requirements.in": "-e .", "lab-1.0-py3-none-any.whl": "zip", "README.md": "",
    }  # fmt: skip
    common = ["deps.txt", "lab-1.0-py3-none-any.whl", "plot.txt", "pyproject.toml", "setup.py"]
    assert input_names(project("pyproject.toml", **files)) == [*common, "uv.toml"]
    assert input_names(project("requirements.in")) == sorted([*common, "requirements.in", "uv.toml"])
    assert input_names(project("uv.lock")) == [*common, "uv.lock", "uv.toml"]


def test_settings_of_uv_in_the_project_are_inputs_of_a_requirements_file(project: Make) -> None:
    assert input_names(project("requirements.in", **{"requirements.in": "six", "pyproject.toml": "[tool.ruff]"})) == [
        "requirements.in"
    ]
    assert input_names(project("requirements.in", **{"pyproject.toml": "[tool.uv]\nprerelease='allow'"})) == [
        "pyproject.toml",
        "requirements.in",
    ]


def test_reading_inputs_starts_nothing(project: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprobox.proc.run", lambda *_, **__: pytest.fail("a process was started"))
    assert input_names(project("requirements.in", **{"requirements.in": "six"})) == ["requirements.in"]


PYPROJECT = """\
[project]
name = "me"
version = "1"
requires-python = ">=3.10"
dependencies = ["six"]
[project.optional-dependencies]
Plot_Tools = ["toolz"]
[dependency-groups]
dev = ["pytest"]
[tool.poetry.group.docs.dependencies]
sphinx = "*"
"""


@pytest.mark.parametrize(
    ("more", "message", "hint"),
    [
        ({"extras": ("plot-tool",)}, "pyproject.toml has no extra plot-tool; it has plot-tools", "plot-tools?"),
        ({"groups": ("docs",)}, "pyproject.toml has no group docs; it has dev", "correct environment: groups"),
        (
            {"python": "3.9"},
            "pyproject.toml:4: the project requires Python >=3.10, reprobox.yaml asks for 3.9",
            "python:",
        ),
    ],
)
def test_what_pyproject_does_not_have_is_named_with_what_it_has(
    project: Make, more: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        python.read_inputs(project("pyproject.toml", **more, **{"pyproject.toml": PYPROJECT}))
    assert caught.value.message == message
    assert hint in (caught.value.hint or "")


def test_extras_and_groups_are_found_by_any_spelling(project: Make) -> None:
    asked = project("pyproject.toml", extras=("plot.tools",), groups=("Dev",), **{"pyproject.toml": PYPROJECT})
    assert input_names(asked) == ["pyproject.toml"]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("\nx = = 1", InvalidInput, "pyproject.toml:2: not TOML"),
        ("[project", InvalidInput, "pyproject.toml: not TOML"),
        ("[project]\nrequires-python = 'new'", InvalidInput, "requires-python is not a version specifier: new"),
        ("[tool.ruff]", InvalidInput, "pyproject.toml names no packages: it has no [project] table"),
        ('[project]\nname="a"\ndependencies=[\n"numpy=1"]', InvalidInput, "pyproject.toml:4: not a requirement"),
        ('[project]\nname="a"\ndependencies=["b @ git+https://h.example/b"]', Unlockable, "names a branch or tag"),
        ('[project]\nname="a"\ndependencies=["b @ https://me:x1y2@h.example/b.whl"]', Unlockable, "holds credentials"),
        ('[tool.uv.sources]\nb = {path = "../b.whl"}\n[project]\nname="a"', Unlockable, "../b.whl lies outside"),
    ],
)
def test_a_pyproject_that_cannot_be_locked_is_refused(
    project: Make, text: str, kind: type[ReproboxError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        python.read_inputs(project("pyproject.toml", **{"pyproject.toml": text}))
    assert message in caught.value.message
    assert "x1y2" not in caught.value.message


def test_a_pyproject_that_is_not_utf8_is_refused(project: Make, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes(b"[project]\nname = '\xfc'\n")
    with pytest.raises(InvalidInput, match=r"pyproject\.toml:2: not UTF-8"):
        python.read_inputs(project("pyproject.toml"))


def test_exclude_newer_cannot_move_what_is_resolved_already(project: Make) -> None:
    files = {"pylock.toml": "", "uv.lock": "", "pyproject.toml": "[project]\nname='a'"}
    for name in ("pylock.toml", "uv.lock"):
        with pytest.raises(InvalidInput, match=f"exclude-newer cannot be applied to {name}"):
            python.read_inputs(project(name, exclude_newer="2025-01-01", **files))


# --- upgrades, before anything is solved ------------------------------------------------------


def refuse(project: Project, upgrade: Upgrade, previous: bytes | None) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        natives = {"requirements.lock": previous} if previous is not None else {}
        python.resolve(project, previous=natives, upgrade=upgrade, console=Console())
    return caught.value


def test_an_upgrade_of_what_the_lock_does_not_hold_names_the_nearest(project: Make) -> None:
    asked = project("requirements.in", **{"requirements.in": "requests"})
    lock = pylock.render({X86: Selection(wheels=(wheel("requests", "2.0"),))})
    error = refuse(asked, Upgrade(packages=frozenset({"request"})), lock)
    assert (error.message, error.hint) == (
        "cannot upgrade request: the lock does not hold it",
        "do you mean requests?",
    )
    assert "there is no lock yet" in refuse(asked, Upgrade(packages=frozenset({"requests"})), None).message


def test_what_is_resolved_already_is_upgraded_by_its_own_tool(project: Make) -> None:
    files = {"pylock.toml": "", "uv.lock": "", "pyproject.toml": "[project]\nname='a'"}
    assert "uv lock --upgrade" in (refuse(project("uv.lock", **files), Upgrade(all=True), None).hint or "")
    assert "pylock.toml says which versions" in refuse(project("pylock.toml"), Upgrade(all=True), None).message


def test_a_variable_that_is_not_set_is_named(project: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_TOKEN", raising=False)
    asked = project("requirements.in", **{"requirements.in": "-i https://${LAB_TOKEN}@index.example/simple"})
    assert refuse(asked, Upgrade(), None).message == "requirements.in:1: the variable LAB_TOKEN is not set"


# --- a pylock of the user's -------------------------------------------------------------------

PYLOCK = """\
lock-version = "1.0"
created-by = "a tool"
requires-python = ">=3.10"
extras = ["plot"]
"""


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ("created-by = 'x'", {}, "pylock.toml is not a valid pylock"),
        (PYLOCK + "packages = []", {"extras": ("plat",)}, "pylock.toml has no extra plat; it has plot"),
        (PYLOCK + "packages = []", {"groups": ("dev",)}, "pylock.toml has no group dev; it has none"),
        (PYLOCK + "packages = []", {"python": "3.9"}, "pylock.toml requires Python >=3.10, reprobox.yaml asks for 3.9"),
    ],
)
def test_a_pylock_that_does_not_fit_is_refused(project: Make, text: str, more: dict[str, Any], message: str) -> None:
    assert message in refuse(project("pylock.toml", **more, **{"pylock.toml": text}), Upgrade(), None).message


# --- the machine's indexes --------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine without any configuration of pip's."""
    monkeypatch.setattr(indexes, "_SYSTEM_PIP_FILE", tmp_path / "etc" / "pip.conf")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    yield tmp_path


def environ(home: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(home), "XDG_CONFIG_DIRS": str(home / "xdg"), **more}


def write_pip(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_machine_without_configuration_hands_nothing_on(home: Path) -> None:
    assert indexes.index_environment(environ(home, LANG="C")) == {}
    assert indexes.find_links(environ(home)) == ()


def test_what_pip_is_told_is_handed_on_to_uv(home: Path) -> None:
    wheels = home / "wheels"
    wheels.mkdir()
    write_pip(
        home / ".config/pip/pip.conf",
        f"[global]\nindex-url = https://index.example/simple\nextra_index_url =\n    https://a.example/simple\n"
        f"    file:///gone/simple\nfind-links = {wheels} https://links.example/page.html {home}/gone\n"
        "trusted-host = a.example\n",
    )
    assert indexes.index_environment(environ(home)) == {
        "UV_EXTRA_INDEX_URL": "https://a.example/simple file:///gone/simple",
        "UV_FIND_LINKS": f"{wheels},https://links.example/page.html",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INDEX_URL": "https://index.example/simple",
        "UV_INSECURE_HOST": "a.example",
    }
    assert indexes.find_links(environ(home)) == (wheels,)


def test_uvs_own_variables_go_before_pips(home: Path) -> None:
    own = {
        "UV_DEFAULT_INDEX": "https://own.example/simple",
        "UV_INDEX": "lab=https://lab.example/simple",
        "UV_FIND_LINKS": "/own",
        "UV_INDEX_LAB_PASSWORD": "hush",
    }
    pip = {"PIP_INDEX_URL": "https://pip.example", "PIP_EXTRA_INDEX_URL": "https://pip.example", "PIP_FIND_LINKS": "/"}
    assert indexes.index_environment(environ(home, **own, **pip)) == own


def test_nearer_settings_of_pip_go_before_farther_ones(home: Path) -> None:
    def index(**more: str) -> str | None:
        return indexes.index_environment(environ(home, **more)).get("UV_INDEX_URL")

    places = [
        home / "xdg/pip/pip.conf", home / "etc/pip.conf", home / ".pip/pip.conf", home / ".config/pip/pip.conf",
        home / "venv/pip.conf",
    ]  # fmt: skip
    for number, place in enumerate(places):
        write_pip(place, f"[global]\nindex-url = https://{number}.example\n")
        assert index() == f"https://{number}.example"
    write_pip(
        home / "named.conf",
        "[global]\nindex-url = https://global.example\n[install]\nindex-url = https://named.example",
    )
    assert index(PIP_CONFIG_FILE=str(home / "named.conf")) == "https://named.example"
    assert index(PIP_INDEX_URL="https://variable.example") == "https://variable.example"
    assert index(PIP_CONFIG_FILE="/dev/null") is None


def test_a_named_file_of_pip_takes_the_place_of_the_users(home: Path) -> None:
    write_pip(home / ".config/pip/pip.conf", "[global]\nextra-index-url = https://user.example")
    write_pip(home / "named.conf", "[global]\nindex-url = https://named.example")
    assert indexes.index_environment(environ(home, PIP_CONFIG_FILE=str(home / "named.conf"))) == {
        "UV_INDEX_URL": "https://named.example"
    }


def test_without_index_is_read_from_pip(home: Path) -> None:
    assert not indexes.without_index(environ(home))
    assert indexes.without_index(environ(home, PIP_NO_INDEX="1"))


@pytest.mark.parametrize("data", [b"index-url = https://me:hush@h.example\n", b"[global]\nhush\n", b"[global]\n\xff"])
def test_a_broken_configuration_of_pip_is_named_without_its_words(home: Path, data: bytes) -> None:
    write_pip(home / ".config/pip/pip.conf", "")
    (home / ".config/pip/pip.conf").write_bytes(data)
    with pytest.raises(InvalidInput, match=r"cannot read pip's configuration .*pip\.conf") as caught:
        indexes.index_environment(environ(home))
    assert "hush" not in caught.value.message
    assert "PIP_CONFIG_FILE=/dev/null" in (caught.value.hint or "")


def test_a_build_is_not_told_of_folders_that_it_cannot_see(home: Path) -> None:
    machine = environ(
        home,
        UV_DEFAULT_INDEX="file:///srv/simple",
        UV_INDEX="lab=https://lab.example/simple local=file:///srv/simple",
        UV_FIND_LINKS="/srv/wheels,https://links.example/page.html",
        UV_INDEX_STRATEGY="first-index",
    )
    assert indexes.reachable_from_a_build(machine) == {
        "UV_FIND_LINKS": "https://links.example/page.html",
        "UV_INDEX": "lab=https://lab.example/simple",
        "UV_INDEX_STRATEGY": "first-index",
    }


# --- uv's words -------------------------------------------------------------------------------

UNSATISFIABLE = """\
warning: The requested Python version 3.9 is not available; 3.11.7 will be used to build dependencies instead.
error: No solution found when resolving dependencies
  cause: Because lab==1.3 depends on numpy>=1.25 and you require lab==1.3, we can conclude that you require numpy>=1.25.
         And because you require numpy<1.20, we can conclude that your requirements are unsatisfiable.
"""


def test_the_explanation_of_a_conflict_is_kept_and_indented() -> None:
    error = explain_failure(UNSATISFIABLE, asked="the packages of r.in")
    assert error.message == (
        "cannot resolve the packages of r.in:\n"
        "  Because lab==1.3 depends on numpy>=1.25 and you require lab==1.3, "
        "we can conclude that you require numpy>=1.25.\n"
        "  And because you require numpy<1.20, we can conclude that your requirements are unsatisfiable."
    )
    assert error.hint == "loosen one of the requirements named above"


def test_an_unknown_package_is_named_with_its_place() -> None:
    words = "error: No solution found\n  cause: Because labb was not found in the package registry and so on."
    error = explain_failure(words, places=lambda name: [f"r.in:{len(name)}"])
    assert "the package indexes do not know labb (r.in:4):" in error.message
    assert "correct the name" in (error.hint or "")


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("error: Failed to fetch: `https://h.example/x`\n  cause: dns error", "cannot be reached", "HTTPS_PROXY"),
        ("error: x\n\nhint: An index URL returned a 401 Unauthorized", "wants credentials", "~/.netrc"),
        (
            "error: x\n\nhint: Packages were unavailable because the network was disabled.",
            "network is off",
            "UV_OFFLINE",
        ),
        ("error: Failed to read `--find-links` directory: /gone", "folder of wheels cannot be read", "find-links"),
        ("error: Failed to build `a==1`\n  cause: The build backend returned an error", "no wheel", "pin a version"),
        ("error: because the requested Python version (>=3.9) does not", "cannot resolve", "choose another python:"),
        ("error: x\n\nhint: Pre-releases are available for `a`", "cannot resolve", "a pre-release would fit"),
        ("error: x\n\nhint: use `--index-strategy unsafe-best-match`", "cannot resolve", "UV_INDEX_STRATEGY"),
        ("thread panicked", "thread panicked", "loosen"),
    ],
)
def test_each_cause_has_its_words_and_its_way_out(words: str, message: str, hint: str) -> None:
    error = explain_failure(words)
    assert message in error.message
    assert hint in (error.hint or "")


def test_a_traceback_is_cut_to_its_last_line() -> None:
    words = (
        'error: Failed to build `a==1`\n  Traceback (most recent call last):\n    File "s.py", line 1, in <module>\n'
        "      import numpy\n  ModuleNotFoundError: No module named 'numpy'\n"
    )
    message = explain_failure(words).message
    assert "ModuleNotFoundError: No module named 'numpy'" in message
    assert "Traceback" not in message
    assert "import numpy" not in message


def test_uv_that_is_not_there_is_a_missing_program(project: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> str:
        raise FileNotFoundError

    monkeypatch.setattr("uv.find_uv_bin", gone)
    with pytest.raises(ReproboxError, match="uv is not installed"):
        python.resolve(
            project("requirements.in", **{"requirements.in": "six"}),
            previous={},
            upgrade=Upgrade(),
            console=Console(),
        )
