"""Where packaged data lives: in the installed package first, beside a checkout's pyproject.toml only then."""

from pathlib import Path

from reprobox.errors import ReproboxError


def templates() -> Path:
    """The folder of templates. Raises ReproboxError where an installation lacks it."""
    package = Path(__file__).resolve().parent
    packaged = package / "templates"
    if packaged.is_dir():
        return packaged
    checkout = package.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "templates").is_dir():
        return checkout / "templates"
    raise ReproboxError(f"this installation of reprobox has no templates ({packaged})", hint="reinstall reprobox")
