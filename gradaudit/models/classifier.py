"""``Classifier``: a network with its layer, preprocess, class names and digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradaudit.errors import LayerError, ModelError
from gradaudit.images.decoding import Size
from gradaudit.images.preprocessing import Preprocess
from gradaudit.labels import class_index
from gradaudit.models.weights import TORCHSCRIPT
from gradaudit.spelling import did_you_mean

# ── the classifier ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network and what has to be known to audit it.

    module : takes (N, C, H, W), gives logits (N, K), or (N, 1) or (N,) for one logit: class 0 is
        then -z, class 1 is +z
    layer : name of the layer whose activations are explained, or "auto"
    preprocess : None means that images are used as decoded, RGB in [0, 1]
    classes : names in output order, or None (then classes are called by their index)
    source, digest : where it comes from, and sha256 over that, its structure and every tensor of
        its state dict
    output : key or index of the logits in a dict or tuple output
    notes : what a reader of the report must know about how this network was loaded
    gives_logits : ``with_logits`` has looked at what the network gives
    """

    module: nn.Module
    layer: str = "auto"
    preprocess: Preprocess | None = None
    classes: tuple[str, ...] | None = None
    source: str = ""
    digest: str = ""
    output: str | int | None = None
    notes: tuple[str, ...] = ()
    gives_logits: bool = False

    @classmethod
    def wrap(
        cls,
        module: nn.Module,
        layer: str = "auto",
        classes: Sequence[str] | None = None,
        preprocess: Preprocess | None = None,
        output: str | int | None = None,
    ) -> Classifier:
        """A module at hand, as it is: nothing in it is changed, its training flags included.

        ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` are unwrapped.  A
        softmax or sigmoid at its end is found once there are images (``with_logits``).

        Errors: ``ModelError`` for TorchScript and for what is no module; ``LayerError`` for a layer
        that it does not have.
        """
        plain = unwrap(module)
        source = f"module:{type(plain).__module__}.{type(plain).__qualname__}"
        check_layer(plain, layer)
        names = None if classes is None else tuple(str(name) for name in classes)
        return cls(plain, layer, preprocess, names, source, digest_of_module(plain, source), output)

    @property
    def input_size(self) -> Size | None:
        """(height, width) that the preprocess produces, or None where it follows each image."""
        return None if self.preprocess is None else self.preprocess.output_size

    def class_index(self, label: str) -> int | None:
        """Output index of a label: a class name, or an index as text; None if it is neither."""
        return class_index(label, self.classes)

    def class_name(self, index: int) -> str:
        """Name of an output, or its index as text where the model names none."""
        return (
            self.classes[index]
            if self.classes is not None and 0 <= index < len(self.classes)
            else str(index)
        )


def device_of(classifier: Classifier) -> torch.device:
    """Where the network's weights lie; the processor where it has none."""
    for tensor in (*classifier.module.parameters(), *classifier.module.buffers()):
        return tensor.device
    return torch.device("cpu")


def unwrap(module: nn.Module) -> nn.Module:
    """The network inside ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile``.

    Errors: ``ModelError`` for TorchScript.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(f"{TORCHSCRIPT} Wrap the Python module that it was scripted from.")
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"A torch.nn.Module is needed, got {type(module).__module__}.{type(module).__qualname__}."
        )
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrap(module.module)
    compiled = module._modules.get("_orig_mod")
    return module if compiled is None else unwrap(compiled)


def digest_of_module(module: nn.Module, source: str) -> str:
    """sha256 (hex) over ``source``, the module's printed structure and its state dict.

    Of every entry: name, type, shape, bytes.
    """
    digest = hashlib.sha256()
    digest.update(f"{source}\0{re.sub(r' at 0x[0-9a-fA-F]+', '', repr(module))}\0".encode())
    for name, value in sorted(module.state_dict().items()):
        if not isinstance(value, Tensor):
            digest.update(f"{name}\0{value!r}\0".encode())
            continue
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()


def check_layer(module: nn.Module, layer: str) -> None:
    names = [name for name, _ in module.named_modules() if name]
    if layer == "auto" or layer in names:
        return
    hint = did_you_mean(layer, names, most=3) or f"the last of them: {', '.join(names[-5:])}."
    raise LayerError(f"The model has no layer {layer!r} among its {len(names)}; {hint}")
