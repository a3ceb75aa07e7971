"""`gradaudit compare`: two audits side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from gradaudit.cli.app import ExitCode, app, say
from gradaudit.cli.options import JsonOption
from gradaudit.errors import InputError

OWN_FILES = ("run.json", "result.json")
"""Files of a run folder that no comparison may take the place of."""


@app.command()
def compare(
    before: Annotated[
        Path, typer.Argument(metavar="A", help="Run folder of the earlier audit, or the one model.")
    ],
    after: Annotated[
        Path, typer.Argument(metavar="B", help="Run folder of the later audit, or the other model.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "--out",
            "-o",
            help="Comparison: .html, .md or .json. Default: compare.html in B.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="Audit plan for both. Default: the one recorded in each run."
        ),
    ] = None,
    fail_on: Annotated[
        Literal["worse"] | None,
        typer.Option("--fail-on", help="worse: exit 1 where any disparity is shown to be larger."),
    ] = None,
    as_json: JsonOption = False,
) -> ExitCode:
    """What changed from one audit to another: two models, two dates, before and after a change.

    Needs neither model nor images: gradaudit compare runs/before runs/after --out compare.html
    """
    from gradaudit.report import check_report_path
    from gradaudit.workflows.comparisons import compare as compared

    place = output or after / "compare.html"
    check_report_path(place)
    if any(
        place.absolute() == (run / name).absolute() for run in (before, after) for name in OWN_FILES
    ):
        raise InputError(f"--output: {place} is the run's own. Name another file.")
    found = compared(before, after, plan=config)
    path = found.write(place)
    words = [cell.word for cell in found.document.cells]
    if as_json:
        counts = {word: words.count(word) for word in dict.fromkeys(words)}
        summary = {"headline": found.document.headline, "words": counts, "comparison": str(path)}
        say(json.dumps(summary))
    else:
        say(f"{found.document.headline} [{path}]")
    return ExitCode(1 if fail_on == "worse" and found.worse else 0)
