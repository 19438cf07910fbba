"""Nouns that several tests start from."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from reprobox.model import (
    BootstrapBase,
    Digest,
    EnvironmentFile,
    ImageBase,
    Lock,
    LockedBootstrap,
    LockedFile,
    LockedImage,
    LockedInterpreter,
    LockedTool,
    Output,
    Platform,
    Project,
    ProjectTree,
    PythonVersion,
    Smoke,
    SystemPackage,
    TreeFile,
)


def digest(text: str) -> Digest:
    return Digest.of(text.encode())


def project(root: Path = Path("/nowhere"), *, image: bool = False) -> Project:
    return Project(
        root=root,
        name="warm-start",
        environment=EnvironmentFile(path=PurePosixPath("requirements.in")),
        python=PythonVersion(3, 11),
        base=ImageBase(reference="registry.example:5000/python:3.11-slim")
        if image
        else BootstrapBase(distribution="debian", suite="bookworm"),
        smoke=Smoke(command=("python", "train.py"), outputs=(Output(path=PurePosixPath("out/a.json")),)),
    )


def lock(wanted: Project, *, image: bool = False) -> Lock:
    base: LockedImage | LockedBootstrap = LockedBootstrap(
        distribution="debian",
        suite="bookworm",
        platform=Platform.LINUX_64,
        packages=(
            SystemPackage(
                name="zlib1g", version="1:1.2.13", architecture="amd64", file="pool/z.deb", digest=digest("z")
            ),
            SystemPackage(name="bash", version="5.2", architecture="amd64", file="pool/b.deb", digest=digest("b")),
        ),
        rootfs=digest("rootfs"),
    )
    if image:
        base = LockedImage(
            reference="registry.example:5000/python:3.11-slim",
            digest=digest("index"),
            manifests={Platform.LINUX_64: digest("amd64"), Platform.LINUX_AARCH64: digest("arm64")},
        )
    return Lock(
        wants=wanted.wants,
        inputs=(LockedFile(name="requirements.in", digest=digest("numpy\n")),),
        data=(),
        base=base,
        interpreter=LockedInterpreter(version=PythonVersion(3, 11), path=PurePosixPath("/usr/bin/python3.11")),
        uv=LockedTool(
            version="0.13.9", wheels={Platform.LINUX_64: LockedFile(name="uv-0.13.9.whl", digest=digest("uv"))}
        ),
        natives=(LockedFile(name="requirements.lock", digest=digest("numpy==2.4.6\n")),),
        variables={"LC_ALL": "C.UTF-8", "AWKWARD": 'a "quoted" $dollar \\ backslash'},
        epoch=1577836800,
    )


def tree(content: str = "print()\n") -> ProjectTree:
    return ProjectTree(
        files=(
            TreeFile(path=PurePosixPath("run.sh"), executable=True, digest=digest("#!/bin/sh\n"), size=10),
            TreeFile(path=PurePosixPath("train.py"), executable=False, digest=digest(content), size=len(content)),
        )
    )
