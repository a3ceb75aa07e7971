"""Pasting a region onto images without it, and its sham: networks whose arithmetic can be read off, no training."""

import inspect

import numpy as np
import pandas as pd
import pytest
import torch
from causal_worlds import GROUPS, WORLDS, make
from torch import nn

import gradaudit as ga
from gradaudit.checks.fills import filled, surroundings, widened
from gradaudit.checks.insertion import INSERTION_COLUMNS, RIM, region_insertion
from gradaudit.errors import InputError, ModelError

COLUMNS = ("n", "donor", "tv", "tv_sham", "effect", "signed", "signed_sham", "logit", "flipped", "flipped_sham", "area_share", "status", "reason")  # fmt: skip
SENSITIVE = ("fill_sensitive", "ghost")
"""Networks that react to what is put into an image, whatever it is: the sham takes that away, on average."""


class Arithmetic(nn.Module):
    """Logits (-z / 2, z / 2) of a score z(images) that a test states."""

    def __init__(self, score):
        super().__init__()
        self.score, self.seen = score, []

    def forward(self, x):
        self.seen.append(len(x))
        z = self.score(x)
        return torch.stack([-z / 2, z / 2], 1)


def plain(score, **options):
    return ga.Classifier.wrap(Arithmetic(score), classes=["without", "with"], **options)


def pictures(count, side=24, level=0.4, seed=0):
    noise = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return level + 0.05 * (noise - 0.5)


def marked(images, rows=slice(6, 10), columns=slice(8, 14)):
    """The images with a white mark in their red plane, and where it is."""
    masks = torch.zeros(len(images), *images.shape[2:])
    masks[:, rows, columns] = 1
    donors = images.clone()
    donors[:, 0][masks > 0] = 1.0
    return donors, masks


def other_of_the_group(world, seed=0):
    """For each image another image of the same group, of another patient."""
    rng = np.random.default_rng(seed)
    return [
        int(rng.choice(np.flatnonzero((world.groups == g) & (world.patients != p))))
        for g, p in zip(world.groups, world.patients, strict=True)
    ]


def inserted_in(world, **settings):
    clf = ga.Classifier.wrap(world.network, classes=["benign", "malignant"], layer="features")
    masks, lesions = (mask.astype(np.float32) for mask in (world.region, world.lesion))
    return region_insertion(clf, world.absent, world.images, masks, taken=lesions, **settings)


def truth_of(world):
    """Total variation, flips and change of the log odds, where the region truly comes."""
    with torch.no_grad():
        without, held = (
            world.network.margin(x).double().numpy() for x in (world.absent, world.images)
        )
    p, q = (1 / (1 + np.exp(-z)) for z in (without, held))
    return np.abs(p - q), (without > 0) != (held > 0), held - without


# ── worlds with a known answer ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [name for name in WORLDS if name not in SENSITIVE])
def test_what_is_pasted_does_what_the_region_does(name):
    """From other patients of the group: within .015 in probability and .1 (or 3 %) in the logit in each group, and within 4 points of flips over all."""
    world = make(name, seed=3)
    tv, flips, logit = truth_of(world)
    table = inserted_in(world, donors_of=other_of_the_group(world))
    assert (table["status"] == "ok").all()
    for group in GROUPS:
        rows = world.groups == group
        assert table["effect"].to_numpy()[rows].mean() == pytest.approx(tv[rows].mean(), abs=0.015)
        wanted = logit[rows].mean()
        assert table["logit"].to_numpy()[rows].mean() == pytest.approx(
            wanted, abs=0.1 + 0.03 * abs(wanted)
        )
    net = table["flipped"].astype(float) - table["flipped_sham"].astype(float)
    assert net.mean() == pytest.approx(flips.mean(), abs=0.04)


@pytest.mark.parametrize("name", SENSITIVE)
def test_a_network_that_reacts_to_grain_has_no_effect_beyond_the_sham(name):
    """The sham is resampled and so a little noisier than what it stands for: the effect errs towards none, by .01."""
    world = make(name, seed=3)
    table = inserted_in(world, donors_of=other_of_the_group(world))
    assert table["tv"].mean() > 0.025
    assert -0.02 < table["effect"].mean() < 0.005
    for column in ("signed", "logit"):
        mean, error = table[column].mean(), table[column].std() / len(table) ** 0.5
        assert mean == pytest.approx(0, abs=3 * error)


def test_both_signs_do_not_cancel_in_total_variation():
    """Half of the images rise and half fall: the signed mean is near nothing, the effect is not."""
    world = make("effect_without_heat_mixed", seed=1)
    table = inserted_in(world, donors_of=other_of_the_group(world))
    assert table["effect"].mean() > 0.04
    assert abs(table["signed"].mean()) < table["effect"].mean() / 2


def test_the_donors_own_pixels_alone_are_as_if_they_had_always_been_there():
    """The image from which the region was taken gets it back: exactly the true change, before any sham."""
    world = make("heat_and_effect", seed=0, patients=30)
    tv, flips, _ = truth_of(world)
    table = inserted_in(world, donors_of=list(range(len(world.images))))
    np.testing.assert_allclose(table["tv"], tv, atol=1e-6)
    assert table["flipped"].tolist() == flips.tolist()


# ── networks that react to the pasting ──────────────────────────────────────────────────────────────────────────────


def roughness(x):
    """Largest step between neighboring pixels of the blue plane: what a pasted box has, and the images have not."""
    down = (x[:, 2, 1:] - x[:, 2, :-1]).abs().flatten(1).amax(1)
    right = (x[:, 2, :, 1:] - x[:, 2, :, :-1]).abs().flatten(1).amax(1)
    return 20 * (torch.maximum(down, right) - 0.15)


@pytest.mark.parametrize("boxed", [False, True])
def test_a_network_that_reacts_to_any_pasted_edge_has_no_net_effect(boxed):
    """Donors are darker than the images: every box has edges, with the mark and without it."""
    images = pictures(40, level=0.7)
    donors, masks = marked(pictures(6, level=0.3, seed=1))
    boxes = None
    if boxed:
        boxes = torch.zeros_like(masks)
        boxes[:, 2:15, 3:20] = 1
    table = region_insertion(plain(roughness), images, donors, masks, boxes=boxes)
    assert table["tv"].min() > 0.5  # taken alone, every paste looks decisive
    assert table["flipped"].all()
    assert table["flipped_sham"].all()
    assert table["effect"].abs().max() < 0.02


def test_a_network_that_reads_the_surroundings_of_the_region_has_no_net_effect():
    """Dark skin comes along with the ruler; a network that reads skin must not be charged with rulers."""
    world = make("neither", seed=2)
    light = world.groups == "I-II"
    dark = np.flatnonzero(world.groups == "V-VI")
    clf = plain(lambda x: 150 * (0.78 - x[:, 2].mean((1, 2))))
    table = region_insertion(
        clf, world.absent[light], world.images[dark], world.region[dark].astype(np.float32)
    )
    assert table["tv"].mean() > 0.2
    assert abs(table["effect"].mean()) < 0.01


def test_a_network_that_reads_the_sign_alone_is_told_with_its_whole_effect():
    """24 pixels of .6 over the red plane of 576: the score rises by a known amount."""
    images = pictures(10)
    donors, masks = marked(pictures(4, seed=1))
    table = region_insertion(
        plain(lambda x: 80 * (x[:, 0].mean((1, 2)) - 0.41)), images, donors, masks
    )
    assert table["logit"].mean() == pytest.approx(80 * 0.6 * 24 / 576, abs=0.05)
    assert (table["signed"] > 0.2).all()
    assert (table["effect"] > 0.2).all()
    assert table["flipped"].all()
    assert not table["flipped_sham"].any()


# ── replica ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def slowly(clf, image, donor, mask, box, random):
    """One image by the definition, pixel after pixel: what is pasted, what the sham is, and what the network says."""
    goes = widened(mask) & box
    source = surroundings(goes, ~goes)
    sham_donor = filled(donor, goes, source, "ring", random)
    pasted, sham = image.copy(), image.copy()
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            if box[y, x]:
                pasted[:, y, x], sham[:, y, x] = donor[:, y, x], sham_donor[:, y, x]
    with torch.no_grad():
        z = clf.module(torch.from_numpy(np.stack([image, pasted, sham]))).double().numpy()
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    odds = np.log(p[:, 1] / (1 - p[:, 1]))
    tv = [0.5 * sum(abs(p[k, c] - p[0, c]) for c in range(p.shape[1])) for k in (1, 2)]
    return {"tv": tv[0], "tv_sham": tv[1], "effect": tv[0] - tv[1], "signed": p[1, 1] - p[2, 1], "signed_sham": p[2, 1] - p[0, 1], "logit": odds[1] - odds[2],
            "flipped": p[1].argmax() != p[0].argmax(), "flipped_sham": p[2].argmax() != p[0].argmax(), "area_share": box.mean()}  # fmt: skip


def test_every_figure_equals_a_slow_replica():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )
    with torch.no_grad():
        module[-1].weight *= 40
    clf = ga.Classifier.wrap(module, classes=["a", "b", "c"])
    images = pictures(7, level=0.6)
    donors, masks = marked(pictures(2, level=0.3, seed=5))
    table = region_insertion(clf, images, donors, masks, positive="b", seed=11)
    for row in table.itertuples():
        grown = widened(masks[row.donor].numpy())
        for _ in range(RIM):
            grown = widened(grown)
        random = np.random.default_rng([11, row.n, 1])
        wanted = slowly(clf, images[row.n].numpy(), donors[row.donor].numpy(), masks[row.donor].numpy(), grown, random)  # fmt: skip
        for name, value in wanted.items():
            assert getattr(row, name) == pytest.approx(value, abs=1e-6), name


def test_one_logit_and_two_are_told_alike():
    def score(x):
        return 60 * (x[:, 0].mean((1, 2)) - 0.41)

    class One(nn.Module):
        def forward(self, x):
            return score(x)[:, None]

    images, (donors, masks) = pictures(5), marked(pictures(2, seed=1))
    two = region_insertion(plain(score), images, donors, masks)
    one = region_insertion(ga.Classifier.wrap(One()), images, donors, masks)
    pd.testing.assert_frame_equal(one, two, check_exact=False, atol=1e-6)


# ── promises ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_row_for_each_image_with_the_promised_columns():
    images, (donors, masks) = pictures(9), marked(pictures(3, seed=1))
    table = region_insertion(plain(roughness), images, donors, masks)
    assert tuple(table.columns) == COLUMNS == INSERTION_COLUMNS
    assert table["n"].tolist() == list(range(9))
    assert set(table["donor"]) == {0, 1, 2}
    assert (table["status"] == "ok").all()
    assert (table["reason"] == "").all()
    np.testing.assert_allclose(table["effect"], table["tv"] - table["tv_sham"], atol=0)


def test_nothing_given_is_changed():
    module = Arithmetic(roughness).train()
    clf = ga.Classifier.wrap(module)
    images, (donors, masks) = pictures(5), marked(pictures(2, seed=1))
    kept = [t.clone() for t in (images, donors, masks)]
    state = torch.random.get_rng_state()
    region_insertion(clf, images, donors, masks)
    for before, after in zip(kept, (images, donors, masks), strict=True):
        assert torch.equal(before, after)
    assert module.training
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_seed_decides_and_the_other_images_do_not():
    clf = plain(lambda x: 60 * (x.mean((1, 2, 3)) - 0.41))
    images, (donors, masks) = pictures(8), marked(pictures(3, seed=1))
    first = region_insertion(clf, images, donors, masks, seed=4)
    pd.testing.assert_frame_equal(first, region_insertion(clf, images, donors, masks, seed=4))
    assert not first.equals(region_insertion(clf, images, donors, masks, seed=5))
    fewer = region_insertion(clf, images[:3], donors, masks, seed=4)
    pd.testing.assert_frame_equal(first[:3], fewer, check_exact=False, atol=1e-6)


def test_numpy_and_half_precision_images_are_read_too():
    clf = plain(lambda x: 60 * (x.mean((1, 2, 3)) - 0.41))
    images, (donors, masks) = pictures(3), marked(pictures(2, seed=1))
    wanted = region_insertion(clf, images, donors, masks)
    found = region_insertion(clf, images.double().numpy(), donors.numpy(), masks.numpy() > 0)
    pd.testing.assert_frame_equal(found, wanted, check_exact=False, atol=1e-6)


def test_masks_that_were_shrunk_are_read_in_spite_of_their_rounding():
    clf = plain(roughness)
    images, (donors, masks) = pictures(3), marked(pictures(2, seed=1))
    wanted = region_insertion(clf, images, donors, masks)
    rounded = masks * (1 + 2e-6) - 1e-9 * (masks == 0)
    pd.testing.assert_frame_equal(region_insertion(clf, images, donors, rounded), wanted)


def test_a_donor_without_the_region_is_never_drawn_and_says_so_where_it_is_named():
    clf = plain(roughness)
    images, (donors, masks) = pictures(12), marked(pictures(3, seed=1))
    masks[1] = 0
    assert set(region_insertion(clf, images, donors, masks)["donor"]) == {0, 2}
    named = region_insertion(clf, images[:2], donors, masks, donors_of=[1, 2])
    assert named["status"].tolist() == ["empty_mask", "ok"]
    assert named["tv"].isna().tolist() == [True, False]
    assert named["flipped"].isna().tolist() == [True, False]
    assert "does not hold the region" in named["reason"][0]


def test_what_must_stay_in_view_is_not_pasted_over():
    """A paste over the lesion would be charged to the ruler; images where every patch would hide it are counted."""
    clf = plain(roughness)
    images, (donors, masks) = pictures(10), marked(pictures(2, seed=1))
    low, low_masks = marked(pictures(1, seed=2), rows=slice(17, 20))
    donors, masks = torch.cat([donors, low]), torch.cat([masks, low_masks])
    keep = torch.zeros(10, 24, 24)
    keep[:8, 5:8, 9:12] = 1
    keep[8, :] = 1
    table = region_insertion(clf, images, donors, masks, keep=keep)
    assert table["donor"][:8].tolist() == [2] * 8
    assert table["status"].tolist() == ["ok"] * 8 + ["no_place", "ok"]
    assert np.isnan(table["effect"][8])
    assert "hide" in table["reason"][8]


def test_a_donor_that_is_all_region_has_no_surroundings():
    images, donors = pictures(2), pictures(1, seed=1)
    table = region_insertion(plain(roughness), images, donors, torch.ones(1, 24, 24))
    assert table["status"].tolist() == ["full_mask"] * 2
    assert table["effect"].isna().all()


def test_the_sham_is_not_filled_from_another_sign():
    """A second white sign stands next to the first: its pixels are no surroundings."""
    images = pictures(6)
    donors, masks = marked(pictures(1, seed=1))
    taken = torch.zeros_like(masks)
    taken[:, 3:17, 2:7] = taken[:, 3:17, 16:21] = taken[:, 13:17, 2:21] = taken[:, 2:4, 2:21] = 1
    donors[:, 0][taken > 0] = 1.0
    clf = plain(lambda x: 80 * (x[:, 0].mean((1, 2)) - 0.41))
    boxes = widened(masks[0].numpy())[None]
    informed = region_insertion(clf, images, donors, masks, boxes=boxes, taken=taken)
    ignorant = region_insertion(clf, images, donors, masks, boxes=boxes)
    assert informed["logit"].mean() == pytest.approx(80 * 0.6 * 24 / 576, abs=0.05)
    assert ignorant["logit"].mean() < 0.8 * informed["logit"].mean()


def test_a_score_that_is_no_number_is_a_row_with_its_reason():
    def score(x):
        z = x.mean((1, 2, 3))
        return torch.where(x[:, 0].amax((1, 2)) > 0.99, z * float("nan"), z)

    images, (donors, masks) = pictures(3), marked(pictures(1, seed=1))
    table = region_insertion(plain(score), images, donors, masks)
    assert table["status"].tolist() == ["non_finite"] * 3
    assert (
        table[["tv", "effect", "signed", "signed_sham", "logit", "flipped"]].isna().all(axis=None)
    )
    assert "finite" in table["reason"][0]


def test_of_more_classes_the_sign_is_told_of_the_named_one_alone():
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    clf = ga.Classifier.wrap(module, classes=["a", "b", "c"])
    images, (donors, masks) = pictures(3), marked(pictures(2, seed=1))
    unnamed = region_insertion(clf, images, donors, masks)
    assert unnamed[["signed", "signed_sham", "logit"]].isna().all(axis=None)
    assert unnamed["effect"].notna().all()
    signed = [region_insertion(clf, images, donors, masks, positive=name)["signed"] for name in ("a", "b", 2)]  # fmt: skip
    np.testing.assert_allclose(sum(s.to_numpy() for s in signed), 0, atol=1e-9)
    assert np.abs(signed[0]).max() > 0


def test_a_softmax_at_the_end_is_taken_off():
    def score(x):
        return 60 * (x[:, 0].mean((1, 2)) - 0.41)

    ending = nn.Sequential(Arithmetic(score), nn.Softmax(1))
    images, (donors, masks) = pictures(5), marked(pictures(2, seed=1))
    wanted = region_insertion(plain(score), images, donors, masks)
    found = region_insertion(ga.Classifier.wrap(ending), images, donors, masks)
    pd.testing.assert_frame_equal(found, wanted, check_exact=False, atol=1e-5)


def test_the_network_is_asked_three_times_an_image_in_small_batches():
    clf = plain(
        roughness,
    )
    images, (donors, masks) = pictures(100, side=12), marked(pictures(2, side=12, seed=1))
    clf.module.seen.clear()
    region_insertion(clf, images, donors, masks)
    assert sum(clf.module.seen) <= 3 * 100 + 8  # and a few that tell whether it gives logits
    assert max(clf.module.seen) <= 64


GOOD = {"images": pictures(3), "donors": marked(pictures(2, seed=1))[0], "masks": marked(pictures(2, seed=1))[1]}  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"images": pictures(3)[0]}, r"images.*\(N, C, H, W\)"),
        ({"images": torch.zeros(0, 3, 24, 24)}, "no image"),
        ({"donors": pictures(2, side=20)}, "of the same C, H, W"),
        ({"donors": pictures(2)[:, :1]}, "of the same C, H, W"),
        ({"masks": torch.ones(3, 24, 24)}, r"masks.*\(D, H, W\)"),
        ({"masks": torch.full((2, 24, 24), 255.0)}, r"masks.*\[0, 1\]"),
        ({"masks": torch.full((2, 24, 24), float("nan"))}, r"masks.*\[0, 1\]"),
        ({"masks": torch.zeros(2, 24, 24)}, "no donor holds the region"),
        ({"boxes": torch.zeros(2, 24, 24)}, "boxes.*whole region"),
        ({"boxes": torch.ones(2, 20, 20)}, r"boxes.*\(D, H, W\)"),
        ({"keep": torch.ones(2, 24, 24)}, r"keep.*\(N, H, W\)"),
        ({"taken": torch.ones(3, 24, 24)}, r"taken.*\(D, H, W\)"),
        ({"donors_of": [0, 1]}, "donors_of.*one for each of 3"),
        ({"donors_of": [0, 1, 2]}, "donors_of.*0 to 1"),
        ({"donors_of": [0, -1, 1]}, "donors_of.*0 to 1"),
        ({"fill": "paint"}, "paint"),
        ({"positive": "maybe"}, "maybe.*without, with"),
        ({"positive": 2}, "2.*without, with"),
    ],
)
def test_what_does_not_fit_is_refused_in_plain_words(wrong, words):
    with pytest.raises(Exception, match=words) as refused:
        region_insertion(plain(roughness), **(GOOD | wrong))
    assert isinstance(refused.value, InputError | KeyError | ga.GradauditError)


def test_what_the_network_raises_is_told():
    def broken(x):
        raise RuntimeError("shapes do not match")

    with pytest.raises(ModelError, match="shapes do not match"):
        region_insertion(plain(broken), **GOOD)


def test_it_is_a_public_name():
    assert ga.region_insertion is region_insertion


def test_settings_are_named():
    """Fills, seed and the like are never given by place."""
    kinds = [p.kind for p in inspect.signature(region_insertion).parameters.values()]
    assert kinds[4:] == [inspect.Parameter.KEYWORD_ONLY] * len(kinds[4:])
