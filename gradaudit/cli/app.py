"""The typer application that commands register with, its exit codes, and the console for stderr."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import metadata
from typing import Annotated, Any

import typer
from rich.console import Console

from gradaudit.errors import InputError

EXIT_CODES = {"met": 0, "none_declared": 0, "not_met": 1, "insufficient": 3}
DATA_ERROR = 2
INTERNAL_ERROR = 70
INTERRUPTED = 130
DEBUG = "--debug"

app = typer.Typer(
    name="gradaudit",
    help="Audit where an image classifier looks, region by region and subgroup by subgroup, with statistics that hold.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class ExitCode(int):
    """What a command returns when it finishes; see the table in ``gradaudit.cli``."""


class _Console(Console):
    """A console that falls silent when its reader closes the pipe, so that the work goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        silence(self.file)


stderr = _Console(stderr=True, highlight=False, soft_wrap=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"gradaudit {metadata.version('gradaudit')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option(DEBUG, help="Show the traceback of an error; also after the command.")
    ] = False,
) -> None:
    pass


def say(text: str) -> None:
    """Write a line to stdout.

    If its reader has closed the pipe, nothing is written and the exit code stays as it was decided.

    Errors: ``InputError`` where it cannot be written for another reason, such as a full disk.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        silence(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise InputError(
                f"The summary could not be written to stdout: {error.strerror or error}."
            ) from error


def silence(stream: Any) -> None:
    """Discard what is in the stream's buffer.

    Otherwise Python's last flush would fail and change the exit code.
    """
    with suppress(OSError, ValueError, AttributeError):  # a stream without a file below it
        target = os.open(os.devnull, os.O_WRONLY)
        os.dup2(target, stream.fileno())
        os.close(target)
