"""Single images explained, and layers listed: what is written is what ``ga.explain`` gives, and every failure has its words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from small_audits import write_audit
from tiny_models import GapNet, PlantedPatch, TinyViT, seeded
from torch import nn
from typer.testing import CliRunner

import gradaudit as ga
from gradaudit.attribution.concepts import (
    ChannelName,
    Neuron,
    names_by_group,
    names_by_region,
    neuron_lines,
)
from gradaudit.attribution.methods import CAMS
from gradaudit.cli import app
from gradaudit.errors import GradauditError, InputError, ModelError, PlanError
from gradaudit.images.decoding import decode_image
from gradaudit.images.preprocessing import Preprocess, preprocess_image
from gradaudit.plan import Plan
from gradaudit.workflows.explain_images import explain_images
from gradaudit.workflows.explanation_session import chosen_methods
from gradaudit.workflows.image_files import distinct_names, find_images
from gradaudit.workflows.layer_table import list_layers
from gradaudit.workflows.overlays import STATUS_WORDS, WEIGHT, display_heat, overlay, worded

EXACT = Preprocess(resize=(32, 32), fit="exact")


def picture(
    path: Path, corner: tuple[int, int] | None = (0, 0), side: int = 32, colour=(255, 0, 0)
) -> Path:
    """A dark picture with a coloured 8x8 square at (row, column)."""
    pixels = np.full((side, side, 3), 20, np.uint8)
    if corner is not None:
        pixels[corner[0] : corner[0] + 8, corner[1] : corner[1] + 8] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def planted() -> ga.Classifier:
    return ga.Classifier.wrap(
        PlantedPatch().eval(), layer="relu", classes=["dark", "bright"], preprocess=EXACT
    )


def made(images, folder: Path, classifier=None, methods=("gradcam",), **options):
    plan = options.pop("plan", Plan(explain={"target": "class:1"}))
    return explain_images(
        find_images(images, folder), classifier or planted(), plan, methods, folder, **options
    )


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


# ── what is written ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_hot_corner_of_a_planted_map_is_hot_in_the_picture(tmp_path):
    files = [picture(tmp_path / f"{n}.png", corner) for n, corner in enumerate([(0, 0), (24, 16)])]
    made(files, tmp_path / "out")
    hottest = np.round(
        np.array(matplotlib.colormaps["inferno"](1.0)[:3]) * 255 * WEIGHT
        + np.array([255, 0, 0]) * (1 - WEIGHT)
    )[1]
    coldest = np.round(
        np.array(matplotlib.colormaps["inferno"](0.0)[:3]) * 255 * WEIGHT + 20 * (1 - WEIGHT)
    )
    for n, (row, column) in enumerate([(0, 0), (24, 16)]):
        shown = pixels_of(tmp_path / "out" / f"{n}.gradcam.png")
        assert shown.shape == (32, 32, 3)
        hot = np.unravel_index(
            shown[..., 1].argmax(), (32, 32)
        )  # green grows with inferno's lightness, and the square holds none
        assert row <= hot[0] < row + 8
        assert column <= hot[1] < column + 8
        assert shown[hot][1] == pytest.approx(
            hottest, abs=16
        )  # between two cells' centres, so not quite the end of the scale
        np.testing.assert_allclose(shown[(row + 16) % 32, (column + 12) % 32], coldest, atol=1)


def test_raw_maps_are_those_of_explain(tmp_path):
    files = [picture(tmp_path / f"{n}.png", (8 * n, 8)) for n in range(3)]
    methods = ("gradcam", "layercam", "saliency")
    record = made(
        files,
        tmp_path / "out",
        methods=methods,
        plan=Plan(explain={"target": "class:1", "sign": -1}, run={"batch_size": 2}),
    ).record
    images = torch.stack(
        [torch.from_numpy(preprocess_image(decode_image(f), EXACT)) for f in files]
    )
    for method in methods:
        expected = ga.explain(planted(), images, target="class:1", method=method, sign=-1)
        rows = [row for row in record["explanations"] if row["method"] == method]
        assert [Path(row["file"]) for row in rows] == files
        for n, row in enumerate(rows):
            raw = np.load(tmp_path / "out" / row["files"]["raw"])
            assert raw.dtype == np.float32
            np.testing.assert_allclose(raw, expected.raw[n].numpy(), rtol=1e-6, atol=1e-9)
            assert row["grid"] == list(raw.shape) == ([32, 32] if method == "saliency" else [4, 4])
            assert row["layer"] == ("" if method == "saliency" else "relu")
            assert row["score"] == pytest.approx(float(expected.score[n]), rel=1e-6)
            assert (row["status"], row["sign"], row["target"]) == (
                expected.status[n],
                -1,
                "class:1",
            )


def test_the_record_holds_the_prediction_the_model_and_every_file(tmp_path):
    file = picture(tmp_path / "a.png")
    found = made([file, tmp_path / "b.png"], tmp_path / "out", methods=("gradcam", "layercam"))
    document = json.loads((tmp_path / "out" / "explanations.json").read_text())
    assert document == json.loads(json.dumps(found.record))
    assert document["model"]["digest"] == planted().digest
    assert (
        document["versions"]["torch"] == torch.__version__.split("+")[0]
        or document["versions"]["torch"] == torch.__version__
    )
    row = document["explanations"][0]
    logit = 400 * (1 - 0.5) / 16  # one of 16 cells is red, half above the bias
    assert row["predicted"] == "bright"
    assert row["probability"] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-4)
    listed = {
        *(name for r in document["explanations"] for name in r["files"].values()),
        *document["contact_sheets"],
        "explanations.json",
    }
    assert {p.name for p in (tmp_path / "out").iterdir()} == listed
    assert [(u["reason"], Path(u["file"]).name) for u in document["unreadable"]] == [
        ("missing_file", "b.png")
    ]


def test_a_plan_explains_an_image_as_its_audit_measured_it(tmp_path, monkeypatch):
    manifest = write_audit(tmp_path / "audit", images=4)
    plan = ga.read_plan(tmp_path / "audit" / "audit.toml")
    monkeypatch.chdir(tmp_path)
    assert (
        CliRunner()
        .invoke(app.app, ["explain", "audit/images", "--config", "audit/audit.toml", "-o", "out"])
        .exit_code
        == 0
    )
    meas = ga.measure(ga.read_manifest(manifest, plan), ga.load_classifier(plan.model.source, classes=plan.model.classes, preprocess=plan.preprocess,
                                                                          root=tmp_path / "audit"), plan)  # fmt: skip
    rows = {
        Path(r["file"]).name: r
        for r in json.loads((tmp_path / "out" / "explanations.json").read_text())["explanations"]
    }
    maps = meas.maps[meas.maps["kind"] == "heat"].set_index("image_id")
    for image in meas.images.itertuples():
        row = rows[Path(image.path).name]
        assert (row["predicted"], row["target"]) == (image.predicted, "predicted")
        assert row["probability"] == pytest.approx(image.probability, rel=1e-5)
        heat = np.frombuffer(maps.loc[image.image_id, "values"], np.float32).reshape(row["grid"])
        np.testing.assert_allclose(
            np.maximum(np.load(tmp_path / "out" / row["files"]["raw"]), 0),
            heat,
            rtol=1e-4,
            atol=1e-7,
        )


def test_images_of_different_sizes_go_together(tmp_path):
    files = [
        picture(tmp_path / "small.png", side=32),
        picture(tmp_path / "large.png", side=64),
        picture(tmp_path / "last.png", side=64),
    ]
    classifier = ga.Classifier.wrap(PlantedPatch().eval(), layer="relu")
    rows = made(files, tmp_path / "out", classifier).record["explanations"]
    assert [row["grid"] for row in rows] == [[4, 4], [8, 8], [8, 8]]
    assert [pixels_of(tmp_path / "out" / row["files"]["overlay"]).shape[0] for row in rows] == [
        32,
        64,
        64,
    ]


def test_contact_sheet_shows_a_row_per_image_and_pages_beyond_twenty(tmp_path):
    files = [picture(tmp_path / f"{n:02d}.png", (8 * (n % 4), 0)) for n in range(21)]
    one = made(files[:3], tmp_path / "one", methods=("gradcam", "layercam")).sheets
    assert one == ("contact-sheet.png",)
    sheet = pixels_of(tmp_path / "one" / "contact-sheet.png")
    cell, top = 176 + 8, 26 + 22
    for n in range(3):  # the red square as the network sees it, and its heat two columns on
        y = top + n * (22 + cell) + 8 * n * 176 // 32 + 20
        assert sheet[y, 8 + 20].tolist() == pytest.approx([255, 0, 0], abs=3)
        assert sheet[y, 8 + cell + 20].tolist() == pytest.approx(
            pixels_of(tmp_path / "one" / f"{n:02d}.gradcam.png")[8 * n + 3, 3].tolist(), abs=25
        )
    assert made(files, tmp_path / "many").sheets == ("contact-sheet-1.png", "contact-sheet-2.png")


# ── maps without heat ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_map_without_heat_is_words_and_not_stretched_noise(tmp_path):
    files = [picture(tmp_path / "red.png"), picture(tmp_path / "plain.png", None)]
    rows = made(files, tmp_path / "out").record["explanations"]
    assert [row["status"] for row in rows] == ["ok", "flat"]
    assert rows[1]["words"] == STATUS_WORDS["flat"]
    shown = pixels_of(tmp_path / "out" / "plain.gradcam.png").astype(int)
    assert (shown.max(-1) == shown.min(-1)).all()  # grey: no colour of the heat anywhere
    against = made(
        files[:1], tmp_path / "against", plan=Plan(explain={"target": "class:1", "sign": -1})
    ).record["explanations"]
    assert against[0]["status"] == "no_positive_evidence"
    assert against[0]["highest"] == 0
    assert np.load(tmp_path / "against" / against[0]["files"]["raw"]).min() < 0


def test_a_map_that_is_not_finite_is_said_so(tmp_path):
    network = PlantedPatch().eval()
    with torch.no_grad():
        network.head.weight[1, 0] = float("inf")
    row = made(
        [picture(tmp_path / "a.png")],
        tmp_path / "out",
        ga.Classifier.wrap(network, layer="relu", preprocess=EXACT),
    ).record["explanations"][0]
    assert (row["status"], row["words"]) == ("non_finite", STATUS_WORDS["non_finite"])
    assert row["score"] is None


@pytest.mark.parametrize("status", ["flat", "no_positive_evidence", "non_finite"])
@pytest.mark.parametrize("side", [16, 64, 224])
def test_words_leave_dark_letters_on_a_pale_picture(status, side):
    shown = overlay(np.zeros((side, side, 3), np.uint8), np.zeros((4, 4)), status)
    assert shown.shape == (side, side, 3)
    ink = (shown[..., 0] < 100).sum()
    assert 0 < ink < side * side / 2
    np.testing.assert_array_equal(
        shown, worded(np.zeros((side, side, 3), np.uint8), STATUS_WORDS[status])
    )


def test_display_heat_is_the_positive_part_over_its_maximum():
    raw = np.array([[4.0, -8.0], [1.0, 0.0]])
    heat = display_heat(raw, (2, 2))
    np.testing.assert_allclose(heat, [[1, 0], [0.25, 0]])
    np.testing.assert_allclose(
        display_heat(raw * 1e-6, (2, 2)), heat
    )  # scaling is per picture, so only places compare
    assert not display_heat(-np.ones((3, 3)), (6, 6)).any()
    with pytest.raises(InputError, match=r"one map \(h, w\); got shape \(4, 2, 2\)"):
        overlay(np.zeros((8, 8, 3), np.uint8), np.ones((4, 2, 2)))


# ── which files ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_folders_patterns_and_files_give_each_image_once(tmp_path, monkeypatch):
    for name in ("a/1.png", "a/deep/2.JPG", "a/.hidden/3.png", "b/4.png"):
        picture(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    found = find_images(["a", "a/1.png", "*/4.png", "**/*.JPG"])
    assert found.images == ("a/1.png", "a/deep/2.JPG", "b/4.png")
    assert (found.others, found.problems) == (1, ())
    (tmp_path / "empty").mkdir()
    problems = find_images(["empty", "*.gif", "a/11.png"]).problems
    assert [p.reason for p in problems] == ["missing_file"] * 3
    assert "holds no file" in problems[0].message
    assert "no file matches" in problems[1].message
    assert "'1.png'" in problems[2].message  # the nearest name


def test_a_second_call_does_not_explain_the_first_ones_pictures(tmp_path):
    picture(tmp_path / "a.png")
    made([tmp_path], tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
    assert find_images([tmp_path], tmp_path / "out").images == (str(tmp_path / "a.png"),)
    assert len(find_images([tmp_path], tmp_path / "elsewhere").images) == 3
    (tmp_path / "out" / "explanations.json").write_text('["not", "ours"]')
    assert len(find_images([tmp_path], tmp_path / "out").images) == 3


def test_images_of_the_same_name_get_files_of_their_own(tmp_path):
    files = [
        picture(tmp_path / name, (8 * n, 0))
        for n, name in enumerate(["x/one/a.png", "y/one/a.png", "y/two/A.png", "y/two/b.png"])
    ]
    files.append(tmp_path / "y" / "two" / "b.bmp")
    Image.open(files[3]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(files[4])
    rows = made(files, tmp_path / "out").record["explanations"]
    assert len({row["files"]["raw"].casefold() for row in rows}) == 5
    for n, row in enumerate(rows[:4]):
        assert np.load(tmp_path / "out" / row["files"]["raw"])[n, 0] > 0


def test_names_are_short_tell_apart_and_spare_the_inputs(tmp_path):
    assert distinct_names(["d/a.png", "d/b.png"]) == ["a", "b"]
    assert distinct_names(["p/a.png", "q/a.png", "q/c.png"]) == ["p-a", "q-a", "c"]
    assert distinct_names(["d/a.png", "d/a.jpg", "e/b.png"])[2] == "b"
    assert len(set(distinct_names(["d/a.png", "d/a.jpg", "d/a.bmp"]))) == 3
    assert distinct_names(["https://x.org/scans/a b.png?size=1"]) == ["a_b"]
    assert distinct_names(
        [str(tmp_path / "a.png"), str(tmp_path / "a.gradcam.png")], tmp_path, [".gradcam.png"]
    ) == ["a-2", "a.gradcam"]


def test_explaining_into_the_folder_of_the_images_overwrites_none(tmp_path):
    files = [picture(tmp_path / "a.png"), picture(tmp_path / "a.gradcam.png", (8, 8))]
    before = [f.read_bytes() for f in files]
    made(files, tmp_path)
    assert [f.read_bytes() for f in files] == before


def test_unreadable_files_are_named_with_their_reason_and_the_others_go_on(tmp_path):
    good = picture(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    record = made([tmp_path], tmp_path / "out").record
    assert [Path(row["file"]).name for row in record["explanations"]] == ["good.png"]
    assert {Path(u["file"]).name: u["reason"] for u in record["unreadable"]} == {
        "cut.png": "truncated", "text.png": "unreadable", "empty.png": "truncated",
    }  # fmt: skip
    with pytest.raises(
        InputError, match=r"No image can be read; 1 were tried:\n  - unreadable: .*text.png"
    ):
        made([tmp_path / "text.png"], tmp_path / "none")
    assert not (tmp_path / "none").exists()


# ── which methods ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_methods_are_chosen_by_name_and_unknown_ones_get_near_names():
    assert chosen_methods("gradcam, layercam,gradcam") == ("gradcam", "layercam")
    assert chosen_methods("all") == CAMS.names()
    with pytest.raises(
        InputError, match=r"2 unknown: 'grad_cam' \(did you mean 'gradcam'.*'xyzzy'[;.]"
    ):
        chosen_methods("grad_cam,hirescam,xyzzy")
    with pytest.raises(InputError, match="none was given"):
        chosen_methods(" , ")
    with pytest.raises(InputError, match="cannot be imported"):
        chosen_methods("no_such_package:method")


def test_what_a_method_cannot_do_for_a_network_is_said_and_the_others_go_on(tmp_path):
    classifier = ga.Classifier.wrap(seeded(TinyViT), preprocess=EXACT)
    found = made(
        [picture(tmp_path / "a.png")],
        tmp_path / "out",
        classifier,
        ("gradcam", "cam", "guided_backprop", "occlusion"),
    )
    assert set(found.summary["refused"]) == {"cam", "guided_backprop"}
    assert "global average pooling" in found.summary["refused"]["cam"]
    assert "no ReLU" in found.summary["refused"]["guided_backprop"]
    assert [row["status"] for row in found.record["explanations"]].count("failed") == 2
    assert not (tmp_path / "out" / "a.cam.png").exists()
    assert np.load(tmp_path / "out" / "a.occlusion.npy").shape == (32, 32)


class NoGrid(nn.Module):
    """Sees the picture as one long vector: there is no layer to explain."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 32 * 32, 2)

    def forward(self, x):
        return self.head(x.flatten(1))


def test_without_a_layer_only_the_methods_that_need_none_work(tmp_path):
    file = picture(tmp_path / "a.png")
    classifier = ga.Classifier.wrap(seeded(NoGrid), preprocess=EXACT)
    found = made([file], tmp_path / "out", classifier, ("gradcam", "saliency"), names=True)
    assert "No layer can be explained" in found.summary["refused"]["gradcam"]
    assert found.summary["methods"] == ["saliency"]
    assert found.summary["layer"] == ""
    assert "No layer can be explained" in found.record["names"]["reason"]
    with pytest.raises(ModelError, match="None of the 1 methods works"):
        made([file], tmp_path / "other", classifier, ("gradcam",))


def test_a_network_that_refuses_the_picture_says_so(tmp_path):
    with pytest.raises(ModelError, match=r"fails on an input of 1x32x32 \(RuntimeError"):
        made(
            [picture(tmp_path / "a.png")],
            tmp_path / "out",
            ga.Classifier.wrap(GapNet(), layer="relu2", preprocess=Preprocess(channels=1)),
        )


def test_the_target_label_needs_a_manifest(tmp_path):
    with pytest.raises(PlanError, match="needs a label per image"):
        made(
            [picture(tmp_path / "a.png")], tmp_path / "out", plan=Plan(explain={"target": "label"})
        )


# ── names of channels ───────────────────────────────────────────────────────────────────────────────────────────────


class ThreeColours(nn.Module):
    """Channel c sees colour c alone; class c is channel c, and channel 3 (brightness) drives no class."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Conv2d(3, 4, 8, 8, bias=False), nn.Linear(4, 3, bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.full((4, 3, 8, 8), 1 / 192))
            self.head.weight.zero_()
            for c in range(3):
                self.features.weight[c] = 0
                self.features.weight[c, c] = 1 / 64
                self.head.weight[c, c] = 10.0
            self.head.weight[1, 0] = -5.0  # red speaks against green

    def forward(self, x):
        return self.head(torch.relu(self.features(x)).mean((2, 3)))


def test_names_of_channels_that_are_known_by_construction(tmp_path):
    colours = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
    files = [
        picture(tmp_path / f"{name}{n}.png", (8 * n, 8), colour=c)
        for name, c in colours.items()
        for n in range(2)
    ]
    classifier = ga.Classifier.wrap(
        ThreeColours().eval(), layer="features", classes=list(colours), preprocess=EXACT
    )
    found = made(files, tmp_path / "out", classifier, plan=Plan(), names=True)
    named = found.record["names"]
    assert named["method"] == "gradcam"
    for entry in named["images"]:
        word = Path(entry["file"]).stem[:-1]
        first = entry["channels"][0]
        assert entry["predicted"] == word
        assert first["channel"] == list(colours).index(word)
        assert first["share"] > 0.5
        assert first["drives"][0]["class"] == word
        assert first["answers_to"]["class"] == word
        assert first["answers_to"]["selectivity"] > 0.1
    green = next(e for e in named["images"] if e["predicted"] == "green")["channels"]
    assert [(c["channel"], c["share"] < 0) for c in green if c["channel"] == 0] == [
        (0, True)
    ]  # red speaks against green
    brightness = next(c for c in green if c["channel"] == 3)
    assert (brightness["drives"], brightness["answers_to"]) == ([], None)
    text = (tmp_path / "out" / "names.txt").read_text()
    assert "rest on 6 images by predicted class: 2 red, 2 green, 2 blue. That is few" in text
    block = text.split("green0.png: predicted green")[1]
    assert (
        block.index("for it:")
        < block.index("channel 1 ")
        < block.index("against it:")
        < block.index("channel 0 ")
    )


def test_images_of_one_class_name_no_channel_by_what_it_answers_to(tmp_path):
    classifier = ga.Classifier.wrap(ThreeColours().eval(), layer="features", preprocess=EXACT)
    named = made(
        [picture(tmp_path / "a.png")], tmp_path / "out", classifier, plan=Plan(), names=True
    ).record["names"]
    assert "no channel can be named by what it answers to" in named["support"]
    assert {c["answers_to"] for c in named["images"][0]["channels"]} == {None}


def test_names_of_a_network_with_named_outputs(tmp_path):
    class TwoOutputs(ThreeColours):
        def forward(self, x):
            return {"extra": x.mean((1, 2, 3))[:, None], "scores": super().forward(x)}

    classifier = ga.Classifier.wrap(
        TwoOutputs().eval(),
        layer="features",
        classes=["r", "g", "b"],
        preprocess=EXACT,
        output="scores",
    )
    named = made(
        [picture(tmp_path / "a.png")], tmp_path / "out", classifier, plan=Plan(), names=True
    ).record["names"]
    assert named["images"][0]["channels"][0]["drives"][0]["class"] == "r"


def test_names_by_group_is_morcos_selectivity():
    strengths = np.array([[4.0, 1.0, 0.0, 1.0], [2.0, 1.0, 0.0, 3.0], [1.0, 1.0, 0.0, 0.0]])
    names = names_by_group(strengths, ["a", "a", "b"])
    assert (names[0].word, names[0].strength) == ("a", pytest.approx((3 - 1) / (3 + 1)))
    assert names[1:3] == [None, None]  # alike in both, and silent
    assert (names[3].word, names[3].strength) == ("a", 1.0)
    assert names_by_group(strengths, ["a"] * 3) == [None] * 4


def test_names_by_region_finds_the_marked_square():
    maps = np.zeros((2, 3, 4, 4))
    maps[:, 0, 0, 0] = maps[:, 1, 3, 3] = 1.0
    maps[:, 2] = np.random.default_rng(0).uniform(size=(2, 4, 4))
    masks = np.zeros((2, 2, 32, 32))
    masks[:, 0, :8, :8] = masks[:, 1, 24:, 24:] = 1.0
    names = names_by_region(maps, masks, ["corner", "end"])
    assert [n.word for n in names[:2]] == ["corner", "end"]
    assert min(n.strength for n in names[:2]) > 0.5
    assert names_by_region(maps, np.zeros_like(masks), ["corner", "end"]) == [None] * 3


def test_neuron_lines_say_how_much_they_hold():
    lines = neuron_lines(
        [Neuron(2, 0.5, (0,), (1.25,)), Neuron(0, -0.25, ())], lambda k: "cat", [None, None, None]
    )
    assert lines[0] == "  these 2 channels hold 75 % of the whole"
    assert lines[2] == "    channel 2     +50.0 %   drives cat (+1.2)"
    assert lines[4].endswith("drives no class")
    lines = neuron_lines(
        [Neuron(0, 0.5, ()), Neuron(1, 0.25, ())], str, [ChannelName("ruler", 0.31), None]
    )
    assert [line.split("; ")[1] for line in lines[2:4]] == [
        "answers to ruler (0.31)",
        "answers to nothing in particular",
    ]


# ── layers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_layers_of_a_vision_transformer_say_where_the_gradient_ends():
    listed = list_layers(ga.Classifier.wrap(seeded(TinyViT), preprocess=EXACT))
    rows = {row.name: row for row in listed.layers}
    assert listed.auto == "blocks.1.norm1"
    assert [name for name, row in rows.items() if row.chosen] == ["blocks.1.norm1"]
    assert (
        rows["blocks.1.norm1"].kind,
        rows["blocks.1.norm1"].grid,
        rows["blocks.1.norm1"].channels,
    ) == ("tokens", (4, 4), 16)
    assert rows["blocks.0"].gradient
    assert not rows["blocks.1"].gradient
    depths = [row.depth for row in listed.layers]
    assert depths == sorted(depths)
    assert rows["blocks.0"].depth == pytest.approx(
        7 / 16
    )  # of 16 layers with weights: the patches and the first block's six
    assert "noise of 32x32 (the model's own size)" in listed.seen


def test_layers_can_be_traced_with_an_image_and_say_when_the_size_does_not_fit(tmp_path):
    classifier = ga.Classifier.wrap(seeded(TinyViT))
    assert (
        list_layers(classifier, image=str(picture(tmp_path / "a.png"))).seen
        == f"the image {tmp_path / 'a.png'}"
    )
    assert list_layers(classifier, size=(32, 32)).auto == "blocks.1.norm1"
    with pytest.raises(ModelError, match=r"fails on an input of 3x224x224 .*--input-size"):
        list_layers(classifier)
    with pytest.raises(GradauditError, match="No layer can be explained"):
        list_layers(ga.Classifier.wrap(seeded(NoGrid), preprocess=EXACT))


# ── the commands ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def audit(tmp_path, monkeypatch):
    """An audit's files in the current folder."""
    write_audit(tmp_path, images=3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_explain_takes_the_plan_that_lies_there(audit, run_command):
    code, out, err = run_command("explain", "images/00?.png", "images/nope.png")
    assert code == 0, err
    assert (
        out
        == "3 images explained by gradcam (layer features, 1 not read): explanations/contact-sheet.png\n"
    )
    assert "note: the plan is audit.toml" in err
    assert (
        "not read (missing_file): images/nope.png: no such file; the folder has 3 other files"
        in err.replace("\n", "")
    )
    assert (audit / "explanations" / "002.gradcam.npy").exists()


def test_explain_prints_its_summary_as_json(audit, run_command):
    code, out, _ = run_command(
        "explain", "images", "--method", "gradcam,guided_backprop", "--names", "--json", "-o", "out"
    )
    summary = json.loads(out)
    assert code == 0
    assert (summary["images"], summary["methods"], summary["layer"]) == (
        3,
        ["gradcam", "guided_backprop"],
        "features",
    )
    assert (audit / "out" / "names.txt").exists()


def test_explain_with_a_model_of_its_own_leaves_the_plan_aside(audit, run_command):
    (audit / "names.txt").write_text("hot\ncold, or blue\n")
    code, _, err = run_command("explain", "images/000.png", "--model", "factory:network.py:build", "--classes", "names.txt", "--target", "class:hot",
                               "--against", "-o", "out")  # fmt: skip
    assert code == 0, err
    assert "the plan is" not in err
    row = json.loads((audit / "out" / "explanations.json").read_text())["explanations"][0]
    assert (row["target"], row["sign"], row["grid"]) == (
        "class:hot",
        -1,
        [10, 10],
    )  # 40 pixels: the plan's resize is not used
    assert row["predicted"] in ("hot", "cold, or blue")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "nope.png"], "No image can be read; 1 were tried"),
        (["explain", "images", "--method", "gradcm"], "did you mean 'gradcam'"),
        (["explain", "images", "--against", "--sign", "1"], "contradict"),
        (["explain", "images", "--sign", "3"], "explain.sign"),
        (["explain", "images", "--target", "class:lukewarm"], "no class 'lukewarm'"),
        (["explain", "images", "--output", "audit.toml"], "is a file"),
        (["explain", "images", "--layer", "featres"], "features"),
        (["layers"], "No model is named"),
        (["layers", "factory:network.py:build", "--input-size", "big"], "HEIGHTxWIDTH"),
        (["layers", "torchvision:resnt18"], "resnet18"),
    ],
)
def test_wrong_commands_are_told_what_to_do(audit, arguments, message, run_command):
    code, out, err = run_command(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_layers_of_a_resnet18(run_command):
    code, out, err = run_command("layers", "torchvision:resnet18", "--input-size", "64")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["layer", "type", "kind", "grid", "channels", "depth", "gradient"]
    assert [line.split()[0] for line in lines if "<- auto" in line] == ["layer4"]
    assert next(line.split() for line in lines if line.startswith("layer3 ")) == [
        "layer3",
        "Sequential",
        "nchw",
        "4x4",
        "256",
        "73%",
        "reaches",
    ]
    assert lines[-1].startswith("auto takes layer4: last of ")
    assert "\x1b" not in out
    assert "noise of 64x64 (as asked for)" in err
    _, out, _ = run_command("layers", "torchvision:resnet18", "--input-size", "64x96", "--json")
    listed = json.loads(out)
    assert listed["auto"] == "layer4"
    assert listed["layers"][-1] == {"name": "layer4", "type": "Sequential", "kind": "nchw", "grid": [2, 3], "channels": 512,
                                    "depth": pytest.approx(40 / 41), "gradient": True, "chosen": True}  # fmt: skip


def test_a_typed_model_keeps_the_weights_that_the_plan_names(tmp_path, monkeypatch, run_command):
    write_audit(tmp_path / "audit", images=2)
    plan = tmp_path / "audit" / "audit.toml"
    plan.write_text(plan.read_text().replace("[model]\n", '[model]\nweights = "w.pt"\n'))
    torch.save(
        ga.load_classifier("factory:network.py:build", root=tmp_path / "audit").module.state_dict(),
        tmp_path / "audit" / "w.pt",
    )
    monkeypatch.chdir(tmp_path)  # the model is typed from here, the weights lie beside the plan
    arguments = ("--model", "factory:audit/network.py:build", "--config", "audit/audit.toml")
    code, _, err = run_command("explain", "audit/images", *arguments, "-o", "out")
    assert code == 0, err
    assert "its weights (w.pt) are still used" in err
    assert (
        run_command("layers", "factory:audit/network.py:build", "--config", "audit/audit.toml")[0]
        == 0
    )


def test_layers_mark_the_one_that_the_plan_names(audit, run_command):
    plan = audit / "audit.toml"
    plan.write_text(plan.read_text().replace("[model]\n", '[model]\nlayer = "features"\n'))
    code, out, _ = run_command("layers", "--config", "audit.toml", "--image", "images/000.png")
    assert code == 0
    assert "<- auto <- named by the plan" in out


def test_help_says_what_happens_to_unreadable_files():
    text = " ".join(CliRunner().invoke(app.app, ["explain", "--help"]).output.split())
    assert "What cannot be read is named with its reason" in text
    assert "It is 2 where no image could be read" in text


def test_explaining_draws_without_a_screen():
    """No window system, and matplotlib's own backend untouched: only its colours are used."""
    code = "import gradaudit.workflows.overlays, sys; assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
