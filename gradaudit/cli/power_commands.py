"""`gradaudit power`: how many more patients would settle what is open."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gradaudit.cli.app import app, say
from gradaudit.cli.options import JsonOption, MarginOption
from gradaudit.cli.plans import with_flags
from gradaudit.errors import InputError
from gradaudit.number_text import (
    count,
    decimal,
    declared_points,
    percent_in_text,
    percent_number,
    plain_number,
)

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T", int, float)
WIDTH = 80
"""Columns of a terminal that every table fits."""
# widths of the columns of the two tables
_RUN_WIDTHS = (26, 3, 9, 13, 9, 13)
_PLANNED_WIDTHS = (36, 6, 8, 10)


@app.command()
def power(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN]", help="Run folder: its patients are drawn again.", show_default=False
        ),
    ] = None,
    factors: Annotated[
        str | None,
        typer.Option(
            "--factors",
            help="Multiples of the smallest group (of a number: of all). Default: 1,2,4,8.",
        ),
    ] = None,
    replicates: Annotated[
        int | None,
        typer.Option(
            "--replicates",
            help="Studies per factor. Default: 100 (a chance is known to 5 points then).",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Audit plan. Default: the one recorded in the run."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the drawing.")] = 0,
    sd: Annotated[
        float | None,
        typer.Option("--sd", help="Without a run: standard deviation between patients."),
    ] = None,
    margin: MarginOption = None,
    cells: Annotated[
        int | None, typer.Option("--cells", help="With --sd: number of planned comparisons.")
    ] = None,
    groups: Annotated[
        str | None, typer.Option("--groups", help="With --sd: patients of each group, as 100,300.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """How likely a larger study settles what is open; or, before there are data, any study.

    Of a run: gradaudit power runs/skin --factors 1,2,4,8

    Before: gradaudit power --sd 0.15 --margin 0.05 --cells 6 --groups 100,300
    """
    if (run is None) == (sd is None):
        raise InputError(
            "Give a run folder, or --sd with --margin, --cells and --groups; "
            f"got {'neither' if run is None else 'both'}. Example: gradaudit power runs/skin"
        )
    if run is not None:
        _refuse(run, {"--cells": cells, "--groups": groups})
        frame = _of_run(run, factors, replicates, config, seed, margin)
    else:
        _refuse("--sd", {"--factors": factors, "--replicates": replicates, "--config": config})
        frame = _planned(sd, margin, cells, groups)
    if as_json:
        say(_as_json(frame))
        return
    say("\n".join(_run_lines(frame) if run is not None else _planned_lines(frame)))


def _refuse(with_what: object, options: dict[str, object]) -> None:
    """Errors: ``InputError`` for options that would be ignored."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise InputError(f"{', '.join(given)} cannot be given with {with_what}.")


def _of_run(
    run: Path,
    factors: str | None,
    replicates: int | None,
    config: Path | None,
    seed: int,
    margin: float | None,
) -> pd.DataFrame:
    from gradaudit.plan import read_plan
    from gradaudit.result import recorded_plan
    from gradaudit.runs.folder import read_run
    from gradaudit.series.power import FACTORS, REPLICATES
    from gradaudit.series.power import power as power_of

    folder = read_run(run)
    plan = read_plan(config) if config is not None else recorded_plan(folder.run)
    plan = with_flags(plan, {"criteria": {"margin": margin}})
    return power_of(
        folder.measurements(),
        plan=plan,
        factors=FACTORS if factors is None else _numbers("--factors", factors, float),
        replicates=REPLICATES if replicates is None else replicates,
        seed=seed,
    )


def _planned(
    sd: float | None, margin: float | None, cells: int | None, groups: str | None
) -> pd.DataFrame:
    from gradaudit.series.power import power as power_of

    if sd is None or margin is None or cells is None or groups is None:
        raise InputError(
            "--sd needs --margin, --cells and --groups. "
            "Example: gradaudit power --sd 0.15 --margin 0.05 --cells 6 --groups 100,300"
        )
    return power_of(sd, margin=margin, cells=cells, groups=_numbers("--groups", groups, int))


def _numbers(option: str, text: str, kind: Callable[[str], T]) -> list[T]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} is numbers with commas between; got {text!r}.") from None


# ── what is printed ───────────────────────────────────────────────────────────────────────────────


def _as_json(frame: pd.DataFrame) -> str:
    rows = json.loads(frame.to_json(orient="records"))
    return json.dumps({"rows": rows, **frame.attrs}, ensure_ascii=False)


def _run_lines(frame: pd.DataFrame) -> list[str]:
    """One line per cell and factor, with the chance of "within" under each truth."""
    if frame.empty:
        return [str(frame.attrs["note"])]
    head = _columns(("comparison", "x", "patients", "as seen", "none", "far end"), _RUN_WIDTHS)
    lines = ["Chance to be shown within the limit (in brackets: beyond it), in %", "", head]
    for name, rows in frame.groupby("cell", sort=False):
        lines += _wrapped(str(name), "")
        reason = rows["reason"].iloc[0]
        if reason:
            lines += _wrapped(str(reason), "    ")
            continue
        for factor, own in rows.groupby("factor", sort=False):
            lines.append(_factor_line(float(str(factor)), own))
    return [*lines, "", *_legend(frame)]


def _factor_line(factor: float, rows: pd.DataFrame) -> str:
    found: dict[str, str] = {}
    for row in rows.to_dict("records"):
        beyond = round(100 * row["probability_beyond"])
        extra = f" ({beyond})" if beyond else ""
        found[str(row["truth"])] = f"{percent_number(row['probability_within'], 0)}{extra}"
    patients: Any = rows["patients"].iloc[0]
    shown = "withheld" if patients is None or patients != patients else count(int(patients))
    chances = (found[truth] for truth in ("as seen", "none", "far end"))
    return _columns(("", plain_number(factor), shown, *chances), _RUN_WIDTHS)


def _columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    """One line of a table: the first cell to the left, the others to the right."""
    first, *others = zip(cells, widths, strict=True)
    return " ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])


def _legend(frame: pd.DataFrame) -> list[str]:
    text = (
        "as seen: the true difference is the one of this run. none: there is no difference. "
        "far end: it lies at the far end of the thick whisker. Read the three together: "
        f"what is still open is a selection. {frame.attrs['note']}"
    )
    return _wrapped(text, "")


def _planned_lines(frame: pd.DataFrame) -> list[str]:
    """One line per comparison, then the chance that all cells hold, and how far to trust it."""
    lines = [_columns(("comparison", "cells", "SE", "one cell"), _PLANNED_WIDTHS)]
    for row in frame.to_dict("records"):
        chance = percent_in_text(row["probability_within"])
        cells = (row["comparison"], count(row["cells"]), decimal(row["se"], 4), chance)
        lines.append(_columns(cells, _PLANNED_WIDTHS))
        lines += _wrapped(str(row["limit"]), "    ")
    together = percent_in_text(float(frame["probability_all"].iloc[0]))
    cells_in_all = count(int(frame["cells"].sum()))
    margin = declared_points(float(frame["margin"].iloc[0]))
    text = (
        f"If there is no difference at all, all {cells_in_all} comparisons lie within {margin} "
        f"points with a chance of {together}: {frame.attrs['limit']}."
    )
    return [*lines, "", *_wrapped(text, "")]


def _wrapped(text: str, indent: str) -> list[str]:
    from textwrap import wrap

    return wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
