"""The output of a command: the summary on stdout, all else on stderr, the report on disk."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from gradaudit.cli.app import EXIT_CODES, ExitCode, say, stderr
from gradaudit.errors import InputError, RunError
from gradaudit.runs.measurements import Measurements

if TYPE_CHECKING:
    from gradaudit.manifest.reading import Manifest
    from gradaudit.measurement.devices import Progress as MeasureProgress
    from gradaudit.models.classifier import Classifier
    from gradaudit.result import AuditResult


def say_foreign_labels(table: Manifest, classifier: Classifier) -> None:
    """Warn, before measuring, of labels that are not a class of the model.

    If no label is a class, ``measure`` raises an error.
    """
    from gradaudit.labels import class_words, foreign_labels, foreign_words, is_label

    labels = [sample.label for sample in table.samples]
    foreign, given = foreign_labels(labels, classifier.classes), sum(map(is_label, labels))
    count = sum(map(len, foreign.values()))
    if 0 < count < given:
        words = f"{foreign_words(foreign, classifier.classes, table.lines)}. Classes: {class_words(classifier.classes)}"
        stderr.print(
            f"[yellow]note:[/] {count} of {given} labels are no class of the model and have no part in performance: {escape(words)}"
        )


def say_what_is_missing(meas: Measurements | None) -> None:
    """Say how many images could not be used or have no heat to distribute, and why.

    An audit of the other images says nothing about these.
    """
    if meas is None:
        return
    images = meas.images
    readable = images["status"].astype(str) == "ok"
    parts = (
        ("could not be used", images.loc[~readable, "reason"]),
        ("have no heat to share out", images.loc[readable, "heat_status"]),
    )
    for what, codes in parts:
        counts = codes.astype(str).loc[codes.astype(str) != "ok"].value_counts()
        if len(counts):
            reasons = ", ".join(f"{code} {number}" for code, number in counts.items())
            stderr.print(
                f"[yellow]note:[/] {counts.sum()} of {len(images)} images {what} ({reasons})"
            )


def finish(
    result: AuditResult, run: Path, output: Path | None, as_json: bool, allow_insufficient: bool
) -> ExitCode:
    """Write the report, then say the verdict; its exit code is returned once both files exist."""
    path = result.write(output or run / "report.html")
    result.write(run / "result.json")
    state = result.document.verdict.state
    if as_json:
        say(
            json.dumps(
                {
                    "verdict": state,
                    "headline": result.document.verdict.headline,
                    "report": str(path),
                    "run": str(run),
                }
            )
        )
    else:
        say(f"{result.document.verdict.words}: {result.document.verdict.headline} [{path}]")
    return ExitCode(0 if state == "insufficient" and allow_insufficient else EXIT_CODES[state])


def checked_run(run: Path) -> Path:
    """The run folder, if it can be one.

    Errors: ``RunError`` for a file; ``InputError`` for an address.
    """
    from gradaudit.runs.folder import local_path

    if run.is_file():
        raise RunError(f"--run: {run} is a file; name a folder.")
    return local_path(run, "--run")


def check_output(run: Path, output: Path | None) -> None:
    """Before any work: raise an error if the report could not be written there."""
    from gradaudit.report import check_report_path

    path = check_report_path(output or run / "report.html")
    if path.absolute() == (run / "run.json").absolute():
        raise InputError(f"--output: {path} is the run's own record. Name another file.")


def command_line() -> str:
    """The command as it was typed, for the record."""
    return shlex.join(["gradaudit", *sys.argv[1:]])


@contextmanager
def progress_bar(what: str) -> Iterator[MeasureProgress]:
    """A progress bar on stderr; prints of user code go to stderr too while it is shown."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with redirect_stdout(sys.stderr), Progress(*columns, console=stderr, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show
