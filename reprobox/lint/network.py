"""Python code -> its calls that go to the network, which a run does not have."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from reprobox.lint.code import Code, call_attribute, first_argument, is_constant, short, text_of
from reprobox.lint.findings import Finding
from reprobox.lint.sources import Folder
from reprobox.survey import commands
from reprobox.survey.commands import Kind

_PROCESSES = re.compile(r"os\.(?:system|popen)|subprocess\.(?:run|call|check_call|check_output|Popen|getoutput)")
_EXISTS = frozenset({"exists", "is_dir", "is_file", "isdir", "isfile"})
_KEEP = "fetch it once, keep it in the project, and name it in `smoke.inputs`"
_KEEP_MODEL = "fetch one revision (a full commit) beforehand, keep the files, and load them from there"
_MODEL_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?")
_URL = re.compile(r"(?:https?|ftp|s3|gs)://")
_LOCAL_URL = re.compile(r"https?://(?:localhost|127\.0\.0\.1|\[::1\])\b")
_LOADERS = frozenset({"arrow", "audiofolder", "csv", "imagefolder", "json", "pandas", "parquet", "text", "webdataset"})
"""What `datasets.load_dataset` reads from files of the project."""


@dataclass(frozen=True, kw_only=True)
class _Call:
    """A call with its full name, its first argument, and its named ones."""

    name: str
    first: ast.expr | None
    options: Mapping[str, ast.expr]
    folder: Folder

    def text(self, *options: str) -> str | None:
        """The first argument, else one of the options, where it is written out."""
        return next((text for node in (self.first, *map(self.options.get, options)) if (text := text_of(node))), None)

    def is_(self, option: str, value: object) -> bool:
        return is_constant(self.options.get(option), value)


def _takes_newest_model(call: _Call) -> bool:
    text = call.text("pretrained_model_name_or_path")
    local = text is None or call.is_("local_files_only", True) or _holds(call.folder, text)
    return not local and "revision" not in call.options and _MODEL_NAME.fullmatch(text or "") is not None


def _takes_weights(call: _Call) -> bool:
    return call.is_("pretrained", True) or ("weights" in call.options and not call.is_("weights", None))


def _takes_dataset(call: _Call) -> bool:
    text = call.text("path")
    return text is not None and text not in _LOADERS and text[:1] not in "./~" and not _holds(call.folder, text)


def _is_not_local(call: _Call) -> bool:
    return not _LOCAL_URL.match(call.text("url") or "")


def _takes_url(call: _Call) -> bool:
    return _URL.match(call.text("filepath_or_buffer", "io") or "") is not None and _is_not_local(call)


_FETCHES: tuple[tuple[re.Pattern[str], Callable[[_Call], bool], str, str], ...] = tuple(
    (re.compile(names), goes, manner, todo)
    for names, goes, manner, todo in (
        (
            r"huggingface_hub\.(?:hf_hub_download|snapshot_download)",
            lambda call: "revision" not in call.options,
            " without `revision=`",
            _KEEP_MODEL,
        ),
        (r"torch\.hub\.load", lambda call: text_of(call.options.get("source")) != "local", "", _KEEP_MODEL),
        (r"torchvision\.models\..+", _takes_weights, " with pretrained weights", _KEEP_MODEL),
        (
            r"(?:torchvision|torchaudio|torchtext|medmnist|wilds)\..+",
            lambda call: call.is_("download", True),
            " with `download=True`",
            _KEEP,
        ),
        (r"sklearn\.datasets\.fetch_\w+", lambda call: not call.is_("download_if_missing", False), "", _KEEP),
        (r"datasets\.load_(?:dataset|metric)", _takes_dataset, "", _KEEP),
        (
            r"pandas\.read_\w+|numpy\.(?:loadtxt|genfromtxt)|imageio\.imread|xarray\.open_dataset",
            _takes_url,
            " of a URL",
            _KEEP,
        ),
        (
            r"urllib\.request\.url(?:open|retrieve)|urllib3\.(?:PoolManager|request)"
            r"|requests\.(?:get|post|request|Session)|httpx\.(?:get|post|stream|Client)|wget\.download"
            r"|gdown\.(?:download\w*|cached_download)"
            r"|torch\.hub\.(?:load_state_dict_from_url|download_url_to_file)|torch\.utils\.model_zoo\.load_url"
            r"|(?:tensorflow\.)?keras\.(?:utils\.get_file|datasets\.\w+\.load_data)|tensorflow_datasets\.load"
            r"|kagglehub\.\w*download|nltk\.download|spacy\.cli\.download|seaborn\.load_dataset|evaluate\.load"
            r"|pooch\.retrieve|openml\.datasets\.get_dataset|ucimlrepo\.fetch_ucirepo|yfinance\.(?:download|Ticker)"
            r"|statsmodels\.(?:api\.)?datasets\.get_rdataset",
            _is_not_local,
            "",
            _KEEP,
        ),
    )
)
"""Calls that go to the network: their names, when they do, how that is said, what to do."""


def fetches(code: Code, folder: Folder, *, has_inputs: bool) -> Iterator[Finding]:
    """Calls that go to the network. ``has_inputs``: inputs are declared, so a check for a file may well find it."""
    guarded = set(_guarded(code)) if has_inputs else set()
    for node, name, line in code.calls():
        options = {one.arg: one.value for one in node.keywords if one.arg}
        call = _Call(name=name, first=first_argument(node), options=options, folder=folder)
        said = _fetched(node, call, known=bool(name) and code.imported(name))
        if said is not None and id(node) not in guarded:
            what, todo = said
            yield Finding(
                rule="fetch-at-run-time",
                file=str(code.path),
                line=line,
                what=f"{what} goes to the network; a run has none",
                todo=todo,
            )


def _fetched(node: ast.Call, call: _Call, *, known: bool) -> tuple[str, str] | None:
    """What goes to the network, and what to do; ``known``: the call's name is imported here."""
    if call_attribute(node) == "from_pretrained":
        return ("from_pretrained without `revision=`", _KEEP_MODEL) if _takes_newest_model(call) else None
    if not known:
        return None
    if _PROCESSES.fullmatch(call.name):
        return _process(call.first)
    for names, goes, manner, todo in _FETCHES:
        if names.fullmatch(call.name):
            return (f"{call.name}{manner}", todo) if goes(call) else None
    return None


def _process(first: ast.expr | None) -> tuple[str, str] | None:
    words = [text_of(item) or "$x" for item in first.elts] if isinstance(first, ast.List | ast.Tuple) else []
    for command in commands.read(text_of(first) or shlex.join(words)):
        if command.kind is Kind.DOWNLOAD:
            return f"`{short(' '.join(command.words))}`", _KEEP
    return None


def _guarded(code: Code) -> Iterator[int]:
    """The calls that stand under a question whether a file exists."""
    for node, _ in code.nodes:
        if isinstance(node, ast.If) and any(
            isinstance(part, ast.Call) and (call_attribute(part) or code.name_of(part.func)) in _EXISTS
            for part in ast.walk(node.test)
        ):
            for inner in (*node.body, *node.orelse):
                yield from (id(part) for part in ast.walk(inner) if isinstance(part, ast.Call))


def _holds(folder: Folder, text: str) -> bool:
    """Whether a text names a file or folder of the project."""
    path = PurePosixPath(text)
    return any(source.path.is_relative_to(path) for source in folder.sources)
