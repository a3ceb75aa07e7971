"""``main``: runs the application and gives every end an exit code and, if it failed, one line."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer
from rich.markup import escape

from gradaudit.cli.app import DATA_ERROR, DEBUG, INTERNAL_ERROR, INTERRUPTED, ExitCode, app, stderr
from gradaudit.errors import GradauditError, foreign_place, in_words, own_place

# Packages are imported inside the commands: `gradaudit --help` and `gradaudit analyze` must not
# load torch.
UsageError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


def main() -> None:
    """Entry point of the console script.

    The exit code says how the command ended (see ``gradaudit.cli``); an end without a result is
    explained in one line.
    """
    arguments, debug = _without_debug(sys.argv[1:])
    try:
        code = _checked_end(app(args=arguments, standalone_mode=False), arguments)
    except UsageError as error:
        error.show()  # type: ignore[attr-defined]
        code = DATA_ERROR
    except KeyboardInterrupt:
        code = INTERRUPTED
    except (Exception, SystemExit) as error:
        failure = _behind(error)
        if isinstance(failure, SystemExit) and not own_place(failure, besides="entry.py"):
            raise  # typer's own, which completes commands for the shell
        if debug:
            stderr.print("".join(traceback.format_exception(failure)), markup=False, end="")
        code, text = judged_error(failure)
        stderr.print("[bold red]error:[/] " + escape(text))
    if code == INTERRUPTED:
        kept = "what was measured so far is kept; the same command goes on from there"
        resumes = {"report", "measure"} & set(arguments[:1])
        stderr.print(
            f"interrupted: {kept if resumes else 'files that were written before stay, and nothing else is kept'}"
        )
    sys.exit(code)


def _checked_end(ended: Any, arguments: Sequence[str]) -> int:
    """The exit code of a command that ended without an error.

    Its own, or that of --help, --version and Ctrl-C.

    Errors: ``GradauditError`` for any other end: the user's code raised ``typer.Exit``.
    """
    if ended is None or isinstance(ended, ExitCode):
        return int(ended or 0)
    if ended == INTERRUPTED or {"--help", "-h", "--version"} & {*arguments}:
        return int(ended)
    raise GradauditError(
        f"Code that the plan names ended the command, with exit code {ended}. There is no result."
    )


def _without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without ``--debug``, and whether it was there.

    It may stand anywhere before a ``--``.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [argument for argument in arguments[:end] if argument != DEBUG]
    return [*kept, *arguments[end:]], len(kept) < end


def _behind(error: BaseException) -> BaseException:
    """The original error, where typer replaced it.

    typer turns a closed input into an abort, and a broken pipe into an exit.
    """
    if isinstance(error, typer.Abort) and error.__cause__ is not None:
        return error.__cause__
    context = error.__context__
    return (
        context
        if isinstance(error, SystemExit)
        and isinstance(context, OSError)
        and context.errno == errno.EPIPE
        else error
    )


def judged_error(error: BaseException) -> tuple[int, str]:
    """Exit code and sentence for an error.

    It is one that gradaudit raises on purpose, the user's code, the machine, or else a fault of
    gradaudit itself.
    """
    foreign, own = foreign_place(error), own_place(error)
    if isinstance(error, GradauditError):
        return DATA_ERROR, str(error)
    if foreign is not None or isinstance(error, SystemExit):
        where = f"{foreign[0]}, line {foreign[1]}" if foreign else "code that the plan names"
        return (
            DATA_ERROR,
            f"{where} failed, which is not gradaudit's code: {in_words(error)}. {DEBUG} shows the traceback.",
        )
    if isinstance(error, MemoryError):
        return (
            DATA_ERROR,
            "The memory is used up. Lower batch_size or workers under [run]; what was measured so far is kept.",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return DATA_ERROR, f"{error.filename or 'A file or stream'}: {error.strerror or error}"
    where = f" ({own[0]}, line {own[1]})" if own else ""
    return (
        INTERNAL_ERROR,
        f"internal error: {in_words(error)}{where}. There is no result. Please report it with what {DEBUG} shows.",
    )
