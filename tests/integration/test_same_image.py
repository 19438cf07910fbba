"""The same lock gives the same image: another builder, another umask, another time, with and without reprobox."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from conftest import ROOT, Project

pytestmark = [pytest.mark.docker, pytest.mark.network]
RENDERED = ("Dockerfile", ".dockerignore", "reprobox.base.tar")


@pytest.fixture(scope="module")
def second_docker() -> Iterator[str]:
    """The address of another Docker daemon, with nothing in its store."""
    if os.geteuid() != 0:
        pytest.skip("a second Docker daemon needs root")
    folder = Path(tempfile.mkdtemp(prefix="reprobox-", dir="/tmp"))  # a socket's path must be short
    address = f"unix://{folder}/docker.sock"
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen([ROOT / ".ci/engine", "another", str(folder)], stdout=log, stderr=log)
    try:
        for _ in range(120):
            if subprocess.run(["docker", "-H", address, "info"], capture_output=True, check=False).returncode == 0:
                break
            assert daemon.poll() is None, (folder / "log").read_text()
            time.sleep(0.25)
        else:
            pytest.fail((folder / "log").read_text())
        yield address
    finally:
        daemon.kill()
        daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _build(folder: Path, *options: str, env: Mapping[str, str] | None = None) -> str:
    """The config digest that `docker buildx build` of a rendered folder gives without any layer cache."""
    metadata = folder.with_name(f"{folder.name}.metadata.json")
    ca = os.environ.get("SSL_CERT_FILE")
    subprocess.run(
        ["docker", "buildx", "build", "--no-cache", "--provenance=false", f"--metadata-file={metadata}",
         *([f"--secret=id=ca,src={ca}"] if ca else []), *options, str(folder)],
        check=True, env={**os.environ, "SOURCE_DATE_EPOCH": "1577836800", **(env or {})},
    )  # fmt: skip
    return str(json.loads(metadata.read_text())["containerimage.config.digest"])


def _clone(here: Project, place: Path, umask: int) -> Path:
    """A clone with the rendered files beside it, as another user's umask leaves them."""
    old = os.umask(umask)
    try:
        subprocess.run(["git", "clone", "--quiet", str(here.root), str(place)], check=True)
        for name in RENDERED:
            shutil.copyfile(here.root / name, place / name)
    finally:
        os.umask(old)
    return place


@pytest.fixture
def rendered(project: Callable[[], Project]) -> Project:
    here = project()
    here.write("tools/tool.sh", "#!/bin/sh\n")
    (here.root / "tools/tool.sh").chmod(0o755)
    (here.root / "alias.py").symlink_to("train.py")
    here.git("add", "--all")
    here.git("-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "--quiet", "--message", "all")
    here("render", "-o", str(here.root))
    return here


def test_another_builder_umask_zone_and_time_give_one_config_digest(
    rendered: Project, tmp_path: Path, second_docker: str
) -> None:
    first = _build(_clone(rendered, tmp_path / "one", 0o022), "--load", "--tag=same:one")
    time.sleep(3)
    second = _build(
        _clone(rendered, tmp_path / "two", 0o077),
        "--network=host",
        "--output=type=oci,dest=/dev/null",
        env={"TZ": "Asia/Tokyo", "LC_ALL": "C", "DOCKER_HOST": second_docker},
    )
    assert first == second


def test_an_injected_time_is_noticed(rendered: Project, tmp_path: Path) -> None:
    """The comparison above, on a Dockerfile that lets the clock in."""
    clone = _clone(rendered, tmp_path / "one", 0o022)
    text = (clone / "Dockerfile").read_text()
    stamped = text.replace("mkdir -p /out/opt ", "date > /opt/env/stamp\nmkdir -p /out/opt ")
    assert stamped != text
    (clone / "Dockerfile").write_text(stamped)
    first = _build(clone)
    time.sleep(3)
    assert _build(clone) != first


def test_reprobox_and_plain_docker_build_the_same_layers(rendered: Project, tmp_path: Path) -> None:
    built = rendered("build", "--json").json["image"]
    clone = _clone(rendered, tmp_path / "plain", 0o077)
    _build(clone, "--load", "--tag=same:plain")
    _build(clone, "--load", "--tag=same:dated", env={"SOURCE_DATE_EPOCH": ""})

    def facts(reference: str) -> tuple[object, ...]:
        asked = subprocess.run(["docker", "inspect", reference], capture_output=True, text=True, check=True).stdout
        (image,) = json.loads(asked)
        return image["RootFS"], image["Created"], image["Config"]["Env"], image["Config"]["User"]

    assert facts("same:plain") == facts(built["reference"])
    assert facts("same:plain")[1] == "2020-01-01T00:00:00Z"
    assert facts("same:dated")[0] == facts("same:plain")[0]


def test_what_render_would_replace_must_be_its_own(rendered: Project) -> None:
    (rendered.root / "Dockerfile").write_text("FROM mine\n")
    assert "was not rendered by reprobox" in rendered("render", "-o", str(rendered.root), code=2).err
    assert (rendered.root / "Dockerfile").read_text() == "FROM mine\n"
