"""What is built from source: what an sdist says it needs, how it is fetched, how the locks name it."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import io
import tarfile
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import lock, project
from reprobox import lockfile, recipe
from reprobox.errors import HashMismatch, InvalidInput, InvalidLock, ReproboxError, ResolutionFailed, Unlockable
from reprobox.model import Digest, LockedFile, Platform
from reprobox.resolvers import indexes, pylock, pyproject, python, sources
from reprobox.resolvers.pylock import PackageFile, Selection
from reprobox.resolvers.pyproject import Toml
from reprobox.resolvers.sources import Fetcher, Source

X86, ARM = Platform.LINUX_64, Platform.LINUX_AARCH64
NAME = "lab-1.0.tar.gz"


def tar(files: dict[str, bytes], path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def zipped(files: dict[str, bytes], path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def toml(text: str) -> Toml:
    return Toml(file="pyproject.toml", data=tomllib.loads(text), text=text)


def sdist(data: bytes = b"x", **more: object) -> PackageFile:
    made = PackageFile(name="lab", version="1.0", file=NAME, digest=Digest.of(data))
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


# --- what an sdist says -----------------------------------------------------------------------


@pytest.mark.parametrize("pack", [tar, zipped])
def test_the_pyproject_in_the_sdists_own_folder_is_read(pack: object, tmp_path: Path) -> None:
    files = {
        "lab-1.0/tests/pyproject.toml": b"no",
        "pyproject.toml": b"no",
        "lab-1.0/pyproject.toml": b"[build-system]\nrequires = ['hatchling']\nbuild-backend = 'hatchling.build'\n",
    }
    name = NAME if pack is tar else "lab-1.0.zip"
    path = pack(files, tmp_path / name)  # type: ignore[operator]
    found = sources.of_sdist(sdist(file=name), path)
    assert str(found) == "lab 1.0 (hatchling)"


def test_an_sdist_that_says_nothing_is_built_by_setuptools(tmp_path: Path) -> None:
    path = tar({"lab-1.0/setup.py": b""}, tmp_path / NAME)
    assert sources.of_sdist(sdist(), path).requires == ("setuptools", "setuptools>=40.8.0", "wheel")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"lab-1.0/pyproject.toml": b"[build-system"}, r"lab-1\.0\.tar\.gz/pyproject\.toml is not TOML"),
        ({"lab-1.0/pyproject.toml": b"\xff"}, r"lab-1\.0\.tar\.gz/pyproject\.toml is not TOML"),
        ({"lab-1.0/pyproject.toml": b"x" * (sources.LARGEST_TOML + 1)}, r"its pyproject\.toml is too large"),
        (
            {"lab-1.0/pyproject.toml": b"[build-system]\nrequires = 'x'"},
            r"toml:2: \[build-system\] requires is no list",
        ),
        ({"lab-1.0/pyproject.toml": b"[build-system]\nrequires = ['x=1']"}, "toml:2: not a requirement"),
    ],
)
def test_a_pyproject_that_cannot_be_read_is_named(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=message):
        sources.of_sdist(sdist(), tar(files, tmp_path / NAME))


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([NAME, "lab-1.0.zip"]))
def test_no_bytes_give_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    path = tmp_path_factory.mktemp("bytes") / name
    for content in (data, gzip.compress(data)):
        path.write_bytes(content)
        try:
            assert sources.read_pyproject(path, name) == b""
        except ReproboxError as error:
            assert name in error.message


def test_an_sdist_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LARGEST_SDIST", 50_000)
    path = tar({"lab-1.0/zeros": bytes(1_000_000), "lab-1.0/pyproject.toml": b""}, tmp_path / NAME)
    with pytest.raises(InvalidInput, match="it unpacks to more than an sdist may hold"):
        sources.read_pyproject(path, NAME)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("setuptools", "setuptools>=40.8.0", "wheel")),
        ("[build-system]\nrequires=['flit_core>=3']\nbuild-backend='flit_core.buildapi'", ("flit_core>=3",)),
        (
            "[build-system]\nrequires=['setuptools>=61', 'numpy ; python_version>\"3\"']",
            ('numpy ; python_version>"3"', "setuptools", "setuptools>=61", "wheel"),
        ),
        ("[build-system]\nrequires=[]\nbuild-backend='own'\nbackend-path=['.']", ()),
    ],
)
def test_what_building_takes_is_what_the_build_system_says(text: str, expected: tuple[str, ...]) -> None:
    assert pyproject.build_requirements(toml(text)) == expected


def test_a_build_requirement_from_a_repository_is_refused_with_its_line() -> None:
    with pytest.raises(Unlockable, match=r"pyproject\.toml:2: .*names a branch or tag"):
        pyproject.build_requirements(toml("[build-system]\nrequires=['a @ git+https://h.example/a']"))


@pytest.mark.parametrize(
    ("text", "package"),
    [
        ("[project]\nname='a'", False),
        ("[project]\nname='a'\n[build-system]\nrequires=[]", True),
        ("[build-system]\nrequires=[]\n[tool.uv]\npackage=false", False),
        ("[project]\nname='a'\n[tool.uv]\npackage=true", True),
        ("[build-system]\nrequires=[]\n[tool.poetry]\npackage-mode=false", False),
    ],
)
def test_a_project_is_a_package_by_its_build_system_or_its_own_word(text: str, package: bool) -> None:
    assert pyproject.is_package(toml(text)) is package


# --- fetching ---------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An index's host on loopback, with one file that only ``me:hush`` may have."""
    wanted = "Basic " + base64.b64encode(b"me:hush").decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code = 401 if self.headers.get("Authorization") != wanted else 200 if self.path == f"/{NAME}" else 404
            body = b"bytes" if code == 200 else b""
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("NETRC", "/dev/null")
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{served.server_address[1]}"
    served.shutdown()
    served.server_close()


def test_an_sdist_is_fetched_once_with_the_credentials_of_its_index(server: str) -> None:
    wanted = sdist(b"bytes", origin=f"http://{server}/{NAME}")
    with pytest.raises(ResolutionFailed, match=r"cannot fetch lab-1\.0\.tar\.gz, .* the server answers 401") as caught:
        Fetcher().fetch(wanted)
    assert "~/.netrc" in (caught.value.hint or "")
    path = Fetcher(known=(f"http://me:hush@{server}/simple",)).fetch(wanted)
    assert path.read_bytes() == b"bytes"
    assert Fetcher().fetch(wanted) == path


def test_an_sdist_that_is_gone_or_has_other_bytes_is_refused(server: str) -> None:
    known = (f"http://me:hush@{server}/simple",)
    with pytest.raises(HashMismatch, match=rf"{NAME} is not what the lock names"):
        Fetcher(known=known).fetch(sdist(b"others", origin=f"http://{server}/{NAME}"))
    with pytest.raises(ResolutionFailed, match="the server answers 404"):
        Fetcher(known=known).fetch(sdist(b"gone", origin=f"http://{server}/gone"))


def test_an_sdist_that_is_too_large_is_not_fetched(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LARGEST_SDIST", 3)
    with pytest.raises(InvalidInput, match="is larger than"):
        Fetcher(known=(f"http://me:hush@{server}/",)).fetch(sdist(b"bytes", origin=f"http://{server}/{NAME}"))


def test_an_sdist_of_this_machine_is_taken_by_its_path(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"bytes")
    assert Fetcher().fetch(sdist(b"bytes", origin=tmp_path / NAME)).read_bytes() == b"bytes"
    with pytest.raises(HashMismatch):
        Fetcher().fetch(sdist(b"others", origin=tmp_path / NAME))


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def test_credentials_come_from_the_url_an_index_of_its_host_or_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text("machine n.example login me password net\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("UV_INDEX", "lab=https://lab.example/simple https://u:p%2Fq@more.example/simple")
    monkeypatch.setenv("UV_INDEX_LAB_USERNAME", "me")
    monkeypatch.setenv("UV_INDEX_LAB_PASSWORD", "x@y")
    assert indexes.authorization("https://a:b@h.example/f", ()) == basic("a:b")
    assert indexes.authorization("https://h.example/f", ("https://c:d@h.example/simple",)) == basic("c:d")
    assert indexes.authorization("https://h.example:1/f", ("https://c:d@h.example/simple",)) == {}
    assert indexes.authorization("https://lab.example/f", ()) == basic("me:x@y")
    assert indexes.authorization("https://more.example/f", ()) == basic("u:p/q")
    assert indexes.authorization("https://n.example/f", ()) == basic("me:net")
    monkeypatch.setenv("NETRC", str(tmp_path / "gone"))
    assert indexes.authorization("https://n.example/f", ()) == {}


# --- the lock files ---------------------------------------------------------------------------


def test_sdists_have_a_lock_file_of_their_own_and_are_read_back() -> None:
    direct = sdist(name="direct", version="2", file="direct-2.zip", url="https://files.example/direct-2.zip")
    local = sdist(name="own", version="3", file="own-3.tar.gz", path=PurePosixPath("src/own-3.tar.gz"))
    selections = {
        X86: Selection(wheels=(), sdists=(direct, sdist(), local)),
        ARM: Selection(wheels=(), sdists=(local,)),
    }
    assert pylock.render(selections).decode() == pylock.HEADER
    natives = {"sdists.lock": pylock.render(selections, sdists=True)}
    assert '# lab-1.0.tar.gz\nlab==1.0 ; platform_machine == "x86_64" \\\n    --hash=sha256:' in natives[
        "sdists.lock"
    ].decode()  # fmt: skip
    assert python.versions(natives) == {"direct": "2", "lab": "1.0", "own": "3"}
    assert python.versions(natives, ARM) == {"own": "3"}
    assert python.local_files(natives, "sdists.lock") == ("src/own-3.tar.gz",)
    assert python.has_sdists(natives, ARM)
    assert not python.has_sdists({"requirements.lock": pylock.HEADER.encode()}, X86)
    assert python.files(natives)[NAME] == {sdist().digest}


@pytest.mark.parametrize("path", ["./a,from=evil.example-1.0.tar.gz", "./a b/lab-1.0.tar.gz", "./$a/lab-1.0.tar.gz"])
def test_a_path_that_would_say_more_in_a_mount_is_refused(path: str) -> None:
    lock = pylock.HEADER + f"# lab-1.0.tar.gz\n{path} \\\n    --hash=sha256:{'a' * 64}\n"
    with pytest.raises(InvalidLock, match=r"sdists\.lock:2 is not as reprobox writes it"):
        python.local_files({"sdists.lock": lock.encode()}, "sdists.lock")
    harmless = lock.replace(path, "./a/lab-1.0.tar.gz").encode()
    assert python.local_files({"sdists.lock": harmless}, "sdists.lock") == ("a/lab-1.0.tar.gz",)


def test_a_wheel_in_sdists_lock_and_an_sdist_in_requirements_lock_are_refused() -> None:
    with pytest.raises(InvalidLock, match=r"requirements\.lock:2 is not as reprobox writes it"):
        pylock.parse(pylock.render({X86: Selection(wheels=(), sdists=(sdist(),))}, sdists=True))
    wheel = sdist(file="lab-1.0-py3-none-any.whl")
    with pytest.raises(InvalidLock, match=r"sdists\.lock:2 is not as reprobox writes it"):
        pylock.parse(pylock.render({X86: Selection(wheels=(wheel,))}), "sdists.lock", sdists=True)


@pytest.mark.parametrize("folder", [".", "packages/lab"])
def test_the_lock_says_which_folder_is_a_package(folder: str) -> None:
    made = dataclasses.replace(lock(project()), own_package=PurePosixPath(folder))
    assert f"\npackage: {folder}\n" in lockfile.dumps(made).decode()
    assert lockfile.loads(lockfile.dumps(made)).own_package == PurePosixPath(folder)
    assert b"\npackage:" not in lockfile.dumps(lock(project()))


def test_the_recipe_leaves_out_the_lock_files_that_there_are() -> None:
    wanted = project()
    names = ("build-requirements.lock", "requirements.lock", "sdists.lock")
    natives = tuple(LockedFile(name=name, digest=Digest.of(b"")) for name in names)
    made = recipe.make(wanted, dataclasses.replace(lock(wanted), natives=natives), X86)
    assert set(made.leave_out) == {*names, "reprobox.base.tar"}
    assert recipe.make(wanted, lock(wanted), X86).leave_out == ("requirements.lock", "reprobox.base.tar")


# --- failures ---------------------------------------------------------------------------------

BUILT = (Source(label="old 1.0", requires=("setuptools<60",)), Source(label="new 2.0", requires=("setuptools>=70",)))


def test_build_requirements_that_contradict_each_other_name_the_packages_that_ask() -> None:
    words = "error: No solution found\n  cause: you require x<60 and x>=70, your requirements are unsatisfiable."
    error = sources.explain_failure(words, BUILT)
    assert "what building old 1.0 (setuptools<60) and new 2.0 (setuptools>=70) needs" in error.message
    assert "built in one environment" in (error.hint or "")


def test_a_build_requirement_without_a_wheel_is_refused_by_name() -> None:
    words = "error: No solution found\n  cause: Because cmk==1 has no usable wheels and you require cmk, unsatisfiable."
    error = sources.explain_failure(words, BUILT)
    assert isinstance(error, Unlockable)
    assert "cmk==1 has no usable wheels" in error.message
    error = sources.no_wheel(sdist(), X86, BUILT[:1])
    assert error.message == "lab 1.0, needed to build old 1.0 (setuptools<60), has no wheel for linux-64"


def test_other_failures_of_uv_keep_their_words() -> None:
    error = sources.explain_failure("error: Failed to fetch: `https://h.example/x`\n  cause: dns error", BUILT)
    assert "a package index cannot be reached" in error.message
