"""`gradaudit validate`, `init` and `demo`: tables, plans and rendered data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gradaudit.cli.app import app, say
from gradaudit.cli.options import ConfigOption, JsonOption, ManifestArgument
from gradaudit.cli.output import progress_bar
from gradaudit.cli.plans import checked_manifest
from gradaudit.errors import PlanError
from gradaudit.plan import find_plan


@app.command()
def validate(
    manifest: ManifestArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a manifest (and its plan) and list every problem at once, with its rows and what to do."""
    plan, _ = find_plan(config, manifest)
    table = checked_manifest(manifest, plan)
    clusters = table.table["cluster"].nunique()
    summary = {
        "images": len(table), "clusters": int(clusters), "attributes": list(table.attributes), "regions": list(table.region_names),
        "warnings": len(table.warnings),
    }  # fmt: skip
    if as_json:
        say(json.dumps(summary))
    else:
        counts = (
            (len(table.attributes), "attribute"),
            (len(table.region_names), "region"),
            (len(table.warnings), "warning"),
        )
        parts = ", ".join(f"{n} {word}{'s' * (n != 1)}" for n, word in counts)
        say(
            f"{manifest}: {len(table)} image{'s' * (len(table) != 1)} in {clusters} cluster{'s' * (clusters != 1)}, {parts}: ready to be measured"
        )


@app.command()
def init(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="An existing table of images.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Plan to write. Default: audit.toml beside the table."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing plan.")] = False,
) -> None:
    """Look at a table's columns and write a starting plan, with the reason for each guess."""
    from gradaudit.manifest.plan_suggestion import suggest_plan
    from gradaudit.runs.folder import local_path, write_atomically

    path = local_path(output or table.parent / "audit.toml", "--output")
    if path.exists() and not force:
        raise PlanError(
            f"{path} exists. Name another file with --output, or overwrite it with --force."
        )
    write_atomically(path, suggest_plan(table).encode())
    say(f"{path}: a starting plan; read it, then run `gradaudit validate {table} --config {path}`")


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Argument(help="Folder to write the demo data, networks and plans to.")
    ] = Path("gradaudit-demo"),
    seed: Annotated[int, typer.Option(help="Everything follows from it.")] = 0,
) -> None:
    """Render dermoscopy-like images with a known answer, train two small networks on them, and
    write their manifests.
    """
    from gradaudit.runs.folder import local_path

    local_path(folder, "The demo's folder")
    from gradaudit.demos.dermoscopy import write_demo

    with progress_bar("rendering and training") as progress:
        write_demo(folder, seed=seed, progress=progress)
    say(
        f"{folder}: try `gradaudit report {folder}/manifest.csv --config {folder}/shortcut.toml`, then with clean.toml"
    )
