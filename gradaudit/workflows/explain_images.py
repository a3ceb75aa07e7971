"""Single images explained: files in, a folder of overlays, raw maps, a contact sheet and
``explanations.json`` out.

An auditor looks at one image exactly as the audit measured it: model, preprocess, target, sign and
precision come from the same plan. What cannot be read, and what a method cannot do for this
network, is named with its reason, and the rest goes on.
"""

from __future__ import annotations

import difflib
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradaudit.attribution.capture import Capture, capture
from gradaudit.attribution.concepts import (
    ChannelName,
    Neuron,
    important_neurons,
    names_by_group,
    neuron_lines,
    strengths,
)
from gradaudit.attribution.explanation import Explanation, explain
from gradaudit.attribution.layer_choice import resolve_layer
from gradaudit.attribution.methods import CAMS, NO_LAYER, SCORES, WEIGHTS, contributions
from gradaudit.attribution.scores import class_logits
from gradaudit.attribution.targets import TargetContext, resolve_target
from gradaudit.errors import (
    GradauditError,
    ImageError,
    InputError,
    LayerError,
    ModelError,
    PlanError,
)
from gradaudit.images.decoding import decode_image
from gradaudit.images.preprocessing import Preprocess, preprocess_image
from gradaudit.measurement.batch_rows import probabilities
from gradaudit.measurement.devices import Progress, device_of, on_device
from gradaudit.measurement.run_record import versions
from gradaudit.models.classifier import Classifier
from gradaudit.models.sources import with_logits
from gradaudit.plan import Plan
from gradaudit.runs.folder import local_path, write_atomically
from gradaudit.workflows.image_files import RECORD, FoundImages, Unreadable, distinct_names
from gradaudit.workflows.overlays import (
    SCALING,
    STATUS_WORDS,
    WEIGHT,
    ContactSheet,
    overlay,
    png_bytes,
)

_CHANNELS_NAMED = 10
_FEW = 10  # images of a class
_NO_LAYER_FOUND = "none could be chosen"


# ── which methods ─────────────────────────────────────────────────────────────────────────────────


def chosen_methods(text: str) -> tuple[str, ...]:
    """Method names from ``gradcam,layercam`` or ``all``, each once; also import paths
    ``package.module:function``.

    Errors: ``InputError`` naming every unknown method, with its nearest names.
    """
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if "all" in names:
        return CAMS.names()
    unknown = [name for name in names if name not in CAMS and ":" not in name]
    if unknown or not names:
        hints = [f"{name!r}{_near(name)}" for name in unknown] or ["none was given"]
        raise InputError(
            f"--method: {len(unknown)} unknown: {'; '.join(hints)}. There are all, {', '.join(CAMS)}."
        )
    for name in names:
        CAMS.get(name)
    return tuple(names)


def _near(name: str) -> str:
    near = difflib.get_close_matches(
        name.lower().replace("-", "").replace("_", ""), CAMS.names(), n=3
    )
    return f" (did you mean {' or '.join(near)}?)" if near else ""


# ── explaining ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ExplainedImages:
    """What was written: ``record`` is explanations.json as a dict, ``sheets`` the contact sheets in
    ``folder``.
    """

    folder: Path
    record: dict[str, Any]
    sheets: tuple[str, ...]

    @property
    def summary(self) -> dict[str, Any]:
        record = self.record
        states: dict[str, int] = {}
        for row in record["explanations"]:
            states[row["status"]] = states.get(row["status"], 0) + 1
        return {
            "output": str(self.folder),
            "images": len({row["file"] for row in record["explanations"]}),
            "unreadable": len(record["unreadable"]),
            "methods": [m["name"] for m in record["methods"] if not m["reason"]],
            "refused": {m["name"]: m["reason"] for m in record["methods"] if m["reason"]},
            "statuses": states,
            "layer": record["model"]["layer"],
            "contact_sheets": list(self.sheets),
        }


@dataclass
class _Session:
    """A classifier at work on batches: its layer once known, why it has none, and the methods that
    gave up, with their reasons.
    """

    classifier: Classifier
    plan: Plan
    methods: tuple[str, ...]
    layer_reason: str = ""
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def dtype(self) -> torch.dtype | None:
        return (
            None
            if self.plan.run.precision == "float32"
            else getattr(torch, self.plan.run.precision)
        )

    def needs_layer(self, method: str) -> bool:
        return not CAMS.card(method).needs.startswith(NO_LAYER)

    def settle_outputs(self, images: Tensor) -> None:
        """See on the first images that the network gives logits.  Errors: ``ModelError`` of
        ``with_logits``.
        """
        self.classifier = with_logits(self.classifier, images.to(device_of(self.classifier)))

    def settle_layer(self, images: Tensor, wanted: Sequence[str]) -> None:
        """Choose the layer on the first images; where there is none, the ``wanted`` methods are
        refused with the reason.
        """
        if self.layer_reason or not wanted:
            return
        try:
            self.classifier, self.layer_reason = resolve_layer(
                self.classifier, images[:1].to(device_of(self.classifier))
            )
        except (
            Exception
        ) as error:  # a network is foreign code: what it raises is shown as the reason
            self.refused |= {method: _words_of(error, images) for method in wanted}
            self.layer_reason = _NO_LAYER_FOUND

    def explained(self, images: Tensor, method: str) -> list[Explanation | str]:
        """One explanation per image, or the reason why there is none; a reason that is not one
        image's refuses the method for good.
        """
        try:
            found = explain(
                self.classifier,
                images,
                self.plan.explain.target,
                method,
                self.plan.explain.sign,
                dtype=self.dtype,
            )
            if found.raw.ndim != 3:
                raise InputError(
                    f"the target {self.plan.explain.target!r} gives {found.raw.shape[1]} maps per image; explain draws one"
                )
        except ImageError as error:  # memory: this image's own trouble, once it is alone
            return (
                [str(error)]
                if len(images) == 1
                else [
                    row
                    for n in range(len(images))
                    for row in self.explained(images[n : n + 1], method)
                ]
            )
        except (
            Exception
        ) as error:  # a network is foreign code: what it raises is shown as the reason
            self.refused[method] = _words_of(error, images)
            return [self.refused[method]] * len(images)
        return [
            replace(
                found,
                raw=found.raw[n : n + 1].cpu(),
                score=found.score[n : n + 1],
                outputs=found.outputs[n : n + 1],
                status=(found.status[n],),
            )
            for n in range(len(found))
        ]


def _words_of(error: Exception, images: Tensor) -> str:
    if isinstance(error, GradauditError):
        return str(error)
    shape = "x".join(map(str, images.shape[1:]))
    return f"the network fails on an input of {shape} ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no words'})"


def explain_images(
    found: FoundImages,
    classifier: Classifier,
    plan: Plan | None = None,
    methods: Sequence[str] = ("gradcam",),
    output: str | Path = "explanations",
    *,
    names: bool = False,
    progress: Progress | None = None,
    command: str = "",
) -> ExplainedImages:
    """Explain images and write, per image and method, NAME.METHOD.png (overlay) and NAME.METHOD.npy
    (raw signed map, float32, own grid).

    found : of ``find_images``    plan : target, sign, precision, device and batch size    names :
        also write names.txt, the channels
    that carried each decision    progress : called with (images done, images in all)
    Also written: contact-sheet.png (numbered pages beyond 20 images) and explanations.json.  Images
    of different sizes may be mixed. Errors: ``PlanError`` for the target "label", which needs a
    manifest; ``GradauditError`` where no image can be read or no method works; ``ModelError`` where
    the network gives probabilities in the place of logits.
    """
    plan, folder = plan or Plan(), local_path(output, "--output")
    if "label" in plan.explain.target.split(":"):
        raise PlanError(
            f"The target {plan.explain.target!r} needs a label per image, and explain reads none. Use predicted, or class:NAME."
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output: {folder} is a file; name a folder.")
    session = _Session(on_device(classifier, plan.run.device), plan, tuple(methods))
    work = _Work(session, found, folder, names)
    for batch in work.batches():
        work.add(batch)
        if progress is not None:
            progress(work.done, len(found.images))
    return work.finish(command)


@dataclass(frozen=True)
class _Batch:
    """Readable images of one size: their places in the list, the network's input, and the same
    before normalising (H, W, 3).
    """

    rows: tuple[int, ...]
    images: Tensor
    shown: tuple[NDArray[np.uint8], ...]


class _Work:
    """The files of one call: written batch by batch, so that memory holds one batch and one page."""

    def __init__(self, session: _Session, found: FoundImages, folder: Path, named: bool) -> None:
        self.session, self.found, self.folder, self.done = session, found, folder, 0
        self.preprocess = session.classifier.preprocess or Preprocess()
        self.files = distinct_names(
            found.images, folder, [f".{_file_part(m)}.png" for m in session.methods]
        )
        self.unreadable = list(found.problems)
        self.rows: list[dict[str, Any]] = []
        self.sheet = ContactSheet(
            ["what the network sees", *(CAMS.card(m).label for m in session.methods)],
            "",
            folder,
            len(found.images),
        )
        self.naming = _Naming(session) if named else None

    def batches(self) -> Iterator[_Batch]:
        """Consecutive readable images of one size, at most ``batch_size``; unreadable ones are
        noted on the way.
        """
        waiting: list[tuple[int, NDArray[np.float32]]] = []
        for row, image in enumerate(self.found.images):
            self.done += 1
            try:
                pixels = preprocess_image(decode_image(image), self.preprocess)
            except ImageError as error:
                self.unreadable.append(Unreadable(image, error.reason, str(error)))
                continue
            if waiting and (
                waiting[0][1].shape != pixels.shape
                or len(waiting) == self.session.plan.run.batch_size
            ):
                yield self._batch(waiting)
                waiting = []
            waiting.append((row, pixels))
        if waiting:
            yield self._batch(waiting)

    def _batch(self, waiting: Sequence[tuple[int, NDArray[np.float32]]]) -> _Batch:
        values = np.stack([pixels for _, pixels in waiting])
        mean, std = (
            np.array(part, np.float32)[:, None, None]
            for part in (self.preprocess.mean, self.preprocess.std)
        )
        levels = np.round(np.clip(values * std + mean, 0, 1) * 255).astype(np.uint8)
        colours = np.broadcast_to(levels, (len(levels), 3, *levels.shape[2:])).transpose(0, 2, 3, 1)
        return _Batch(
            tuple(row for row, _ in waiting),
            torch.from_numpy(values),
            tuple(np.ascontiguousarray(c) for c in colours),
        )

    def add(self, batch: _Batch) -> None:
        """Explain one batch by every method that still works and write its files."""
        session = self.session
        session.settle_outputs(batch.images)
        session.settle_layer(batch.images, [m for m in session.methods if session.needs_layer(m)])
        explained = {
            m: session.explained(batch.images, m)
            for m in session.methods
            if m not in session.refused
        }
        if self.naming is not None:
            self.naming.add([self.found.images[row] for row in batch.rows], batch.images)
        if not any(
            isinstance(found, Explanation) for column in explained.values() for found in column
        ):
            # nothing to draw; why is in ``refused``, and `finish` says so where it holds for all
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for n, row in enumerate(batch.rows):
            results = {
                m: explained[m][n] if m in explained else session.refused[m]
                for m in session.methods
            }
            self._write(row, batch.shown[n], results)

    def _write(
        self, row: int, shown: NDArray[np.uint8], results: dict[str, Explanation | str]
    ) -> None:
        image, name = self.found.images[row], self.files[row]
        predicted, probability = _prediction(self.session.classifier, results.values())
        cells = [(shown, "")]
        for method, result in results.items():
            record = {
                "file": image,
                "predicted": predicted,
                "probability": probability,
                "target": self.session.plan.explain.target,
            }
            record |= {"sign": self.session.plan.explain.sign, "method": method}
            if isinstance(result, str):
                cells.append((shown, STATUS_WORDS["failed"]))
                self.rows.append(record | _empty_record(result))
                continue
            raw, stem = result.raw[0].numpy().astype(np.float32), f"{name}.{_file_part(method)}"
            picture, words = (
                overlay(shown, raw, result.status[0]),
                STATUS_WORDS.get(result.status[0], ""),
            )
            cells.append((shown, words) if words else (picture, ""))
            write_atomically(self.folder / f"{stem}.png", png_bytes(picture))
            write_atomically(self.folder / f"{stem}.npy", _npy(raw))
            self.rows.append(record | _map_record(result, stem))
        title = (
            ""
            if predicted is None
            else f": {predicted}"
            + ("" if probability is None else f", probability {probability:.2f}")
        )
        self.sheet.add(f"{name}{title}", cells)

    def finish(self, command: str) -> ExplainedImages:
        session = self.session
        if not self.rows:
            raise _nothing_explained(self.found, self.unreadable, session)
        self.sheet.footer = (
            f"{_what(session)} Heat: {SCALING}. It lies over the image at {WEIGHT:.0%}."
        )
        sheets = self.sheet.finish()
        record = {
            "command": command, "versions": versions(), "model": _model_record(session), "colours": f"{SCALING}; matplotlib inferno",
            "methods": [asdict(CAMS.card(m)) | {"reason": session.refused.get(m, "")} for m in session.methods],
            "explanations": self.rows, "unreadable": [asdict(problem) for problem in self.unreadable], "contact_sheets": list(sheets),
        }  # fmt: skip
        if self.naming is not None:
            record["names"], text = self.naming.finish()
            write_atomically(self.folder / "names.txt", text.encode())
        write_atomically(
            self.folder / RECORD,
            (json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode(),
        )
        return ExplainedImages(self.folder, record, sheets)


def _file_part(method: str) -> str:
    return re.sub(r"[^\w.+-]", "_", method)


def _npy(values: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def _prediction(
    classifier: Classifier, results: Iterable[Explanation | str]
) -> tuple[str | None, float | None]:
    """Predicted class and its probability from the first map's outputs; None where the output holds
    no class scores.
    """
    for result in results:
        if isinstance(result, Explanation) and result.outputs.numel():
            try:
                shares = probabilities(result.outputs.cpu())[0]
            except ModelError:
                return None, None
            best = int(shares.argmax())
            return classifier.class_name(best), _finite(float(shares[best]))
    return None, None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _map_record(found: Explanation, stem: str) -> dict[str, Any]:
    status = found.status[0]
    return {
        "score": _finite(float(found.score[0])),
        "status": status,
        "words": STATUS_WORDS.get(status, ""),
        "reason": "",
        "layer": found.layer,
        "grid": list(found.raw.shape[1:]),
        "highest": _finite(float(found.raw.max())),
        "lowest": _finite(float(found.raw.min())),
        "files": {"overlay": f"{stem}.png", "raw": f"{stem}.npy"},
    }


def _empty_record(reason: str) -> dict[str, Any]:
    nothing = {
        "score": None,
        "status": "failed",
        "words": STATUS_WORDS["failed"],
        "reason": reason,
        "layer": None,
        "grid": None,
    }
    return nothing | {"highest": None, "lowest": None, "files": {}}


def _model_record(session: _Session) -> dict[str, Any]:
    classifier = session.classifier
    return {
        "source": classifier.source,
        "digest": classifier.digest,
        "classes": list(classifier.classes or ()),
        "layer": _layer_of(session),
        "layer_reason": session.layer_reason,
        "preprocess": classifier.preprocess.as_dict() if classifier.preprocess else {},
        "precision": session.plan.run.precision,
        "device": str(device_of(classifier)),
        "notes": list(classifier.notes),
    }


def _layer_of(session: _Session) -> str:
    """Name of the explained layer, "" where no method read one."""
    return (
        session.classifier.layer
        if session.layer_reason and session.layer_reason != _NO_LAYER_FOUND
        else ""
    )


def _what(session: _Session) -> str:
    side = "Evidence against" if session.plan.explain.sign == -1 else "Evidence for"
    layer = f" at layer {_layer_of(session)}" if _layer_of(session) else ""
    return f"{side} the target {session.plan.explain.target!r}{layer}."


def _nothing_explained(
    found: FoundImages, unreadable: Sequence[Unreadable], session: _Session
) -> GradauditError:
    if session.refused:
        reasons = "\n".join(f"  - {method}: {reason}" for method, reason in session.refused.items())
        return ModelError(
            f"None of the {len(session.methods)} methods works for this network and target:\n{reasons}"
        )
    lines = "\n".join(f"  - {problem.reason}: {problem.message}" for problem in unreadable[:20])
    others = (
        f"\n{found.others} files in the folders are no pictures by their name."
        if found.others
        else ""
    )
    return InputError(f"No image can be read; {len(unreadable)} were tried:\n{lines}{others}")


# ── which channels carried the decision ───────────────────────────────────────────────────────────


class _Naming:
    """Gathers the channels that carried each decision, and names them once all images are known."""

    def __init__(self, session: _Session) -> None:
        self.session = session
        self.method = next((m for m in session.methods if m in WEIGHTS), "gradcam")
        self.files: list[str] = []
        self.predicted: list[str] = []
        self.neurons: list[list[Neuron]] = []
        self.strengths: list[NDArray[np.float64]] = []
        self.refusal = ""

    def add(self, files: Sequence[str], images: Tensor) -> None:
        """One more pass over the batch: each image's largest channels, and how strongly every
        channel answers to it.
        """
        if self.refusal:
            return
        session = self.session
        session.settle_layer(images, [self.method])
        try:
            if not _layer_of(session):
                raise LayerError(session.refused.get(self.method, "no layer can be explained"))
            captured = _captured(session, images, self.method)
            contributed = contributions(self.method, captured)
            output = session.classifier.output
            found = [
                important_neurons(captured, contributed, n, _CHANNELS_NAMED, output=output)
                for n in range(len(files))
            ]
            classes = probabilities(class_logits(captured.output, output)).argmax(1).tolist()
        except (
            Exception
        ) as error:  # a network is foreign code: what it raises is shown as the reason
            self.refusal = _words_of(error, images)
            return
        self.files += files
        self.neurons += found
        self.predicted += [session.classifier.class_name(k) for k in classes]
        self.strengths.append(strengths(captured))

    def finish(self) -> tuple[dict[str, Any], str]:
        """The record for JSON, and the same as text."""
        if self.refusal or not self.files:
            reason = self.refusal or "no image was explained"
            return {"reason": reason}, f"No channel can be named: {reason}\n"
        answers = names_by_group(np.concatenate(self.strengths), self.predicted)
        support = _support(self.predicted)
        name_of = self.session.classifier.class_name
        lines = [self._heading(len(answers)), support, ""]
        for file, predicted, neurons in zip(self.files, self.predicted, self.neurons, strict=True):
            lines += [
                f"{file}: predicted {predicted}",
                *neuron_lines(neurons, name_of, answers),
                "",
            ]
        images = [
            {
                "file": file,
                "predicted": predicted,
                "channels": [_channel_record(n, name_of, answers[n.channel]) for n in neurons],
            }
            for file, predicted, neurons in zip(
                self.files, self.predicted, self.neurons, strict=True
            )
        ]
        return {
            "reason": "",
            "method": self.method,
            "support": support,
            "images": images,
        }, "\n".join(lines)

    def _heading(self, channels: int) -> str:
        label = CAMS.card(self.method).label
        return (
            f"Channels that carried each decision. {_what(self.session)} The {min(_CHANNELS_NAMED, channels)} largest of {channels}, by {label}.\n"
            "Share: the channel's part of the map, of the sum of all channels' absolute parts. Drives: classes whose logits rise, and by how\n"
            "much, when it alone is active at its mean strength in this image. Answers to: the predicted class whose images excite it most,\n"
            "with its selectivity (0: all classes alike, 1: no other class)."
        )


def _captured(session: _Session, images: Tensor, method: str) -> Capture:
    classifier, settings = session.classifier, session.plan.explain
    target: Any = ("negated", settings.target) if settings.sign == -1 else settings.target
    score = resolve_target(target, TargetContext(None, classifier.class_index, classifier.output))
    score = SCORES[method](score) if method in SCORES else score
    weights = next((p for p in classifier.module.parameters() if p.is_floating_point()), None)
    moved = images if weights is None else images.to(weights.device, weights.dtype)
    return capture(classifier.module, classifier.layer, moved, score, autocast=session.dtype)


def _support(predicted: Sequence[str]) -> str:
    """How little the names by response rest on."""
    counts = ", ".join(f"{predicted.count(word)} {word}" for word in dict.fromkeys(predicted))
    if len(set(predicted)) < 2:
        return f"Every image has the same predicted class ({counts}), so no channel can be named by what it answers to: give images of others."
    few = min(predicted.count(word) for word in predicted) < _FEW
    warning = (
        " That is few: such a name says which of THESE images excite a channel most, not what it detects."
        if few
        else ""
    )
    return f"The answers rest on {len(predicted)} images by predicted class: {counts}.{warning}"


def _channel_record(
    neuron: Neuron, class_name: Callable[[int], str], answer: ChannelName | None
) -> dict[str, Any]:
    drives = [
        {"class": class_name(k), "rise": rise}
        for k, rise in zip(neuron.classes, neuron.rises, strict=True)
    ]
    answers = None if answer is None else {"class": answer.word, "selectivity": answer.strength}
    return {
        "channel": neuron.channel,
        "share": _finite(neuron.share),
        "drives": drives,
        "answers_to": answers,
    }
