"""EfficientNet-Lite0 with its ImageNet weights, from the packages that prepare.py installs beside this file."""

import sys
from pathlib import Path

from torch import nn

PACKAGES = Path(__file__).parent / "build" / "packages"
PREPROCESS = {
    "resize": [224, 224],
    "fit": "exact",
    "interpolation": "bicubic",
    "mean": [127 / 255] * 3,
    "std": [128 / 255] * 3,
}


def build() -> tuple[nn.Module, dict[str, object]]:
    """The architecture, and how its inputs are made; the plan names the weights."""
    if not PACKAGES.exists():
        raise FileNotFoundError(
            f"{PACKAGES} is missing: run data_manifests/objects/prepare.py first"
        )
    sys.path.insert(0, str(PACKAGES))
    try:
        from efficientnet_lite_pytorch import EfficientNet
    finally:
        sys.path.remove(str(PACKAGES))
    return EfficientNet.from_name("efficientnet-lite0"), PREPROCESS
