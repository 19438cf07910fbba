"""Each rule of lint: once where it speaks, and once where it must not."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import lock as example_lock
from reprobox import config, lockfile, tree
from reprobox.errors import InvalidConfig, InvalidInput, InvalidLock
from reprobox.lint import check
from reprobox.lint.findings import RULES, Severity, ignored
from reprobox.lint.sources import kind
from reprobox.report import lint as report

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = """\
name: x
environment: requirements.in
python: "3.11"
base: {bootstrap: debian, suite: bookworm}
smoke:
  command: [python, train.py]
  outputs: [out/a.json]
"""


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def found(root: Path, files: dict[str, str | bytes] | None = None) -> list[tuple[str, str, int | None]]:
    """Rule, file and line of each finding, but for those about the lock and git that such a folder lacks."""
    report = check.lint(write(root, files or {}))
    return [(one.rule, one.file, one.line) for one in report.findings if one.rule not in {"no-git", "not-locked"}]


def rules(root: Path, name: str, text: str) -> list[str]:
    return [rule for rule, _, _ in found(root, {name: text})]


def cell(source: str) -> str:
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": source.splitlines(keepends=True)}]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1)


SPEAKS: list[tuple[str, str, str]] = [
    ("unpinned-requirement", "requirements.txt", "numpy==2.0\nscipy>=1\n"),
    ("unpinned-requirement", "requirements.in", "numpy\n"),
    ("unpinned-requirement", "pyproject.toml", '[project]\nname = "x"\ndependencies = ["numpy>=1"]\n'),
    ("unpinned-requirement", "setup.py", "setup(install_requires=['numpy'])\n".replace("(i", "(\n    i")),
    ("unpinned-requirement", "setup.cfg", "[options]\ninstall_requires =\n    numpy\n    scipy>=1\n"),
    ("unpinned-requirement", "Pipfile", '[packages]\nnumpy = "*"\n'),
    ("unpinned-requirement", "environment.yml", "dependencies:\n  - python=3.11\n  - numpy\n"),
    ("unpinned-requirement", "environment.yml", "dependencies:\n  - pip\n  - pip:\n    - numpy\n"),
    ("unpinned-requirement", "Dockerfile", "FROM scratch\nRUN pip install numpy 'scipy>=1'\n"),
    ("unpinned-requirement", "run.sh", "pip install numpy\n"),
    ("git-without-commit", "requirements.txt", "x @ git+https://git.example/x.git@main\n"),
    ("git-without-commit", "requirements.txt", "-e git+https://git.example/x.git#egg=x\n"),
    ("git-without-commit", "Dockerfile", "FROM scratch\nRUN pip install git+https://git.example/x.git\n"),
    ("host-requirement", "requirements.txt", "x @ file:///tmp/x.whl\n"),
    ("host-requirement", "requirements.txt", "numpy @ file:///home/conda/feedstock_root/work\n"),
    ("host-requirement", "requirements.txt", "-e /home/alice/x\n"),
    ("host-requirement", "requirements.txt", "-e ../x\n"),
    ("host-requirement", "environment.yml", "dependencies:\n  - pip:\n    - /Users/ann/x.whl\n"),
    ("foreign-export", "requirements.txt", "pywin32==306\n"),
    ("foreign-export", "environment.yml", "dependencies:\n  - libcxx=14.0=h1\n  - appnope=0.1=py_0\n"),
    ("export-noise", "environment.yml", "dependencies: []\nprefix: /Users/ann/miniconda3/envs/x\n"),
    ("cuda-mismatch", "requirements.txt", "nvidia-cublas-cu11==1\nnvidia-cudnn-cu12==1\n"),
    ("cuda-mismatch", "requirements.txt", "--index-url https://wheels.example/whl/cu118\ntorch==2.5.1+cu121\n"),
    ("cuda-mismatch", "requirements.txt", "jax[cuda11]==0.4\ncupy-cuda12x==13.0\n"),
    ("cuda-mismatch", "environment.yml", "dependencies:\n  - cudatoolkit=11.8\n  - pip:\n    - torch==2.5.1+cu121\n"),
    ("cuda-mismatch", "environment.yml", "dependencies:\n  - pytorch-cuda=12.1\n  - pip:\n    - x-cu118==1+cu118\n"),
    (
        "cuda-mismatch",
        "Dockerfile",
        f"FROM nvidia/cuda:12.4.1-base@sha256:{'0' * 64}\nRUN pip install torch==2.5.1+cu118\n",
    ),
    ("unpinned-base", "Dockerfile", "FROM python:3.11\n"),
    ("unpinned-base", "Dockerfile", "FROM host.example:5000/python\n"),
    ("unpinned-base", "Dockerfile", "ARG V=latest\nFROM python:$V\n"),
    ("unpinned-base", "a.def", "Bootstrap: docker\nFrom: python:latest\n"),
    ("unpinned-base", "a.def", "Bootstrap: debootstrap\nOSVersion: bookworm\n"),
    ("host-path", "a.def", "Bootstrap: localimage\nFrom: /home/ann/base.sif\n"),
    ("unpinned-apt", "Dockerfile", "FROM scratch\nRUN apt-get update && apt-get install -y git\n"),
    ("unpinned-apt", "a.def", "Bootstrap: scratch\n%post\n  apt install -y git\n"),
    ("apt-upgrade", "Dockerfile", "FROM scratch\nRUN apt-get -y upgrade\n"),
    ("unverified-download", "Dockerfile", "FROM scratch\nADD https://files.example/x /x\n"),
    ("unverified-download", "Dockerfile", "FROM scratch\nRUN curl -fsSL https://files.example/i.sh | bash\n"),
    ("unverified-download", "Dockerfile", "FROM scratch\nRUN wget https://files.example/x.tar\n"),
    ("unverified-download", "Dockerfile", "FROM scratch\nRUN git clone https://git.example/x\n"),
    ("install-at-run-time", "a.ipynb", cell("%pip install numpy==2.0\n")),
    ("install-at-run-time", "a.ipynb", cell("!conda install -y x\n")),
    ("fetch-at-run-time", "a.ipynb", cell("!wget https://files.example/x\n")),
    ("fetch-at-run-time", "a.ipynb", cell("import requests\nrequests.get('https://files.example/x')\n")),
    ("fetch-at-run-time", "run.sh", "#!/bin/sh\ncurl -O https://files.example/x\n# sha256sum\n"),
    ("fetch-at-run-time", "a.py", "from urllib.request import urlopen as o\no('https://files.example/x')\n"),
    ("fetch-at-run-time", "a.py", "import requests as r\nr.get(url)\n"),
    ("fetch-at-run-time", "a.py", "from torchvision import datasets\ndatasets.MNIST('d', download=True)\n"),
    ("fetch-at-run-time", "a.py", "import torchvision\ntorchvision.models.resnet18(weights='DEFAULT')\n"),
    ("fetch-at-run-time", "a.py", "import torch\ntorch.hub.load('a/b', 'c')\n"),
    ("fetch-at-run-time", "a.py", "from transformers import AutoModel\nAutoModel.from_pretrained('org/model')\n"),
    ("fetch-at-run-time", "a.py", "from datasets import load_dataset\nload_dataset('squad')\n"),
    ("fetch-at-run-time", "a.py", "from sklearn.datasets import fetch_openml\nfetch_openml('x')\n"),
    ("fetch-at-run-time", "a.py", "import kagglehub\nkagglehub.dataset_download('a/b')\n"),
    ("fetch-at-run-time", "a.py", "from huggingface_hub import hf_hub_download\nhf_hub_download('a/b', 'c')\n"),
    ("fetch-at-run-time", "a.py", "import pandas as pd\npd.read_csv('https://files.example/x.csv')\n"),
    ("fetch-at-run-time", "a.py", "import subprocess\nsubprocess.run(['wget', 'https://files.example/x'])\n"),
    ("fetch-at-run-time", "a.py", "import os\nos.system('curl -O https://files.example/x')\n"),
    ("host-path", "a.py", "open('/home/alice/data.csv')\n"),
    ("host-path", "a.py", "DATA = '/Users/alice/my data'\n".replace(" data", "_data")),
    ("host-path", "a.py", "p = f'/mnt/store/{name}'\n"),
    ("host-path", "a.py", "p = 'C:\\\\Users\\\\x\\\\a.csv'\n"),
    ("host-path", "a.py", "import numpy as np\nnp.load('/tmp/x.npy')\n"),
    ("host-path", "a.ipynb", cell("x = '/scratch/me/a.csv'\n")),
    ("unreadable", "a.py", "print 'x'\n"),
    ("unreadable", "a.ipynb", "{"),
    ("unreadable", "a.def", "%post\n"),
    ("unreadable", "pyproject.toml", "["),
    ("unreadable", "environment.yml", "a: [\n"),
    ("unreadable", "requirements.txt", "a\0b"),
    ("secret-file", ".env", "TOKEN=1"),
    ("secret-file", "id_rsa", "-----BEGIN OPENSSH PRIVATE KEY-----"),
    ("secret-file", "tls/a.pem", "-----BEGIN PRIVATE KEY-----"),
    ("secret-file", ".netrc", "machine x"),
    ("secret-file", ".aws/credentials", "x"),
    ("junk-file", ".DS_Store", "x"),
    ("junk-file", "a.pyc", "x"),
    ("lfs-pointer", "a.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:x\n"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "name", "text"), SPEAKS)
def test_a_rule_speaks(rule: str, name: str, text: str, tmp_path: Path) -> None:
    assert rules(tmp_path, name, text) == [rule]


SILENT: list[tuple[str, str]] = [
    ("requirements.txt", "numpy==2.0\nscipy==1.0 ; python_version < '4'\n-e .\n./x.whl\n# numpy\n\n-i https://i.example\n"),
    ("requirements.txt", f"numpy>=1 \\\n    --hash=sha256:{'0' * 64}\n"),
    ("requirements.txt", f"x @ git+https://git.example/x@{COMMIT}\n-e git+https://git.example/y@{COMMIT}#egg=y\n"),
    ("requirements.txt", "pywin32==306 ; sys_platform == 'win32'\n"),
    ("requirements.txt", "torch==2.5.1+cu121\nnvidia-cublas-cu12==1\n--index-url https://wheels.example/whl/cu121\n"),
    ("requirements.txt", "torch==2.5.1+cu121\n# torch==2.5.1+cu118\n"),
    ("requirements-dev.txt", "pytest\n"),
    ("docs/requirements.txt", "theme @ git+https://git.example/theme.git\n"),
    ("requirements-windows.txt", "pywin32==306\n"),
    ("requirements.txt", "pip\nsetuptools>=60\n"),
    ("pyproject.toml", '[project]\nname = "x"\n[build-system]\nrequires = ["hatchling"]\n'),
    ("Pipfile", f'[packages]\na = "==1.0"\nb = {{git = "git:x", ref = "{COMMIT}"}}\nc = {{path = "."}}\n'),
    ("environment.yml", "name: x\ndependencies: [python=3.11, pip, 'numpy=1.26', {pip: [a==1]}]\n"),
    ("environment.yml", "dependencies:\n  - cudatoolkit=11.8\n  - pip:\n    - torch==2.1+cu118\n"),
    ("Dockerfile", f"ARG X\nFROM python@sha256:{'0' * 64} AS a\nFROM a\nFROM $X\nFROM scratch\n"),
    ("Dockerfile", "# rendered by reprobox 0.1.0\nFROM python:latest\n"),
    ("Dockerfile", "FROM scratch\nRUN apt-get update && apt-get install -y git=1:2.39 && apt-get clean\n"),
    ("Dockerfile", "FROM scratch\nRUN echo https://snapshot.example > x && apt-get install -y git\n"),
    ("Dockerfile", "FROM scratch\nRUN pip install -U pip && pip install --require-hashes -r requirements.lock .\n"),
    ("Dockerfile", f"FROM scratch\nADD --checksum=sha256:{'0' * 64} https://files.example/x /x\nADD a.tar /\n"),
    ("Dockerfile", "FROM scratch\nRUN curl -O https://files.example/x && echo 00 x | sha256sum -c\n"),
    ("Dockerfile", f"FROM scratch\nRUN git clone https://git.example/x && git -C x checkout {COMMIT}\n"),
    ("Dockerfile", 'FROM scratch\nHEALTHCHECK CMD curl -f http://localhost/\nRUN echo "pip install x"\n'),
    ("a.def", f"Bootstrap: docker\nFrom: python@sha256:{'0' * 64}\n%post\n  apt-get install -y git=1.0\n"),
    ("a.def", "Bootstrap: localimage\nFrom: base.sif\n"),
    ("a.ipynb", cell("%matplotlib inline\n!ls\nx = 1\n'''/home/alice/x'''\n")),
    ("download_data.sh", "wget https://files.example/x\nsha256sum -c x.sha256\n"),
    ("run.sh", "#!/usr/bin/env bash\npython train.py > /dev/null\napt-get install -y git\n"),
    ("fetch_data.py", "import requests\nrequests.get('https://files.example/x')\n"),
    ("tests/test_a.py", "import requests\nrequests.get('https://files.example/x')\nopen('/home/alice/x')\n"),
    ("a.py", "class requests:\n    get = print\nrequests.get('https://files.example/x')\n"),
    ("a.py", "import requests\nrequests.get('http://localhost:8000/x')\nrequests.codes\n"),
    ("a.py", "from torchvision import datasets\ndatasets.MNIST('d')\ndatasets.MNIST('d', download=False)\n"),
    ("a.py", "import torchvision\ntorchvision.models.resnet18(weights=None)\ntorchvision.models.resnet18()\n"),
    ("a.py", "import torch\ntorch.hub.load('vendor', 'c', source='local')\n"),
    ("a.py", f"from transformers import A\nA.from_pretrained('o/m', revision='{COMMIT}')\nA.from_pretrained(path)\n"),
    ("a.py", "from transformers import A\nA.from_pretrained('./m')\nA.from_pretrained('o/m', local_files_only=True)\n"),
    ("a.py", "from datasets import load_dataset\nload_dataset('csv', data_files='a.csv')\nload_dataset('./d')\n"),
    ("a.py", "from sklearn.datasets import load_digits, fetch_openml\nload_digits()\n"),
    ("a.py", "from huggingface_hub import hf_hub_download\nhf_hub_download('a/b', 'c', revision='d')\n"),
    ("a.py", "import pandas as pd\npd.read_csv('data/x.csv')\npd.read_csv(url)\n"),
    ("a.py", "import subprocess\nsubprocess.run(['git', 'status'])\nsubprocess.run(command)\n"),
    ("a.py", '"""Reads /home/alice/x."""\nx = "/dev/null", "/usr/bin/env", "/home/user/x", "/work/a", "/tmp"\n'),
    ("a.py", "import re\nre.match(r'/home/[^/]+', x)\ny = f'{x}/home/alice/a'\nz = '/data/items', '/home/', 'a:/b'\n"),
    ("a.py", "open('/tmp/x', 'w').write('')\nopen('/tmp/x').read()\nopen('/tmp/y', 'w')\n"),
    ("a.py", "import random\nrandom.random()\n"),
    ("a.py", "x = '\\d'\n"),
    (".env.example", "TOKEN="),
    ("ca.pem", "-----BEGIN CERTIFICATE-----"),
    ("src/environment.py", "x = 1\n"),
    ("notes.txt", "file:///home/alice\n"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), SILENT)
def test_where_there_is_a_doubt_nothing_is_said(name: str, text: str, tmp_path: Path) -> None:
    assert rules(tmp_path, name, text) == []


def test_every_rule_speaks_in_a_test() -> None:
    others = {"env-override", "link-out", "no-git", "not-locked", "unseeded-random"}
    assert {rule for rule, _, _ in SPEAKS} | others == set(RULES)


# --- locks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asks", "text", "holds"),
    [
        ("pyproject.toml", '[project]\nname = "x"\ndependencies = ["numpy"]\n', "uv.lock"),
        ("pyproject.toml", '[project]\nname = "x"\ndependencies = ["numpy"]\n', "requirements.txt"),
        ("Pipfile", '[packages]\nnumpy = "*"\n', "Pipfile.lock"),
        ("environment.yml", "dependencies: [numpy]\n", "conda-lock.yml"),
        ("requirements.in", "numpy\n", "requirements.txt"),
    ],
)
def test_what_a_lock_holds_may_be_open(asks: str, text: str, holds: str, tmp_path: Path) -> None:
    assert found(tmp_path, {asks: text, holds: ""}) == []


def test_a_constraints_file_pins_what_it_names(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"requirements.txt": "-c constraints.txt\nnumpy\nscipy\n"}
    assert found(tmp_path, files | {"constraints.txt": "numpy==2.0\nscipy==1.0\nextra>=1\n"}) == []
    assert found(tmp_path, {"constraints.txt": "numpy==2.0\n"}) == [("unpinned-requirement", "requirements.txt", 3)]


def project(root: Path, files: dict[str, str | bytes], text: str = CONFIG) -> Path:
    """A project with a lock that names its environment file."""
    write(root, {"reprobox.yaml": text, "requirements.in": "numpy\n", "train.py": "", **files})
    (root / "reprobox.lock").write_bytes(lockfile.dumps(example_lock(config.load(root))))
    return root


def test_what_reprobox_locks_may_be_open(tmp_path: Path) -> None:
    project(tmp_path, {"requirements.in": "-r more.in\nnumpy\n", "more.in": "scipy\n"})
    assert found(tmp_path) == []


def test_requirements_that_are_no_part_of_the_image_may_be_open(tmp_path: Path) -> None:
    assert found(project(tmp_path, {"requirements-plots.txt": "matplotlib\n"})) == []


def test_a_project_without_a_lock_is_told_once(tmp_path: Path) -> None:
    write(tmp_path, {"reprobox.yaml": CONFIG, "requirements.in": "numpy\nscipy\n", "train.py": ""})
    assert [(one.rule, one.line) for one in check.lint(tmp_path).findings] == [("no-git", 1), ("not-locked", 2)]


# --- what the command runs --------------------------------------------------------------------

FETCH = "import requests\nrequests.get('https://files.example/x')\n"


def test_only_what_the_command_runs_is_asked_for_the_network(tmp_path: Path) -> None:
    project(
        tmp_path,
        {
            "train.py": "from lab.model import x\nimport near\n",
            "lab/__init__.py": "",
            "lab/model.py": "from . import deep\n",
            "lab/deep.py": FETCH,
            "near.py": "",
            "other.py": FETCH,
        },
    )
    assert found(tmp_path) == [("fetch-at-run-time", "lab/deep.py", 2)]


@pytest.mark.parametrize("command", ["[bash, run.sh]", "[python, -m, lab.main]", "[python, src/lab/main.py]"])
def test_a_command_is_followed_through_scripts_and_modules(command: str, tmp_path: Path) -> None:
    project(
        tmp_path,
        {"run.sh": "set -e\ncd . && python src/lab/main.py\n", "src/lab/main.py": FETCH, "src/lab/__init__.py": ""},
        CONFIG.replace("[python, train.py]", command),
    )
    assert found(tmp_path) == [("fetch-at-run-time", "src/lab/main.py", 2)]


def test_a_check_for_a_declared_input_may_find_it(tmp_path: Path) -> None:
    guarded = "import os, requests\nif not os.path.exists('a.csv'):\n    requests.get('https://files.example/a.csv')\n"
    assert found(project(tmp_path, {"train.py": guarded})) == [("fetch-at-run-time", "train.py", 3)]
    project(tmp_path, {"a.csv": "1"}, CONFIG + "  inputs: [a.csv]\n")
    assert found(tmp_path, {"train.py": guarded}) == []


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("import numpy as np\nnp.random.default_rng()\n", 2),
        ("import numpy as np\nnp.random.default_rng(None)\n", 2),
        ("import random\nrandom.seed(0)\nrandom.Random()\n", 3),
        ("import numpy as np\n\nnp.random.rand(3)\nnp.random.rand(3)\n", 3),
        ("import random\nrandom.shuffle(x)\n", 2),
        ("import numpy as np\nnp.random.default_rng(0)\n", None),
        ("import numpy as np\nnp.random.default_rng(seed)\nrng.random()\n", None),
        ("import random\nrandom.seed(0)\nrandom.random()\n", None),
        ("import random\nfrom near import set_seed\nset_seed(1)\nrandom.random()\n", None),
        ("import numpy.random\nnumpy.random.seed(0)\nnumpy.random.rand(3)\n", None),
    ],
)
def test_the_script_of_the_command_wants_a_seed(code: str, line: int | None, tmp_path: Path) -> None:
    expected = [] if line is None else [("unseeded-random", "train.py", line)]
    assert found(project(tmp_path, {"train.py": code, "aside.py": "import random\nrandom.random()\n"})) == expected


# --- reprobox.yaml ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "count"),
    [
        ('{PYTHONHASHSEED: "1"}', 1),
        ('{PYTHONHASHSEED: "0"}', 0),
        ("{MINE: x}", 0),
    ],
)
def test_a_variable_that_the_image_sets_is_told(env: str, count: int, tmp_path: Path) -> None:
    project(tmp_path, {}, f"{CONFIG}env: {env}\n")
    assert found(tmp_path) == [("env-override", "reprobox.yaml", 8)] * count


def test_a_broken_config_is_an_error_of_the_config(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig):
        check.lint(write(tmp_path, {"reprobox.yaml": "name: X\n"}))


def test_a_broken_lock_is_an_error_of_the_lock(tmp_path: Path) -> None:
    with pytest.raises(InvalidLock):
        check.lint(write(project(tmp_path, {}), {"reprobox.lock": "x"}))


# --- silence ----------------------------------------------------------------------------------


def test_a_comment_silences_its_line_and_no_other_rule(tmp_path: Path) -> None:
    line = "open('/home/alice/x')"
    text = f"{line}  # reprobox: ignore[host-path]\n{line}  # reprobox: ignore[fetch-at-run-time]\n"
    assert found(tmp_path, {"a.py": text}) == [("host-path", "a.py", 2)]


def test_a_comment_of_its_own_silences_the_next_line(tmp_path: Path) -> None:
    text = "# reprobox: ignore[unpinned-base]\nFROM a:1\nFROM b:1\n"
    assert found(tmp_path, {"Dockerfile": text}) == [("unpinned-base", "Dockerfile", 3)]


def test_a_silenced_requirement_is_not_named_beside_others(tmp_path: Path) -> None:
    write(tmp_path, {"requirements.txt": "numpy  # reprobox: ignore[unpinned-requirement]\nscipy\n"})
    (finding,) = check.lint(tmp_path).findings
    assert (finding.line, finding.what) == (2, "scipy has no exact version, and no lock holds one")


def test_a_comment_may_name_several_rules() -> None:
    assert ignored("x  #reprobox: ignore[a-b, c]") == {"a-b", "c"}
    assert ignored("# reprobox: ignore") == set()


# --- files ------------------------------------------------------------------------------------


def test_git_says_which_files_are_the_projects(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "open('/home/alice/x')\n", "b.py": "open('/home/alice/x')\n", ".env": "x"})
    for words in (["init", "-q"], ["add", "a.py"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    assert found(tmp_path) == [("host-path", "a.py", 1)]


def test_a_config_that_git_does_not_track_yet_is_read(tmp_path: Path) -> None:
    project(tmp_path, {"train.py": "open('/home/alice/x')\n"}, f'{CONFIG}env: {{PYTHONHASHSEED: "1"}}\n')
    for words in (["init", "-q"], ["add", "train.py"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    assert found(tmp_path) == [("env-override", "reprobox.yaml", 8), ("host-path", "train.py", 1)]


@pytest.mark.parametrize("folder", [".ssh", ".config/gh", "env", "node_modules/x", "my/lib"])
def test_without_git_a_secret_that_goes_into_the_image_is_found_wherever_it_is(tmp_path: Path, folder: str) -> None:
    key = "-----BEGIN PRIVATE KEY-----\n" + "x" * 3000
    write(tmp_path, {f"{folder}/.env": "x", f"{folder}/id_lab": key, "my/pyvenv.cfg": ""})
    assert {path for path in map(str, tree.walk(tmp_path)) if "pyvenv" not in path} == {
        one.file for one in check.lint(tmp_path).findings if one.rule == "secret-file"
    }


@pytest.mark.parametrize(
    ("file", "text", "rule"),
    [
        ("requirements.txt", "a @ git+https://bob:ghp_s3cret@host.example/x\n", "git-without-commit"),
        ("requirements.txt", "https://bob:ghp_s3cret@host.example/x.tgz\n", "unpinned-requirement"),
        ("Dockerfile", "FROM scratch\nADD https://host.example/x?token=ghp_s3cret /x\n", "unverified-download"),
        ("Dockerfile", "FROM scratch\nRUN curl https://bob:ghp_s3cret@host.example/x | sh\n", "unverified-download"),
        (
            "a.py",
            f"import os\nos.system('wget https://bob:ghp_s3cret{'0' * 80}@host.example/x')\n",
            "fetch-at-run-time",
        ),
    ],
)
def test_a_finding_quotes_no_credentials(tmp_path: Path, file: str, text: str, rule: str) -> None:
    done = check.lint(write(tmp_path, {file: text}))
    assert rule in {one.rule for one in done.findings}
    assert "ghp_" not in report.render(done) + json.dumps(report.as_json(done))


def test_without_git_the_code_of_environments_and_hidden_folders_is_passed_over(tmp_path: Path) -> None:
    bad = "open('/home/alice/x')\n"
    names = ["my/lib/a.py", "node_modules/a.py", ".hidden/a.py", ".venv/a.py", "x/__pycache__/a.py"]
    assert found(tmp_path, {**dict.fromkeys(names, bad), "my/pyvenv.cfg": ""}) == []


def test_paths_choose_what_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"a/x.py": "open('/home/alice/x')\n", "b.py": "open('/home/alice/x')\n"})
    report = check.lint(tmp_path, [Path("a")])
    assert ([one.file for one in report.findings], report.files) == (["a/x.py"], 1)


@pytest.mark.parametrize("path", ["no-such", "../.."])
def test_a_path_that_is_not_the_projects_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no no-such" if path == "no-such" else "is not in"):
        check.lint(tmp_path, [Path(path)])


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "inner"])
def test_links_out_of_the_project_are_told_and_not_followed(target: str, tmp_path: Path) -> None:
    root = write(tmp_path / "p", {"inner": "x"})
    (root / "link.py").symlink_to(target)
    assert found(root) == ([] if target == "inner" else [("link-out", "link.py", None)])


def test_odd_files_are_survived_and_what_is_not_read_is_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    write(
        tmp_path,
        {
            "big.py": b"#" * (2 * 1024 * 1024 + 1),
            "binary.py": bytes(range(256)),
            "latin.sh": "echo ä\n".encode("latin-1"),
            "latin.py": "# -*- coding: latin-1 -*-\nx = 'ä'\n".encode("latin-1"),
            "deep.py": "(" * 100_000,
            "deeper.py": "-" * 200_000 + "1",
            "sum.py": "+".join(["1"] * 50_000),
            "deep.ipynb": "[" * 100_000,
            "deep/environment.yml": "[" * 20_000,
            "deep/pyproject.toml": "a = " + "[" * 20_000,
            "wide/requirements.txt": " " * 1_000_000 + "a==1",
            "empty.ipynb": b"",
            "a.def": b"Bootstrap: docker\xff\n",
            "Dockerfile": bytes(range(256)),
            "undefined/requirements.txt": "# coding: undefined\na\n",
            "many/pyproject.toml": "[project]\ndependencies = [" + '"a\\u0062",' * 50_000 + "]",
        },
    )
    (tmp_path / "deep" / "loop").symlink_to("loop")
    (tmp_path / os.fsdecode(b"\xff.py")).write_text("")
    report = check.lint(tmp_path)
    assert dict(report.unread) == {
        "pipe.py": "is not a regular file",
        "big.py": "is larger than 2 MiB",
        "'\\udcff.py'": "its name is not UTF-8",
    }
    unreadable = {one.file for one in report.findings if one.rule == "unreadable"}
    assert {"binary.py", "deep.py", "deep.ipynb", "deep/environment.yml", "empty.ipynb"} <= unreadable
    assert "latin.py" not in unreadable


NAMES = ["a.py", "a.ipynb", "a.sh", "a.def", "Dockerfile", "requirements.txt", "pyproject.toml", "environment.yml",
         "Pipfile", "setup.py", "setup.cfg"]  # fmt: skip
BITS = [text for _, _, text in SPEAKS] + [text for _, text in SILENT]


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    data=st.binary()
    | st.text().map(str.encode)
    | st.lists(st.sampled_from(BITS)).map(lambda bits: "".join(bits).encode()),
)
def test_no_file_is_too_odd_for_lint(name: str, data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("odd")
    report = check.lint(write(root, {name: data}))
    assert all(one.line is None or one.line >= 1 for one in report.findings)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Dockerfile", "dockerfile"),
        ("gpu.Dockerfile", "dockerfile"),
        ("Dockerfile.gpu", "dockerfile"),
        ("Dockerfile.dockerignore", ""),
        ("Singularity.x", "definition"),
        ("requirements/base.txt", "requirements"),
        ("requirements_gpu.txt", "requirements"),
        ("notes.txt", ""),
        ("env.yml", "conda"),
        ("environment-gpu.yaml", "conda"),
        ("mkdocs.yml", ""),
        ("x/setup.py", "setup"),
    ],
)
def test_files_are_known_by_their_names(path: str, expected: str) -> None:
    assert kind(PurePosixPath(path)) == expected


# --- the report -------------------------------------------------------------------------------


def test_the_report_is_grouped_by_file_and_summed_up(tmp_path: Path) -> None:
    write(tmp_path, {".env": "x", "b.py": "open('/home/alice/x')\n", "c.txt": ""})
    assert report.render(check.lint(tmp_path)) == (
        ".env: secret-file (error): a secret would go into the image\n"
        "    move it out of the folder: without git, every file here goes into the image\n"
        "\n"
        'b.py:1: host-path: "/home/alice/x" is a path of one machine\n'
        "    keep the file in the project, name it relative to it, and list it in `smoke.inputs`\n"
        "\n"
        "1 error, 1 warning in 3 files\n"
    )


def test_a_clean_folder_says_what_was_read(tmp_path: Path) -> None:
    assert report.render(check.lint(write(tmp_path, {"a.py": ""}))) == "1 file, nothing found\n"


def test_the_json_holds_every_field(tmp_path: Path) -> None:
    plain = report.as_json(check.lint(write(tmp_path, {".env": "x"})))
    assert plain == {
        "findings": [
            {
                "rule": "secret-file",
                "severity": "error",
                "file": ".env",
                "line": None,
                "what": "a secret would go into the image",
                "todo": "move it out of the folder: without git, every file here goes into the image",
            }
        ],
        "files": 1,
        "unread": [],
    }


def test_annotations_are_escaped_for_github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"sub/a,b:c%\x1b.py": "open('/home/alice/100%')\n"})
    (tmp_path / "link").symlink_to("sub")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    (line,) = report.for_github(check.lint(tmp_path / "link"), folder=tmp_path / "link")
    assert line.startswith("::warning file=sub/a%2Cb%3Ac%25\\x1b.py,line=1,title=reprobox lint%3A host-path::")
    assert '"/home/alice/100%25" is a path' in line


def test_an_annotation_names_no_file_outside_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "elsewhere"))
    write(tmp_path, {"a.py": "open('/home/alice/x')\n"})
    (line,) = report.for_github(check.lint(tmp_path), folder=tmp_path)
    assert line.startswith("::warning title=reprobox lint%3A host-path::")


def test_a_files_name_is_no_workflow_command_and_no_escape(tmp_path: Path) -> None:
    write(tmp_path, {"::error::\x1b[31m.py": "open('/home/alice/x')\n"})
    assert report.render(check.lint(tmp_path)).startswith("| ::error::\\x1b[31m.py:1: host-path")


def test_only_errors_end_in_1_unless_strict(tmp_path: Path) -> None:
    warned = check.lint(write(tmp_path, {"a.py": "open('/home/alice/x')\n"}))
    assert (warned.exit_code(strict=False), warned.exit_code(strict=True)) == (0, 1)
    failed = check.lint(write(tmp_path, {".env": "x"}))
    assert failed.exit_code(strict=False) == 1
    assert {one.severity for one in failed.findings} == {Severity.ERROR, Severity.WARNING}


def test_the_example_of_this_repository_is_clean() -> None:
    root = Path(__file__).parents[2] / "examples" / "warm-start"
    assert check.lint(root).findings == ()
