"""Explains single images: overlays, raw maps, a contact sheet and ``explanations.json``.

With a plan, an image is explained exactly as the audit measured it: model, preprocess, target, sign
and precision are the plan's. A file that cannot be read, and a method that does not work for this
network, is named with its reason, and the rest goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradaudit.attribution.explanation import Explanation
from gradaudit.attribution.methods import CAMS
from gradaudit.errors import ImageError, InputError, PlanError
from gradaudit.images.decoding import decode_image
from gradaudit.images.preprocessing import Preprocess, preprocess_image
from gradaudit.measurement.devices import Progress, on_device
from gradaudit.measurement.run_record import versions
from gradaudit.models.classifier import Classifier
from gradaudit.number_text import decimal, percent_in_text
from gradaudit.plan import Plan
from gradaudit.runs.folder import local_path, write_atomically
from gradaudit.workflows.channel_naming import ChannelNaming
from gradaudit.workflows.explanation_records import (
    empty_record,
    file_part,
    map_record,
    model_record,
    nothing_explained,
    npy_bytes,
    prediction_record,
    what_failed,
)
from gradaudit.workflows.explanation_session import ExplainSession
from gradaudit.workflows.image_files import RECORD, FoundImages, Unreadable, distinct_names
from gradaudit.workflows.overlays import (
    SCALING,
    STATUS_WORDS,
    WEIGHT,
    ContactSheet,
    overlay,
    png_bytes,
)

# ── explaining ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ExplainedImages:
    """What was written: ``record`` is explanations.json as a dict, ``sheets`` the contact sheets.

    ``folder`` is where all files lie.
    """

    folder: Path
    record: dict[str, Any]
    sheets: tuple[str, ...]

    @property
    def summary(self) -> dict[str, Any]:
        """What the command line prints: counts of images and statuses, methods, layer, sheets."""
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
    """Explain images and write an overlay and a raw map per image and method.

    Per image and method: NAME.METHOD.png (overlay) and NAME.METHOD.npy (signed map, float32, on the
    layer's own grid). Per call: contact-sheet.png (numbered pages beyond 20 images) and
    explanations.json. Images of different sizes may be mixed.

    found : of ``find_images``
    plan : gives target, sign, precision, device and batch size
    names : also write names.txt, the channels that carried each decision
    progress : called with (images done, images in all)

    Errors: ``PlanError`` for the target "label", which needs a manifest; ``GradauditError`` where
    no image can be read or no method works; ``ModelError`` where the network gives probabilities
    instead of logits.
    """
    plan, folder = plan or Plan(), local_path(output, "--output")
    if "label" in plan.explain.target.split(":"):
        raise PlanError(
            f"The target {plan.explain.target!r} needs a label per image, and explain reads none. Use predicted, or class:NAME."
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output: {folder} is a file; name a folder.")
    session = ExplainSession(on_device(classifier, plan.run.device), plan, tuple(methods))
    work = _Work(session, found, folder, names)
    for batch in work.batches():
        work.add(batch)
        if progress is not None:
            progress(work.done, len(found.images))
    return work.finish(command)


@dataclass(frozen=True)
class _Batch:
    """Readable images of one size: their places in the list, the network's input, and their pixels.

    The pixels are (H, W, 3), preprocessed but not normalized.
    """

    rows: tuple[int, ...]
    images: Tensor
    shown: tuple[NDArray[np.uint8], ...]


class _Work:
    """The files of one call: written batch by batch, so that memory holds one batch and one page."""

    def __init__(
        self, session: ExplainSession, found: FoundImages, folder: Path, named: bool
    ) -> None:
        self.session, self.found, self.folder, self.done = session, found, folder, 0
        self.preprocess = session.classifier.preprocess or Preprocess()
        self.files = distinct_names(
            found.images, folder, [f".{file_part(m)}.png" for m in session.methods]
        )
        self.unreadable = list(found.problems)
        self.rows: list[dict[str, Any]] = []
        self.sheet = ContactSheet(
            ["what the network sees", *(CAMS.card(m).label for m in session.methods)],
            "",
            folder,
            len(found.images),
        )
        self.naming = ChannelNaming(session) if named else None

    def batches(self) -> Iterator[_Batch]:
        """Consecutive readable images of one size, at most ``batch_size``.

        Unreadable images met on the way are noted in ``unreadable``.
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
            # nothing to draw; `finish` reports the reasons in ``refused`` if no method worked
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
        predicted, probability = prediction_record(self.session.classifier, results.values())
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
                self.rows.append(record | empty_record(result))
                continue
            raw, stem = result.raw[0].numpy().astype(np.float32), f"{name}.{file_part(method)}"
            picture, words = (
                overlay(shown, raw, result.status[0]),
                STATUS_WORDS.get(result.status[0], ""),
            )
            cells.append((shown, words) if words else (picture, ""))
            write_atomically(self.folder / f"{stem}.png", png_bytes(picture))
            write_atomically(self.folder / f"{stem}.npy", npy_bytes(raw))
            self.rows.append(record | map_record(result, stem))
        title = (
            ""
            if predicted is None
            else f": {predicted}"
            + ("" if probability is None else f", probability {decimal(probability)}")
        )
        self.sheet.add(f"{name}{title}", cells)

    def finish(self, command: str) -> ExplainedImages:
        """Write what is left and explanations.json."""
        session = self.session
        if not self.rows:
            raise nothing_explained(self.found, self.unreadable, session)
        self.sheet.footer = f"{what_failed(session)} Heat: {SCALING}. It lies over the image at {percent_in_text(WEIGHT)}."
        sheets = self.sheet.finish()
        record = {
            "command": command, "versions": versions(), "model": model_record(session), "colours": f"{SCALING}; matplotlib inferno",
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
