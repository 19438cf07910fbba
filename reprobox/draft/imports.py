"""What a module's name says of the distribution that brings it: a short table, and the name itself. Pure."""

from __future__ import annotations

import sys

DISTRIBUTIONS = {
    "Bio": "biopython",
    "Crypto": "pycryptodome",
    "IPython": "ipython",
    "MDAnalysis": "mdanalysis",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "community": "python-louvain",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "pymupdf",
    "git": "gitpython",
    "google.protobuf": "protobuf",
    "hydra": "hydra-core",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "magic": "python-magic",
    "mpl_toolkits": "matplotlib",
    "nacl": "pynacl",
    "osgeo": "gdal",
    "pl_bolts": "lightning-bolts",
    "psycopg2": "psycopg2-binary",
    "ruamel": "ruamel.yaml",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "skopt": "scikit-optimize",
    "umap": "umap-learn",
    "win32api": "",
    "wx": "wxpython",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}
"""Modules whose distribution has another name ("": none on Linux)."""

_PROVIDED = frozenset({"pip", "pkg_resources", "setuptools", "google.colab", "__main__", "__future__"})
"""Modules that no requirement brings: build tools, and what only exists on one service."""


def distribution_of(module: str) -> str | None:
    """The distribution that likely brings a module (its full dotted name): None for the standard library's.

    ``google.protobuf`` is known; another part of the shared name ``google`` is not guessed.
    """
    top = module.partition(".")[0]
    two = ".".join(module.split(".")[:2])
    if top in sys.stdlib_module_names or top in _PROVIDED or two in _PROVIDED:
        return None
    for name in (two, top):
        if name in DISTRIBUTIONS:
            return DISTRIBUTIONS[name] or None
    if top == "google":
        parts = module.split(".")
        return "-".join(parts[:3]).replace("_", "-") if parts[1:2] == ["cloud"] and len(parts) > 2 else None
    return top.replace("_", "-").lower()
