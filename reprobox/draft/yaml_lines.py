"""Values and comments -> lines of YAML. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from reprobox.console import one_line

_COMMENT_COLUMN = 34
_LONGEST = 100


def scalar(text: str) -> str:
    """A text as YAML writes it, plain where that is safe inside brackets too, else in double quotes."""
    import yaml  # noqa: PLC0415 (slow to import)

    written: str = yaml.safe_dump([text], default_flow_style=True, width=10**9, allow_unicode=True).strip()[1:-1]
    if written == text:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char.isprintable() else f"\\U{ord(char):08X}" for char in escaped) + '"'


def words(values: Sequence[str]) -> str:
    """A list in brackets."""
    return f"[{', '.join(map(scalar, values))}]"


def commented(line: str, comment: str) -> str:
    """A line with its comment, in one column where there is room, on one line whatever the comment holds."""
    return f"{line:<{_COMMENT_COLUMN - 2}}  # {shortened(comment)}" if comment else line


def shortened(text: str) -> str:
    """A text that comes from outside, on one line, without control characters, not too long."""
    text = one_line(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
