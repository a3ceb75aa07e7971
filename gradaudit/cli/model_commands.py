"""`gradaudit explain` and `layers`: a network and single images, without an audit."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from gradaudit.cli.app import _Console, app, say, stderr
from gradaudit.cli.options import (
    BatchOption,
    DeviceOption,
    JsonOption,
    LayerOption,
    ModelOption,
    WeightsOption,
)
from gradaudit.cli.output import command_line, progress_bar
from gradaudit.cli.plans import loaded_model, with_flags
from gradaudit.errors import PlanError
from gradaudit.number_text import share_percent
from gradaudit.plan import Plan, read_plan

if TYPE_CHECKING:
    from gradaudit.workflows.layer_table import LayerList


@app.command()
def explain(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE",
            help="Files, folders (with all that lies below), glob patterns (quoted or not), URLs.",
        ),
    ],
    model: ModelOption = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="Audit plan. Default: without --model, audit.toml here or beside the first image.",
        ),
    ] = None,
    weights: WeightsOption = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes", help="Class names in output order: a,b,c or a text file, one a line."
        ),
    ] = None,
    layer: LayerOption = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="One or several (gradcam,layercam), or all (slow: RISE takes 1,000 passes).",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="predicted, class:NAME or contrast:A,B.")
    ] = None,
    sign: Annotated[
        int | None, typer.Option("--sign", help="1: evidence for the target; -1: against it.")
    ] = None,
    against: Annotated[bool, typer.Option("--against", help="The same as --sign -1.")] = False,
    names: Annotated[
        bool,
        typer.Option(
            "--names",
            help="Also write names.txt: the channels that carried each decision, and their names.",
        ),
    ] = False,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder to write to; files of the same name are replaced."
        ),
    ] = Path("explanations"),
    device: DeviceOption = None,
    batch_size: BatchOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain single images: overlays, raw maps, a contact sheet and explanations.json.

    Writes NAME.METHOD.png (the image as the network sees it under its heat, at the input's size)
    and NAME.METHOD.npy (the raw signed map, float32, on the layer's own grid) for each image and
    method. Colours are scaled per picture, for display only; a map without heat is shown in words.
    With a plan, an image is explained as its audit measures it: preprocess, target, classes, sign,
    precision.

    What cannot be read is named with its reason on stderr and in explanations.json, and a method
    that cannot work for this network likewise; the others go on and the exit code is 0. It is 2
    where no image could be read, no method worked, or the command is wrong.
    """
    if against and sign == 1:
        raise PlanError("--against and --sign 1 contradict each other; give one of them.")
    from gradaudit.runs.folder import local_path

    local_path(output, "--output")
    plan, root = _plan_for_images(images, config, model)
    sections: dict[str, dict[str, Any]] = {
        "model": {
            "source": model,
            "weights": _weights_from(weights, plan, root, model),
            "layer": layer,
            "classes": _class_names(classes),
        },
        "explain": {"target": target, "sign": -1 if against else sign},
        "run": {"device": device, "batch_size": batch_size},
    }
    plan = with_flags(plan, sections)
    if plan.privacy.images == "none":
        stderr.print(
            "note: the plan keeps pixels out of reports; the pictures written here show the images"
        )
    from gradaudit.workflows.explain_images import explain_images
    from gradaudit.workflows.explanation_session import chosen_methods
    from gradaudit.workflows.image_files import find_images

    methods = chosen_methods(plan.explain.method if method is None else method)
    found = find_images(images, output)
    classifier = loaded_model(plan, Path() if model is not None else root)
    with progress_bar("explaining") as progress:
        made = explain_images(
            found,
            classifier,
            plan,
            methods,
            output,
            names=names,
            progress=progress,
            command=command_line(),
        )
    _report_explained(made.summary, made.record, found.others, as_json)


@app.command()
def layers(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="torchvision:NAME, timm:NAME, ...; or none, with --config."
        ),
    ] = None,
    weights: WeightsOption = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Audit plan that names the model.")
    ] = None,
    input_size: Annotated[
        str | None,
        typer.Option(
            "--input-size", help="224 or HEIGHTxWIDTH. Default: the model's own, else 224."
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option("--image", help="Trace with this image. Default: noise, and that is said."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the layers that can be explained, and which one "auto" takes and why.

    A layer is listed if it gives a grid of positions on the way to the score. "depth" is the share
    of the network's layers with weights that lie in it or before it. A torchvision or timm network
    without weights is listed with random ones: the layers are the same.
    """
    plan = read_plan(config) if config is not None else Plan()
    if (
        model is not None
        and weights is None
        and plan.model.weights is None
        and model.startswith(("torchvision:", "timm:"))
    ):
        weights = "random"
    root = config.parent if config is not None else Path()
    plan = with_flags(
        plan, {"model": {"source": model, "weights": _weights_from(weights, plan, root, model)}}
    )
    classifier = loaded_model(plan, root if model is None else Path())
    from gradaudit.workflows.layer_table import list_layers

    listed = list_layers(classifier, _size_of(input_size), image)
    if as_json:
        say(json.dumps(asdict(listed)))
        return
    _print_layers(listed, plan.model.layer)
    stderr.print(f"traced with {escape(listed.seen)}")


def _plan_for_images(
    images: list[str], config: Path | None, model: str | None
) -> tuple[Plan, Path]:
    """The plan and its folder.

    The plan named by --config; without one and without --model, audit.toml in the current folder or
    beside the first image; else an empty plan.
    """
    if config is not None:
        return read_plan(config), config.parent
    first = Path(images[0])
    for folder in (
        ()
        if model is not None
        else dict.fromkeys((Path(), first if first.is_dir() else first.parent))
    ):
        if (folder / "audit.toml").exists():
            stderr.print(f"note: the plan is {escape(str(folder / 'audit.toml'))}")
            return read_plan(folder / "audit.toml"), folder
    return Plan(), Path()


def _weights_from(typed: str | None, plan: Plan, root: Path, model: str | None) -> str | None:
    """The weights to load in place of the plan's, or None where the plan's model is used as it is.

    A path typed at the shell is relative to the current folder. The plan's own path is relative to
    the plan, also where --model replaces its source.
    """
    if typed is None and model is not None and plan.model.weights is not None:
        stderr.print(
            f"note: --model replaces the plan's model; its weights ({escape(plan.model.weights)}) are still used"
        )
        typed, place = plan.model.weights, root / plan.model.weights
    else:
        place = Path(typed or "")
    return str(place.resolve()) if typed is not None and place.is_file() else typed


def _class_names(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = (
        Path(text).read_text(encoding="utf-8-sig").splitlines()
        if Path(text).is_file()
        else text.split(",")
    )
    return tuple(name.strip() for name in names if name.strip())


def _size_of(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = [int(side) if side.isdecimal() else 0 for side in text.lower().split("x")]
    if len(sides) > 2 or min(sides) < 1:
        raise PlanError(
            f"--input-size: expected 224 or HEIGHTxWIDTH, such as 256x192; got {text!r}."
        )
    return sides[0], sides[-1]


def _report_explained(
    summary: dict[str, Any], record: dict[str, Any], others: int, as_json: bool
) -> None:
    """Write problems to stderr and one line to stdout."""
    for problem in record["unreadable"]:
        stderr.print(
            f"[bold yellow]not read[/] ({problem['reason']}): {escape(problem['message'])}"
        )
    for name, reason in summary["refused"].items():
        stderr.print(f"[bold yellow]method {escape(name)} not used[/]: {escape(reason)}")
    without = {
        status: count
        for status, count in summary["statuses"].items()
        if status not in ("ok", "failed")
    }
    for status, count in without.items():
        stderr.print(
            f"note: {count} {'map has' if count == 1 else 'maps have'} no heat to show: {status}"
        )
    if others:
        stderr.print(
            f"note: {others} files in the folders are no pictures by their name and were left aside"
        )
    if record.get("names", {}).get("reason"):
        stderr.print(f"[bold yellow]no channel names[/]: {escape(record['names']['reason'])}")
    if as_json:
        say(json.dumps(summary))
        return
    counts = f"{summary['images']} {'image' if summary['images'] == 1 else 'images'} explained by {', '.join(summary['methods'])}"
    details = [f"layer {summary['layer']}"] if summary["layer"] else []
    details += [f"{summary['unreadable']} not read"] if summary["unreadable"] else []
    details += [f"{len(summary['refused'])} methods not used"] if summary["refused"] else []
    say(
        f"{counts} ({', '.join(details)}): {Path(summary['output']) / summary['contact_sheets'][0]}"
    )


def _print_layers(listed: LayerList, named: str) -> None:
    from rich.table import Table

    table = Table(
        "layer",
        "type",
        "kind",
        "grid",
        "channels",
        "depth",
        "gradient",
        "",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for row in listed.layers:
        marks = ["<- auto"] * row.chosen + ["<- named by the plan"] * (row.name == named)
        grid, reaches = "x".join(map(str, row.grid)), "reaches" if row.gradient else "exactly zero"
        table.add_row(
            escape(row.name),
            row.type,
            row.kind,
            grid,
            str(row.channels),
            share_percent(row.depth, 0, space=""),  # one word, so that a row splits into columns
            reaches,
            " ".join(marks),
        )
    console = _Console(highlight=False)
    if not console.is_terminal:
        console = _Console(
            highlight=False, width=240
        )  # wide, so that a row stays one line when piped
    console.print(table)
    console.print(f"auto takes {escape(listed.auto)}: {escape(listed.reason)}", soft_wrap=True)
