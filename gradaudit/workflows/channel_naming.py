"""Names for channels: which channels carried each decision, and which images they respond to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
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
from gradaudit.attribution.methods import CAMS, SCORES, WEIGHTS, contributions
from gradaudit.attribution.scores import class_logits
from gradaudit.attribution.targets import TargetContext, resolve_target
from gradaudit.errors import LayerError
from gradaudit.models.inputs_outputs import probabilities
from gradaudit.number_text import finite_or_none
from gradaudit.workflows.explanation_records import layer_of, what_failed
from gradaudit.workflows.explanation_session import ExplainSession, words_of

_CHANNELS_NAMED = 10
_FEW = 10  # images of a class


# ── which channels carried the decision ───────────────────────────────────────────────────────────


class ChannelNaming:
    """Collects the channels that carried each decision, and names them once all images are seen."""

    def __init__(self, session: ExplainSession) -> None:
        self.session = session
        self.method = next((m for m in session.methods if m in WEIGHTS), "gradcam")
        self.files: list[str] = []
        self.predicted: list[str] = []
        self.neurons: list[list[Neuron]] = []
        self.strengths: list[NDArray[np.float64]] = []
        self.refusal = ""

    def add(self, files: Sequence[str], images: Tensor) -> None:
        """Run the batch once more to record the channels that contributed most to each decision.

        Also records how strongly every channel responds to each image; the names are made of that.
        """
        if self.refusal:
            return
        session = self.session
        session.settle_layer(images, [self.method])
        try:
            if not layer_of(session):
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
        ) as error:  # the network is the user's code: whatever it raises is the reason shown
            self.refusal = words_of(error, images)
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
            f"Channels that carried each decision. {what_failed(self.session)} The {min(_CHANNELS_NAMED, channels)} largest of {channels}, by {label}.\n"  # noqa: E501
            "Share: the channel's part of the map, of the sum of all channels' absolute parts. Drives: classes whose logits rise, and by how\n"
            "much, when it alone is active at its mean strength in this image. Answers to: the predicted class whose images excite it most,\n"
            "with its selectivity (0: all classes alike, 1: no other class)."
        )


def _captured(session: ExplainSession, images: Tensor, method: str) -> Capture:
    classifier, settings = session.classifier, session.plan.explain
    target: Any = ("negated", settings.target) if settings.sign == -1 else settings.target
    score = resolve_target(target, TargetContext(None, classifier.class_index, classifier.output))
    score = SCORES[method](score) if method in SCORES else score
    weights = next((p for p in classifier.module.parameters() if p.is_floating_point()), None)
    moved = images if weights is None else images.to(weights.device, weights.dtype)
    return capture(classifier.module, classifier.layer, moved, score, autocast=session.dtype)


def _support(predicted: Sequence[str]) -> str:
    """How many images of each class the names rest on, with a warning where they are few."""
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
        "share": finite_or_none(neuron.share),
        "drives": drives,
        "answers_to": answers,
    }
