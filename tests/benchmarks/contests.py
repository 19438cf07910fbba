"""The contests: what reprobox does, what an expert would write instead, and how much longer reprobox may take.

Both sides have the same interpreter, programs, settings of this machine and warm caches. The opponents' commands are
the files in ``opponents/``: a shell can run them, here they are started without one. What both sides need is made
first and not counted: copies of examples/warm-start with their image, and the shortest experiment's baseline.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stopwatch import BenchmarkFailed, Side

from reprobox import config
from reprobox.engines import Secrets
from reprobox.model import DEFAULT_EPOCH, Platform, PythonVersion, Smoke
from reprobox.resolvers.indexes import index_environment
from reprobox.resolvers.pylock import GLIBC
from reprobox.workflow import building

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parents[1] / "examples" / "warm-start"
NAME = "reprobox-benchmark"
"""The project's name, and the repository of its images."""
SHORTEST = """\
smoke:
  command: [python, -c, "open('one', 'w').write('1')"]
  control: [python, -c, "open('one', 'w').write('2')"]
  outputs: [one]
"""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """One comparison. ``goal`` is the greatest ratio it may have; None: it is only reported.

    ``from_ready``: ours counts from the ready process on, the opponent's from its start. ``seconds`` is about what one
    turn takes.
    """

    name: str
    ours: Side
    theirs: Side
    goal: float | None = None
    from_ready: bool = False
    seconds: float = 1.0


def opponent(name: str, values: Mapping[str, str | Sequence[str]]) -> list[str]:
    """The command in ``opponents/NAME.sh``, word by word; one that is nothing but the name of a list becomes its words.

    Raises KeyError for a variable without a value.
    """
    text = (HERE / "opponents" / f"{name}.sh").read_text(encoding="utf-8")
    words: list[str] = []
    for word in shlex.split(text.replace("\\\n", " "), comments=True):
        value = values[word[1:]] if re.fullmatch(r"\$[A-Z_]+", word) else string.Template(word).substitute(values)
        words += [value] if isinstance(value, str) else value
    return words


def lock_opponent(folder: Path, uv: str, python: PythonVersion, platform: Platform) -> list[str]:
    """`uv pip compile` of ``folder``/requirements.in."""
    return opponent("lock", {
        "FOLDER": str(folder), "PYTHON": sys.executable, "UV": uv, "PYTHON_VERSION": str(python),
        "PYTHON_PLATFORM": f"{platform.machine}-manylinux_{GLIBC[0]}_{GLIBC[1]}",
    })  # fmt: skip


def build_opponent(folder: Path, secrets: Secrets, epoch: int) -> list[str]:
    """`docker buildx build` of ``folder``, where Dockerfile and files are; secrets are handed on as a person would."""
    words = [f"--secret=id=ca,src={secrets.ca}"] if secrets.ca else []
    if secrets.env:
        file = folder.with_suffix(".env")
        file.touch(mode=0o600)
        file.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in secrets.env.items()), "utf-8")
        words.append(f"--secret=id=env,src={file}")
    return opponent("build", {"FOLDER": str(folder), "EPOCH": str(epoch), "SECRETS": words, "TAG": f"{NAME}:opponent"})


def verify_opponent(image: str, smoke: Smoke) -> list[str]:
    """`docker run --rm` of the experiment."""
    return opponent("verify", {
        "IMAGE": image, "COMMAND": smoke.command, "MEMORY": str(smoke.memory),
        "CPUS": ",".join(map(str, range(smoke.cpus))),
    })  # fmt: skip


# --- the contests -----------------------------------------------------------------------------


class Ground:
    """A folder to work in, and reprobox as its user's shell starts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self.program = str(Path(sys.executable).with_name("reprobox"))

    def project(self, name: str, change: Callable[[str], str] = lambda text: text) -> Path:
        """A git checkout of the example, under a name of its own, its config changed."""
        root = self.folder / name
        shutil.copytree(EXAMPLE, root, ignore=shutil.ignore_patterns(".reprobox", "out"))
        text = (root / config.CONFIG_FILE).read_text(encoding="utf-8")
        text = change(text.replace("name: warm-start", f"name: {NAME}"))
        (root / config.CONFIG_FILE).write_text(text, encoding="utf-8")
        self.command(["git", "init", "--quiet"], root)
        self.command(["git", "add", "--all"], root)
        return root

    def command(self, argv: Sequence[str], root: Path) -> None:
        """Do something that is not counted. Raises BenchmarkFailed where it fails."""
        done = subprocess.run(argv, cwd=root, env=self.env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchmarkFailed(f"exit code {done.returncode} of {shlex.join(argv)}\n{done.stdout}{done.stderr}")

    def ours(self, root: Path, *words: str, prepare: Callable[[], object] = lambda: None, **env: str) -> Side:
        """reprobox in a process that tells when it is ready."""
        argv = [sys.executable, str(HERE / "ready.py"), *words]
        return Side(argv=argv, env={**self.env, **env}, cwd=root, prepare=prepare, tells_ready=True)

    def theirs(self, argv: Sequence[str], *, prepare: Callable[[], object] = lambda: None, **env: str) -> Side:
        """An opponent. What buildx guesses of the epoch and its default builder is that of this shell, as for us."""
        return Side(argv=argv, env={**self.env, **env}, cwd=self.folder, prepare=prepare)

    def help(self) -> Iterator[Contest]:
        ours = Side(argv=[self.program, "--help"], env=self.env, cwd=self.folder)
        theirs = self.theirs(opponent("help", {"PYTHON": sys.executable}))
        yield Contest(name="--help", ours=ours, theirs=theirs, goal=1.5, seconds=0.2)

    def lock(self) -> Iterator[Contest]:
        """A changed requirements file is locked anew. The base stays as it is locked, so nothing else is asked; without
        a network uv takes what it has, and the price of the rest shows."""
        from uv import find_uv_bin  # noqa: PLC0415

        root = self.project("lock")
        project = config.load(root)
        beside = self.folder / "lock-opponent"
        beside.mkdir()
        argv = lock_opponent(beside, os.fspath(find_uv_bin()), project.python, project.platforms[0])
        number = itertools.count()

        def change(folder: Path) -> Callable[[], object]:
            """A requirements file that no lock fits yet, with the same answer."""
            text = (EXAMPLE / "requirements.in").read_text(encoding="utf-8")
            return lambda: (folder / "requirements.in").write_text(f"{text}# {next(number)}\n", encoding="utf-8")

        for name, goal, env in (("lock", 1.3, {}), ("lock, offline", None, {"UV_OFFLINE": "1"})):
            ours = self.ours(root, "lock", prepare=change(root), **env)
            theirs = self.theirs(argv, prepare=change(beside), **index_environment(), **env)
            yield Contest(name=name, ours=ours, theirs=theirs, goal=goal, seconds=2)

    def build(self) -> Iterator[Contest]:
        """Both have built just this before. Ours counts from the ready process (see ready.py): the opponent's start
        costs next to nothing, an interpreter's does not depend on what we do."""
        root, beside = self.project("build"), self.project("build-opponent")
        self.command([self.program, "build"], root)
        self.command([self.program, "render", "-o", "."], beside)
        argv = build_opponent(beside, building.build_secrets(), DEFAULT_EPOCH)
        self.command(argv, beside)
        ours, theirs = self.ours(root, "build"), self.theirs(argv)
        yield Contest(name="build, nothing to do", ours=ours, theirs=theirs, goal=1.0, from_ready=True, seconds=0.7)

    def verify(self) -> Iterator[Contest]:
        """The example's experiment, and one so short that nothing but our own price is left."""
        usual = self.project("verify")
        self.command([self.program, "build"], usual)
        yield self._verify("verify", usual, goal=1.2, seconds=20)
        shortest = self.project("verify-shortest", lambda text: text.partition("smoke:\n")[0] + SHORTEST)
        self.command([self.program, "record", "--force"], shortest)
        yield self._verify("verify, shortest", shortest, goal=None, seconds=2)

    def _verify(self, name: str, root: Path, *, goal: float | None, seconds: float) -> Contest:
        prepared = building.prepare(config.load(root))
        assert prepared.project.smoke
        theirs = self.theirs(verify_opponent(prepared.reference, prepared.project.smoke))
        return Contest(name=name, ours=self.ours(root, "verify"), theirs=theirs, goal=goal, seconds=seconds)


CONTESTS: dict[str, Callable[[Ground], Iterator[Contest]]] = {
    "help": Ground.help,
    "lock": Ground.lock,
    "build": Ground.build,
    "verify": Ground.verify,
}


@contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    """A ground in ``folder``; afterwards the images that were made on it are gone."""
    try:
        yield Ground(folder)
    finally:
        if docker := shutil.which("docker"):
            listed = subprocess.run([docker, "images", "--quiet", NAME], capture_output=True, text=True, check=False)
            if images := listed.stdout.split():
                subprocess.run([docker, "rmi", "--force", *images], capture_output=True, check=False)
