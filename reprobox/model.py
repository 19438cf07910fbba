"""The nouns that hand over to each other: Project, Lock, Recipe, Context, Image, Run, Verdict. Values only."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any

MEBIBYTE = 1024 * 1024
SMALL_INPUT = 50 * MEBIBYTE
"""A smoke input below this size (bytes) is part of the image; a larger one is mounted."""

ENVIRONMENT_PREFIX = PurePosixPath("/opt/env")
WORK_FOLDER = PurePosixPath("/work")
HOME_FOLDER = PurePosixPath("/home/user")
USER_ID = 1000
DEFAULT_EPOCH = 1577836800
"""2020-01-01T00:00:00Z, in seconds: every time inside an image, unless the project names another."""
UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What no name and no value may hold that becomes part of a Dockerfile: line breaks, control characters, surrogates."""


@dataclass(frozen=True, order=True)
class Digest:
    """A sha256, printed as ``sha256:<64 hex>``."""

    hex: str

    _PATTERN = re.compile(r"(?:sha256:)?([0-9a-f]{64})")

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.hex):
            raise ValueError(f"not the hex of a sha256: {self.hex!r}")

    def __str__(self) -> str:
        return f"sha256:{self.hex}"

    @property
    def short(self) -> str:
        """The first twelve hex digits, as tags and messages use them."""
        return self.hex[:12]

    @classmethod
    def parse(cls, text: str) -> Digest:
        """``sha256:<hex>`` or bare hex; anything else is a ValueError."""
        match = cls._PATTERN.fullmatch(text)
        if not match:
            raise ValueError(f"not a sha256 digest: {text!r}")
        return cls(match.group(1))

    @classmethod
    def of(cls, data: bytes) -> Digest:
        return cls(hashlib.sha256(data).hexdigest())

    @classmethod
    def of_json(cls, value: Any) -> Digest:
        """The digest of a JSON value in one canonical spelling (sorted keys, no spaces, UTF-8)."""
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return cls.of(text.encode())

    @classmethod
    def of_file(cls, path: Path) -> Digest:
        with path.open("rb") as stream:
            return cls(hashlib.file_digest(stream, "sha256").hexdigest())


class Platform(Enum):
    """An operating system and CPU architecture, by its conda name."""

    LINUX_64 = "linux-64"
    LINUX_AARCH64 = "linux-aarch64"

    @property
    def machine(self) -> str:
        """As ``platform.machine()`` and Python's markers say it."""
        return {"linux-64": "x86_64", "linux-aarch64": "aarch64"}[self.value]

    @property
    def oci_architecture(self) -> str:
        """As OCI indexes and Debian say it."""
        return {"linux-64": "amd64", "linux-aarch64": "arm64"}[self.value]


@dataclass(frozen=True, order=True)
class PythonVersion:
    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @classmethod
    def parse(cls, text: str) -> PythonVersion:
        match = re.fullmatch(r"(\d+)\.(\d+)", text)
        if not match:
            raise ValueError(f"not a Python version of the form 3.11: {text!r}")
        return cls(int(match.group(1)), int(match.group(2)))


class Determinism(Enum):
    """How far the experiment's own numerics are pinned (see the determinism room)."""

    OFF = "off"
    PINNED = "pinned"
    PORTABLE = "portable"


# --- what the user wants ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EnvironmentFile:
    """The file that names the Python packages, with the extras and groups wanted of a pyproject.toml."""

    path: PurePosixPath
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImageBase:
    """A base image by its reference, as the user wrote it."""

    reference: str


@dataclass(frozen=True, kw_only=True)
class BootstrapBase:
    """A distribution assembled from its own hashed packages; no registry needed."""

    distribution: str
    suite: str


@dataclass(frozen=True, kw_only=True)
class Output:
    """A declared output: a file or folder under the work folder, and the rules declared for it."""

    path: PurePosixPath
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Smoke:
    """The experiment: what is run, what goes in and comes out. ``timeout`` in seconds, ``memory`` in bytes."""

    command: tuple[str, ...]
    outputs: tuple[Output, ...]
    inputs: tuple[PurePosixPath, ...] = ()
    control: tuple[str, ...] | None = None
    timeout: float = 600.0
    cpus: int = 1
    memory: int = 4096 * MEBIBYTE


@dataclass(frozen=True, kw_only=True)
class Project:
    """What the user wrote, parsed and checked. ``root`` is the folder that holds reprobox.yaml."""

    root: Path
    name: str
    environment: EnvironmentFile
    python: PythonVersion
    base: ImageBase | BootstrapBase
    platforms: tuple[Platform, ...] = (Platform.LINUX_64,)
    system: tuple[str, ...] = ()
    determinism: Determinism = Determinism.PINNED
    env: Mapping[str, str] = field(default_factory=dict)
    epoch: int = DEFAULT_EPOCH
    exclude_newer: str | None = None
    smoke: Smoke | None = None

    @property
    def wants(self) -> dict[str, Any]:
        """The part of the project that a lock answers, as plain JSON values."""
        base = (
            self.base.reference
            if isinstance(self.base, ImageBase)
            else {"bootstrap": self.base.distribution, "suite": self.base.suite}
        )
        environment: dict[str, Any] = {"file": str(self.environment.path)}
        if self.environment.extras:
            environment["extras"] = sorted(self.environment.extras)
        if self.environment.groups:
            environment["groups"] = sorted(self.environment.groups)
        wants: dict[str, Any] = {
            "base": base,
            "determinism": self.determinism.value,
            "environment": environment,
            "epoch": self.epoch,
            "platforms": sorted(platform.value for platform in self.platforms),
            "python": str(self.python),
        }
        if self.env:
            wants["env"] = dict(sorted(self.env.items()))
        if self.exclude_newer:
            wants["exclude-newer"] = self.exclude_newer
        if self.determinism is Determinism.PINNED:  # only there do they decide how many threads are pinned
            wants["smoke.cpus"] = self.smoke.cpus if self.smoke else 1
        if self.system:
            wants["system"] = sorted(self.system)
        return wants


# --- what was resolved ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LockedFile:
    """A file by name and content: in the project (a path) or on an index (a bare file name)."""

    name: str
    digest: Digest


@dataclass(frozen=True, kw_only=True)
class SystemPackage:
    """A distribution package. ``file`` is its path below a mirror's root, such as pool/main/b/bash/..."""

    name: str
    version: str
    architecture: str
    file: str
    digest: Digest

    @property
    def deb(self) -> str:
        """The name of its file in a folder, as apt writes it."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


@dataclass(frozen=True, kw_only=True)
class LockedSystem:
    """The distribution packages that are added to a base image, exact, per platform.

    ``snapshot`` is the time of the index that named them: where a mirror has dropped one, an archive of that time
    has it.
    """

    distribution: str
    suite: str
    snapshot: str
    packages: Mapping[Platform, tuple[SystemPackage, ...]]


@dataclass(frozen=True, kw_only=True)
class LockedImage:
    """A base image, exact: the reference as written, one manifest digest per platform, and what is added to it."""

    reference: str
    digest: Digest
    manifests: Mapping[Platform, Digest]
    system: LockedSystem | None = None


@dataclass(frozen=True, kw_only=True)
class LockedBootstrap:
    """A bootstrapped distribution, exact: its packages, and the digest of the root file system's tar.

    ``snapshot`` is the time of the index that named the packages, where it is known.
    """

    distribution: str
    suite: str
    platform: Platform
    packages: tuple[SystemPackage, ...]
    rootfs: Digest
    snapshot: str = ""


@dataclass(frozen=True, kw_only=True)
class LockedInterpreter:
    """The interpreter that the environment stands on: its version and its path inside the base."""

    version: PythonVersion
    path: PurePosixPath


@dataclass(frozen=True, kw_only=True)
class LockedTool:
    """A tool used while building, from the Python index: version, and one wheel per platform."""

    version: str
    wheels: Mapping[Platform, LockedFile]


@dataclass(frozen=True, kw_only=True)
class Lock:
    """Every input, exact.

    ``wants`` is what the project asked when the lock was made; ``inputs`` the environment files that were
    read, ``data`` the smoke inputs, ``natives`` the lock files in the ecosystem's own formats, all relative
    to the project's root. ``indexes`` and ``find_links`` are the package indexes and pages of links that the
    project's own files name, without credentials. ``own_package`` is the folder of the project that is itself
    built and installed as a package.
    """

    wants: Mapping[str, Any]
    inputs: tuple[LockedFile, ...]
    data: tuple[LockedFile, ...]
    base: LockedImage | LockedBootstrap
    interpreter: LockedInterpreter
    uv: LockedTool
    natives: tuple[LockedFile, ...]
    variables: Mapping[str, str]
    epoch: int
    indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    own_package: PurePosixPath | None = None


# --- what is built ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TreeFile:
    """A file of the project: path, whether it is executable, and its content or (for a link) its target."""

    path: PurePosixPath
    executable: bool
    digest: Digest
    size: int
    link: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProjectTree:
    """The project's files, sorted, without reprobox's own. ``dirty``: some differ from the last commit."""

    files: tuple[TreeFile, ...]
    dirty: bool = False
    revision: str | None = None

    @property
    def digest(self) -> Digest:
        """One digest over path, mode and content of every file; no owner, no time."""
        return Digest.of_json(
            [[str(f.path), "l" if f.link is not None else "x" if f.executable else "-", f.digest.hex]
             for f in self.files]
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that a template prints or a builder does, for one platform.

    ``local_wheels`` are wheels among the project's own files; ``leave_out`` files of the build context that are
    not the project's; ``ignored`` files of a checkout that a build does not need at all. ``sdists``: packages are
    built from source, ``local_sdists`` being those among the project's own files; ``own_package`` is the folder of
    the project that is built and installed too. ``system`` are the distribution packages added to a base image.
    """

    platform: Platform
    base: LockedImage | LockedBootstrap
    python: PurePosixPath
    uv_version: str
    uv_wheel: LockedFile
    epoch: int
    variables: Mapping[str, str]
    labels: Mapping[str, str]
    indexes: tuple[str, ...]
    find_links: tuple[str, ...]
    local_wheels: tuple[str, ...]
    leave_out: tuple[str, ...]
    ignored: tuple[str, ...]
    sdists: bool = False
    local_sdists: tuple[str, ...] = ()
    own_package: PurePosixPath | None = None
    system: tuple[SystemPackage, ...] = ()
    prefix: PurePosixPath = ENVIRONMENT_PREFIX
    work: PurePosixPath = WORK_FOLDER
    home: PurePosixPath = HOME_FOLDER
    user: int = USER_ID

    @property
    def bootstrapped(self) -> bool:
        return isinstance(self.base, LockedBootstrap)

    @property
    def builds(self) -> bool:
        """Whether any package is built from source."""
        return self.sdists or self.own_package is not None

    @property
    def from_reference(self) -> str:
        """What stands behind ``FROM`` for a base image: its repository and this platform's manifest digest."""
        if isinstance(self.base, LockedBootstrap):
            return "scratch"
        repository = re.sub(r":[^/:]*$", "", self.base.reference.partition("@")[0])
        return f"{repository}@{self.base.manifests[self.platform]}"

    @property
    def uv_requirement(self) -> str:
        """uv as one line of a hashed requirements file."""
        return f"uv=={self.uv_version} --hash={self.uv_wheel.digest}"


@dataclass(frozen=True, kw_only=True)
class Context:
    """What an engine is given: a Dockerfile, and the files of the build context as bytes or where to take them from."""

    platform: Platform
    epoch: int
    dockerfile: str
    dockerignore: str
    files: Mapping[PurePosixPath, bytes | Path]
    links: Mapping[PurePosixPath, str]
    executables: frozenset[PurePosixPath]
    labels: Mapping[str, str]
    digest: Digest


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that exists: in which engine, by which name and which handle of the engine's own.

    ``digest`` is that of its config, its identity everywhere.
    """

    engine: str
    reference: str
    handle: str
    digest: Digest


# --- what happened ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A host file that the experiment may read at ``target`` and cannot write."""

    source: Path
    target: PurePosixPath


@dataclass(frozen=True, kw_only=True)
class Job:
    """One sealed run: a command, what it may use, what is taken out. ``timeout`` seconds, ``memory`` bytes."""

    command: tuple[str, ...]
    outputs: tuple[PurePosixPath, ...] = ()
    mounts: tuple[Mount, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    cpus: int | None = None
    memory: int | None = None


@dataclass(frozen=True, kw_only=True)
class Completed:
    """How a job ended. ``seconds`` is the command's wall time; ``reason`` says why it was stopped, if it was."""

    exit_code: int
    seconds: float
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class OutputFile:
    """A file that a run left: its path under the work folder, its bytes' digest, and where they were copied to."""

    path: PurePosixPath
    digest: Digest
    size: int
    stored: Path


@dataclass(frozen=True, kw_only=True)
class Run:
    """What happened: how the command ended, the outputs it left, and where its words were kept."""

    command: tuple[str, ...]
    exit_code: int
    seconds: float
    outputs: tuple[OutputFile, ...]
    log: Path
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Under what a run happened, as seen inside the container; nothing that names a host, a path or a time.

    ``cpus`` is how many the run may use, ``memory`` its limit in bytes; ``lacking`` the instructions of x86-64-v3
    that are not there, ``gpus`` one text each with the compute capability. ``libraries``: per locked library what
    it does here, named facts such as version, blas and simd, or why that could not be read under ``error``.
    """

    engine: str
    architecture: str
    cpu: str
    instructions: str | None
    cpus: int
    memory: int | None
    lacking: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    gpu_driver: str | None = None
    libraries: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def plain(self) -> dict[str, Any]:
        """As plain JSON values, sorted by name, without what is not known."""
        libraries = {name: dict(sorted(facts.items())) for name, facts in sorted(self.libraries.items())}
        plain = vars(self) | {"gpus": list(self.gpus), "libraries": libraries, "lacking": list(self.lacking)}
        return {name: value for name, value in sorted(plain.items()) if value not in (None, [], {})}


@dataclass(frozen=True, kw_only=True)
class HardwareClass:
    """The machines on which a baseline's bits are expected: named values, compared as a whole."""

    facts: Mapping[str, str]

    _NAMING = frozenset({"architecture", "cpu", "instructions"})

    @property
    def name(self) -> str:
        """A short name made of the facts alone, safe as a folder's name; a digest says what the words do not."""
        words = "-".join(str(value) for key, value in sorted(self.facts.items()) if key in self._NAMING)
        name = re.sub(r"[^A-Za-z0-9._]+", "-", words).strip("-").lower()
        if self.facts.keys() <= self._NAMING:
            return name
        return f"{name[:80]}-{Digest.of_json(dict(self.facts)).short}".strip("-")


class Status(Enum):
    """What a comparison means; only IDENTICAL passes, and SAME_CONTENT where the user declared the rule.

    The negative control has two words of its own: it must differ.
    """

    IDENTICAL = "IDENTICAL"
    SAME_CONTENT = "SAME_CONTENT"
    DIFFERENT = "DIFFERENT"
    MISSING = "MISSING"
    EXTRA = "EXTRA"
    UNSTABLE = "UNSTABLE"
    RUN_FAILED = "RUN_FAILED"
    NO_BASELINE = "NO_BASELINE"
    INCOMPLETE = "INCOMPLETE"
    CONTROL_DIFFERS = "CONTROL_DIFFERS"
    CONTROL_UNCHANGED = "CONTROL_UNCHANGED"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The verdict on one output: ``passes`` decides the exit code, ``detail`` says which rule or what differs."""

    path: str
    status: Status
    passes: bool
    detail: str = ""
    expected: Digest | None = None
    found: Digest | None = None
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The findings of one verification, with what was compared; ``notes`` say what decides nothing.

    ``elsewhere``: the classes of hardware that have a baseline, where the one of ``hardware`` has none.
    """

    findings: tuple[Finding, ...]
    hardware: HardwareClass
    image: Image
    runs: int
    seconds: float
    log: Path | None = None
    conditions: Conditions | None = None
    elsewhere: tuple[HardwareClass, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """As ``diff``: 0 as expected, 1 not, 2 trouble."""
        trouble = {Status.RUN_FAILED, Status.NO_BASELINE, Status.INCOMPLETE}
        failing = [finding.status for finding in self.findings if not finding.passes]
        if any(status not in trouble for status in failing):
            return 1
        return 2 if failing or not self.findings else 0
