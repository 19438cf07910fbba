"""Arguments in, exit codes out: 0 as expected, 1 not, 2 trouble, and `run` returns its command's own."""

from __future__ import annotations

import errno
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from reprobox import __version__
from reprobox.command_line import (
    SHELLS,
    Session,
    Verbs,
    completion_script,
    current_folder,
    is_completing,
    locked_packages,
    pass_session,
    platforms,
)
from reprobox.streams import ReaderGone, complain, flush_stderr, open_all, write

if TYPE_CHECKING:  # what is not needed for --help is imported where it is used
    from reprobox.model import Verdict

EVERYTHING = "*"

REFUSALS = {
    errno.EACCES, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENAMETOOLONG, errno.ENFILE, errno.ENOMEM, errno.ENOSPC,
    errno.EPERM, errno.EROFS, errno.ESTALE,
}  # fmt: skip
"""What an operating system may answer at any moment, and is no fault of ours: said without a traceback."""


as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """From a project folder to a container image that anyone can rebuild bit for bit,
    with proof that its experiment gives the same bits inside."""


@cli.command()
@click.option(
    "--name", metavar="NAME", help="The image's name.  [default: the project's, the repository's, the folder's]"
)
@as_json
@pass_session
def init(session: Session, name: str | None, as_json: bool) -> int:
    """Draft reprobox.yaml from what lies in the folder, with the place of every guess. Overwrites nothing.

    Example: reprobox init
    """
    from reprobox.report import drafted  # noqa: PLC0415
    from reprobox.workflow import drafting  # noqa: PLC0415

    done = drafting.init(session.root, name=name)
    refused = done.refused.message if done.refused else None
    if as_json:
        _print_json(drafted.as_json(done.draft, done.written, refused=refused))
    else:
        write(drafted.for_stream(done.draft, done.written, sys.stdout, refused=done.refused))
    return done.exit_code


@cli.command()
@click.option("--check", is_flag=True, help="Only say whether the lock still fits, offline; exit 1 if not.")
@click.option(
    "--upgrade", multiple=True, is_flag=False, flag_value=EVERYTHING, metavar="[PACKAGE]",
    shell_complete=locked_packages,
    help="Let PACKAGE move to its newest fitting version, or everything; may be given again.",
)  # fmt: skip
@as_json
@pass_session
def lock(session: Session, check: bool, upgrade: tuple[str, ...], as_json: bool) -> int:
    """Resolve every input of the image, exactly, into reprobox.lock.

    What fits stays as it is locked: only what you ask for moves.

    Exit codes: 0 locked, or the lock fits; 1 `--check`: it no longer fits; 2 it could not be resolved.

    Examples:
      reprobox lock
      reprobox lock --upgrade numpy
      reprobox lock --check
    """
    from reprobox.resolvers.python import Upgrade  # noqa: PLC0415
    from reprobox.workflow import locking  # noqa: PLC0415

    if check:
        if upgrade:
            raise click.UsageError("--check and --upgrade exclude each other")
        reasons = locking.check(session.root)
        if as_json:
            _print_json({"fits": not reasons, "reasons": [vars(reason) for reason in reasons]})
        elif reasons:
            _say("reprobox.lock no longer fits the project:", *(f"  {reason}" for reason in reasons))
            _say("Run `reprobox lock`.")
        else:
            _say("reprobox.lock fits.")
        return 1 if reasons else 0
    everything = EVERYTHING in upgrade
    wanted = Upgrade(all=everything, packages=frozenset(upgrade) - {EVERYTHING})
    locked = locking.lock(session.root, upgrade=wanted, console=session.console)
    if as_json:
        _print_json({"lock": str(locked.digest), "written": list(locked.written)})
    else:
        _say(f"Wrote {', '.join(locked.written)}." if locked.written else "reprobox.lock is up to date.")
    return 0


@cli.command()
@click.option(
    "-o", "--output", type=click.Path(file_okay=False), metavar="FOLDER",
    help="Write Dockerfile, .dockerignore and a bootstrapped base to FOLDER (`.`: beside the project, to build).",
)  # fmt: skip
@click.option(
    "--platform",
    metavar="PLATFORM",
    shell_complete=platforms,
    help="One of the lock's platforms.  [default: the first]",
)
@pass_session
def render(session: Session, output: str | None, platform: str | None) -> int:
    """Print the Dockerfile, self-contained: `docker build .` works without reprobox.

    Examples:
      reprobox render > Dockerfile
      reprobox render -o .
    """
    from pathlib import Path  # noqa: PLC0415

    from reprobox import config  # noqa: PLC0415
    from reprobox.workflow import building  # noqa: PLC0415

    chosen = building.platform_named(platform) if platform else None
    if output is None:
        write(building.prepare(config.load(session.root), platform=chosen).context.dockerfile)
    else:
        names = building.render_to(session.root, Path(output), platform=chosen, console=session.console)
        _say(f"Wrote {', '.join(names)} to {output}.")
    return 0


@cli.command()
@as_json
@pass_session
def build(session: Session, as_json: bool) -> int:
    """Build the image, unless it is there already.

    The same lock and the same files give the same image, bit for bit.

    Exit codes: 0 it is there; 1 the lock no longer fits the project; 2 it could not be built.

    Example: reprobox build
    """
    from reprobox import image_note  # noqa: PLC0415
    from reprobox.workflow import building  # noqa: PLC0415

    built = building.build(session.root, engine=building.engine(), console=session.console)
    if as_json:
        _print_json({"image": image_note.image_facts(built.image), "built": built.fresh})
    else:
        _say(f"{'Built' if built.fresh else 'Up to date:'} {built.image.reference}", f"  {built.image.digest}")
    return 0


@cli.command(context_settings={"allow_interspersed_args": False})  # the options after the command are its own
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@pass_session
def run(session: Session, command: tuple[str, ...]) -> int:
    """Run a command in the image, sealed as the experiment is.

    All that follows the command's name is the command's own.

    Exit codes: the command's own; 1 also where the lock no longer fits the project, 2 where the image could not
    be built.

    Example: reprobox run python train.py --seed 3
    """
    from reprobox.workflow import building, proving  # noqa: PLC0415

    def listen(stream: str, data: bytes) -> None:
        (write if stream == "stdout" else complain)(data)

    completed = proving.run(
        session.root, command, engine=building.engine(), console=session.console, listen=listen
    )  # fmt: skip
    if completed.reason:
        click.echo(f"reprobox: the command was {completed.reason}", err=True)
    return completed.exit_code


@cli.command()
@click.option("--force", is_flag=True, help="Replace a baseline that says otherwise.")
@as_json
@pass_session
def record(session: Session, force: bool, as_json: bool) -> int:
    """Run the experiment twice and its control once, and keep the outputs' digests as the baseline.

    A baseline that says otherwise is shown, and stays.

    Exit codes: 0 the baseline says what was seen; 1 it does not, or the experiment is unstable, or its control
    changed nothing; 2 it could not be run.

    Examples:
      reprobox record
      reprobox record --force
    """
    from reprobox.report import machine  # noqa: PLC0415
    from reprobox.workflow import building, proving  # noqa: PLC0415

    recorded = proving.record(session.root, force=force, engine=building.engine(), console=session.console)
    if as_json:
        _print_json(machine.verdict_json(recorded.verdict) | {"recorded": recorded.written})
    else:
        _show(session, recorded.verdict)
        if recorded.written:
            _say("Recorded in reprobox.baseline.json and reprobox.baseline/; commit both.")
        elif not recorded.accepted:
            _say("Nothing was recorded.")
    _summarise(session, recorded.verdict)
    return 0 if recorded.accepted else recorded.verdict.exit_code


@cli.command()
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Run the experiment N times, to tell an unstable one from a changed one.",
)
@click.option("--control", is_flag=True, help="Run the negative control too: it must change the outputs.")
@as_json
@pass_session
def verify(session: Session, runs: int, control: bool, as_json: bool) -> int:
    """Run the experiment in the image and compare its outputs, bit for bit, with the baseline.

    Exit codes: 0 as expected; 1 not (DIFFERENT, MISSING, EXTRA, UNSTABLE, CONTROL_UNCHANGED, a stale lock);
    2 no answer (RUN_FAILED, INCOMPLETE, NO_BASELINE, bad input, no engine).

    Examples:
      reprobox verify
      reprobox verify --runs 3 --control
    """
    from reprobox.report import machine  # noqa: PLC0415
    from reprobox.workflow import building, proving  # noqa: PLC0415

    found = proving.verify(
        session.root, runs=runs, control=control, engine=building.engine(), console=session.console
    )  # fmt: skip
    if as_json:
        _print_json(machine.verdict_json(found))
    else:
        _show(session, found)
    _summarise(session, found)
    return found.exit_code


@cli.command()
@as_json
@pass_session
def doctor(session: Session, as_json: bool) -> int:
    """Look at this machine and this project: what is here, what is missing, what to do.

    Changes nothing and takes seconds. Exit code 1 where something stands in the way of building and running;
    warnings and what is optional do not count.

    Example: reprobox doctor
    """
    from reprobox import doctor  # noqa: PLC0415
    from reprobox.report import doctor as report  # noqa: PLC0415

    found = doctor.examine(doctor.checks(session.root))
    if as_json:
        _print_json(report.as_json(found))
    else:
        write(report.for_stream(found, sys.stdout))
    return found.exit_code


@cli.command()
@click.option("--strict", is_flag=True, help="Exit 1 for warnings too.")
@as_json
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path())
@pass_session
def lint(session: Session, strict: bool, as_json: bool, paths: tuple[str, ...]) -> int:
    """Say what cannot be reproduced as it stands, and what to do.

    Looks at the whole project, or at the files that are named. A comment `# reprobox: ignore[RULE]` on a line, or
    on its own above it, silences a rule there.

    Example: reprobox lint
    """
    from reprobox.console import github  # noqa: PLC0415
    from reprobox.report import lint as report  # noqa: PLC0415
    from reprobox.workflow import linting  # noqa: PLC0415

    found = linting.lint(session.root, tuple(current_folder() / path for path in paths))
    for file, reason in found.unread:
        session.console.note(f"not read: {file} {reason}")
    if as_json:
        _print_json(report.as_json(found))
    else:
        write(report.render(found))
        for line in report.for_github(found, folder=session.root) if github.is_here() else ():
            github.command(sys.stderr, line)
    return found.exit_code(strict=strict)


@cli.command()
def schema() -> int:
    """Print the JSON Schema of reprobox.yaml, for editors.

    Example: reprobox schema > reprobox.schema.json
    """
    from reprobox import config  # noqa: PLC0415

    _print_json(config.schema())
    return 0


@cli.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> int:
    """Print what a shell reads to complete verbs, options, platforms and packages.

    Examples:
      source <(reprobox completion bash)    # for good: the same line in ~/.bashrc
      source <(reprobox completion zsh)     # in ~/.zshrc, after compinit
      reprobox completion fish > ~/.config/fish/completions/reprobox.fish
    """
    _say(completion_script(cli, shell))
    return 0


def _show(session: Session, verdict: Verdict) -> None:
    from reprobox.report import terminal  # noqa: PLC0415

    write(terminal.for_stream(verdict, sys.stdout, brief=session.quiet))


def _summarise(session: Session, verdict: Verdict) -> None:
    """Put the verdict on the page of a GitHub Actions job; where that fails, only a warning says so."""
    from reprobox.console import github  # noqa: PLC0415
    from reprobox.report import markdown, terminal  # noqa: PLC0415

    if github.is_here() and verdict.exit_code:
        brief = terminal.render(verdict, width=1000, brief=True).strip()
        github.command(sys.stderr, github.annotation("error", brief, title="reprobox"))

    if problem := markdown.append(markdown.render(verdict)):
        session.console.warn(problem)


def _say(*lines: str) -> None:
    write("".join(f"{line}\n" for line in lines))


def _print_json(value: Any) -> None:
    import json  # noqa: PLC0415

    utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    write(json.dumps(value, indent=2, ensure_ascii=not utf8) + "\n")


def main() -> None:
    """The program: runs a verb, prints what went wrong in one place, and ends with the verb's exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    open_all()
    code = _main()
    flush_stderr()
    sys.exit(code)


def _main() -> int:
    if is_completing():
        import io  # noqa: PLC0415

        sys.stderr = io.StringIO()
    try:
        return int(cli.main(prog_name="reprobox", standalone_mode=False) or 0)
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        return 2
    except ReaderGone:
        return 128 + signal.SIGPIPE
    except (click.Abort, KeyboardInterrupt):
        with suppress(OSError):
            click.echo("interrupted", err=True)
        return 130
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> int:
    """The exit code of a failure, which is printed here alone: ours with a traceback, the user's in words."""
    from reprobox import console  # noqa: PLC0415
    from reprobox.errors import ReproboxError  # noqa: PLC0415

    if isinstance(error, ReproboxError):
        console.error(error, folder=error.folder)
        return error.exit_code
    if isinstance(error, OSError) and error.errno in REFUSALS:
        from reprobox.files import explain  # noqa: PLC0415

        console.error(explain(error, "the operating system refuses"))
        return 2
    import traceback  # noqa: PLC0415

    traceback.print_exception(error)
    return 2  # a fault of ours: 1 would say that something differs


def _end(number: int, _: object) -> None:
    """A signal that ends us lets every ``finally`` run first."""
    sys.exit(128 + number)
