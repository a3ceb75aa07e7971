"""Image classifiers of Hugging Face's transformers, from a local folder.

A folder as ``save_pretrained`` writes it comes in; the network, its class names and the preprocess
that its image processor declares go out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from gradaudit.errors import ModelError
from gradaudit.images.decoding import Size
from gradaudit.images.preprocessing import Preprocess
from gradaudit.models.files import BuiltModel, ModelRequest, imported_extra
from gradaudit.models.torchvision_compat import import_torchvision

_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, as image processors store them."""


def load_huggingface(request: ModelRequest) -> BuiltModel:
    """A local folder as ``save_pretrained`` writes it: no download, and none of its code runs."""
    folder = request.model_file()
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json; save_pretrained writes it.")
    import_torchvision()
    transformers = imported_extra("transformers", "hf", request)
    local = {"local_files_only": True, "trust_remote_code": False}
    module = _network(transformers, folder, local)
    notes: tuple[str, ...] = (
        "the folder has no preprocessor_config.json: images are used as decoded where [preprocess] says nothing",
    )
    preprocess = None
    if (folder / "preprocessor_config.json").is_file():
        settings = transformers.AutoImageProcessor.from_pretrained(folder, **local).to_dict()
        preprocess, notes = _declared_preprocess(settings), ()
    return BuiltModel(
        module,
        preprocess,
        classes=_class_names(module.config),
        outputs=module.config.num_labels,
        output="logits",
        identity=(folder / "config.json").read_text(),
        notes=notes,
    )


def _network(transformers: Any, folder: Path, local: Mapping[str, bool]) -> Any:
    try:
        module, info = transformers.AutoModelForImageClassification.from_pretrained(
            folder, output_loading_info=True, **local
        )
    except Exception as error:
        raise ModelError(
            f"{folder} cannot be loaded as an image classifier: {type(error).__name__}: {error}"
        ) from error
    absent = sorted(
        str(key) for kind in ("missing_keys", "mismatched_keys") for key in info.get(kind, ())
    )
    if absent:
        raise ModelError(
            f"{folder} lacks {len(absent)} weights, which would be random: {', '.join(absent[:5])}{' …' if len(absent) > 5 else ''}"
        )
    return module


def _class_names(config: Any) -> tuple[str, ...] | None:
    """Names in output order; None where the configuration numbers them, as it does by default."""
    labels = config.id2label or {}  # some configurations (PVT) leave it out
    numbered = tuple(f"LABEL_{index}" for index in range(config.num_labels))
    names = tuple(str(labels.get(index, numbered[index])) for index in range(config.num_labels))
    return None if names == numbered else names


def _declared_preprocess(settings: Mapping[str, Any]) -> Preprocess:
    """An image processor's settings.

    Its normalization ``(value * factor - mean) / std`` is written here on values in [0, 1].
    """
    resize, crop = _resize_and_crop(settings)
    factor = 255.0
    if settings.get("do_rescale", True):
        factor = 255 * (settings.get("rescale_factor") or 1 / 255)
    offset = 1.0 if settings.get("rescale_offset") else 0.0
    normalizes = settings.get("do_normalize")
    mean = settings["image_mean"] if normalizes else (0.0,)
    std = settings["image_std"] if normalizes else (1.0,)
    resample = settings.get("resample")
    return Preprocess(
        resize=resize,
        crop=crop,
        fit="exact" if isinstance(resize, tuple) else "shorter",
        interpolation=cast(Any, "bilinear" if resample is None else _FILTERS[int(resample)]),
        mean=tuple((value + offset) / factor for value in mean),
        std=tuple(value / factor for value in std),
    )


def _resize_and_crop(
    settings: Mapping[str, Any],
) -> tuple[int | Size | None, Size | None]:
    """Shorter side or (height, width) to resize to, and (height, width) to crop; None for neither.

    A ``crop_pct`` (ConvNeXt) means: below 384 resize to more and crop, from there on squash.
    """
    size, crop = settings.get("size") or {}, settings.get("crop_size") or {}
    resize: int | Size | None = None
    if settings.get("do_resize") and size:
        resize = size.get("shortest_edge") or (size["height"], size["width"])
    share = settings.get("crop_pct")
    if share is not None and isinstance(resize, int):
        side = (resize, resize)
        return (int(resize / share), side) if resize < 384 else (side, None)
    crops = settings.get("do_center_crop") and crop
    return resize, (crop["height"], crop["width"]) if crops else None
