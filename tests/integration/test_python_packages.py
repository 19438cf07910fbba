"""uv at work: on loopback indexes made on the spot, and (marker ``network``) on this machine's own index."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import random
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from reprobox.console import Console
from reprobox.errors import HashMismatch, InvalidInput, ReproboxError, ResolutionFailed, Unlockable
from reprobox.model import Digest, EnvironmentFile, ImageBase, LockedFile, LockedTool, Platform, Project, PythonVersion
from reprobox.resolvers import python
from reprobox.resolvers.python import PythonEnvironment, Upgrade
from reprobox.resolvers.solver import installed_version

PASSWORD = "hush-5e7d1c"
X86, ARM = Platform.LINUX_64, Platform.LINUX_AARCH64
NATIVE_X86, NATIVE_ARM = "cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux_2_17_aarch64"


def make_wheel(name: str, version: str, *requires: str, tag: str = "py3-none-any") -> tuple[str, bytes]:
    """A wheel with one module, as its file name and bytes; the same ones every time."""
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    files = {
        f"{module}.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {requirement}\n" for requirement in requires),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)
    return f"{module}-{version}-{tag}.whl", stream.getvalue()


def make_sdist(name: str, version: str, build: str) -> tuple[str, bytes]:
    """An sdist whose metadata need no build, with the [build-system] ``build``; its file name and bytes."""
    folder = f"{name.replace('-', '_')}-{version}"
    files = {
        f"{folder}/PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n",
        f"{folder}/pyproject.toml": f'[project]\nname = "{name}"\nversion = "{version}"\n[build-system]\n{build}\n',
    }
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return f"{folder}.tar.gz", stream.getvalue()


class Index:
    """A package index on loopback; with ``password`` it answers no one else than ``me``."""

    def __init__(self, password: str | None = None) -> None:
        self.files: dict[str, bytes] = {}
        wanted = base64.b64encode(f"me:{password}".encode()).decode()
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if password and self.headers.get("Authorization") != f"Basic {wanted}":
                    self._answer(401, b"no")
                    return
                kind, _, name = self.path.strip("/").partition("/")
                if kind == "files" and name in index.files:
                    self._answer(200, index.files[name])
                elif kind == "simple" and (page := index.page(name)):
                    self._answer(200, page.encode())
                else:
                    self._answer(404, b"not here")

            def _answer(self, code: int, body: bytes) -> None:
                self.send_response(code)
                if code == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="lab"')
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.host}/simple"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def add(self, name: str, version: str, *requires: str, tag: str = "py3-none-any") -> str:
        file, data = make_wheel(name, version, *requires, tag=tag)
        self.files[file] = data
        return file

    def add_sdist(self, name: str, version: str, build: str = "requires = ['setuptools']") -> str:
        file, data = make_sdist(name, version, build)
        self.files[file] = data
        return file

    def page(self, name: str) -> str:
        links = [
            f'<a href="/files/{file}#sha256={hashlib.sha256(data).hexdigest()}">{file}</a>'
            for file, data in self.files.items()
            if file.split("-")[0].replace("_", "-") == name
        ]
        return "<!DOCTYPE html><html><body>" + "".join(links) + "</body></html>" if links else ""

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Listener(Console):
    """A console that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Index]]:
    """Loopback indexes; the first one is this machine's only index, and it has uv."""
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    started: list[Index] = []

    def start(password: str | None = None) -> Index:
        index = Index(password)
        started.append(index)
        if len(started) == 1:
            monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
            for machine in ("x86_64", "aarch64"):
                index.add("uv", installed_version(), tag=f"py3-none-manylinux_2_17_{machine}")
        return index

    yield start
    for index in started:
        index.close()


@pytest.fixture
def index(serve: Callable[..., Index]) -> Index:
    """This machine's index: lab needs base, plot stands alone, native has a wheel per machine."""
    index = serve()
    for name in ("hatchling", "setuptools", "wheel"):
        index.add(name, "1.0")
    for version in ("1.0", "1.1"):
        index.add("base", version)
        index.add("lab", version, "base>=1.0")
        index.add("plot", version)
        index.add("native", version, tag=NATIVE_X86)
        index.add("native", version, tag=NATIVE_ARM)
    return index


Make = Callable[..., Project]


@pytest.fixture
def project(tmp_path: Path) -> Make:
    def make(environment: str, /, platforms: tuple[Platform, ...] = (X86,), **more: Any) -> Project:
        extras, groups = more.pop("extras", ()), more.pop("groups", ())
        exclude_newer = more.pop("exclude_newer", None)
        root = tmp_path / "project"
        for name, content in more.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return Project(
            root=root,
            name="lab",
            environment=EnvironmentFile(path=PurePosixPath(environment), extras=extras, groups=groups),
            python=PythonVersion(3, 11),
            base=ImageBase(reference="debian:bookworm-slim"),
            platforms=platforms,
            exclude_newer=exclude_newer,
        )

    return make


def resolve(
    project: Project,
    previous: bytes | Mapping[str, bytes] | None = None,
    upgrade: Upgrade | None = None,
    console: Console | None = None,
    uv: LockedTool | None = None,
) -> PythonEnvironment:
    natives = {"requirements.lock": previous} if isinstance(previous, bytes) else previous or {}
    return python.resolve(
        project, previous=natives, upgrade=upgrade or Upgrade(), console=console or Console(), uv=uv
    )  # fmt: skip


def versions(lock: bytes, platform: Platform | None = None) -> dict[str, str]:
    return python.versions({"requirements.lock": lock}, platform)


def lock_of(project: Project, previous: bytes | None = None, *upgrade: str) -> bytes:
    found = resolve(project, previous, Upgrade(packages=frozenset(upgrade)))
    return found.natives["requirements.lock"]


def pin_first(index: Index, *names: str) -> None:
    """Take the newer versions of ``names`` off the index, as if they were not released yet."""
    index.files = {f: d for f, d in index.files.items() if not f.startswith(tuple(f"{name}-1.1-" for name in names))}


# --- what is resolved -------------------------------------------------------------------------


def test_the_lock_names_files_and_hashes_and_no_host(index: Index, project: Make) -> None:
    found = resolve(project("requirements.in", **{"requirements.in": "lab\n"}))
    sha = {file: Digest.of(data).hex for file, data in index.files.items()}
    assert found.natives["requirements.lock"].decode() == (
        "# written by `reprobox lock`; do not edit\n"
        f"# base-1.1-py3-none-any.whl\nbase==1.1 \\\n    --hash=sha256:{sha['base-1.1-py3-none-any.whl']}\n"
        f"# lab-1.1-py3-none-any.whl\nlab==1.1 \\\n    --hash=sha256:{sha['lab-1.1-py3-none-any.whl']}\n"
    )
    assert (found.indexes, found.find_links) == ((), ())
    assert [file.name for file in found.inputs] == ["requirements.in"]


def test_uv_itself_is_locked_for_every_platform(index: Index, project: Make) -> None:
    asked = project("requirements.in", platforms=(X86, ARM), **{"requirements.in": ""})
    version = installed_version()
    files = {platform: f"uv-{version}-py3-none-manylinux_2_17_{platform.machine}.whl" for platform in (X86, ARM)}
    uv = resolve(asked).uv
    assert isinstance(uv, LockedTool)
    assert (uv.version, {platform: wheel.name for platform, wheel in uv.wheels.items()}) == (version, files)
    assert {wheel.digest for wheel in uv.wheels.values()} == {Digest.of(index.files[name]) for name in files.values()}
    with pytest.raises(ResolutionFailed, match=r"cannot resolve uv 0\.0\.1, which installs the packages in the image"):
        resolve(asked, uv=LockedTool(version="0.0.1", wheels={}))


def test_uv_itself_stays_what_the_lock_holds_and_is_not_asked_for(index: Index, project: Make) -> None:
    held = LockedTool(version="0.0.1", wheels={X86: LockedFile(name="uv-0.0.1.whl", digest=Digest.of(b"held"))})
    asked = project("requirements.in", platforms=(X86,), **{"requirements.in": ""})
    assert resolve(asked, uv=held).uv == held
    more = LockedTool(version="0.0.1", wheels={**held.wheels, ARM: held.wheels[X86]})
    assert resolve(asked, uv=more).uv == held


def test_two_platforms_share_versions_and_differ_where_they_must(index: Index, project: Make) -> None:
    index.add("only-arm", "1.0", tag=NATIVE_ARM)
    pin = index.add("native", "1.2", tag=NATIVE_X86)
    text = "native\nlab\nonly-arm ; platform_machine == 'aarch64'\n"
    lock = lock_of(project("requirements.in", platforms=(ARM, X86), **{"requirements.in": text}))
    lines = [line.removesuffix(" \\") for line in lock.decode().splitlines() if "==" in line]
    assert lines == [
        "base==1.1",
        "lab==1.1",
        'native==1.1 ; platform_machine == "aarch64"',
        'native==1.2 ; platform_machine == "x86_64"',
        'only-arm==1.0 ; platform_machine == "aarch64"',
    ]
    del index.files[pin]
    both = lock_of(project("requirements.in", platforms=(X86, ARM), **{"requirements.in": "native"})).decode()
    assert (both.count("native==1.1"), both.count("--hash"), both.count("# native-1.1-")) == (1, 2, 2)


def test_a_second_index_that_has_wheels_for_one_machine_only_changes_nothing(
    index: Index, serve: Callable[..., Index], project: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = serve()
    house.add("native", "1.1", tag=NATIVE_X86)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", house.url)
    asked = project("requirements.in", platforms=(X86, ARM), **{"requirements.in": "native"})
    lock = lock_of(asked)
    assert [line for line in lock.decode().splitlines() if "==" in line] == ["native==1.1 \\"]
    assert lock_of(asked, lock) == lock


def test_a_twin_with_shuffled_lines_gives_the_same_bytes(index: Index, project: Make) -> None:
    rows = ["lab", "plot>=1", "native", "base<2", "-c pins.txt", "# nothing"]
    locks = set()
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        locks.add(lock_of(project("requirements.in", **{"requirements.in": "\n".join(rows), "pins.txt": "plot<1.1"})))
    assert len(locks) == 1
    assert b"plot==1.0" in locks.pop()


def test_odd_encodings_never_reach_uv(index: Index, project: Make) -> None:
    text = "# für alle\r\nlab\r\n".encode("utf-16")
    assert b"lab==1.1" in lock_of(project("requirements.in", **{"requirements.in": text}))


def test_no_packages_is_an_environment_too(index: Index, project: Make) -> None:
    console = Listener()
    found = resolve(project("requirements.in", **{"requirements.in": "# later\n"}), console=console)
    assert found.natives["requirements.lock"] == b"# written by `reprobox lock`; do not edit\n"
    assert console.notes == ["requirements.in names no packages: the environment holds Python alone"]


def test_hashes_in_the_requirements_are_obeyed(index: Index, project: Make) -> None:
    good = Digest.of(index.files["plot-1.0-py3-none-any.whl"]).hex
    assert good.encode() in lock_of(project("r.txt", **{"r.txt": f"plot==1.0 --hash=sha256:{good}"}))
    with pytest.raises(HashMismatch, match=r"plot 1\.0: no file for linux-64 has a hash"):
        lock_of(project("r.txt", **{"r.txt": f"plot==1.0 --hash=sha256:{'0' * 64}"}))


# --- what stays and what moves ----------------------------------------------------------------


def test_nothing_moves_unless_it_is_asked_to(index: Index, project: Make) -> None:
    later = {file: data for file, data in index.files.items() if "-1.1-" in file}
    pin_first(index, "base", "lab", "plot", "native")
    asked = project("requirements.in", platforms=(X86, ARM), **{"requirements.in": "lab\nplot\nnative"})
    first = lock_of(asked)
    assert versions(first) == {"base": "1.0", "lab": "1.0", "plot": "1.0", "native": "1.0"}
    index.files |= later
    index.add("base", "1.0", "plot", tag=NATIVE_X86)  # a better wheel of the version that is locked
    assert lock_of(asked, first) == first
    moved = versions(lock_of(asked, first, "Lab"))
    assert moved == {"base": "1.0", "lab": "1.1", "plot": "1.0", "native": "1.0"}
    everything = resolve(asked, first, Upgrade(all=True)).natives["requirements.lock"]
    assert set(versions(everything).values()) == {"1.1"}


def test_a_new_requirement_leaves_the_others_where_they_are(index: Index, project: Make) -> None:
    before = lock_of(project("requirements.in", **{"requirements.in": "lab==1.0\nbase==1.0"}))
    after = lock_of(project("requirements.in", **{"requirements.in": "lab\nplot"}), before)
    assert versions(after) == {"base": "1.0", "lab": "1.0", "plot": "1.1"}


def test_what_no_longer_fits_moves_alone(index: Index, project: Make) -> None:
    before = lock_of(project("requirements.in", **{"requirements.in": "lab==1.0\nbase==1.0"}))
    after = lock_of(project("requirements.in", **{"requirements.in": "lab>1.0"}), before)
    assert versions(after) == {"base": "1.0", "lab": "1.1"}


def test_a_file_that_was_replaced_in_place_is_said(index: Index, project: Make) -> None:
    asked, console = project("requirements.in", **{"requirements.in": "plot==1.0"}), Listener()
    before = lock_of(asked).replace(Digest.of(index.files["plot-1.0-py3-none-any.whl"]).hex.encode(), b"0" * 64)
    resolve(asked, before, console=console)
    assert console.warnings == ["plot==1.0 has other bytes than the lock held before: its file was replaced"]


# --- what the project has itself --------------------------------------------------------------


def test_a_wheel_of_the_project_is_locked_by_path_and_installs_from_its_root(
    index: Index, project: Make, tmp_path: Path
) -> None:
    file, data = make_wheel("own", "0.1", "plot")
    asked = project("requirements.in", **{"requirements.in": f"./wheels/{file}", f"wheels/{file}": data})
    found = resolve(asked)
    lock = found.natives["requirements.lock"]
    assert f"./wheels/{file} \\\n    --hash=sha256:{Digest.of(data).hex}\n".encode() in lock
    assert versions(lock) == {"own": "0.1", "plot": "1.1"}
    assert [locked.name for locked in found.inputs] == ["requirements.in", f"wheels/{file}"]
    assert str(tmp_path).encode() not in lock
    assert lock_of(asked, lock) == lock
    (asked.root / "requirements.lock").write_bytes(lock)
    site = tmp_path / "site"
    install(["uv", "pip", "install", "--target", str(site), "--python", sys.executable], asked.root)
    assert {path.name for path in site.glob("*.py")} == {"own.py", "plot.py"}


def test_wheels_in_a_folder_of_the_project_are_locked_by_path(index: Index, project: Make) -> None:
    file, data = make_wheel("own", "0.1")
    asked = project("requirements.in", **{"requirements.in": "-f wheels\nown", f"wheels/{file}": data})
    assert f"./wheels/{file} \\".encode() in lock_of(asked)


def test_the_project_itself_is_a_package_with_what_it_needs(index: Index, project: Make) -> None:
    files = {"requirements.in": "-e .[more]\n", "pyproject.toml": PYPROJECT}
    found = resolve(project("requirements.in", **files))
    assert versions(found.natives["requirements.lock"]) == {"base": "1.1", "lab": "1.1", "plot": "1.1"}
    assert [file.name for file in found.inputs] == ["pyproject.toml", "requirements.in"]
    assert found.own_package == PurePosixPath()
    assert versions(found.natives["build-requirements.lock"]) == {"hatchling": "1.0"}
    assert set(found.natives) == {"requirements.lock", "build-requirements.lock"}


PYPROJECT = """\
[project]
name = "me"
version = "1"
requires-python = ">=3.10"
dependencies = ["lab"]
[project.optional-dependencies]
more = ["plot"]
[dependency-groups]
dev = ["native"]
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""


def test_extras_and_groups_are_added_when_asked_and_development_never_is(index: Index, project: Make) -> None:
    plain = lock_of(project("pyproject.toml", **{"pyproject.toml": PYPROJECT}))
    assert set(versions(plain)) == {"base", "lab"}
    both = lock_of(project("pyproject.toml", extras=("more",), groups=("dev",)))
    assert set(versions(both)) == {"base", "lab", "plot", "native"}
    other = PYPROJECT.replace('["native"]', '["plot"]') + '[tool.poetry.group.dev.dependencies]\nplot = "*"\n'
    assert lock_of(project("pyproject.toml", **{"pyproject.toml": other})) == plain


def test_a_uv_lock_is_the_truth_and_a_stale_one_is_refused(index: Index, project: Make) -> None:
    asked = project("uv.lock", platforms=(X86, ARM), **{"pyproject.toml": PYPROJECT.replace('"lab"', '"lab","native"')})
    with pytest.raises(InvalidInput, match=r"there is no uv\.lock"):
        resolve(asked)
    uv("lock", cwd=asked.root)
    index.add("lab", "1.2")
    lock = lock_of(asked)
    assert versions(lock) == {"base": "1.1", "lab": "1.1", "native": "1.1"}
    assert lock.count(b"--hash") == 4
    assert set(versions(lock_of(project("uv.lock", extras=("more",))))) == {"base", "lab", "native", "plot"}
    assert lock_of(project("uv.lock", groups=("dev",))) == lock_of(project("uv.lock"))
    stale = project("uv.lock", **{"pyproject.toml": PYPROJECT.replace('"lab"', '"lab>1.1"')})
    with pytest.raises(InvalidInput, match=r"uv\.lock does not answer what pyproject\.toml asks now"):
        resolve(stale)


def test_a_pylock_is_read_as_it_is(index: Index, project: Make) -> None:
    asked = project("pylock.toml", **{"r.in": "lab==1.0\nplot"})
    uv("pip", "compile", "r.in", "--universal", "--generate-hashes", "-o", "pylock.toml", cwd=asked.root)
    index.add("plot", "1.2")
    assert versions(lock_of(asked)) == {"base": "1.1", "lab": "1.0", "plot": "1.1"}


def test_another_source_tree_of_the_project_is_refused(index: Index, project: Make) -> None:
    sources = '[tool.uv.sources]\nlab = {path = "lib"}\n'
    library = "[project]\nname = 'lab'\nversion = '9'\n"
    asked = project("pyproject.toml", **{"pyproject.toml": PYPROJECT + sources, "lib/pyproject.toml": library})
    with pytest.raises(Unlockable, match=r"lab is a source tree \(lib\)"):
        resolve(asked)


# --- what is built from source ----------------------------------------------------------------


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def build_lock(found: PythonEnvironment) -> dict[str, str]:
    return python.versions({"requirements.lock": found.natives["build-requirements.lock"]})


def test_a_package_without_a_wheel_is_locked_with_what_its_build_takes(
    index: Index, project: Make, own_cache: Path
) -> None:
    file = index.add_sdist("raw", "1.0")
    asked = project("requirements.in", platforms=(X86, ARM), **{"requirements.in": "raw\nlab"})
    found = resolve(asked)
    assert versions(found.natives["requirements.lock"]) == {"base": "1.1", "lab": "1.1"}
    digest = Digest.of(index.files[file]).hex
    assert f"# {file}\nraw==1.0 \\\n    --hash=sha256:{digest}\n" in found.natives["sdists.lock"].decode()
    assert build_lock(found) == {"setuptools": "1.0", "wheel": "1.0"}
    assert found.versions == {"base": "1.1", "lab": "1.1", "raw": "1.0"}
    assert found.own_package is None
    assert resolve(asked, found.natives).natives == found.natives


def test_what_a_build_takes_moves_only_when_it_is_asked_to(index: Index, project: Make, own_cache: Path) -> None:
    index.add_sdist("raw", "1.0")
    asked = project("requirements.in", **{"requirements.in": "raw"})
    first = resolve(asked)
    index.add("setuptools", "2.0")
    index.add("wheel", "2.0")
    index.add_sdist("raw", "2.0")
    assert resolve(asked, first.natives).natives == first.natives
    moved = resolve(asked, first.natives, Upgrade(packages=frozenset({"setuptools"})))
    assert build_lock(moved) == {"setuptools": "2.0", "wheel": "1.0"}
    assert moved.natives["sdists.lock"] == first.natives["sdists.lock"]
    everything = resolve(asked, first.natives, Upgrade(all=True))
    assert (everything.versions, build_lock(everything)) == ({"raw": "2.0"}, {"setuptools": "2.0", "wheel": "2.0"})


def test_builds_that_contradict_each_other_are_named(index: Index, project: Make, own_cache: Path) -> None:
    index.add("setuptools", "2.0")
    index.add_sdist("old", "1.0", "requires = ['setuptools<2']")
    index.add_sdist("young", "1.0", "requires = ['setuptools>=2']")
    with pytest.raises(ResolutionFailed) as caught:
        resolve(project("requirements.in", **{"requirements.in": "old\nyoung"}))
    assert "old 1.0 (setuptools, setuptools<2, wheel) and young 1.0 (setuptools, setuptools>=2" in caught.value.message
    assert "built in one environment" in (caught.value.hint or "")
    assert "/tmp" not in caught.value.message


def test_a_build_requirement_that_would_be_built_itself_is_refused(
    index: Index, project: Make, own_cache: Path
) -> None:
    index.add_sdist("tool", "1.0")
    index.add_sdist("raw", "1.0", "requires = ['tool']\nbuild-backend = 'tool'")
    with pytest.raises(Unlockable, match=r"what building raw 1\.0 \(tool\) needs") as caught:
        resolve(project("requirements.in", **{"requirements.in": "raw"}))
    assert "must have wheels" in (caught.value.hint or "")


def test_an_sdist_of_a_private_index_is_fetched_with_its_password(
    index: Index, serve: Callable[..., Index], project: Make, own_cache: Path
) -> None:
    private = serve(PASSWORD)
    private.add_sdist("secret-sauce", "1.0")
    text = f"--extra-index-url http://me:{PASSWORD}@{private.host}/simple\nsecret-sauce"
    found = resolve(project("requirements.in", **{"requirements.in": text}))
    assert found.versions == {"secret-sauce": "1.0"}
    assert PASSWORD.encode() not in b"".join(found.natives.values())


@pytest.mark.parametrize("line", ["raw @ http://{host}/files/raw-1.0.tar.gz", "./src/raw-1.0.tar.gz", "-f src\nraw"])
def test_an_sdist_behind_a_url_or_in_the_project_is_locked(
    index: Index, project: Make, own_cache: Path, line: str
) -> None:
    file = index.add_sdist("raw", "1.0")
    text = line.format(host=index.host)
    asked = project("requirements.in", **{"requirements.in": text, f"src/{file}": index.files[file]})
    if not text.startswith("raw @"):
        del index.files[file]
    found = resolve(asked)
    assert found.versions == {"raw": "1.0"}
    local = ("src/raw-1.0.tar.gz",) if not text.startswith("raw @") else ()
    assert python.local_files(found.natives, "sdists.lock") == local
    assert resolve(asked, found.natives).natives == found.natives


def test_a_project_that_is_no_package_is_not_built(index: Index, project: Make) -> None:
    text = PYPROJECT[: PYPROJECT.index("[build-system]")]
    found = resolve(project("pyproject.toml", **{"pyproject.toml": text}))
    assert (found.own_package, list(found.natives)) == (None, ["requirements.lock"])
    found = resolve(project("sub/pyproject.toml", **{"sub/pyproject.toml": PYPROJECT}))
    assert (found.own_package, build_lock(found)) == (PurePosixPath("sub"), {"hatchling": "1.0"})


# --- indexes and secrets ----------------------------------------------------------------------


def test_the_password_of_an_index_is_in_no_output(
    index: Index, serve: Callable[..., Index], project: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = serve(PASSWORD)
    private.add("secret-sauce", "1.0")
    monkeypatch.setenv("LAB_PASSWORD", PASSWORD)
    for written in (PASSWORD, "${LAB_PASSWORD}"):
        console = Listener()
        text = f"--extra-index-url http://me:{written}@{private.host}/simple\nsecret-sauce\nlab"
        asked = project("requirements.in", **{"requirements.in": text})
        found = resolve(asked, console=console)
        assert found.indexes == (private.url,)
        assert versions(found.natives["requirements.lock"])["secret-sauce"] == "1.0"
        assert PASSWORD not in f"{found}{console.notes}{console.warnings}"
        assert private.host.encode() not in found.natives["requirements.lock"]
        assert bool(console.warnings) == (written == PASSWORD)
        with pytest.raises(ResolutionFailed) as caught:
            resolve(project("requirements.in", **{"requirements.in": text + "\nunknown-sauce\nlab>2"}))
        assert PASSWORD not in f"{caught.value.message}{caught.value.hint}"


def test_an_index_that_refuses_says_so(index: Index, serve: Callable[..., Index], project: Make) -> None:
    private = serve("another")
    private.add("secret-sauce", "1.0")
    text = f"--extra-index-url http://me:{PASSWORD}@{private.host}/simple\nsecret-sauce"
    with pytest.raises(ResolutionFailed, match="wants credentials or refuses those it got") as caught:
        resolve(project("requirements.in", **{"requirements.in": text}))
    assert PASSWORD not in caught.value.message


def test_a_secret_in_the_path_of_an_index_is_in_no_message(
    index: Index, project: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_TOKEN", PASSWORD)
    text = "--extra-index-url http://127.0.0.1:9/${LAB_TOKEN}/simple\nlab"
    with pytest.raises(ResolutionFailed, match="a package index cannot be reached") as caught:
        resolve(project("requirements.in", **{"requirements.in": text}))
    assert PASSWORD not in caught.value.message


def test_indexes_of_uvs_settings_in_the_project_are_the_projects(
    index: Index, serve: Callable[..., Index], project: Make
) -> None:
    private = serve()
    private.add("sauce", "1.0")
    settings = f'[[tool.uv.index]]\nname = "lab"\nurl = "http://me:{PASSWORD}@{private.host}/simple"\n'
    text = PYPROJECT.replace('"lab"', '"sauce"') + settings
    console = Listener()
    found = resolve(project("pyproject.toml", **{"pyproject.toml": text}), console=console)
    assert (found.indexes, list(versions(found.natives["requirements.lock"]))) == ((private.url,), ["sauce"])
    assert any("pyproject.toml:15 holds credentials" in warning for warning in console.warnings)


def test_folders_that_pip_knows_are_handed_on(
    index: Index, project: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, data = make_wheel("house", "1.0")
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / file).write_bytes(data)
    monkeypatch.setenv("PIP_FIND_LINKS", f"{tmp_path}/house {tmp_path}/gone")
    lock = lock_of(project("requirements.in", **{"requirements.in": "house"}))
    assert lock.decode().splitlines()[1:3] == [f"# {file}", "house==1.0 \\"]


# --- what cannot be resolved ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("lab\nbase>=2", ResolutionFailed, "Because only base<=1.1 is available and you require base>=2"),
        ("plot<1.1\nplot>1.0", ResolutionFailed, "we can conclude that your requirements are unsatisfiable"),
        ("lab\n# x\nlabb", ResolutionFailed, "the package indexes do not know labb (requirements.in:3)"),
        ("needs-gone", ResolutionFailed, "the package indexes do not know gone:"),
        ("old-arm", ResolutionFailed, "old-arm"),
    ],
)
def test_what_has_no_answer_is_explained(
    index: Index, project: Make, text: str, kind: type[ReproboxError], message: str
) -> None:
    index.add("needs-gone", "1.0", "gone")
    index.add("old-arm", "1.0", tag=NATIVE_ARM)
    with pytest.raises(kind) as caught:
        resolve(project("requirements.in", **{"requirements.in": text}))
    assert "cannot resolve the packages of requirements.in" in caught.value.message
    assert message in caught.value.message
    assert "/tmp" not in caught.value.message
    assert caught.value.hint


def test_a_failure_leaves_nothing_behind(
    index: Index, project: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    asked = project("requirements.in", **{"requirements.in": "labb"})
    with pytest.raises(ResolutionFailed):
        resolve(asked)
    assert list((tmp_path / "scratch").iterdir()) == []
    assert [path.name for path in asked.root.iterdir()] == ["requirements.in"]


# --- this machine's index ---------------------------------------------------------------------


def uv(*arguments: str, cwd: Path) -> None:
    subprocess.run([sys.executable, "-m", "uv", *arguments], cwd=cwd, check=True, capture_output=True)


def install(command: list[str], cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command, "--require-hashes", "-r", "requirements.lock"],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.network
def test_a_real_lock_is_what_pip_and_uv_install(project: Make, tmp_path: Path) -> None:
    text = "numpy>=2\nrequests[socks]\ncolorama ; platform_machine == 'aarch64'\ntomli ; python_version < '3.11'\n"
    asked = project("requirements.in", platforms=(X86, ARM), **{"requirements.in": text})
    lock = lock_of(asked)
    found = versions(lock, X86)
    assert {"numpy", "requests", "pysocks", "urllib3", "certifi"} <= set(found)
    assert not {"colorama", "tomli"} & set(found)
    assert versions(lock, ARM) == {**found, "colorama": versions(lock, ARM)["colorama"]}
    assert b"://" not in lock
    assert lock_of(asked, lock) == lock
    (asked.root / "requirements.lock").write_bytes(lock)
    options = ["--dry-run", "--target", str(tmp_path / "site"), "--no-deps"]
    assert "numpy" in install(["uv", "pip", "install", "--python", sys.executable, *options], asked.root)
    if sys.version_info[:2] == (3, 11):
        assert "numpy" in install(["pip", "install", *options], asked.root)


@pytest.mark.network
def test_a_real_upgrade_moves_what_is_named_and_nothing_else(project: Make) -> None:
    old = lock_of(project("requirements.in", **{"requirements.in": "requests==2.31.0\nidna==3.4\nurllib3==2.0.7\n"}))
    asked = project("requirements.in", **{"requirements.in": "requests\n"})
    assert lock_of(asked, old) == old
    before, after = versions(old), versions(lock_of(asked, old, "idna"))
    assert {name for name in before if before[name] != after[name]} == {"idna"}


@pytest.mark.network
def test_exclude_newer_holds_the_clock(project: Make) -> None:
    asked = project("requirements.in", exclude_newer="2024-01-01", **{"requirements.in": "requests"})
    assert versions(lock_of(asked))["requests"] == "2.31.0"
