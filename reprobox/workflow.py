"""The verbs, in order: each takes a project's folder and a console, and returns what happened."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from reprobox import baseline as baselines
from reprobox import cache, config, determinism, experiment, files, hardware, lockfile, probe, recipe, render, tree
from reprobox.baseline import Baseline, Baselines
from reprobox.compare import rules, verdict
from reprobox.console import Console
from reprobox.engines import Engine, Listener, Secrets, Supplies
from reprobox.engines.staging import link_or_copy
from reprobox.errors import InvalidInput, ReproboxError, StaleLock
from reprobox.lockfile import LOCK_FILE, Misfit
from reprobox.model import (
    MEBIBYTE,
    Completed,
    Conditions,
    Context,
    Digest,
    Finding,
    HardwareClass,
    Image,
    Job,
    Lock,
    LockedBootstrap,
    LockedFile,
    Platform,
    Project,
    ProjectTree,
    Recipe,
    Run,
    Smoke,
    Status,
    Verdict,
)

if TYPE_CHECKING:
    from reprobox.draft.compose import Draft
    from reprobox.lint.check import Report
    from reprobox.resolvers.python import Upgrade

_RUNS = "runs"
_OWN_CHECKOUT = "work in a checkout of your own; `build`, `run` and `verify` can do without writing into the project"


@contextmanager
def _at_work(root: Path, console: Console, *, patient: bool = False) -> Iterator[Path]:
    """Be the only reprobox at work in this project; yields the state folder. Without ``patience`` raises Busy.

    Waits where the work only reads what a person commits; who writes it (lock, record) must not follow blindly.
    """
    say = (lambda other: console.note(f"waiting for {other} ...")) if patient else None
    with files.exclusive(root, waiting=say) as state:
        if state.parent != root:
            console.note(f"{root} cannot be written: this checkout's state is kept in {state}")
        yield state


# --- init -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Drafted:
    """What `init` wrote, from what; ``refused``: why `lock` will not take it as it stands, as far as no solver is
    needed to know."""

    draft: Draft
    written: tuple[str, ...]
    refused: ReproboxError | None = None

    @property
    def exit_code(self) -> int:
        """0: a draft of everything that was seen; 1: it is known to miss something, or not to lock."""
        return 1 if self.refused or self.draft.lacking else 0


def init(root: Path, *, name: str | None = None) -> Drafted:
    """Draft reprobox.yaml, and a requirements file where none is there, from what lies in the folder.

    Overwrites nothing, and writes all of its files or none. Raises InvalidInput where reprobox.yaml exists, or where
    nothing says which packages are needed.
    """
    from reprobox.draft import compose, look  # noqa: PLC0415 (slow to import)
    from reprobox.resolvers import python  # noqa: PLC0415 (slow to import)

    there = next(
        (known for known in (config.CONFIG_FILE, *config.OTHER_CONFIG_FILES) if os.path.lexists(root / known)), None
    )
    if there:
        raise InvalidInput(
            f"{there} is there already, and is not overwritten",
            hint="edit it, then run `reprobox lock`; to see a new draft, move it away first",
        )
    if name is not None and compose.image_name(name) != name:
        raise InvalidInput(
            f"--name {name}: not the name of an image", hint=f"write --name {compose.image_name(name) or 'experiment'}"
        )
    if not root.is_dir():
        raise InvalidInput(f"there is no folder {root}", hint="name the project's folder: reprobox -C FOLDER init")
    draft = compose.draft(look.look(root), name=name)
    texts = {file: text.encode() for file, text in draft.files.items()}
    project = config.loads(texts[config.CONFIG_FILE], root=root)
    files.write_new_together(root, texts)
    refused = None
    try:
        python.read_inputs(project)
    except ReproboxError as error:
        refused = error
    return Drafted(draft=draft, written=tuple(texts), refused=refused)


# --- lock -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Locked:
    """What `lock` did: the lock, and the files that it wrote (none: it fitted already)."""

    lock: Lock
    written: tuple[str, ...]

    @property
    def digest(self) -> Digest:
        return lockfile.digest(self.lock)


def lock(root: Path, *, upgrade: Upgrade, console: Console) -> Locked:
    """Resolve every input and write the lock files; what nobody asked to move stays where it is.

    Raises ReproboxError, with the old lock as it was.
    """
    from reprobox.resolvers import base, python  # noqa: PLC0415 (slow to import)

    project = config.load(root)
    with _at_work(root, console):
        old = lockfile.read(root) if _is_there(root / LOCK_FILE) else None
        data = _smoke_inputs(project)
        inputs = python.read_inputs(project)
        if old and upgrade.nothing and not lockfile.misfits(old, project, inputs=inputs):
            return Locked(lock=old, written=())
        files.require_writable(root, hint=_OWN_CHECKOUT)
        locked_base, interpreter = base.resolve(project, console=console, previous=old, again=upgrade.all)
        environment = python.resolve(
            project, previous=_previous(root, old), upgrade=upgrade, console=console,
            uv=old.uv if old and not upgrade.all else None,
        )  # fmt: skip
        new = Lock(
            wants=project.wants,
            inputs=environment.inputs,
            data=data,
            base=locked_base,
            interpreter=interpreter,
            uv=environment.uv,
            natives=tuple(LockedFile(name=n, digest=Digest.of(c)) for n, c in sorted(environment.natives.items())),
            own_package=environment.own_package,
            variables=determinism.variables(
                project.determinism,
                packages=environment.versions,
                platform=project.platforms[0],
                cpus=project.smoke.cpus if project.smoke else 1,
                env=project.env,
                epoch=project.epoch,
            ),
            epoch=project.epoch,
            indexes=environment.indexes,
            find_links=environment.find_links,
        )
        whole = {**environment.natives, LOCK_FILE: lockfile.dumps(new)}
        changed = {name: data for name, data in whole.items() if not _holds(root / name, data)}
        files.write_together(root, changed)
        for file in old.natives if old else ():
            if file.name in config.OWN_FILES and file.name not in whole:
                (root / file.name).unlink(missing_ok=True)
        return Locked(lock=new, written=tuple(changed))


def _is_there(path: Path) -> bool:
    """Whether there is something to read, be it unreadable: an old lock that cannot be read is never replaced."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def check(root: Path) -> tuple[Misfit, ...]:
    """Why the lock no longer fits the project: offline, without a solver. Empty: it fits."""
    project = config.load(root)
    return _misfits(project, lockfile.read(root))


def _misfits(project: Project, lock: Lock) -> tuple[Misfit, ...]:
    from reprobox.resolvers import python  # noqa: PLC0415 (slow to import)

    return lockfile.misfits(lock, project, inputs=python.read_inputs(project))


def _previous(root: Path, old: Lock | None) -> dict[str, bytes]:
    """The lock files in the ecosystem's own formats, as they are now."""
    names = [file.name for file in old.natives] if old else []
    return {name: (root / name).read_bytes() for name in names if (root / name).is_file()}


def _smoke_inputs(project: Project) -> tuple[LockedFile, ...]:
    paths = project.smoke.inputs if project.smoke else ()
    found = tree.digests(project.root, paths)
    return tuple(LockedFile(name=str(path), digest=digest) for path, digest in sorted(found.items()))


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


# --- lint -------------------------------------------------------------------------------------


def lint(root: Path, paths: Iterable[Path]) -> Report:
    """What cannot be reproduced as it stands, in all of the project's files or in those that ``paths`` name."""
    from reprobox.lint import check  # noqa: PLC0415 (slow to import)

    return check.lint(root, tuple(paths))


def workflow_commands(root: Path, report: Report) -> list[str]:
    """A report's findings as GitHub Actions wants them; none anywhere else."""
    from reprobox.report import lint as written  # noqa: PLC0415

    if os.environ.get("GITHUB_ACTIONS") != "true":
        return []
    checkout = Path(os.environ.get("GITHUB_WORKSPACE") or root)
    inside = root.relative_to(checkout) if root.is_relative_to(checkout) else Path()
    return written.workflow_commands(report, folder=PurePosixPath(inside))


# --- render, build ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A project whose lock fits, with everything that decides its image."""

    project: Project
    lock: Lock
    tree: ProjectTree
    recipe: Recipe
    natives: Mapping[str, bytes]

    @property
    def digest(self) -> Digest:
        """The context's digest, at the cost of a look."""
        return render.digest(self.recipe, tree=self.tree, natives=self.natives)

    @cached_property
    def context(self) -> Context:
        return render.context(self.recipe, tree=self.tree, root=self.project.root, natives=self.natives)

    @property
    def reference(self) -> str:
        """The image's name and tag: which lock and which sources it holds."""
        return f"{self.project.name}:lock-{lockfile.digest(self.lock).short}-src-{self.tree.digest.short}"


def prepare(root: Path, *, platform: Platform | None = None) -> Prepared:
    """Read the project and its lock. Raises StaleLock, with every reason, where the lock no longer fits."""
    from reprobox.resolvers import python  # noqa: PLC0415 (slow to import)

    project = config.load(root)
    locked = lockfile.read(root)
    if reasons := _misfits(project, locked):
        said = "".join(f"\n  {reason}" for reason in reasons)
        raise StaleLock(f"{LOCK_FILE} no longer fits the project:{said}", hint="run `reprobox lock`")
    project_tree = tree.read(project)
    natives = {file.name: (root / file.name).read_bytes() for file in locked.natives}
    platform = platform or project.platforms[0]
    made = recipe.make(
        project, locked, platform,
        local_wheels=python.local_files(natives, recipe.REQUIREMENTS_LOCK),
        local_sdists=python.local_files(natives, recipe.SDISTS_LOCK),
        sdists=python.has_sdists(natives, platform),
    )  # fmt: skip
    return Prepared(
        project=project,
        lock=locked,
        tree=project_tree,
        recipe=made,
        natives=natives,
    )


def render_to(root: Path, folder: Path, *, platform: Platform | None, console: Console) -> tuple[str, ...]:
    """Write Dockerfile, .dockerignore and, for a bootstrapped base, its tar; returns their names.

    Raises InvalidInput rather than replace a file that was not rendered by reprobox.
    """
    prepared = prepare(root, platform=platform)
    texts = {".dockerignore": prepared.context.dockerignore, "Dockerfile": prepared.context.dockerfile}
    for name in texts:
        path = folder / name
        if os.path.lexists(path) and not tree.is_rendered(path):
            raise InvalidInput(f"{path} was not rendered by reprobox", hint="move it away, or render to another folder")
    files.require_writable(folder, hint="name another folder")
    names = list(texts)
    files.remove(folder / recipe.SYSTEM_FOLDER)
    for inner, source in _distribution_files(prepared, console).items():
        (folder / inner).parent.mkdir(exist_ok=True)
        files.copy_whole(source, folder / inner)
        names.append(inner.parts[0])
    files.write_together(folder, {name: text.encode() for name, text in texts.items()})
    return tuple(sorted(set(names)))


@dataclass(frozen=True, kw_only=True)
class Built:
    """An image that holds just this lock and these sources; ``fresh``: it was built now."""

    prepared: Prepared
    image: Image
    fresh: bool


def build(root: Path, *, engine: Engine, console: Console) -> Built:
    """The project's image: found, where the engine still holds it, else built."""
    config.load(root)  # where there is no project, nothing is left behind
    with _at_work(root, console, patient=True) as state:
        return _build(root, state, engine, console)


def _build(root: Path, state: Path, engine: Engine, console: Console) -> Built:
    prepared = prepare(root)
    note = state / f"image-{engine.name}.json"
    known = _known_image(note, prepared.digest)
    if known and engine.holds(known):
        return Built(prepared=prepared, image=known, fresh=False)
    engine.probe()
    packages = _distribution_files(prepared, console)
    context = dataclasses.replace(prepared.context, files={**prepared.context.files, **packages})
    staging = state / "build"
    try:
        supplies = Supplies(
            staging=staging, secrets=build_secrets(), wheels=_wheels_at_hand(prepared, state / "wheels"),
            check=lambda: _require_unchanged(prepared),
        )  # fmt: skip
        image = engine.build(context, reference=prepared.reference, supplies=supplies, console=console)
    finally:
        files.remove(staging)
        files.remove(state / "wheels")
    files.write_whole(note, _note(image, prepared.digest))
    return Built(prepared=prepared, image=image, fresh=True)


def _require_unchanged(prepared: Prepared) -> None:
    if tree.read(prepared.project).digest != prepared.tree.digest:
        raise InvalidInput("the project's files changed while the build was being prepared", hint="build again")


def image_facts(image: Image) -> dict[str, str]:
    """An image as plain JSON values."""
    return {**vars(image), "digest": str(image.digest)}


def _note(image: Image, context: Digest) -> bytes:
    """What is remembered of an image, sealed: its digest goes into baselines, so an edited one must not be believed."""
    facts: dict[str, object] = {"context": str(context), "image": image_facts(image)}
    facts["checksum"] = str(Digest.of_json(facts))
    return json.dumps(facts, indent=2, sort_keys=True).encode()


def _known_image(note: Path, context: Digest) -> Image | None:
    try:
        facts = json.loads(files.read_plain(note, most=MEBIBYTE))
        if facts.pop("checksum") != str(Digest.of_json(facts)) or facts["context"] != str(context):
            return None
        image = {name: str(facts["image"][name]) for name in ("engine", "reference", "handle")}
        return Image(**image, digest=Digest.parse(facts["image"]["digest"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # no note, or none that can be read: the image is built, and a new note written


def _distribution_files(prepared: Prepared, console: Console) -> dict[PurePosixPath, Path]:
    """What the build context holds of the distribution: a bootstrapped base's tar, or an image's added packages."""
    base, platform = prepared.lock.base, prepared.recipe.platform
    if isinstance(base, LockedBootstrap):
        from reprobox.resolvers import rootfs  # noqa: PLC0415 (slow to import)

        return {
            PurePosixPath(recipe.BASE_TAR): rootfs.assemble(base, epoch=prepared.lock.epoch, console=console)
        }  # fmt: skip
    if not (base.system and prepared.recipe.system):
        return {}
    from reprobox.resolvers import java_keystore, packages  # noqa: PLC0415 (slow to import)

    wanted, system = base.system.packages[platform], base.system
    debs = packages.fetch(
        wanted, distribution=system.distribution, suite=system.suite, snapshot=system.snapshot, console=console
    )
    folder = PurePosixPath(recipe.SYSTEM_FOLDER)
    named = {folder / package.deb: deb for package, deb in zip(wanted, debs, strict=True)}
    return {**named, folder / java_keystore.PATH.name: java_keystore.PATH}


def _wheels_at_hand(prepared: Prepared, folder: Path) -> Path | None:
    """Locked files at hand, in folders that this machine names or in the cache, gathered for the build; None: none."""
    from reprobox.resolvers import indexes, python  # noqa: PLC0415 (slow to import)

    found = {}
    for name, digests in python.files(prepared.natives).items():
        for place in indexes.find_links():
            if (place / name).is_file() and Digest.of_file(place / name) in digests:
                found[name] = place / name
                break
        else:
            if cached := next(filter(None, map(cache.get, sorted(digests))), None):
                found[name] = cached
    files.remove(folder)
    if not found:
        return None
    try:
        folder.mkdir(parents=True)
        for name, path in found.items():
            link_or_copy(path, folder / name)
    except OSError as error:
        raise files.explain(error, f"cannot gather the wheels at hand in {folder}") from error
    return folder


def build_secrets() -> Secrets:
    """What this machine's configuration says about reaching an index: certificates, proxies, indexes."""
    from reprobox.resolvers import indexes  # noqa: PLC0415 (slow to import)

    ca = next(filter(None, (os.environ.get(name) for name in ("REPROBOX_CA_BUNDLE", "SSL_CERT_FILE"))), None)
    if ca and not Path(ca).is_file():
        raise InvalidInput(f"the certificates to trust are not there: {ca}", hint="correct SSL_CERT_FILE")
    proxies = {
        name: os.environ[name]
        for upper in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
        for name in (upper, upper.lower())
        if os.environ.get(name)
    }
    return Secrets(ca=Path(ca) if ca else None, env={**indexes.reachable_from_a_build(), **proxies})


# --- run, record, verify ----------------------------------------------------------------------


def run(root: Path, command: tuple[str, ...], *, engine: Engine, console: Console, listen: Listener) -> Completed:
    """Run any command in the project's image, sealed as the experiment is, with its limits but no outputs."""
    built = build(root, engine=engine, console=console)
    project, smoke = built.prepared.project, built.prepared.project.smoke
    job = Job(
        command=command,
        mounts=experiment.mounts(project, built.prepared.lock, built.prepared.tree),
        cpus=smoke.cpus if smoke else None,
        memory=smoke.memory if smoke else None,
    )
    completed, _ = engine.run(built.image, job, into=root, listen=listen)
    return completed


def verify(root: Path, *, runs: int, control: bool, engine: Engine, console: Console) -> Verdict:
    """Run the experiment ``runs`` times and judge its outputs against the baseline; writes no baseline."""
    config.load(root)
    with _at_work(root, console, patient=True) as state:
        known = baselines.read(root)
        trial = _try(root, state, runs=runs, control=control, engine=engine, console=console)
        kept, notes = {}, []
        if expected := known.of(trial.hardware):
            held = baselines.kept(root, expected)
            for damage in held.damaged:
                console.warn(damage)
            kept = dict(held.files)
            if expected.lock != (here := lockfile.digest(trial.built.prepared.lock)):
                notes.append(f"the baseline was recorded with lock {expected.lock.short}, this is lock {here.short}")
        with console.step("Comparing the outputs", brief=True) as step:
            found = verdict.judge(
                outputs=trial.smoke.outputs,
                runs=trial.runs,
                hardware=trial.hardware,
                baselines=known,
                control=trial.control,
                kept=kept,
                step=step,
            )
        return dataclasses.replace(trial.verdict(found, known), notes=tuple(notes))


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What `record` saw, and whether it wrote it; ``accepted``: the baseline now says what was seen."""

    verdict: Verdict
    written: bool
    accepted: bool


def record(root: Path, *, force: bool, engine: Engine, console: Console) -> Recorded:
    """Run the experiment twice and its negative control once; keep what the runs agree on as the baseline.

    Nothing is written where the experiment fails or is unstable, where the control changed nothing, or, without
    ``force``, where the baseline of this hardware class says otherwise.
    """
    config.load(root)
    with _at_work(root, console) as state:
        known = baselines.read(root)
        files.require_writable(root, hint=_OWN_CHECKOUT)
        trial = _try(root, state, runs=2, control=True, engine=engine, console=console)
        outputs = trial.smoke.outputs
        found = verdict.judge(
            outputs=outputs, runs=trial.runs, hardware=trial.hardware, baselines=known, control=trial.control
        )
        new_class = known.of(trial.hardware) is None
        refusing = {finding.status for finding in found if not finding.passes}
        if new_class:
            refusing.discard(Status.NO_BASELINE)
        replaceable = {Status.DIFFERENT, Status.MISSING, Status.EXTRA, Status.NO_BASELINE}
        if refusing - replaceable or (refusing and not force):
            return Recorded(verdict=trial.verdict(found, known), written=False, accepted=False)
        baseline = Baseline(
            hardware=trial.hardware,
            conditions=trial.conditions,
            command=trial.smoke.command,
            lock=lockfile.digest(trial.built.prepared.lock),
            source=trial.built.prepared.tree.digest,
            image=trial.built.image.digest,
            outputs=verdict.recorded(outputs, trial.runs[0]),
            control=verdict.recorded_control(outputs, trial.runs[0], trial.control) if trial.control else None,
        )
        stored = baselines.store(root, known, baseline, trial.runs[0].outputs)
        again = verdict.judge(
            outputs=outputs, runs=trial.runs, hardware=trial.hardware, baselines=stored, control=trial.control
        )
        return Recorded(verdict=trial.verdict(again, stored), written=stored != known, accepted=True)


@dataclass(frozen=True, kw_only=True)
class _Trial:
    built: Built
    smoke: Smoke
    conditions: Conditions
    hardware: HardwareClass
    runs: tuple[Run, ...]
    control: Run | None

    def verdict(self, findings: tuple[Finding, ...], known: Baselines) -> Verdict:
        return Verdict(
            conditions=self.conditions,
            elsewhere=() if known.of(self.hardware) else tuple(one.hardware for one in known.each),
            findings=findings,
            hardware=self.hardware,
            image=self.built.image,
            runs=len(self.runs),
            seconds=sum(one.seconds for one in self.runs),
            log=self.runs[0].log,
        )


def _try(root: Path, state: Path, *, runs: int, control: bool, engine: Engine, console: Console) -> _Trial:
    project = config.load(root)
    smoke = experiment.smoke_of(project)
    if control and smoke.control is None:
        raise InvalidInput(
            "the experiment has no negative control",
            hint="add `control:` to `smoke:` in reprobox.yaml: the same command with another seed",
        )
    for output in smoke.outputs:
        rules.check(output)
    built = _build(root, state, engine, console)
    conditions = _conditions(built, smoke, state, engine, console)
    hardware_class = hardware.hardware_class(
        project.determinism, built.prepared.recipe.platform, conditions, env=project.env
    )
    inputs = experiment.mounts(project, built.prepared.lock, built.prepared.tree)

    def once(title: str, name: str, command: tuple[str, ...]) -> Run:
        with console.step(title) as step:
            step.limit(smoke.timeout)
            return experiment.run(
                engine, built.image, smoke, command=command, inputs=inputs, into=state / _RUNS / name,
                listen=lambda _, data: step.say(data.decode("utf-8", "replace").rstrip("\n")),
            )  # fmt: skip

    files.remove(state / _RUNS)
    done: list[Run] = []
    for number in range(1, runs + 1):
        count = f" ({number} of {runs})" if runs > 1 else ""
        done.append(once(f"Running the experiment{count}", str(number), smoke.command))
        if done[-1].exit_code != 0 or done[-1].reason:
            console.note(f"The command's last words:\n{_tail(done[-1].log)}")
            break
    ran = all(one.exit_code == 0 and not one.reason for one in done)
    controlled = (
        once("Running the negative control", "control", smoke.control) if control and ran and smoke.control else None
    )
    return _Trial(
        built=built, smoke=smoke, conditions=conditions, hardware=hardware_class, runs=tuple(done), control=controlled
    )


def _conditions(built: Built, smoke: Smoke, state: Path, engine: Engine, console: Console) -> Conditions:
    from reprobox.resolvers import python  # noqa: PLC0415 (slow to import)

    prepared = built.prepared
    locked = python.versions(prepared.natives, prepared.recipe.platform)
    wanted = probe.job(tuple(locked), cpus=smoke.cpus, memory=smoke.memory)
    found = probe.conditions(engine, built.image, wanted, state=state, console=console)
    for warning in hardware.unread(found):
        console.warn(warning)
    return found


def _tail(log: Path, lines: int = 12) -> str:
    """The end of a log, indented."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 100 * 1024))
        words = stream.read().decode("utf-8", "replace").splitlines()
    return "\n".join(f"  {line}" for line in words[-lines:]) or "  (none)"


# --- small answers ----------------------------------------------------------------------------


def engine() -> Engine:
    """The engine that builds and runs here."""
    from reprobox.engines.docker import Docker  # noqa: PLC0415 (slow to import)

    return Docker()


def platform_named(name: str) -> Platform:
    """Raises InvalidInput where there is no such platform."""
    try:
        return Platform(name)
    except ValueError as error:
        known = ", ".join(platform.value for platform in Platform)
        raise InvalidInput(f"there is no platform {name}", hint=f"known are {known}") from error
