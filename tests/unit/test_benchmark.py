"""The benchmark measures what it says: its arithmetic, and opponents that do what reprobox does."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import bench
import contests
import pytest
import stopwatch
from docker.types import LogConfig, Ulimit

from examples import project
from reprobox import proc
from reprobox.console import Console
from reprobox.engines import Secrets, Supplies, docker_container
from reprobox.engines import docker as engine
from reprobox.model import Context, Digest, Job, Output, Platform, Smoke
from reprobox.resolvers.solver import solver


class Stopped(Exception):
    """What is started is not run."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that would have been started; each fails."""
    lines: list[list[str]] = []

    def record(argv: Sequence[str | os.PathLike[str]], **_: object) -> proc.Finished:
        lines.append([os.fspath(word) for word in argv])
        raise Stopped

    monkeypatch.setattr(proc, "run", record)
    return lines


# --- arithmetic -------------------------------------------------------------------------------


def test_the_ratio_is_that_of_the_medians_with_the_quartiles_of_the_pairs() -> None:
    found = stopwatch.ratio([3.0, 1.0, 2.0, 100.0, 2.0], [1.0, 1.0, 1.0, 50.0, 1.0])
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_a_spread_holds_median_quartiles_and_extremes() -> None:
    found = stopwatch.spread([5.0, 1.0, 4.0, 2.0, 3.0])
    assert (found.least, found.low, found.median, found.high, found.most) == (1.0, 2.0, 3.0, 4.0, 5.0)


def _side(tmp_path: Path, code: str, **more: Any) -> stopwatch.Side:
    return stopwatch.Side(argv=[sys.executable, "-c", code], env=os.environ, cwd=tmp_path, **more)


def test_the_sides_run_in_turns_and_who_begins_alternates(tmp_path: Path) -> None:
    order: list[str] = []
    ours = _side(tmp_path, "", prepare=lambda: order.append("o"))
    theirs = _side(tmp_path, "", prepare=lambda: order.append("t"))
    mine, others = stopwatch.race(ours, theirs, times=3, warm_up=1)
    assert "".join(order) == "ot" + "ot" + "to" + "ot"
    assert (len(mine), len(others)) == (3, 3)


def test_what_happens_before_a_process_is_ready_counts_only_as_a_whole(tmp_path: Path) -> None:
    code = "import os, time; time.sleep(0.3); os.write(int(os.environ['READY_FD']), str(time.monotonic_ns()).encode())"
    found = stopwatch.run(_side(tmp_path, code, tells_ready=True))
    assert found.whole - found.ready >= 0.3


def test_a_command_that_fails_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(stopwatch.BenchmarkFailed, match=r"exit code 3 .*\n.*no such thing"):
        stopwatch.run(_side(tmp_path, "import sys; print('no such thing'); sys.exit(3)"))


@pytest.mark.parametrize(("slow", "said"), [(1.0, "1.5 met"), (4.0, "1.5 MISSED")])
def test_a_missed_goal_is_reported(
    slow: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    side = _side(tmp_path, "")

    def race(*_: object, **__: object) -> tuple[list[stopwatch.Time], list[stopwatch.Time]]:
        return [stopwatch.Time(whole=slow, ready=slow)] * 2, [stopwatch.Time(whole=1.0, ready=1.0)] * 2

    monkeypatch.setattr(bench, "race", race)
    monkeypatch.setattr(
        bench, "CONTESTS", {"help": lambda _: [contests.Contest(name="--help", ours=side, theirs=side, goal=1.5)]}
    )
    monkeypatch.setattr(sys, "argv", ["bench", "help"])
    assert bench.main() == 0
    assert said in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["bench", "--strict", "--json"])
    assert bench.main() == (0 if slow <= 1.5 else 1)
    assert json.loads(capsys.readouterr().out)["results"][0]["met"] is (slow <= 1.5)


# --- the opponents do what reprobox does ------------------------------------------------------


def test_the_lock_opponent_has_the_flags_that_lock_gives_uv(started: list[list[str]], tmp_path: Path) -> None:
    wanted = project(tmp_path)
    source = tmp_path / "requirements.in"
    with solver(Console()) as uv, pytest.raises(Stopped):
        uv.compile(
            [source], python=wanted.python, platform=Platform.LINUX_64, cwd=tmp_path, preferences={}, explain=Stopped
        )
    (ours,) = started
    theirs = contests.lock_opponent(tmp_path, uv.program, wanted.python, Platform.LINUX_64)
    assert [word.replace(str(uv.folder), str(tmp_path)) for word in ours] == theirs


def _options(words: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for word in words:
        name, _, value = word.partition("=")
        found.setdefault(name, []).append(value)
    return found


def test_the_build_opponent_has_the_flags_that_build_gives_docker(
    started: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.Docker, "probe", lambda self: "Docker")
    context = Context(
        platform=Platform.LINUX_64, epoch=7, dockerfile="", dockerignore="", files={}, links={},
        executables=frozenset(), labels={}, digest=Digest.of(b""),
    )  # fmt: skip
    secrets = Secrets(ca=tmp_path / "ca.crt", env={"HTTPS_PROXY": "proxy.example"})
    supplies = Supplies(staging=tmp_path / "staging", secrets=secrets)
    with pytest.raises(Stopped):
        engine.Docker().build(context, reference="name:tag", supplies=supplies, console=Console())
    (ours,) = started
    theirs = contests.build_opponent(tmp_path / "project", secrets, 7)
    ours = [word for word in ours if not word.startswith("--context")]
    assert ours[:3] == theirs[:3] == ["docker", "buildx", "build"]
    mine, others = _options(ours[3:-1]), _options(theirs[3:-1])
    assert {option.split(",")[0] for option in mine.pop("--secret")} == {"id=ca", "id=env"}
    assert {option.split(",")[0] for option in others.pop("--secret")} == {"id=ca", "id=env"}
    own_business = {"--progress", "--file", "--metadata-file", "--output", "--tag"}
    assert mine.keys() ^ others.keys() <= own_business
    assert {name: mine[name] for name in mine.keys() - own_business} == {
        name: others[name] for name in others.keys() - own_business
    }
    assert (tmp_path / "project.env").read_text() == "HTTPS_PROXY=proxy.example\n"


def _ulimit(text: str) -> Ulimit:
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    return Ulimit(name=name, soft=int(soft), hard=int(hard))


def test_the_verify_opponent_has_the_limits_that_verify_gives_a_container() -> None:
    import docker  # noqa: PLC0415

    smoke = Smoke(command=("python", "train.py"), outputs=(Output(path=PurePosixPath("out")),), cpus=2, memory=1 << 30)
    client: Any = SimpleNamespace(api=docker.APIClient(base_url="http://engine.example:2375", version="1.47"))
    job = Job(command=smoke.command, cpus=smoke.cpus, memory=smoke.memory)
    container = docker_container.sealed(client, job, binds=[], cpus=[0, 1])
    theirs = contests.verify_opponent("image", smoke)
    image = theirs.index("image")
    assert theirs[:2] == ["docker", "run"]
    assert theirs[image + 1 :] == container["command"] == ["python", "train.py"]
    options = {name: values if len(values) > 1 else values[0] for name, values in _options(theirs[2:image]).items()}
    assert options.pop("--rm") == ""
    assert options.pop("--init") == ""
    assert options.pop("--read-only") == ""
    host = {
        "log_config": LogConfig(type=options.pop("--log-driver")),
        "network_mode": options.pop("--network"),
        "read_only": True,
        "init": True,
        "tmpfs": dict(mount.split(":", 1) for mount in options.pop("--tmpfs")),
        "cap_drop": [options.pop("--cap-drop")],
        "security_opt": [options.pop("--security-opt")],
        "pids_limit": int(str(options.pop("--pids-limit"))),
        "shm_size": options.pop("--shm-size"),
        "cpuset_cpus": options.pop("--cpuset-cpus"),
        "mem_limit": options.pop("--memory"),
        "memswap_limit": options.pop("--memory-swap"),
        "dns": [options.pop("--dns")],
        "dns_search": [options.pop("--dns-search")],
        "dns_opt": [options.pop("--dns-option")],
        "ulimits": [_ulimit(limit) for limit in options.pop("--ulimit")],
    }
    labels = dict(label.split("=") for label in options.pop("--label"))
    assert container["host_config"] == client.api.create_host_config(**host, mounts=[])
    assert container == {
        "command": ["python", "train.py"],
        "hostname": options.pop("--hostname"),
        "working_dir": options.pop("--workdir"),
        "volumes": [options.pop("--volume")],
        "labels": labels,
        "environment": {},
        "host_config": container["host_config"],
    }
    assert options == {}


def test_an_opponent_with_a_variable_that_nobody_sets_is_an_error() -> None:
    with pytest.raises(KeyError, match="TAG"):
        contests.opponent("build", {"FOLDER": "f", "EPOCH": "1", "SECRETS": []})
