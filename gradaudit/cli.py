"""The command line: arguments to calls.  Progress, problems and what a model prints go to stderr; stdout has one line of summary.

Exit codes: 0 criteria met, or none declared, and the report is on disk; 1 criteria not met; 2 usage, configuration or data error, and
whatever the user's own code raises; 3 insufficient evidence (``--allow-insufficient`` maps it to 0); 70 internal error; 130 interrupted.
A traceback is shown with ``--debug`` alone.
"""

# Rooms are imported inside the commands: `gradaudit --help` and `gradaudit analyze` must not load torch.

from __future__ import annotations

import errno
import json
import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gradaudit.config import Plan, find_plan, read_plan
from gradaudit.errors import GradauditError, InputError, PlanError, RunError, foreign_place, in_words, own_place
from gradaudit.records import AUDIT_STATE_WORDS, Measurements

if TYPE_CHECKING:
    from gradaudit.layer_list import LayerList
    from gradaudit.manifest import Manifest
    from gradaudit.measuring import Progress as MeasureProgress
    from gradaudit.models import Classifier
    from gradaudit.result import AuditResult

EXIT_CODES = {"met": 0, "none_declared": 0, "not_met": 1, "insufficient": 3}
DATA_ERROR = 2
INTERNAL_ERROR = 70
INTERRUPTED = 130
DEBUG = "--debug"
UsageError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(
    name="gradaudit",
    help="Audit where an image classifier looks, region by region and subgroup by subgroup, with statistics that hold.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class ExitCode(int):
    """What a command returns when it came to its own end."""


class _Console(Console):
    """A console whose reader may leave: then it falls silent, and the work goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _silence(self.file)


stderr = _Console(stderr=True, highlight=False, soft_wrap=True)


ManifestArgument = Annotated[Path, typer.Argument(metavar="MANIFEST", help="CSV, TSV, Parquet or JSON Lines: one row per image.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="Audit plan. Default: audit.toml beside the manifest.")]
ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="torchvision:NAME, timm:NAME or factory:file.py:function.")]
WeightsOption = Annotated[str | None, typer.Option("--weights", help="State dict: .safetensors, .pt, .pth (read with weights_only).")]
LayerOption = Annotated[str | None, typer.Option("--layer", help="Layer to explain, or auto.")]
MethodOption = Annotated[str | None, typer.Option("--method", help="Explanation method, e.g. gradcam.")]
TargetOption = Annotated[str | None, typer.Option("--target", help="predicted, label or class:NAME.")]
MarginOption = Annotated[float | None, typer.Option("--margin", help="Largest disparity in heat share held to be immaterial (0-1).")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
BatchOption = Annotated[int | None, typer.Option("--batch-size", help="Images per forward pass.")]
RunOption = Annotated[Path | None, typer.Option("--run", help="Run folder, resumed if it exists. Default: runs/<name of the manifest>.")]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Throw away what the run folder holds and measure again.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be used.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Report: .html, .md or .json. Default: report.html in the run folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]
AllowOption = Annotated[bool, typer.Option("--allow-insufficient", help="Exit 0 instead of 3 where the evidence is insufficient.")]
AuditorOption = Annotated[str | None, typer.Option("--auditor", help="Name printed in the report's header.")]
PrintConfigOption = Annotated[bool, typer.Option("--print-config", help="Print the resolved plan as TOML and stop.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        _say(f"gradaudit {metadata.version('gradaudit')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error; also after the command.")] = False,
) -> None:
    pass


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
    """Measure, analyse and write the report: the whole audit. A run that was interrupted goes on where it stopped."""
    plan, root = _plan_with_flags(
        manifest, config, weights=weights, layer=layer, method=method, target=target, margin=margin, device=device, batch_size=batch_size,
        auditor=auditor, model=model,
    )  # fmt: skip
    if print_config:
        _say(_plan_toml(plan).rstrip("\n"))
        return ExitCode(0)
    from gradaudit.auditing import audit

    run = _checked_run(run or _default_run(manifest, config))
    _check_output(run, output)
    table = _checked_manifest(manifest, plan)
    classifier = _loaded_model(plan, root)
    _say_foreign_labels(table, classifier)
    with _progress("measuring") as progress:
        result = audit(table, classifier, plan, run, fresh=fresh, strict=strict, progress=progress, command=_command_line())
    _say_what_is_missing(result.measurements)
    return _finish(result, run, output, as_json, allow_insufficient)


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
    """Measure only: explain every image and write the run folder. `gradaudit analyze RUN` makes the report later."""
    plan, root = _plan_with_flags(
        manifest, config, weights=weights, layer=layer, method=method, target=target, device=device, batch_size=batch_size, model=model
    )  # fmt: skip
    from gradaudit.auditing import measure_with_gallery

    run = _checked_run(run or _default_run(manifest, config))
    table = _checked_manifest(manifest, plan)
    classifier = _loaded_model(plan, root)
    _say_foreign_labels(table, classifier)
    with _progress("measuring") as progress:
        meas = measure_with_gallery(table, classifier, plan, run, fresh=fresh, strict=strict, progress=progress, command=_command_line())
    _say_what_is_missing(meas)
    failed = int((meas.images["status"] != "ok").sum())
    summary = {"run": str(run), "images": len(meas.images), "failed": failed, "rows": len(meas.table), "layer": meas.run["model"]["layer"]}
    if as_json:
        _say(json.dumps(summary))
    else:
        _say(f"{summary['images']} images measured ({failed} failed), {summary['rows']} rows, layer {summary['layer']}: {run}")


@app.command()
def analyze(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder written by `gradaudit measure` or `report`.")],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Audit plan. Default: the one recorded in the run.")] = None,
    margin: MarginOption = None,
    auditor: AuditorOption = None,
    output: OutputOption = None,
    allow_insufficient: AllowOption = False,
    as_json: JsonOption = False,
) -> ExitCode:
    """Analyse a run folder and write the report; needs neither the model nor the images, and loads no torch."""
    from gradaudit.result import build_result, recorded_plan
    from gradaudit.storage import read_run

    folder = read_run(run)
    _check_output(run, output)
    plan = read_plan(config) if config is not None else recorded_plan(folder.run)
    plan = _with_flags(plan, {"criteria": {"margin": margin}, "report": {"auditor": auditor}})
    result = build_result(folder.measurements(), plan)
    return _finish(result, run, output, as_json, allow_insufficient)


@app.command()
def validate(
    manifest: ManifestArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a manifest (and its plan) and list every problem at once, with its rows and what to do."""
    plan, _ = find_plan(config, manifest)
    table = _checked_manifest(manifest, plan)
    clusters = table.table["cluster"].nunique()
    summary = {
        "images": len(table), "clusters": int(clusters), "attributes": list(table.attributes), "regions": list(table.region_names),
        "warnings": len(table.warnings),
    }  # fmt: skip
    if as_json:
        _say(json.dumps(summary))
    else:
        counts = ((len(table.attributes), "attribute"), (len(table.region_names), "region"), (len(table.warnings), "warning"))
        parts = ", ".join(f"{n} {word}{'s' * (n != 1)}" for n, word in counts)
        _say(f"{manifest}: {len(table)} image{'s' * (len(table) != 1)} in {clusters} cluster{'s' * (clusters != 1)}, {parts}: ready to be measured")


@app.command()
def init(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="An existing table of images.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Plan to write. Default: audit.toml beside the table.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing plan.")] = False,
) -> None:
    """Look at a table's columns and write a starting plan, with the reason for each guess."""
    from gradaudit.manifest import suggest_plan
    from gradaudit.storage import local_path, write_atomically

    path = local_path(output or table.parent / "audit.toml", "--output")
    if path.exists() and not force:
        raise PlanError(f"{path} exists. Name another file with --output, or overwrite it with --force.")
    write_atomically(path, suggest_plan(table).encode())
    _say(f"{path}: a starting plan; read it, then run `gradaudit validate {table} --config {path}`")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to write the demo data, networks and plans to.")] = Path("gradaudit-demo"),
    seed: Annotated[int, typer.Option(help="Everything follows from it.")] = 0,
) -> None:
    """Render dermoscopy-like images with a known answer, train two small networks on them, and write their manifests."""
    from gradaudit.storage import local_path

    local_path(folder, "The demo's folder")
    from gradaudit.demo import write_demo

    with _progress("rendering and training") as progress:
        write_demo(folder, seed=seed, progress=progress)
    _say(f"{folder}: try `gradaudit report {folder}/manifest.csv --config {folder}/shortcut.toml`, then with clean.toml")


@app.command()
def explain(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help="Files, folders (with all that lies below), glob patterns (quoted or not), URLs.")
    ],
    model: ModelOption = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Audit plan. Default: without --model, audit.toml here or beside the first image.")
    ] = None,
    weights: WeightsOption = None,
    classes: Annotated[str | None, typer.Option("--classes", help="Class names in output order: a,b,c or a text file, one a line.")] = None,
    layer: LayerOption = None,
    method: Annotated[str | None, typer.Option("--method", help="One or several (gradcam,layercam), or all (slow: RISE takes 1,000 passes).")] = None,
    target: Annotated[str | None, typer.Option("--target", help="predicted, class:NAME or contrast:A,B.")] = None,
    sign: Annotated[int | None, typer.Option("--sign", help="1: evidence for the target; -1: against it.")] = None,
    against: Annotated[bool, typer.Option("--against", help="The same as --sign -1.")] = False,
    names: Annotated[bool, typer.Option("--names", help="Also write names.txt: the channels that carried each decision, and their names.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to; files of the same name are replaced.")] = Path("explanations"),
    device: DeviceOption = None,
    batch_size: BatchOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain single images: overlays, raw maps, a contact sheet and explanations.json.

    Writes NAME.METHOD.png (the image as the network sees it under its heat, at the input's size) and NAME.METHOD.npy (the raw signed map,
    float32, on the layer's own grid) for each image and method. Colours are scaled per picture, for display only; a map without heat is shown
    in words. With a plan, an image is explained as its audit measures it: preprocess, target, classes, sign, precision.

    What cannot be read is named with its reason on stderr and in explanations.json, and a method that cannot work for this network likewise;
    the others go on and the exit code is 0. It is 2 where no image could be read, no method worked, or the command is wrong.
    """
    if against and sign == 1:
        raise PlanError("--against and --sign 1 contradict each other; give one of them.")
    from gradaudit.storage import local_path

    local_path(output, "--output")
    plan, root = _plan_for_images(images, config, model)
    sections: dict[str, dict[str, Any]] = {
        "model": {"source": model, "weights": _weights_from(weights, plan, root, model), "layer": layer, "classes": _class_names(classes)},
        "explain": {"target": target, "sign": -1 if against else sign},
        "run": {"device": device, "batch_size": batch_size},
    }
    plan = _with_flags(plan, sections)
    if plan.privacy.images == "none":
        stderr.print("note: the plan keeps pixels out of reports; the pictures written here show the images")
    from gradaudit.explaining import chosen_methods, explain_images
    from gradaudit.image_list import find_images

    methods = chosen_methods(plan.explain.method if method is None else method)
    found = find_images(images, output)
    classifier = _loaded_model(plan, Path() if model is not None else root)
    with _progress("explaining") as progress:
        made = explain_images(found, classifier, plan, methods, output, names=names, progress=progress, command=_command_line())
    _report_explained(made.summary, made.record, found.others, as_json)


@app.command()
def layers(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="torchvision:NAME, timm:NAME, ...; or none, with --config.")] = None,
    weights: WeightsOption = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Audit plan that names the model.")] = None,
    input_size: Annotated[str | None, typer.Option("--input-size", help="224 or HEIGHTxWIDTH. Default: the model's own, else 224.")] = None,
    image: Annotated[str | None, typer.Option("--image", help="Trace with this image. Default: noise, and that is said.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the layers that can be explained, and which one "auto" takes and why.

    A layer is listed if it gives a grid of positions on the way to the score. "depth" is the share of the network's layers with weights
    that lie in it or before it. A torchvision or timm network without weights is listed with random ones: the layers are the same.
    """
    plan = read_plan(config) if config is not None else Plan()
    if model is not None and weights is None and plan.model.weights is None and model.startswith(("torchvision:", "timm:")):
        weights = "random"
    root = config.parent if config is not None else Path()
    plan = _with_flags(plan, {"model": {"source": model, "weights": _weights_from(weights, plan, root, model)}})
    classifier = _loaded_model(plan, root if model is None else Path())
    from gradaudit.layer_list import list_layers

    listed = list_layers(classifier, _size_of(input_size), image)
    if as_json:
        _say(json.dumps(asdict(listed)))
        return
    _print_layers(listed, plan.model.layer)
    stderr.print(f"traced with {escape(listed.seen)}")


def main() -> None:
    """Entry point of the console script: every end has the exit code that it means, and those that give no result say why in a line."""
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
        if isinstance(failure, SystemExit) and not own_place(failure, besides="cli.py"):
            raise  # typer's own, which completes commands for the shell
        if debug:
            stderr.print("".join(traceback.format_exception(failure)), markup=False, end="")
        code, text = _judged(failure)
        stderr.print("[bold red]error:[/] " + escape(text))
    if code == INTERRUPTED:
        kept = "what was measured so far is kept; the same command goes on from there"
        resumes = {"report", "measure"} & set(arguments[:1])
        stderr.print(f"interrupted: {kept if resumes else 'files that were written before stay, and nothing else is kept'}")
    sys.exit(code)


def _checked_end(ended: Any, arguments: Sequence[str]) -> int:
    """The exit code of a command that ended without an error: its own, or that of --help, --version and Ctrl-C.

    Errors: ``GradauditError`` for any other end, which somebody else's ``typer.Exit`` brought about.
    """
    if ended is None or isinstance(ended, ExitCode):
        return int(ended or 0)
    if ended == INTERRUPTED or {"--help", "-h", "--version"} & {*arguments}:
        return int(ended)
    raise GradauditError(f"Code that the plan names ended the command, with exit code {ended}. There is no result.")


def _without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without ``--debug``, which may stand anywhere before a ``--``, and whether it was there."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [argument for argument in arguments[:end] if argument != DEBUG]
    return [*kept, *arguments[end:]], len(kept) < end


def _behind(error: BaseException) -> BaseException:
    """What happened, where typer made something else of it: an abort of a closed input, an exit of a broken pipe."""
    if isinstance(error, typer.Abort) and error.__cause__ is not None:
        return error.__cause__
    context = error.__context__
    return context if isinstance(error, SystemExit) and isinstance(context, OSError) and context.errno == errno.EPIPE else error


def _judged(error: BaseException) -> tuple[int, str]:
    """Exit code and sentence of an error: ours on purpose, the user's code, the machine, or else a fault of ours."""
    foreign, own = foreign_place(error), own_place(error)
    if isinstance(error, GradauditError):
        return DATA_ERROR, str(error)
    if foreign is not None or isinstance(error, SystemExit):
        where = f"{foreign[0]}, line {foreign[1]}" if foreign else "code that the plan names"
        return DATA_ERROR, f"{where} failed, which is not gradaudit's code: {in_words(error)}. {DEBUG} shows the traceback."
    if isinstance(error, MemoryError):
        return DATA_ERROR, "The memory is used up. Lower batch_size or workers under [run]; what was measured so far is kept."
    if isinstance(error, OSError) and error.errno is not None:
        return DATA_ERROR, f"{error.filename or 'A file or stream'}: {error.strerror or error}"
    where = f" ({own[0]}, line {own[1]})" if own else ""
    return INTERNAL_ERROR, f"internal error: {in_words(error)}{where}. There is no result. Please report it with what {DEBUG} shows."


def _say(text: str) -> None:
    """A line to stdout.  Who closed it does not want it: what was decided stands, and so does the exit code.

    Errors: ``InputError`` where it cannot be written for another reason, as on a full disk.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        _silence(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise InputError(f"The summary could not be written to stdout: {error.strerror or error}.") from error


def _silence(stream: Any) -> None:
    """What is still in the stream's buffer goes nowhere, so that Python's last flush does not fail and change the exit code."""
    with suppress(OSError, ValueError, AttributeError):  # a stream without a file below it
        target = os.open(os.devnull, os.O_WRONLY)
        os.dup2(target, stream.fileno())
        os.close(target)


def _say_foreign_labels(table: Manifest, classifier: Classifier) -> None:
    """Some labels that are no class of the model, before measuring; where none is one, ``measure`` refuses them."""
    from gradaudit.labels import class_words, foreign_labels, foreign_words, is_label

    labels = [sample.label for sample in table.samples]
    foreign, given = foreign_labels(labels, classifier.classes), sum(map(is_label, labels))
    count = sum(map(len, foreign.values()))
    if 0 < count < given:
        words = f"{foreign_words(foreign, classifier.classes, table.lines)}. Classes: {class_words(classifier.classes)}"
        stderr.print(f"[yellow]note:[/] {count} of {given} labels are no class of the model and have no part in performance: {escape(words)}")


def _say_what_is_missing(meas: Measurements | None) -> None:
    """How many images could not be used, or have no heat to share out, and why: an audit of what is left says nothing of them."""
    if meas is None:
        return
    images = meas.images
    readable = images["status"].astype(str) == "ok"
    parts = (("could not be used", images.loc[~readable, "reason"]), ("have no heat to share out", images.loc[readable, "heat_status"]))
    for what, codes in parts:
        counts = codes.astype(str).loc[codes.astype(str) != "ok"].value_counts()
        if len(counts):
            reasons = ", ".join(f"{code} {number}" for code, number in counts.items())
            stderr.print(f"[yellow]note:[/] {counts.sum()} of {len(images)} images {what} ({reasons})")


def _finish(result: AuditResult, run: Path, output: Path | None, as_json: bool, allow_insufficient: bool) -> ExitCode:
    """Write the report, then say the verdict: its exit code is given once both files are on disk."""
    path = result.write(output or run / "report.html")
    result.write(run / "result.json")
    state = result.document.verdict.state
    if as_json:
        _say(json.dumps({"verdict": state, "headline": result.document.verdict.headline, "report": str(path), "run": str(run)}))
    else:
        _say(f"{AUDIT_STATE_WORDS[state]}: {result.document.verdict.headline} [{path}]")
    return ExitCode(0 if state == "insufficient" and allow_insufficient else EXIT_CODES[state])


def _checked_run(run: Path) -> Path:
    from gradaudit.storage import local_path

    if run.is_file():
        raise RunError(f"--run: {run} is a file; name a folder.")
    return local_path(run, "--run")


def _check_output(run: Path, output: Path | None) -> None:
    """Before any work: could the report be written there?"""
    from gradaudit.report import check_report_path

    path = check_report_path(output or run / "report.html")
    if path.absolute() == (run / "run.json").absolute():
        raise InputError(f"--output: {path} is the run's own record. Name another file.")


def _plan_with_flags(manifest: Path, config: Path | None, **flags: Any) -> tuple[Plan, Path]:
    plan, root = find_plan(config, manifest)
    weights = flags.get("weights")
    if weights is not None and Path(weights).exists():
        weights = str(Path(weights).resolve())  # typed at the shell: relative to where the user stands, not to the plan
    source = flags.get("model")
    sections = {
        "model": {"source": source, "weights": weights, "layer": flags.get("layer")},
        "explain": {"method": flags.get("method"), "target": flags.get("target")},
        "criteria": {"margin": flags.get("margin")},
        "run": {"device": flags.get("device"), "batch_size": flags.get("batch_size")},
        "report": {"auditor": flags.get("auditor")},
    }
    if source is not None and weights is None and plan.model.weights is not None:
        stderr.print(f"note: --model replaces the plan's model; its weights ({escape(plan.model.weights)}) are still used")
    return _with_flags(plan, sections), root


def _plan_for_images(images: list[str], config: Path | None, model: str | None) -> tuple[Plan, Path]:
    """The plan and its folder: the named one; without a model, audit.toml here or beside the first image; else none."""
    if config is not None:
        return read_plan(config), config.parent
    first = Path(images[0])
    for folder in () if model is not None else dict.fromkeys((Path(), first if first.is_dir() else first.parent)):
        if (folder / "audit.toml").exists():
            stderr.print(f"note: the plan is {escape(str(folder / 'audit.toml'))}")
            return read_plan(folder / "audit.toml"), folder
    return Plan(), Path()


def _weights_from(typed: str | None, plan: Plan, root: Path, model: str | None) -> str | None:
    """Weights typed at the shell are relative to where the user stands; the plan's own, kept beside a typed model, to the plan."""
    if typed is None and model is not None and plan.model.weights is not None:
        stderr.print(f"note: --model replaces the plan's model; its weights ({escape(plan.model.weights)}) are still used")
        typed, place = plan.model.weights, root / plan.model.weights
    else:
        place = Path(typed or "")
    return str(place.resolve()) if typed is not None and place.is_file() else typed


def _class_names(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = Path(text).read_text(encoding="utf-8-sig").splitlines() if Path(text).is_file() else text.split(",")
    return tuple(name.strip() for name in names if name.strip())


def _size_of(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = [int(side) if side.isdecimal() else 0 for side in text.lower().split("x")]
    if len(sides) > 2 or min(sides) < 1:
        raise PlanError(f"--input-size: expected 224 or HEIGHTxWIDTH, such as 256x192; got {text!r}.")
    return sides[0], sides[-1]


def _report_explained(summary: dict[str, Any], record: dict[str, Any], others: int, as_json: bool) -> None:
    """Problems to stderr, one line to stdout."""
    for problem in record["unreadable"]:
        stderr.print(f"[bold yellow]not read[/] ({problem['reason']}): {escape(problem['message'])}")
    for name, reason in summary["refused"].items():
        stderr.print(f"[bold yellow]method {escape(name)} not used[/]: {escape(reason)}")
    without = {status: count for status, count in summary["statuses"].items() if status not in ("ok", "failed")}
    for status, count in without.items():
        stderr.print(f"note: {count} {'map has' if count == 1 else 'maps have'} no heat to show: {status}")
    if others:
        stderr.print(f"note: {others} files in the folders are no pictures by their name and were left aside")
    if record.get("names", {}).get("reason"):
        stderr.print(f"[bold yellow]no channel names[/]: {escape(record['names']['reason'])}")
    if as_json:
        _say(json.dumps(summary))
        return
    counts = f"{summary['images']} {'image' if summary['images'] == 1 else 'images'} explained by {', '.join(summary['methods'])}"
    details = [f"layer {summary['layer']}"] if summary["layer"] else []
    details += [f"{summary['unreadable']} not read"] if summary["unreadable"] else []
    details += [f"{len(summary['refused'])} methods not used"] if summary["refused"] else []
    _say(f"{counts} ({', '.join(details)}): {Path(summary['output']) / summary['contact_sheets'][0]}")


def _print_layers(listed: LayerList, named: str) -> None:
    from rich.table import Table

    table = Table("layer", "type", "kind", "grid", "channels", "depth", "gradient", "", box=None, pad_edge=False, header_style="bold")
    for row in listed.layers:
        marks = ["<- auto"] * row.chosen + ["<- named by the plan"] * (row.name == named)
        grid, reaches = "x".join(map(str, row.grid)), "reaches" if row.gradient else "exactly zero"
        table.add_row(escape(row.name), row.type, row.kind, grid, str(row.channels), f"{row.depth:.0%}", reaches, " ".join(marks))
    console = _Console(highlight=False)
    if not console.is_terminal:
        console = _Console(highlight=False, width=240)  # piped: a row is a line
    console.print(table)
    console.print(f"auto takes {escape(listed.auto)}: {escape(listed.reason)}", soft_wrap=True)


def _with_flags(plan: Plan, sections: dict[str, dict[str, Any]]) -> Plan:
    given = {name: {key: value for key, value in fields.items() if value is not None} for name, fields in sections.items()}
    given = {name: fields for name, fields in given.items() if fields}
    return plan.updated(**given) if given else plan


def _checked_manifest(path: Path, plan: Plan) -> Manifest:
    """Read the manifest before any model is loaded or user code run; its warnings go to stderr."""
    from gradaudit.manifest import read_manifest, render_problems

    table = read_manifest(path, plan)
    if table.warnings:
        stderr.print(escape(render_problems(table.warnings)))
    return table


def _loaded_model(plan: Plan, root: Path) -> Classifier:
    from gradaudit.auditing import classifier_of

    with redirect_stdout(sys.stderr):  # what the user's code prints is no summary
        classifier = classifier_of(plan, root)
    for note in classifier.notes:
        stderr.print(f"note: {escape(note)}")
    return classifier


def _default_run(manifest: Path, config: Path | None) -> Path:
    """runs/<manifest's name>; a manifest that is just called manifest takes its folder's name; a named plan is appended."""
    name = manifest.stem
    if name == "manifest":
        parents = [p.name for p in manifest.resolve().parents if p.name not in ("", "build")]
        name = parents[0] if parents else name
    if config is not None and config.stem != "audit":
        name = f"{name}-{config.stem}"
    return Path("runs") / name


def _plan_toml(plan: Plan) -> str:
    import tomli_w

    return tomli_w.dumps(_without_none(plan.model_dump(mode="json")))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(item) for item in value]
    return value


def _command_line() -> str:
    return shlex.join(["gradaudit", *sys.argv[1:]])


@contextmanager
def _progress(what: str) -> Iterator[MeasureProgress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with redirect_stdout(sys.stderr), Progress(*columns, console=stderr, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show
