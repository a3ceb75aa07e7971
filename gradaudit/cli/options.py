"""Arguments and options that several commands share, each with its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ManifestArgument = Annotated[
    Path,
    typer.Argument(metavar="MANIFEST", help="CSV, TSV, Parquet or JSON Lines: one row per image."),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Audit plan. Default: audit.toml beside the manifest."),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="torchvision:NAME, timm:NAME or factory:file.py:function."),
]
WeightsOption = Annotated[
    str | None,
    typer.Option("--weights", help="State dict: .safetensors, .pt, .pth (read with weights_only)."),
]
LayerOption = Annotated[str | None, typer.Option("--layer", help="Layer to explain, or auto.")]
MethodOption = Annotated[
    str | None, typer.Option("--method", help="Explanation method, e.g. gradcam.")
]
TargetOption = Annotated[
    str | None, typer.Option("--target", help="predicted, label or class:NAME.")
]
MarginOption = Annotated[
    float | None,
    typer.Option("--margin", help="Largest disparity in heat share held to be immaterial (0-1)."),
]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
BatchOption = Annotated[int | None, typer.Option("--batch-size", help="Images per forward pass.")]
RunOption = Annotated[
    Path | None,
    typer.Option(
        "--run", help="Run folder, resumed if it exists. Default: runs/<name of the manifest>."
    ),
]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Throw away what the run folder holds and measure again.")
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Stop at the first image that cannot be used.")
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Report: .html, .md or .json. Default: report.html in the run folder.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]
AllowOption = Annotated[
    bool,
    typer.Option(
        "--allow-insufficient", help="Exit 0 instead of 3 where the evidence is insufficient."
    ),
]
AuditorOption = Annotated[
    str | None, typer.Option("--auditor", help="Name printed in the report's header.")
]
PrintConfigOption = Annotated[
    bool, typer.Option("--print-config", help="Print the resolved plan as TOML and stop.")
]
