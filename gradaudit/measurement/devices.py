"""Where the network runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from gradaudit.errors import GradauditError
from gradaudit.models.classifier import Classifier, device_of

Progress = Callable[[int, int], None]
"""Called with (images done, images in all), first at the start with what an earlier run had
finished.
"""


def on_device(classifier: Classifier, device: str) -> Classifier:
    """The classifier on a device of torch's ("cpu", "cuda:1", ...).

    "auto" takes the accelerator, if there is one.

    Errors: ``GradauditError`` where the device cannot be used here.
    """
    if device == "auto":
        device = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    try:
        wanted = torch.device(device)
        if wanted == device_of(classifier):
            return classifier
        return dataclasses.replace(classifier, module=classifier.module.to(wanted))
    except (RuntimeError, AssertionError) as error:
        raise GradauditError(
            f"Device {device!r} cannot be used here: {str(error).splitlines()[0]}"
        ) from error
