"""The worlds themselves: each is what it says, by exact removal (no fill) and by Grad-CAM."""

import numpy as np
import pytest
import torch
from causal_worlds import GROUPS, WORLDS, make

import gradaudit as ga


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_is_what_it_says(name):
    world = make(name, seed=0, patients=60)
    truth = world.truth
    with torch.no_grad():
        before, after = (world.network.margin(x).numpy() for x in (world.images, world.absent))
    p, q = (1 / (1 + np.exp(-np.clip(z, -60, 60))) for z in (before, after))
    clf = ga.Classifier.wrap(world.network, classes=["benign", "malignant"], layer="features")
    heat = ga.explain(clf, world.images).upsample((64, 64)).clamp(min=0)
    found = ga.region_metrics(heat, torch.from_numpy(world.region)[:, None].float())
    lift = found["relevance_mass_accuracy"].to_numpy() - world.region.mean((1, 2))
    for group in GROUPS:
        rows, inside = world.groups == group, group in truth.groups
        tv, more = np.abs(p - q)[rows].mean(), np.nanmean(lift[rows])
        assert tv > 0.15 if truth.effect and inside else tv < 0.02
        assert more > 0.08 if truth.heat and inside else more < 0.03
    if truth.hidden:
        assert np.abs(before - after).mean() > 5
    if truth.mixed:
        assert abs((p - q).mean()) < 0.1 < np.abs(p - q).mean()
