"""Baselines <-> reprobox.baseline.json and the folder reprobox.baseline/: the expected outputs, per hardware class.

The JSON file is what counts; the folder holds the small outputs themselves, so that a difference can be explained.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, TypeVar

from reprobox.errors import InvalidInput
from reprobox.files import UNFINISHED, explain, open_plain, read_plain, scratch, write_whole
from reprobox.model import MEBIBYTE, Conditions, Digest, HardwareClass, OutputFile

BASELINE_FILE = "reprobox.baseline.json"
BASELINE_FOLDER = "reprobox.baseline"
VERSION = 2
"""Version 1 knew no conditions."""
LARGEST = 64 * MEBIBYTE
"""Bytes: a larger file is no baseline; one output is 300 bytes or so."""
KEPT_EACH = MEBIBYTE
"""An output up to this size (bytes) is kept itself, while the total of a hardware class stays under KEPT_TOTAL."""
KEPT_TOTAL = 8 * MEBIBYTE

_RECOVER = f"restore {BASELINE_FILE} from version control, or remove it and run `reprobox record`"

_NEVER_IGNORED = b"# Outputs are often ignored by git; these copies of them are not.\n!*\n"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RecordedOutput:
    """An output as it is expected: its bytes' digest and size in bytes.

    Where rules are declared for it, also the rules' own digest and the output's digest under them. ``kept``: the
    bytes themselves lie in the baseline folder.
    """

    path: PurePosixPath
    digest: Digest
    size: int
    rules_digest: Digest | None = None
    ruled_digest: Digest | None = None
    kept: bool = False


@dataclass(frozen=True, kw_only=True)
class RecordedControl:
    """The negative control as it ran at the record: its command, and the outputs that it changed."""

    command: tuple[str, ...]
    changed: tuple[PurePosixPath, ...]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What one hardware class is expected to give, and what it was given by.

    ``lock`` is the lock file's digest, ``source`` the project tree's, ``image`` the image's config digest;
    ``conditions`` those of the run, which version 1 of the file does not hold.
    """

    hardware: HardwareClass
    command: tuple[str, ...]
    lock: Digest
    source: Digest
    image: Digest
    outputs: tuple[RecordedOutput, ...]
    control: RecordedControl | None = None
    conditions: Conditions | None = None


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """The baselines of a project, one per hardware class."""

    each: tuple[Baseline, ...] = ()

    def of(self, hardware: HardwareClass) -> Baseline | None:
        """The baseline of this very hardware class, if one was recorded."""
        return next((one for one in self.each if one.hardware.facts == hardware.facts), None)

    def replacing(self, baseline: Baseline) -> Baselines:
        """These baselines with ``baseline`` in the place of its hardware class; the others as they were."""
        others = [one for one in self.each if one.hardware.facts != baseline.hardware.facts]
        return Baselines(each=tuple(sorted([*others, baseline], key=lambda one: one.hardware.name)))


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The outputs that lie in the baseline folder, by path; ``damaged`` says in full what is wrong with the rest."""

    files: Mapping[PurePosixPath, bytes] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()


# --- writing ----------------------------------------------------------------------------------


def to_json(baselines: Baselines) -> str:
    """The text of the baseline file: the version first, then sorted; the same baselines give the same text."""
    document = {
        "version": VERSION,
        "baselines": [_plain(one) for one in sorted(baselines.each, key=lambda one: one.hardware.name)],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(baseline: Baseline) -> dict[str, Any]:
    plain: dict[str, Any] = {"command": list(baseline.command)}
    if baseline.conditions:
        plain["conditions"] = baseline.conditions.plain
    if baseline.control:
        changed = sorted(str(path) for path in baseline.control.changed)
        plain["control"] = {"changed": changed, "command": list(baseline.control.command)}
    plain["hardware"] = dict(sorted(baseline.hardware.facts.items()))
    plain["image"] = str(baseline.image)
    plain["lock"] = str(baseline.lock)
    plain["outputs"] = [_plain_output(output) for output in sorted(baseline.outputs, key=lambda one: str(one.path))]
    plain["source"] = str(baseline.source)
    return plain


def _plain_output(output: RecordedOutput) -> dict[str, Any]:
    plain: dict[str, Any] = {"digest": str(output.digest), "kept": output.kept, "path": str(output.path)}
    if output.ruled_digest is not None:
        plain["ruled"] = str(output.ruled_digest)
    if output.rules_digest is not None:
        plain["rules"] = str(output.rules_digest)
    plain["size"] = output.size
    return plain


def store(root: Path, baselines: Baselines, baseline: Baseline, files: Sequence[OutputFile]) -> Baselines:
    """Write ``baseline`` beside the other classes' baselines, and keep the small ones of ``files``.

    Comes back with the baselines as they now stand (``kept`` set). The folder is made elsewhere and moved into
    its place, the JSON file is written last: a kill leaves the old baseline counting. Raises InvalidInput where
    the place cannot be written, or where a file is no longer what the run left.
    """
    chosen = _small(files)
    outputs = tuple(
        dataclasses.replace(output, kept=output.path in chosen)
        for output in sorted(baseline.outputs, key=lambda one: str(one.path))
    )
    stored = baselines.replacing(dataclasses.replace(baseline, outputs=outputs))
    from_json(to_json(stored), BASELINE_FILE)  # what could not be read again is not written
    folder = root / BASELINE_FOLDER / baseline.hardware.name
    if folder.parent.is_symlink():
        raise InvalidInput(f"{folder.parent} is a link", hint="remove it; reprobox makes the folder itself")
    try:
        with scratch(root, UNFINISHED) as place:
            new = place / "new"
            new.mkdir()
            for file in chosen.values():
                _keep(file, new / file.path)
            _replace_folder(folder, new if chosen else None, place / "old")
    except OSError as error:
        raise explain(error, f"cannot write the baseline folder {folder}") from error
    if chosen:
        write_whole(root / BASELINE_FOLDER / ".gitignore", _NEVER_IGNORED)
    write_whole(root / BASELINE_FILE, to_json(stored).encode())
    return stored


def _small(files: Sequence[OutputFile]) -> dict[PurePosixPath, OutputFile]:
    """The files to keep: the smallest first, so that one large file does not push out ten small ones."""
    chosen: dict[PurePosixPath, OutputFile] = {}
    total = 0
    for file in sorted(files, key=lambda one: (one.size, str(one.path))):
        if file.size <= KEPT_EACH and total + file.size <= KEPT_TOTAL:
            chosen[file.path] = file
            total += file.size
    return chosen


def _keep(file: OutputFile, target: Path) -> None:
    data = file.stored.read_bytes()
    if Digest.of(data) != file.digest:
        raise InvalidInput(
            f"{file.path} changed after the run: {file.digest} then, {Digest.of(data)} now",
            hint="run `reprobox record` again",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    target.chmod(0o644)


def _replace_folder(folder: Path, new: Path | None, aside: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    if folder.exists():
        folder.rename(aside)
    if new is None:
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        new.rename(folder)
    except OSError:
        if aside.exists():
            aside.rename(folder)
        raise


# --- reading ----------------------------------------------------------------------------------


def read(root: Path) -> Baselines:
    """The project's baselines; none where the file is not there.

    Raises InvalidInput, naming the file and the key, where the file cannot be read as a whole.
    """
    path = root / BASELINE_FILE
    try:
        data = read_plain(path, most=LARGEST)
    except FileNotFoundError:
        return Baselines()
    except OSError as error:
        raise explain(error, f"cannot read {path}") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{BASELINE_FILE} is not UTF-8 (byte {error.start})", hint=_RECOVER) from error
    return from_json(text, BASELINE_FILE)


def from_json(text: str, file: str) -> Baselines:
    """Text -> Baselines; ``file`` is named in the errors. Raises InvalidInput, and nothing else."""
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        what = "ends too early" if error.pos >= len(text.rstrip()) else "is not JSON"
        raise InvalidInput(
            f"{file} {what} (line {error.lineno}, column {error.colno}: {error.msg})", hint=_RECOVER
        ) from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InvalidInput(f"{file} is not a baseline: {reason}", hint=_RECOVER) from error
    top = _Value(document, file, "")
    version = top.whole_version()
    if version > VERSION:
        raise InvalidInput(
            f"{file} has version {version} and this reprobox reads version {VERSION}", hint="upgrade reprobox"
        )
    keys = top.keys(required={"version", "baselines"})
    each = tuple(_baseline(one, version) for one in keys["baselines"].items())
    names = [one.hardware.name for one in each]
    for name in names:
        if names.count(name) > 1:
            keys["baselines"].wrong(f"the hardware class {name} stands here {names.count(name)} times")
    return Baselines(each=tuple(sorted(each, key=lambda one: one.hardware.name)))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice in one object")
        found[key] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a value of JSON")


def _baseline(value: _Value, version: int) -> Baseline:
    keys = value.keys(
        required={"command", "hardware", "image", "lock", "outputs", "source"},
        optional={"control"} | ({"conditions"} if version > 1 else set()),
    )
    outputs = tuple(_output(one) for one in keys["outputs"].items())
    _no_path_twice(keys["outputs"], [output.path for output in outputs])
    return Baseline(
        hardware=_hardware(keys["hardware"]),
        command=tuple(word.text() for word in keys["command"].items()),
        lock=keys["lock"].digest(),
        source=keys["source"].digest(),
        image=keys["image"].digest(),
        outputs=tuple(sorted(outputs, key=lambda one: str(one.path))),
        control=_control(keys["control"]) if "control" in keys else None,
        conditions=_conditions(keys["conditions"]) if "conditions" in keys else None,
    )


def _conditions(value: _Value) -> Conditions:
    keys = value.keys(
        required={"architecture", "cpu", "cpus", "engine"},
        optional={"gpu_driver", "gpus", "instructions", "lacking", "libraries", "memory"},
    )
    libraries = keys["libraries"].members() if "libraries" in keys else {}
    return Conditions(
        engine=keys["engine"].text(),
        architecture=keys["architecture"].text(),
        cpu=keys["cpu"].text(),
        instructions=keys["instructions"].text() if "instructions" in keys else None,
        cpus=keys["cpus"].whole_number(),
        memory=keys["memory"].whole_number() if "memory" in keys else None,
        lacking=tuple(one.text() for one in keys["lacking"].items()) if "lacking" in keys else (),
        gpus=tuple(one.text() for one in keys["gpus"].items()) if "gpus" in keys else (),
        gpu_driver=keys["gpu_driver"].text() if "gpu_driver" in keys else None,
        libraries={name: {key: fact.text() for key, fact in one.members().items()} for name, one in libraries.items()},
    )


def _hardware(value: _Value) -> HardwareClass:
    if not isinstance(value.value, dict) or not value.value:
        value.wrong(f"must be an object of named facts, not {_show(value.value)}")
    facts = {key: one.text() for key, one in value.members().items()}
    hardware = HardwareClass(facts=dict(sorted(facts.items())))
    if not re.match("[a-z0-9_]", hardware.name):
        value.wrong(f"gives no name that a folder can have: {_show(facts)}")
    return hardware


def _output(value: _Value) -> RecordedOutput:
    keys = value.keys(required={"digest", "kept", "path", "size"}, optional={"ruled", "rules"})
    if ("ruled" in keys) != ("rules" in keys):
        value.wrong("has only one of `rules` and `ruled`")
    return RecordedOutput(
        path=keys["path"].path(),
        digest=keys["digest"].digest(),
        size=keys["size"].whole_number(),
        rules_digest=keys["rules"].digest() if "rules" in keys else None,
        ruled_digest=keys["ruled"].digest() if "ruled" in keys else None,
        kept=keys["kept"].truth(),
    )


def _control(value: _Value) -> RecordedControl:
    keys = value.keys(required={"changed", "command"})
    changed = [one.path() for one in keys["changed"].items()]
    _no_path_twice(keys["changed"], changed)
    return RecordedControl(
        command=tuple(word.text() for word in keys["command"].items()),
        changed=tuple(sorted(changed, key=str)),
    )


def _no_path_twice(value: _Value, paths: list[PurePosixPath]) -> None:
    seen: set[PurePosixPath] = set()
    for path in paths:
        if path in seen:
            value.wrong(f"the path {path} stands here twice")
        seen.add(path)


def _show(value: Any) -> str:
    """A value as the file has it, short enough for a message."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True)
class _Value:
    """A value of the file with the path of its key, for messages."""

    value: Any
    file: str
    at: str

    def wrong(self, why: str) -> NoReturn:
        place = f"{self.file}: {self.at}" if self.at else self.file
        raise InvalidInput(f"{place}: {why}", hint=_RECOVER)

    def _typed(self, kind: type[T], name: str) -> T:
        if not isinstance(self.value, kind) or (isinstance(self.value, bool) and kind is not bool):
            self.wrong(f"must be {name}, not {_show(self.value)}")
        return self.value

    def keys(self, *, required: set[str], optional: set[str] = frozenset()) -> dict[str, _Value]:  # type: ignore[assignment]
        found = self._typed(dict, "an object")
        for key in sorted(required - found.keys()):
            self.wrong(f"the key `{key}` is missing")
        for key in found:
            if key not in required | optional:
                self.wrong(f"unknown key {_show(key)}")
        return {key: _Value(one, self.file, f"{self.at}.{key}" if self.at else key) for key, one in found.items()}

    def members(self) -> dict[str, _Value]:
        """An object's values by key, whatever the keys."""
        return self.keys(required=set(self._typed(dict, "an object")))

    def items(self) -> list[_Value]:
        found = self._typed(list, "a list")
        return [_Value(one, self.file, f"{self.at}[{index}]") for index, one in enumerate(found)]

    def text(self) -> str:
        text = self._typed(str, "a string")
        if any("\ud800" <= character <= "\udfff" for character in text):
            self.wrong(f"has a character that UTF-8 cannot hold: {_show(text)}")
        return text

    def truth(self) -> bool:
        return self._typed(bool, "true or false")

    def whole_number(self) -> int:
        number = self._typed(int, "a whole number")
        if number < 0:
            self.wrong(f"must not be negative, is {number}")
        return number

    def whole_version(self) -> int:
        found = self._typed(dict, "an object")
        if "version" not in found:
            self.wrong("the key `version` is missing")
        version = _Value(found["version"], self.file, "version")
        number = version.whole_number()
        if number < 1:
            version.wrong(f"there is no version {number}")
        return number

    def digest(self) -> Digest:
        return self._parsed(Digest.parse)

    def _parsed(self, parse: Callable[[str], T]) -> T:
        try:
            return parse(self.text())
        except ValueError:
            self.wrong(f"not a sha256 digest: {_show(self.value)}")

    def path(self) -> PurePosixPath:
        text = self.text()
        path = PurePosixPath(text)
        if not text or text == "." or str(path) != text or path.is_absolute() or ".." in path.parts or "\0" in text:
            self.wrong(f"must be a path below the work folder, without `..`, not {_show(text)}")
        return path


def kept(root: Path, baseline: Baseline) -> Kept:
    """The bytes of the outputs that ``baseline`` keeps; each is held against its digest.

    A file that is missing, unreadable or changed is left out and named in ``damaged``: the digests in the JSON
    file still decide, and only the explanation of a difference is poorer.
    """
    folder = root / BASELINE_FOLDER / baseline.hardware.name
    files: dict[PurePosixPath, bytes] = {}
    damaged: list[str] = []
    for output in baseline.outputs:
        if not output.kept:
            continue
        name = PurePosixPath(BASELINE_FOLDER, baseline.hardware.name) / output.path
        try:
            with open_plain(folder / output.path) as stream:
                data = stream.read(output.size + 1)
        except FileNotFoundError:
            damaged.append(f"{name} is missing; {BASELINE_FILE} says that it was kept")
        except OSError as error:
            damaged.append(f"{name} cannot be read: {error.strerror}")
        else:
            if Digest.of(data) == output.digest:
                files[output.path] = data
            else:
                damaged.append(f"{name} is not the file that was recorded ({output.digest.short} expected)")
    return Kept(files=files, damaged=tuple(damaged))
