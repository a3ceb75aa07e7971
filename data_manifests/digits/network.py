"""The digit network of the package digit-recognizer-py, as its authors trained it; run prepare.py first."""

import importlib.util
from pathlib import Path

from torch import nn

PACKAGE = Path(__file__).parent / "build" / "packages" / "digit_recognizer"


def build() -> nn.Module:
    """The architecture, read from the package's model.py by its path; the plan names the weights."""
    spec = importlib.util.spec_from_file_location("digit_recognizer_model", PACKAGE / "model.py")
    if spec is None or spec.loader is None or not (PACKAGE / "model.py").exists():
        raise FileNotFoundError(
            f"{PACKAGE / 'model.py'} is missing: run data_manifests/digits/prepare.py first"
        )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network: nn.Module = module.CNN()
    return network
