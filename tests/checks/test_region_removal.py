"""Removal of a region in worlds with a known answer: networks whose arithmetic can be read off, no training."""

import numpy as np
import pytest
import torch
from causal_worlds import GROUPS, WORLDS, make
from torch import nn

import gradaudit as ga
from gradaudit.checks.region_removal import STANDARD_FILLS
from gradaudit.errors import InputError

SENSITIVE = ("fill_sensitive", "ghost")
"""Networks that react to the fill itself: the control takes that away, on average."""


def effects_in(world, **settings):
    clf = ga.Classifier.wrap(world.network, classes=["benign", "malignant"], layer="features")
    masks = np.stack([world.region, world.lesion], 1).astype(np.float32)
    return ga.region_effects(clf, world.images, masks, **settings)


def truth_of(world):
    """Total variation, flips and change of the log odds, with the region truly absent."""
    with torch.no_grad():
        before, after = (
            world.network.margin(x).double().numpy() for x in (world.images, world.absent)
        )
    p, q = (1 / (1 + np.exp(-z)) for z in (before, after))
    return np.abs(p - q), (before > 0) != (after > 0), after - before


@pytest.mark.parametrize("fill", STANDARD_FILLS)
@pytest.mark.parametrize("name", [name for name in WORLDS if name not in SENSITIVE])
def test_the_effect_is_that_of_true_removal(name, fill):
    world = make(name, seed=3, patients=45)
    tv, flips, logit = truth_of(world)
    table = effects_in(world)
    own = table.loc[(table["r"] == 0) & (table["fill"] == fill)]
    assert (own["status"] == "ok").all()
    for group in GROUPS:
        rows = world.groups == group
        assert own["effect"].to_numpy()[rows].mean() == pytest.approx(tv[rows].mean(), abs=0.01)
        net = own["flipped"].astype(float) - own["flipped_control"].astype(float)
        assert net.to_numpy()[rows].mean() == pytest.approx(flips[rows].mean(), abs=0.03)
        assert own["logit"].to_numpy()[rows].mean() == pytest.approx(
            logit[rows].mean(), abs=0.05 + 0.01 * abs(logit).mean()
        )


@pytest.mark.parametrize("name", SENSITIVE)
def test_a_network_that_reacts_to_the_fill_has_no_effect_beyond_the_control(name):
    world = make(name, seed=3)
    table = effects_in(world)
    own = table.loc[(table["r"] == 0) & (table["fill"] == "mean")]
    assert own["tv"].mean() > 0.25  # taken alone, removal looks decisive
    # not exactly 0: the region lies at the border of the image, its control seldom does
    assert abs(own["effect"].mean()) < 0.025


def test_a_signed_change_would_not_see_what_total_variation_sees():
    world = make("effect_without_heat_mixed", seed=1)
    own = effects_in(world).query("r == 0 and fill == 'ring'")
    assert abs(own["signed"].mean()) < 0.1 < own["effect"].mean()


def test_saturated_probabilities_hide_what_the_log_odds_show():
    own = effects_in(make("softmax_saturated", seed=1, patients=30)).query("r == 0")
    assert own["effect"].abs().max() < 0.01
    assert own["logit"].mean() < -20


class Bright(nn.Module):
    """Log odds: the sum of the first channel."""

    def forward(self, x):
        z = x[:, 0].sum((1, 2))
        return torch.stack([torch.zeros_like(z), z], 1)


def one_square(width=6, side=32, value=0.02):
    image = torch.zeros(1, 1, side, side)
    mask = torch.zeros(1, 1, side, side)
    mask[..., 4 : 4 + width, 4 : 4 + width] = 1
    image[mask > 0] = value
    return image, mask


def test_numbers_by_hand():
    """36 pixels of .02: log odds .72, gone with the region; the control changes nothing."""
    image, mask = one_square()
    table = ga.region_effects(Bright(), image, mask, fills=("mean",))
    row = table.iloc[0]
    p = 1 / (1 + np.exp(-0.72))
    assert (row["n"], row["r"], row["fill"], row["dose"], row["status"]) == (
        0,
        0,
        "mean",
        1.0,
        "ok",
    )
    assert row["tv"] == pytest.approx(p - 0.5, abs=1e-6)
    assert row["effect"] == pytest.approx(p - 0.5, abs=1e-6)
    assert row["signed"] == pytest.approx(0.5 - p, abs=1e-6)
    assert row["logit"] == pytest.approx(-0.72, abs=1e-5)
    assert row["area_share"] == pytest.approx(36 / 32**2)
    assert bool(row["flipped"])  # at log odds 0 the first of two equal classes is named
    assert not bool(row["flipped_control"])


@pytest.mark.parametrize("output", ["one logit", "flat"])
def test_one_logit_is_two_classes(output):
    class One(nn.Module):
        def forward(self, x):
            z = x[:, 0].sum((1, 2))
            return z if output == "flat" else z[:, None]

    image, mask = one_square()
    both = [ga.region_effects(net, image, mask, fills=("mean",)) for net in (Bright(), One())]
    assert both[1]["logit"].to_numpy() == pytest.approx(both[0]["logit"].to_numpy())
    assert both[1]["effect"].to_numpy() == pytest.approx(both[0]["effect"].to_numpy())


def test_of_three_classes_a_named_one_is_told_with_its_sign():
    class Three(nn.Module):
        def forward(self, x):
            z = x[:, 0].sum((1, 2))
            return torch.stack([torch.zeros_like(z), z, -z], 1)

    image, mask = one_square()
    clf = ga.Classifier.wrap(Three(), classes=["a", "b", "c"])
    plain = ga.region_effects(clf, image, mask)
    named = ga.region_effects(clf, image, mask, target="class:b")
    assert plain["signed"].isna().all()
    assert (named["signed"] < -0.1).all()
    assert named["effect"].tolist() == plain["effect"].tolist()
    with pytest.raises(InputError, match=r'"class:" and a class of the model \(a, b, c\)'):
        ga.region_effects(clf, image, mask, target="class:d")


def test_doses_grow_and_a_control_of_the_same_dose_stands_beside():
    world = make("heat_and_effect", seed=2, patients=30)
    table = effects_in(world, doses=(0.25, 0.5, 1.0), fills=("ring",)).query("r == 0")
    means = table.groupby("dose")["effect"].mean()
    assert list(means.index) == [0.25, 0.5, 1.0]
    assert means.is_monotonic_increasing
    assert means[0.25] < 0.6 * means[1.0]


def test_random_numbers_do_not_depend_on_the_batch_or_on_other_regions():
    world = make("ghost", seed=1, patients=9)
    whole = effects_in(world, seed=5)
    again = effects_in(world, seed=5)
    assert whole.equals(again)
    other = effects_in(world, seed=6)
    assert not whole["tv"].equals(other["tv"])


def test_nothing_is_changed_in_place():
    world = make("heat_and_effect", seed=0, patients=6)
    world.network.train()
    images, region = world.images.clone(), world.region.copy()
    effects_in(world)
    assert torch.equal(images, world.images)
    assert np.array_equal(region, world.region)
    assert world.network.training


def test_a_region_without_a_place_for_its_control_says_so():
    image, mask = one_square(width=30)
    row = ga.region_effects(Bright(), image, mask, fills=("mean",)).iloc[0]
    assert row["status"] == "no_control"
    assert row["tv"] > 0.4
    assert np.isnan(row["effect"])
    assert row["flipped_control"] is None or np.isnan(row["flipped_control"])


@pytest.mark.parametrize(("value", "status"), [(0.0, "empty_mask"), (1.0, "full_mask")])
def test_no_region_and_nothing_but_region(value, status):
    mask = torch.full((1, 1, 16, 16), value)
    row = ga.region_effects(Bright(), torch.rand(1, 1, 16, 16), mask).iloc[0]
    assert row["status"] == status
    assert row[["tv", "effect", "logit"]].isna().all()


def test_a_control_does_not_touch_other_regions_unless_they_are_background():
    """Everything but the region is annotated: a control needs that part to be background."""
    image, mask = one_square()
    both = torch.cat([mask, 1 - mask], 1)
    alone = ga.region_effects(Bright(), image, both, fills=("mean",)).query("r == 0")
    allowed = ga.region_effects(Bright(), image, both, fills=("mean",), background=[1]).query(
        "r == 0"
    )
    assert alone["status"].tolist() == ["no_control"]
    assert allowed["status"].tolist() == ["ok"]


def test_scores_that_are_no_numbers_have_no_effect():
    class Broken(nn.Module):
        def forward(self, x):
            z = x[:, 0].sum((1, 2))
            return torch.stack([z * 0, torch.where(z > 0.5, z, torch.nan)], 1)

    image, mask = one_square()
    row = ga.region_effects(Broken(), image, mask, fills=("mean",)).iloc[0]
    assert row["status"] == "non_finite"
    assert np.isnan(row["tv"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fills": ("telea",)}, "no member 'telea'"),
        ({"fills": ()}, "name at least one"),
        ({"doses": (0.0,)}, "shares of the region above 0"),
        ({"doses": (1.5,)}, "shares of the region above 0"),
        ({"target": "label"}, 'expected "predicted"'),
        ({"target": "class:7"}, "7 is no class of the model"),
    ],
)
def test_settings_that_cannot_be_used_are_named(change, message):
    image, mask = one_square()
    with pytest.raises(InputError, match=message):
        ga.region_effects(Bright(), image, mask, **change)


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        ((2, 1, 8, 8), (1, 1, 8, 8), "of the same N, H, W"),
        ((1, 1, 8, 8), (1, 1, 8, 9), "of the same N, H, W"),
        ((1, 8, 8), (1, 1, 8, 8), "of the same N, H, W"),
        ((0, 1, 8, 8), (0, 1, 8, 8), "no image"),
    ],
)
def test_shapes_that_do_not_fit_are_named(images, masks, message):
    with pytest.raises(InputError, match=message):
        ga.region_effects(Bright(), torch.zeros(images), torch.zeros(masks))


def test_masks_outside_their_range_are_counted():
    image, mask = one_square()
    with pytest.raises(InputError, match=r"1 of 1 images hold other values, e\.g\. image 0"):
        ga.region_effects(Bright(), image, mask * 255)


@pytest.mark.parametrize(("excess", "taken"), [(2.4e-7, True), (1e-5, True), (1e-4, False)])
def test_masks_that_shrinking_left_a_little_above_one_are_taken(excess, taken):
    image, mask = one_square()
    plain = ga.region_effects(Bright(), image, mask)
    if not taken:
        with pytest.raises(InputError, match="expected coverage"):
            ga.region_effects(Bright(), image, mask * (1 + excess))
        return
    assert ga.region_effects(Bright(), image, mask * (1 + 0.9 * excess)).equals(plain)
