"""Arguments in, exit codes out: 0 as expected, 1 not, 2 trouble, and `run` returns its command's own."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from reprobox import __version__
from reprobox.console import Console
from reprobox.errors import ReproboxError
from reprobox.files import explain

EVERYTHING = "*"

REFUSALS = {
    errno.EACCES, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENAMETOOLONG, errno.ENFILE, errno.ENOMEM, errno.ENOSPC,
    errno.EPERM, errno.EROFS, errno.ESTALE,
}  # fmt: skip
"""What an operating system may answer at any moment, and is no fault of ours: said without a traceback."""


class ReaderGone(Exception):
    """Nobody reads our stdout any more, as in `reprobox render | head -1`: we end as if the signal had ended us."""


class Session:
    """What every verb needs: where the project is and where to speak."""

    def __init__(self, root: Path, *, quiet: bool, verbose: bool) -> None:
        self.root = root
        self._quiet, self._verbose = quiet, verbose

    @property
    def console(self) -> Console:
        from reprobox import console  # noqa: PLC0415

        return console.make(quiet=self._quiet, verbose=self._verbose)


pass_session = click.make_pass_decorator(Session)
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option(
    "-C", "--directory", "root", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path(),
    metavar="FOLDER", help="The project's folder, which holds reprobox.yaml.  [default: this one]",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Say only what must be read.")
@click.option("-v", "--verbose", is_flag=True, help="Say everything.")
@click.pass_context
def cli(context: click.Context, root: Path, quiet: bool, verbose: bool) -> None:
    """From a project folder to a container image that anyone can rebuild bit for bit,
    with proof that its experiment gives the same bits inside."""
    context.obj = Session(root.resolve(), quiet=quiet, verbose=verbose)


@cli.command()
@click.option("--check", is_flag=True, help="Only say whether the lock still fits, offline; exit 1 if not.")
@click.option(
    "--upgrade", multiple=True, is_flag=False, flag_value=EVERYTHING, metavar="[PACKAGE]",
    help="Let PACKAGE move to its newest fitting version, or everything; may be given again.",
)  # fmt: skip
@as_json
@pass_session
def lock(session: Session, check: bool, upgrade: tuple[str, ...], as_json: bool) -> int:
    """Resolve every input of the image, exactly, into reprobox.lock.

    Example: reprobox lock --upgrade numpy
    """
    from reprobox import workflow  # noqa: PLC0415
    from reprobox.resolvers.python import Upgrade  # noqa: PLC0415

    if check:
        if upgrade:
            raise click.UsageError("--check and --upgrade exclude each other")
        reasons = workflow.check(session.root)
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
    locked = workflow.lock(session.root, upgrade=wanted, console=session.console)
    if as_json:
        _print_json({"lock": str(locked.digest), "written": list(locked.written)})
    else:
        _say(f"Wrote {', '.join(locked.written)}." if locked.written else "reprobox.lock is up to date.")
    return 0


@cli.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
    help="Write Dockerfile, .dockerignore and a bootstrapped base to FOLDER (`.`: beside the project, to build).",
)  # fmt: skip
@click.option("--platform", metavar="PLATFORM", help="One of the lock's platforms.  [default: the first]")
@pass_session
def render(session: Session, output: Path | None, platform: str | None) -> int:
    """Print the Dockerfile, self-contained: `docker build .` works without reprobox.

    Example: reprobox render -o .
    """
    from reprobox import workflow  # noqa: PLC0415

    chosen = workflow.platform_named(platform) if platform else None
    if output is None:
        _write(workflow.prepare(session.root, platform=chosen).context.dockerfile)
    else:
        names = workflow.render_to(session.root, output, platform=chosen, console=session.console)
        _say(f"Wrote {', '.join(names)} to {output}.")
    return 0


@cli.command()
@as_json
@pass_session
def build(session: Session, as_json: bool) -> int:
    """Build the image, if it is not there already.

    Example: reprobox build
    """
    from reprobox import workflow  # noqa: PLC0415

    built = workflow.build(session.root, engine=workflow.engine(), console=session.console)
    if as_json:
        _print_json({"image": workflow.image_facts(built.image), "built": built.fresh})
    else:
        _say(f"{'Built' if built.fresh else 'Up to date:'} {built.image.reference}", f"  {built.image.digest}")
    return 0


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@pass_session
def run(session: Session, command: tuple[str, ...]) -> int:
    """Run a command in the image, sealed as the experiment is; its exit code is returned.

    Example: reprobox run -- python train.py --seed 3
    """
    from reprobox import workflow  # noqa: PLC0415

    def listen(stream: str, data: bytes) -> None:
        if stream == "stdout":
            _write(data)
        else:
            with suppress(OSError):  # nobody listens any more: no reason to stop
                sys.stderr.buffer.write(data)
                sys.stderr.buffer.flush()

    completed = workflow.run(
        session.root, command, engine=workflow.engine(), console=session.console, listen=listen
    )  # fmt: skip
    if completed.reason:
        click.echo(f"reprobox: the command was {completed.reason}", err=True)
    return completed.exit_code


@cli.command()
@click.option("--force", is_flag=True, help="Replace a baseline that differs.")
@as_json
@pass_session
def record(session: Session, force: bool, as_json: bool) -> int:
    """Run the experiment and its negative control, and keep the outputs' digests as the baseline.

    Example: reprobox record
    """
    from reprobox import workflow  # noqa: PLC0415
    from reprobox.report import machine, terminal  # noqa: PLC0415

    recorded = workflow.record(session.root, force=force, engine=workflow.engine(), console=session.console)
    if as_json:
        _print_json(machine.verdict_json(recorded.verdict) | {"recorded": recorded.written})
    else:
        _write(terminal.for_stream(recorded.verdict, sys.stdout))
        if recorded.written:
            _say("Recorded in reprobox.baseline.json; commit it.")
    return 0 if recorded.accepted else recorded.verdict.exit_code


@cli.command()
@click.option("--runs", type=click.IntRange(min=1), default=1, show_default=True, help="Run the experiment N times.")
@click.option("--control", is_flag=True, help="Run the negative control too.")
@as_json
@pass_session
def verify(session: Session, runs: int, control: bool, as_json: bool) -> int:
    """Run the experiment in the image and compare its outputs, bit for bit, with the baseline.

    Example: reprobox verify --runs 3
    """
    from reprobox import workflow  # noqa: PLC0415
    from reprobox.report import machine, terminal  # noqa: PLC0415

    found = workflow.verify(
        session.root, runs=runs, control=control, engine=workflow.engine(), console=session.console
    )  # fmt: skip
    if as_json:
        _print_json(machine.verdict_json(found))
    else:
        _write(terminal.for_stream(found, sys.stdout))
    return found.exit_code


@cli.command()
def schema() -> int:
    """Print the JSON Schema of reprobox.yaml, for editors.

    Example: reprobox schema > reprobox.schema.json
    """
    from reprobox import config  # noqa: PLC0415

    _print_json(config.schema())
    return 0


def _say(*lines: str) -> None:
    _write("".join(f"{line}\n" for line in lines))


def _print_json(value: Any) -> None:
    utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    _write(json.dumps(value, indent=2, ensure_ascii=not utf8) + "\n")


def _write(data: str | bytes) -> None:
    """Put ``data`` on stdout. Raises ReaderGone, and InvalidInput where it takes no more."""
    try:
        if isinstance(data, str):
            sys.stdout.write(data)
        else:
            sys.stdout.buffer.write(data)
        sys.stdout.flush()
    except BrokenPipeError:
        _lead_nowhere(1)
        raise ReaderGone from None
    except OSError as error:
        _lead_nowhere(1)
        raise explain(error, "cannot write to stdout") from error


def _lead_nowhere(number: int) -> None:
    """What is still in the buffer of a stream goes nowhere, so that nothing complains of it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def main() -> None:
    """The program: runs a verb, prints what went wrong in one place, and ends with the verb's exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    _open_streams()
    code = _main()
    try:
        sys.stderr.flush()
    except OSError:
        _lead_nowhere(2)
    sys.exit(code)


def _open_streams() -> None:
    """A stream that the caller closed must not become the next file we open: what is written there fails, as it
    should, or for stderr goes nowhere. A character that a stream cannot print is spelled out."""
    for number, (name, mode, flags) in enumerate(
        (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))
    ):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, flags)
            if handle != number:
                os.dup2(handle, number)
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 (a number, for good)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _main() -> int:
    from reprobox import console  # noqa: PLC0415

    code = 2
    try:
        code = int(cli.main(prog_name="reprobox", standalone_mode=False) or 0)
    except ReproboxError as error:
        console.error(error)
        code = error.exit_code
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
    except ReaderGone:
        code = 128 + signal.SIGPIPE
    except (click.Abort, KeyboardInterrupt):
        with suppress(OSError):
            click.echo("interrupted", err=True)
        code = 130
    except Exception as error:  # a fault of ours: 1 would say that something differs
        if isinstance(error, OSError) and error.errno in REFUSALS:
            console.error(explain(error, "the operating system refuses"))
        else:
            traceback.print_exc()
    return code


def _end(number: int, _: object) -> None:
    """A signal that ends us lets every ``finally`` run first."""
    sys.exit(128 + number)
