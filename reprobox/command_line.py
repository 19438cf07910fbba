"""What the verbs' words have in common: order, examples, the options that all take on either side, completion."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:  # what is not needed for --help is imported where it is used
    from pathlib import Path

    from click.shell_completion import CompletionItem

    from reprobox.console import Console

COMPLETE = "_REPROBOX_COMPLETE"
"""The variable by which a shell asks for completions (click's own name for it)."""
SHELLS = ("bash", "zsh", "fish")

ORDER = (
    "init", "lock", "render", "build", "run", "record", "verify", "lint", "doctor", "schema", "completion",
)  # fmt: skip
"""The verbs in the order of the work; one that is not named here comes after them."""
_SECTION = re.compile(r"(Examples?|Exit codes): *(.*)", re.DOTALL)


class Session(NamedTuple):  # a dataclass would import more than --help may
    """What every verb needs: where the project is and where to speak."""

    root: Path
    quiet: bool = False
    verbose: bool = False

    @property
    def console(self) -> Console:
        from reprobox import console  # noqa: PLC0415

        return console.make(quiet=self.quiet, verbose=self.verbose)


pass_session = click.make_pass_decorator(Session)


class Common(click.Option):
    """An option that stands before or after the verb; after it counts. The verb's own help does not repeat it."""

    def __init__(self, names: tuple[str, ...], *, documented: bool, **settings: Any) -> None:
        super().__init__(names, expose_value=False, callback=self._note, **settings)
        self._documented = documented

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        return super().get_help_record(ctx) if self._documented else None

    @staticmethod
    def _note(context: click.Context, option: click.Parameter, value: Any) -> None:
        if value:
            context.meta[_key(option.name)] = value


def _key(name: str | None) -> str:
    return f"{__name__}.{name}"


def common_options(*, documented: bool) -> list[click.Parameter]:
    """-C, -q and -v, for the group (``documented``) or for a verb."""
    return [
        Common(
            ("-C", "--directory", "root"), documented=documented,
            type=click.Path(file_okay=False), metavar="FOLDER",
            help="The project's folder, which holds reprobox.yaml.  [default: this one]",
        ),
        Common(
            ("-q", "--quiet"), documented=documented, is_flag=True,
            help="No progress; of a verdict, its one line. Warnings and errors stay.",
        ),
        Common(("-v", "--verbose"), documented=documented, is_flag=True, help="Every line of what is going on."),
    ]  # fmt: skip


def root_of(context: click.Context) -> Path:
    """The project's folder as the words so far name it. Raises InvalidInput."""
    from pathlib import Path  # noqa: PLC0415

    named = Path(context.meta.get(_key("root"), "."))
    return (named if named.is_absolute() else current_folder() / named).resolve()


def current_folder() -> Path:
    """The folder that relative paths start from. Raises InvalidInput where it was removed."""
    from pathlib import Path  # noqa: PLC0415

    from reprobox.errors import InvalidInput  # noqa: PLC0415

    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise InvalidInput(
            "the current folder is there no more", hint="change into one that exists: cd FOLDER"
        ) from error


class Verb(click.Command):
    """A verb: what it does, its options, and then, each on lines of its own, exit codes and examples.

    Both are the last paragraphs of its docstring, ``Exit codes: ...`` and ``Example: ...``.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.params += common_options(documented=False)
        about, self.examples, self.exit_codes = _sections(self.help or "")
        self.help = about

    def invoke(self, context: click.Context) -> Any:
        """The verb's exit code. An error that the user can act on leaves with the project's folder."""
        from reprobox.errors import InvalidInput, ReproboxError  # noqa: PLC0415

        settings = {name: bool(context.meta.get(_key(name))) for name in ("quiet", "verbose")}
        root = None
        try:
            root = root_of(context)
            if not root.is_dir():
                raise InvalidInput(f"there is no folder {root}", hint="create it, or correct -C")
            context.obj = Session(root=root, **settings)
            return super().invoke(context)
        except ReproboxError as error:
            error.folder = root
            raise

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.exit_codes:
            with formatter.section("Exit codes"):
                formatter.write_text(self.exit_codes)
        if self.examples:
            with formatter.section("Example" if len(self.examples) == 1 else "Examples"):
                for line in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
        formatter.write("\n-C, -q and -v are taken here too: see `reprobox --help`.\n")


def _sections(text: str) -> tuple[str, tuple[str, ...], str]:
    """A docstring as (what the verb does, its examples, its exit codes)."""
    about, found = [], {"E": "", "Exit codes": ""}
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if match := _SECTION.fullmatch(paragraph.strip()):
            found["Exit codes" if match.group(1) == "Exit codes" else "E"] = match.group(2)
        else:
            about.append(paragraph)
    examples = tuple(line.strip() for line in found["E"].splitlines() if line.strip())
    return "\n\n".join(about), examples, " ".join(found["Exit codes"].split())


class Verbs(click.Group):
    """The program: its verbs in the order of the work, each with its whole first sentence."""

    command_class = Verb

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.params += common_options(documented=True)

    def list_commands(self, ctx: click.Context) -> list[str]:
        place = {verb: number for number, verb in enumerate(ORDER)}
        return sorted(self.commands, key=lambda verb: (place.get(verb, len(place)), verb))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, summary(self.commands[verb])) for verb in self.list_commands(ctx)])


def summary(verb: click.Command) -> str:
    """A verb's first sentence."""
    return verb.get_short_help_str(limit=1000)


# --- completion -------------------------------------------------------------------------------


def completion_script(program: click.Command, shell: str) -> str:
    """What a shell of ``SHELLS`` reads to complete the words of `reprobox`."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    kind = get_completion_class(shell)
    assert kind is not None
    return kind(program, {}, "reprobox", COMPLETE).source()


def is_completing() -> bool:
    """Whether a shell asks for completions: then not one word may reach the user's line."""
    return bool(os.environ.get(COMPLETE))


def locked_packages(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The packages of requirements.lock that begin so; none where it cannot be read."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415

    from reprobox.errors import InvalidInput  # noqa: PLC0415

    try:
        text = (root_of(context) / "requirements.lock").read_text(encoding="utf-8")
    except (OSError, ValueError, InvalidInput):
        return []
    names = {name.lower() for name in re.findall(r"^([A-Za-z0-9][\w.-]*) *(?:==|@)", text, re.MULTILINE)}
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete.lower())]


def platforms(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The platforms that begin so."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415

    from reprobox.model import Platform  # noqa: PLC0415

    return [CompletionItem(one.value) for one in Platform if one.value.startswith(incomplete)]
