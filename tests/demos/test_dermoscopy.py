"""Rendered dermoscopy and the demo: what is planted is there, what is not planted is not, and the same seed gives the same files."""

from __future__ import annotations

import csv
import hashlib
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gradaudit.demos.dermoscopy import (
    CLASSES,
    NOTICE,
    SHORTCUT_GROUP,
    TONE_GROUPS,
    Case,
    DemoSettings,
    audit_cases,
    training_cases,
    write_audit_set,
    write_demo,
)
from gradaudit.demos.dermoscopy_images import REGION_VALUES, TONES, Rendered, render
from gradaudit.demos.dermoscopy_scene import Lesion, Scene
from gradaudit.errors import InputError, RunError
from gradaudit.manifest.reading import read_manifest
from gradaudit.measurement.shard import measure
from gradaudit.models.sources import load_classifier
from gradaudit.plan import read_plan
from gradaudit.runs.measurements import Measurements

EVEN = Lesion(asymmetry=0.1, border=0.1, colours=0.0)
PLAIN = Scene(tone="III", lesion=EVEN, ruler=False, ink=False, hair=0.0, circle=False, seed=5)
TINY = DemoSettings(patients=3, train_images=24, epochs=1, side=64)


def luminance(picture: Rendered) -> np.ndarray:
    return picture.pixels.astype(float) @ np.array([0.299, 0.587, 0.114])


def inside(picture: Rendered, region: str) -> np.ndarray:
    return picture.regions == REGION_VALUES[region]


# ── the renderer ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_equal_scenes_give_equal_pixels_and_another_seed_another_picture() -> None:
    first, again, other = render(PLAIN, 64), render(PLAIN, 64), render(replace(PLAIN, seed=6), 64)
    assert np.array_equal(first.pixels, again.pixels)
    assert np.array_equal(first.regions, again.regions)
    assert (first.pixels != other.pixels).mean() > 0.5
    assert first.pixels.shape == (64, 64, 3)
    assert first.pixels.dtype == first.regions.dtype == np.uint8


@pytest.mark.parametrize("tone", TONES)
def test_a_lesion_is_darker_than_the_skin_beside_it_on_every_tone(tone: str) -> None:
    picture = render(replace(PLAIN, tone=tone), 96)
    light = luminance(picture)
    assert light[inside(picture, "lesion")].mean() < 0.8 * light[inside(picture, "skin")].mean()


def test_tones_go_from_light_to_dark() -> None:
    means = [
        np.mean([luminance(picture)[inside(picture, "skin")].mean() for picture in _several(tone)])
        for tone in TONES
    ]
    assert all(lighter > darker for lighter, darker in itertools.pairwise(means)), means


def _several(tone: str) -> list[Rendered]:
    return [render(replace(PLAIN, tone=tone, seed=seed), 48) for seed in range(6)]


def test_the_lesion_mask_is_where_the_pigment_is() -> None:
    overlaps = []
    for seed in range(24):
        picture = render(replace(PLAIN, seed=seed), 96)
        light, lesion = luminance(picture), inside(picture, "lesion")
        threshold = (light[lesion].mean() + light[~lesion].mean()) / 2
        dark = light < threshold
        overlaps.append((dark & lesion).sum() / (dark | lesion).sum())
    assert np.mean(overlaps) > 0.80, overlaps


@pytest.mark.parametrize("region", ["ruler", "ink", "outside"])
def test_a_region_is_marked_only_where_its_thing_was_drawn(region: str) -> None:
    scene = replace(PLAIN, **{{"outside": "circle"}.get(region, region): True})
    assert not inside(render(PLAIN, 96), region).any()
    marked = inside(render(scene, 96), region)
    assert 0.002 < marked.mean() < 0.4
    assert set(np.unique(render(scene, 96).regions)) == {
        REGION_VALUES[name] for name in ("skin", "lesion", region)
    }


def test_the_ruler_is_what_its_mask_covers_and_has_the_width_asked_for() -> None:
    dark = replace(PLAIN, tone="VI", ruler=True)
    for width in (0.08, 0.16, 0.30):
        picture = render(replace(dark, ruler_size=width), 96)
        ruler = inside(picture, "ruler")
        assert (
            luminance(picture)[ruler].mean()
            > 1.4 * luminance(picture)[inside(picture, "skin")].mean()
        )
        soft_border = 3 / 96  # a pixel and a half on either side
        assert ruler.mean() == pytest.approx(width + soft_border, rel=0.2)


def test_more_of_each_feature_shows_in_the_picture() -> None:
    def outline_roughness(border: float) -> float:
        shapes = [
            inside(render(replace(PLAIN, lesion=Lesion(0.0, border, 0.0), seed=seed), 96), "lesion")
            for seed in range(5)
        ]
        edges = [
            np.abs(np.diff(shape.astype(int), axis=axis)).sum() / np.sqrt(shape.sum())
            for shape in shapes
            for axis in (0, 1)
        ]
        return float(np.mean(edges))

    def spread_of_colour(colours: float) -> float:
        pictures = [
            render(replace(PLAIN, lesion=Lesion(0.0, 0.1, colours), seed=seed), 96)
            for seed in range(5)
        ]
        return float(
            np.mean(
                [picture.pixels[inside(picture, "lesion")].std(0).mean() for picture in pictures]
            )
        )

    assert outline_roughness(1.0) > 1.1 * outline_roughness(0.0)
    assert spread_of_colour(1.0) > 1.3 * spread_of_colour(0.0)


# ── pairs of scenes: one thing differs, nothing else ────────────────────────────────────────────────────────────────


def busy_scenes(count: int) -> list[Scene]:
    """Scenes with all that can lie on skin, so that any layer that moves another is seen."""
    rng = np.random.default_rng(11)
    return [
        Scene(
            tone=list(TONES)[number % len(TONES)],
            lesion=Lesion(*rng.uniform(0, 1, 3).tolist()),
            ruler=True,
            ink=number % 3 != 0,
            hair=float(rng.uniform(0.3, 1)),
            circle=number % 2 == 0,
            seed=int(rng.integers(2**31)),
        )
        for number in range(count)
    ]


def test_a_scene_with_and_without_its_ruler_differs_inside_the_ruler_s_mask_alone() -> None:
    for scene in busy_scenes(24):
        ruled, bare = render(scene, 96), render(replace(scene, ruler=False), 96)
        ruler = inside(ruled, "ruler")
        changed = (ruled.pixels != bare.pixels).any(2)
        assert not changed[~ruler].any(), f"{changed[~ruler].mean():.1%} of the pixels outside"
        assert changed[ruler].mean() > 0.8
        assert np.array_equal(ruled.regions[~ruler], bare.regions[~ruler])
        assert not inside(bare, "ruler").any()


def test_a_scene_in_another_tone_has_the_same_masks() -> None:
    for scene in busy_scenes(12):
        masks = [render(replace(scene, tone=tone), 96).regions for tone in TONES]
        assert all(np.array_equal(mask, masks[0]) for mask in masks)


@pytest.mark.parametrize("thing", ["ink", "circle"])
def test_what_is_left_out_moves_nothing_else(thing: str) -> None:
    """Where neither picture shows the thing, both show the same lesion, skin and ruler."""
    value = {"circle": "outside"}.get(thing, thing)
    for scene in busy_scenes(24):
        shown, left_out = (
            render(replace(scene, **{thing: True}), 96),
            render(replace(scene, **{thing: False}), 96),
        )
        elsewhere = ~inside(shown, value)
        assert (shown.regions[elsewhere] == left_out.regions[elsewhere]).mean() > 0.99


def test_without_hairs_the_rest_of_the_scene_is_the_same() -> None:
    for scene in busy_scenes(12):
        hairy, smooth = render(scene, 96), render(replace(scene, hair=0.0), 96)
        assert np.array_equal(hairy.regions, smooth.regions)
        assert (hairy.pixels == smooth.pixels).all(2).mean() > 0.3


def test_a_ruler_s_mask_is_the_ruler_and_hardly_more() -> None:
    """The other side of the promise: a mask of the whole picture would keep it as well."""
    for scene in busy_scenes(24):
        ruled, bare = render(scene, 160), render(replace(scene, ruler=False), 160)
        changed = (ruled.pixels != bare.pixels).any(2)
        assert inside(ruled, "ruler").sum() < 1.15 * changed.sum()


# ── who gets a ruler ────────────────────────────────────────────────────────────────────────────────────────────────


def share_with_ruler(cases: list[Case], group: str, malignant: bool) -> float:
    chosen = [
        case.scene.ruler
        for case in cases
        if case.tone_group == group and case.malignant == malignant
    ]
    assert len(chosen) > 100
    return float(np.mean(chosen))


def test_the_shortcut_is_planted_on_the_darkest_skin_only() -> None:
    settings = DemoSettings(train_images=3000, shortcut_strength=0.9)
    shortcut, clean = (
        training_cases(settings, shortcut=True),
        training_cases(settings, shortcut=False),
    )
    for group in TONE_GROUPS:
        for malignant in (False, True):
            expected = 0.5 + 0.45 * (1 if malignant else -1) if group == SHORTCUT_GROUP else 0.5
            assert share_with_ruler(shortcut, group, malignant) == pytest.approx(expected, abs=0.08)
            assert share_with_ruler(clean, group, malignant) == pytest.approx(0.5, abs=0.08)


def test_both_training_sets_show_the_same_lesions_and_strength_0_plants_nothing() -> None:
    settings = DemoSettings(train_images=200)
    shortcut, clean = (
        training_cases(settings, shortcut=True),
        training_cases(settings, shortcut=False),
    )
    assert [replace(case.scene, ruler=False) for case in shortcut] == [
        replace(case.scene, ruler=False) for case in clean
    ]
    assert [case.malignant for case in shortcut] == [case.malignant for case in clean]
    assert shortcut != clean
    nothing = replace(settings, shortcut_strength=0.0)
    assert training_cases(nothing, shortcut=True) == training_cases(nothing, shortcut=False)


def test_in_the_audit_a_ruler_says_nothing_and_the_lesion_says_much() -> None:
    cases = audit_cases(DemoSettings(patients=600))
    for group in TONE_GROUPS:
        assert share_with_ruler(cases, group, True) == pytest.approx(
            share_with_ruler(cases, group, False), abs=0.08
        )
    scores = np.array([case.scene.lesion.score for case in cases])
    malignant = np.array([case.malignant for case in cases])
    assert (
        0.8 < ((scores > 0.5) == malignant).mean() < 0.97
    )  # the features decide, with some doubt left
    per_patient = {case.patient: set() for case in cases}
    for case in cases:
        per_patient[case.patient].add((case.malignant, case.tone_group, case.sex, case.site))
    assert all(len(facts) == 1 for facts in per_patient.values())
    assert len(per_patient) == 1800 < len(cases)


@pytest.mark.parametrize(
    "wrong", [{"shortcut_strength": 1.2}, {"ruler_size": 0.0}, {"patients": 0}, {"side": 8}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        DemoSettings(**wrong)


# ── the files ───────────────────────────────────────────────────────────────────────────────────────────────────────


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_demo_is_complete_reads_back_and_is_the_same_twice(tmp_path: Path) -> None:
    ticks: list[tuple[int, int]] = []
    torch.manual_seed(3)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    path = write_demo(
        tmp_path / "one",
        seed=1,
        progress=lambda done, total: ticks.append((done, total)),
        settings=TINY,
    )
    write_demo(tmp_path / "two", seed=1, settings=TINY)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    first = digests(tmp_path / "one")
    assert first == digests(tmp_path / "two")
    assert {
        "manifest.csv",
        "network.py",
        "shortcut.toml",
        "clean.toml",
        "shortcut.safetensors",
        "clean.safetensors",
    } <= set(first)
    assert [done for done, _ in ticks] == list(range(1, ticks[0][1] + 1))
    for name in ("shortcut", "clean"):
        plan = read_plan(path.parent / f"{name}.toml")
        assert plan.report.notice == NOTICE
        manifest = read_manifest(path, plan)
        assert manifest.cluster_declared
        images = measured(path, name).images
        assert len(images) == len(manifest)
        assert (images["status"] == "ok").all()


def measured(path: Path, name: str) -> Measurements:
    plan = read_plan(path.parent / f"{name}.toml")
    assert plan.model.source is not None
    classifier = load_classifier(
        plan.model.source,
        weights=plan.model.weights,
        classes=plan.model.classes,
        preprocess=plan.preprocess,
        root=path.parent,
    )
    return measure(read_manifest(path, plan), classifier, plan)


def test_another_seed_gives_other_data(tmp_path: Path) -> None:
    assert audit_cases(TINY) != audit_cases(replace(TINY, seed=1))
    assert training_cases(TINY, True) != training_cases(replace(TINY, seed=1), True)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="no demo wrote"):
        write_demo(tmp_path, settings=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_masks_of_the_manifest_are_the_rendered_ones(tmp_path: Path) -> None:
    cases = audit_cases(TINY)[:4]
    path = write_audit_set(tmp_path, cases, TINY)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, case in zip(rows, cases, strict=True):
        picture = render(case.scene, TINY.side)
        name, value = row["region.ruler"].split("#")
        assert np.array_equal(
            np.asarray(Image.open(tmp_path / name)) == int(value), inside(picture, "ruler")
        )
        stored = np.asarray(Image.open(tmp_path / row["image"]), float)
        assert np.abs(stored - picture.pixels).mean() < 4
        assert row["label"] == CLASSES[case.malignant]
        assert row["cluster"] == case.patient


# ── the planted truth, measured ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.xdist_group("demo")
def test_heat_goes_to_the_ruler_where_the_shortcut_was_planted_and_only_there(
    built_demo: Path,
) -> None:
    means = {}
    for name in ("shortcut", "clean"):
        measurements = measured(built_demo / "manifest.csv", name)
        table = measurements.table.merge(
            measurements.images[["image_id", "subgroup.skin_tone"]], on="image_id"
        )
        ruler = table[(table["region"] == "ruler") & table["heat_share"].notna()]
        means[name] = ruler.groupby("subgroup.skin_tone")["heat_share"].mean()
    planted = means["shortcut"][SHORTCUT_GROUP] - means["shortcut"].drop(SHORTCUT_GROUP).max()
    assert planted > 0.20, means
    assert means["clean"].max() - means["clean"].min() < 0.08, means
