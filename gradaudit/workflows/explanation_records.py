"""The entries of explanations.json."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradaudit.attribution.explanation import Explanation
from gradaudit.errors import GradauditError, InputError, ModelError
from gradaudit.models.classifier import Classifier, device_of
from gradaudit.models.inputs_outputs import probabilities
from gradaudit.number_text import finite_or_none
from gradaudit.workflows.explanation_session import NO_LAYER_FOUND, ExplainSession
from gradaudit.workflows.image_files import FoundImages, Unreadable
from gradaudit.workflows.overlays import STATUS_WORDS


def file_part(method: str) -> str:
    """The method's name as part of a file name."""
    return re.sub(r"[^\w.+-]", "_", method)


def npy_bytes(values: NDArray[np.float32]) -> bytes:
    """The array as the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def prediction_record(
    classifier: Classifier, results: Iterable[Explanation | str]
) -> tuple[str | None, float | None]:
    """Predicted class and its probability, from the outputs that came with the first map.

    None where the output holds no class scores.
    """
    for result in results:
        if isinstance(result, Explanation) and result.outputs.numel():
            try:
                shares = probabilities(result.outputs.cpu())[0]
            except ModelError:
                return None, None
            best = int(shares.argmax())
            return classifier.class_name(best), finite_or_none(float(shares[best]))
    return None, None


def map_record(found: Explanation, stem: str) -> dict[str, Any]:
    """The entry of one image and method; ``stem`` names its files."""
    status = found.status[0]
    return {
        "score": finite_or_none(float(found.score[0])),
        "status": status,
        "words": STATUS_WORDS.get(status, ""),
        "reason": "",
        "layer": found.layer,
        "grid": list(found.raw.shape[1:]),
        "highest": finite_or_none(float(found.raw.max())),
        "lowest": finite_or_none(float(found.raw.min())),
        "files": {"overlay": f"{stem}.png", "raw": f"{stem}.npy"},
    }


def empty_record(reason: str) -> dict[str, Any]:
    """The entry of an image that a method could not explain, with the reason."""
    nothing = {
        "score": None,
        "status": "failed",
        "words": STATUS_WORDS["failed"],
        "reason": reason,
        "layer": None,
        "grid": None,
    }
    return nothing | {"highest": None, "lowest": None, "files": {}}


def model_record(session: ExplainSession) -> dict[str, Any]:
    """The model as it was explained: source, digest, classes, layer, preprocess, precision."""
    classifier = session.classifier
    return {
        "source": classifier.source,
        "digest": classifier.digest,
        "classes": list(classifier.classes or ()),
        "layer": layer_of(session),
        "layer_reason": session.layer_reason,
        "preprocess": classifier.preprocess.as_dict() if classifier.preprocess else {},
        "precision": session.plan.run.precision,
        "device": str(device_of(classifier)),
        "notes": list(classifier.notes),
    }


def layer_of(session: ExplainSession) -> str:
    """Name of the explained layer, "" where no method read one."""
    return (
        session.classifier.layer
        if session.layer_reason and session.layer_reason != NO_LAYER_FOUND
        else ""
    )


def what_failed(session: ExplainSession) -> str:
    """A sentence naming what the maps are evidence of: sign, target and layer."""
    side = "Evidence against" if session.plan.explain.sign == -1 else "Evidence for"
    layer = f" at layer {layer_of(session)}" if layer_of(session) else ""
    return f"{side} the target {session.plan.explain.target!r}{layer}."


def nothing_explained(
    found: FoundImages, unreadable: Sequence[Unreadable], session: ExplainSession
) -> GradauditError:
    """The error for a call in which no image was read or no method worked."""
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
