"""One classifier and the methods asked of it.

The layer is found once, and a method that fails is remembered with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gradaudit.attribution.explanation import Explanation, explain
from gradaudit.attribution.layer_choice import resolve_layer
from gradaudit.attribution.methods import CAMS, NO_LAYER
from gradaudit.errors import GradauditError, ImageError, InputError
from gradaudit.models.classifier import Classifier, device_of
from gradaudit.models.sources import with_logits
from gradaudit.plan import Plan
from gradaudit.spelling import hint_in_brackets

NO_LAYER_FOUND = "none could be chosen"


# ── which methods ─────────────────────────────────────────────────────────────────────────────────


def chosen_methods(text: str) -> tuple[str, ...]:
    """Method names from ``gradcam,layercam`` or ``all``, each once.

    An import path ``package.module:function`` is a method too.

    Errors: ``InputError`` naming every unknown method, with its nearest names.
    """
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if "all" in names:
        return CAMS.names()
    unknown = [name for name in names if name not in CAMS and ":" not in name]
    if unknown or not names:
        hints = [f"{name!r}{_hint(name)}" for name in unknown] or ["none was given"]
        raise InputError(
            f"--method: {len(unknown)} unknown: {'; '.join(hints)}. There are all, {', '.join(CAMS)}."
        )
    for name in names:
        CAMS.get(name)
    return tuple(names)


def _hint(name: str) -> str:
    return hint_in_brackets(name.replace("-", "").replace("_", ""), CAMS.names(), most=3)


@dataclass
class ExplainSession:
    """A classifier that explains batches, with what is known of it so far.

    That is the layer once it was chosen, the reason if there is none, and the methods that failed,
    with their reasons.
    """

    classifier: Classifier
    plan: Plan
    methods: tuple[str, ...]
    layer_reason: str = ""
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def dtype(self) -> torch.dtype | None:
        """The autocast type of the plan's precision; None for float32."""
        return (
            None
            if self.plan.run.precision == "float32"
            else getattr(torch, self.plan.run.precision)
        )

    def needs_layer(self, method: str) -> bool:
        """True if the method reads a layer of the network."""
        return not CAMS.card(method).needs.startswith(NO_LAYER)

    def settle_outputs(self, images: Tensor) -> None:
        """Check on the first images that the network gives logits; errors as in ``with_logits``."""
        self.classifier = with_logits(self.classifier, images.to(device_of(self.classifier)))

    def settle_layer(self, images: Tensor, wanted: Sequence[str]) -> None:
        """Choose the layer on the first images.

        Where there is none, those of the ``wanted`` methods that need one are refused with the
        reason.
        """
        if self.layer_reason or not wanted:
            return
        try:
            self.classifier, self.layer_reason = resolve_layer(
                self.classifier, images[:1].to(device_of(self.classifier))
            )
        except (
            Exception
        ) as error:  # the network is the user's code: whatever it raises is the reason shown
            self.refused |= {method: words_of(error, images) for method in wanted}
            self.layer_reason = NO_LAYER_FOUND

    def explained(self, images: Tensor, method: str) -> list[Explanation | str]:
        """One explanation per image, or the reason why there is none.

        A reason that is not about a single image refuses the method for all further batches.
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
        except ImageError as error:  # out of memory with a single image: the image's own reason
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
        ) as error:  # the network is the user's code: whatever it raises is the reason shown
            self.refused[method] = words_of(error, images)
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


def words_of(error: Exception, images: Tensor) -> str:
    """The error in words; an error of the network's own code is named with the input's shape."""
    if isinstance(error, GradauditError):
        return str(error)
    shape = "x".join(map(str, images.shape[1:]))
    return f"the network fails on an input of {shape} ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no words'})"
