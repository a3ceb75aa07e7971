"""`gradaudit report`, and its two halves `measure` and `analyze`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gradaudit.cli.app import ExitCode, app, say
from gradaudit.cli.options import (
    AllowOption,
    AuditorOption,
    BatchOption,
    ConfigOption,
    DeviceOption,
    FreshOption,
    JsonOption,
    LayerOption,
    ManifestArgument,
    MarginOption,
    MethodOption,
    ModelOption,
    OutputOption,
    PrintConfigOption,
    RunOption,
    StrictOption,
    TargetOption,
    WeightsOption,
)
from gradaudit.cli.output import (
    check_output,
    checked_run,
    command_line,
    finish,
    progress_bar,
    say_foreign_labels,
    say_what_is_missing,
)
from gradaudit.cli.plans import (
    checked_manifest,
    default_run,
    loaded_model,
    plan_with_flags,
    with_flags,
)
from gradaudit.plan import plan_toml, read_plan


@app.command()
def report(
    manifest: ManifestArgument,
    config: ConfigOption = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    layer: LayerOption = None,
    method: MethodOption = None,
    target: TargetOption = None,
    margin: MarginOption = None,
    device: DeviceOption = None,
    batch_size: BatchOption = None,
    auditor: AuditorOption = None,
    run: RunOption = None,
    output: OutputOption = None,
    fresh: FreshOption = False,
    strict: StrictOption = False,
    allow_insufficient: AllowOption = False,
    as_json: JsonOption = False,
    print_config: PrintConfigOption = False,
) -> ExitCode:
    """Measure, analyse and write the report: the whole audit.

    A run that was interrupted goes on where it stopped.
    """
    plan, root = plan_with_flags(
        manifest,
        config,
        weights=weights,
        layer=layer,
        method=method,
        target=target,
        margin=margin,
        device=device,
        batch_size=batch_size,
        auditor=auditor,
        model=model,
    )
    if print_config:
        say(plan_toml(plan).rstrip("\n"))
        return ExitCode(0)
    from gradaudit.workflows.audit import audit

    run = checked_run(run or default_run(manifest, config))
    check_output(run, output)
    table = checked_manifest(manifest, plan)
    classifier = loaded_model(plan, root)
    say_foreign_labels(table, classifier)
    with progress_bar("measuring") as progress:
        result = audit(
            table,
            classifier,
            plan,
            run,
            fresh=fresh,
            strict=strict,
            progress=progress,
            command=command_line(),
        )
    say_what_is_missing(result.measurements)
    return finish(result, run, output, as_json, allow_insufficient)


@app.command()
def measure(
    manifest: ManifestArgument,
    config: ConfigOption = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    layer: LayerOption = None,
    method: MethodOption = None,
    target: TargetOption = None,
    device: DeviceOption = None,
    batch_size: BatchOption = None,
    run: RunOption = None,
    fresh: FreshOption = False,
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure only: explain every image and write the run folder.

    `gradaudit analyze RUN` makes the report later.
    """
    plan, root = plan_with_flags(
        manifest,
        config,
        weights=weights,
        layer=layer,
        method=method,
        target=target,
        device=device,
        batch_size=batch_size,
        model=model,
    )
    from gradaudit.workflows.audit import measure_with_gallery

    run = checked_run(run or default_run(manifest, config))
    table = checked_manifest(manifest, plan)
    classifier = loaded_model(plan, root)
    say_foreign_labels(table, classifier)
    with progress_bar("measuring") as progress:
        meas = measure_with_gallery(
            table,
            classifier,
            plan,
            run,
            fresh=fresh,
            strict=strict,
            progress=progress,
            command=command_line(),
        )
    say_what_is_missing(meas)
    failed = int((meas.images["status"] != "ok").sum())
    summary = {
        "run": str(run),
        "images": len(meas.images),
        "failed": failed,
        "rows": len(meas.table),
        "layer": meas.run.model.layer if meas.run is not None else "",
    }
    if as_json:
        say(json.dumps(summary))
    else:
        say(
            f"{summary['images']} images measured ({failed} failed), {summary['rows']} rows, layer {summary['layer']}: {run}"
        )


@app.command()
def analyze(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="Run folder written by `gradaudit measure` or `report`."
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Audit plan. Default: the one recorded in the run."),
    ] = None,
    margin: MarginOption = None,
    auditor: AuditorOption = None,
    output: OutputOption = None,
    allow_insufficient: AllowOption = False,
    as_json: JsonOption = False,
) -> ExitCode:
    """Analyse a run folder and write the report; needs neither the model nor the images, and loads
    no torch.
    """
    from gradaudit.result import build_result, recorded_plan
    from gradaudit.runs.folder import read_run

    folder = read_run(run)
    check_output(run, output)
    plan = read_plan(config) if config is not None else recorded_plan(folder.run)
    plan = with_flags(plan, {"criteria": {"margin": margin}, "report": {"auditor": auditor}})
    result = build_result(folder.measurements(), plan)
    return finish(result, run, output, as_json, allow_insufficient)
