"""What changed between two audits: recounted, swapped, shuffled, and attacked."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import gradaudit as ga
from gradaudit.records import CellState
from gradaudit.series.changes.cells import TURNED, UNCHANGED
from tests.series.two_audits import REGIONS, Patients, a_plan, cell

V_LESS = {("ruler", "tone", "V"): -0.2}
V_MORE = {("ruler", "tone", "V"): 0.2}


@pytest.fixture(scope="module")
def patients():
    return Patients()


@pytest.fixture(scope="module")
def shortcut(patients):
    return patients.audit(shifts=V_MORE, seed=1, accuracy={"I": 0.9, "III": 0.9, "V": 0.5})


@pytest.fixture(scope="module")
def clean(patients):
    return patients.audit(seed=2, accuracy=0.9)


@pytest.fixture(scope="module")
def results(shortcut, clean):
    """Built once: a comparison of results takes their documents as they are."""
    return ga.build_result(shortcut), ga.build_result(clean)


@pytest.fixture(scope="module")
def found(results):
    return ga.compare(*results)


# ── the numbers, by another way ─────────────────────────────────────────────────────────────────────────────────────


def recounted(meas, region, attribute):
    """One row per patient: its level and mean heat."""
    heat = meas.table.loc[meas.table["region"] == region, ["image_id", "heat_share"]]
    rows = meas.images.merge(heat, on="image_id").dropna(subset=["heat_share"])
    grouped = rows.groupby("cluster")
    return pd.DataFrame(
        {"level": grouped[f"subgroup.{attribute}"].first(), "y": grouped["heat_share"].mean()}
    )


def influence(rows, level, against="rest"):
    """What each patient adds to mean(level) - mean(others), and that difference, without covariates.

    HC2: residuals about the patient's own level, divided by sqrt(1 - 1/n of that level).
    """
    own = rows["level"] == level
    other = ~own if against == "rest" else rows["level"] == against
    difference = rows.loc[own, "y"].mean() - rows.loc[other, "y"].mean()
    weight = np.where(own, 1 / own.sum(), np.where(other, -1 / other.sum(), 0.0))
    size = rows.groupby("level")["y"].transform("size")
    left = (rows["y"] - rows.groupby("level")["y"].transform("mean")) / np.sqrt(1 - 1 / size)
    return difference, pd.Series(weight * left.to_numpy(), index=rows.index)


@pytest.mark.parametrize("overlap", ["paired", "half", "none"])
def test_differences_and_changes_are_recounted_in_plain_pandas(patients, overlap):
    """Two regions, two attributes, five levels: estimates at 1e-12, errors at 1e-9, for every degree of overlap."""
    plan = a_plan(subgroups={})
    number = patients.patient
    rows = {
        "paired": (number >= 0, number >= 0),
        "half": (number % 4 != 0, number % 4 != 1),
        "none": (number % 2 == 0, number % 2 == 1),
    }[overlap]
    a, b = (
        patients.audit(plan, rows=r, shifts=s, seed=k, labels=False, sized=False)
        for r, s, k in ((rows[0], V_MORE, 1), (rows[1], {}, 2))
    )
    comparison = ga.compare(a, b)
    seen = 0
    for region in REGIONS:
        for attribute, levels in (("tone", ("I", "III", "V")), ("sex", ("f",))):
            for level in levels:
                c = cell(
                    comparison, attribute, level, region, "rest" if attribute == "tone" else None
                )
                sides = [
                    influence(recounted(m, region, attribute), level, c.reference) for m in (a, b)
                ]
                assert c.before.estimate == pytest.approx(sides[0][0], abs=1e-12)
                assert c.after.estimate == pytest.approx(sides[1][0], abs=1e-12)
                assert c.change.estimate == pytest.approx(sides[1][0] - sides[0][0], abs=1e-12)
                se = np.sqrt((sides[1][1].sub(sides[0][1], fill_value=0) ** 2).sum())
                half = (c.change.high - c.change.low) / 2
                assert c.change.estimate == pytest.approx((c.change.high + c.change.low) / 2)
                q = half / se  # of the permuted |t*|, near Student's
                assert stats.t.ppf(0.975, 30) * 0.85 < q < stats.t.ppf(0.975, 30) * 1.15
                seen += 1
    assert seen == 8


def test_performance_is_recounted_in_plain_pandas(found, shortcut, clean):
    """Accuracy overall and in each level of two attributes, and the AUC overall."""
    by_place = {(p.attribute, p.level, p.metric): p for p in found.document.performance}
    for attribute, levels in (
        ("(all)", ["(all)"]),
        ("tone", ["I", "III", "V"]),
        ("sex", ["f", "m"]),
    ):
        for level in levels:
            p = by_place[attribute, level, "accuracy"]
            shares = []
            for meas in (shortcut, clean):
                rows = (
                    meas.images
                    if attribute == "(all)"
                    else meas.images[meas.images[f"subgroup.{attribute}"] == level]
                )
                shares.append(float((rows["label"] == rows["predicted"]).mean()))
            assert p.before.estimate == pytest.approx(shares[0])
            assert p.after.estimate == pytest.approx(shares[1])
            assert p.change.estimate == pytest.approx(shares[1] - shares[0])
            assert p.change.low <= p.change.estimate <= p.change.high
    v = by_place["tone", "V", "accuracy"]
    assert v.word == "better"
    assert by_place["tone", "I", "accuracy"].word == "not_shown"
    ranks = []
    for meas in (shortcut, clean):
        positive = (meas.images["label"] == "malignant").to_numpy()
        r = stats.rankdata(meas.images["probability.malignant"])
        n, m = positive.sum(), (~positive).sum()
        ranks.append((r[positive].sum() - n * (n + 1) / 2) / (n * m))
    auc = by_place["(all)", "(all)", "auc"]
    assert auc.change.estimate == pytest.approx(ranks[1] - ranks[0])


def test_the_group_s_own_heat_is_recounted(found, shortcut, clean):
    c = cell(found, "tone", "V")
    means = [recounted(m, "ruler", "tone").query("level == 'V'")["y"] for m in (shortcut, clean)]
    assert c.group_before == pytest.approx(means[0].mean())
    assert c.group_after == pytest.approx(means[1].mean())
    own = (means[1] - means[0]).to_numpy()
    low, high = stats.t.interval(0.95, len(own) - 1, own.mean(), stats.sem(own))
    assert (c.group_change.low, c.group_change.high) == pytest.approx((low, high))
    assert c.group_word == "better"  # less heat on a region to avoid


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_shortcut_against_its_twin(found):
    c = cell(found, "tone", "V")
    assert c.word == "better"
    assert c.thin.high < 0
    assert c.change.estimate == pytest.approx(-0.2, abs=0.02)
    assert c.change.estimate == pytest.approx(c.after.estimate - c.before.estimate, abs=1e-12)
    assert (c.state_before, c.state_after) == (CellState.BEYOND, CellState.WITHIN)
    assert {x.word for x in found.document.cells if x.attribute == "sex"} == {"not_shown"}
    assert {x.word for x in found.document.cells if x.region == "lesion"} == {"not_shown"}
    assert "smaller in" in found.document.headline


def test_swapping_turns_every_sign_and_word_and_nothing_else(found, results):
    back = ga.compare(*results[::-1])
    turned = {"better": "worse", "worse": "better"}
    key = lambda c: (c.attribute, c.comparison, c.group, c.reference, c.region, c.outcome)  # noqa: E731
    others = {key(c): c for c in back.document.cells}
    assert set(others) == {key(c) for c in found.document.cells}
    for c in found.document.cells:
        d = others[key(c)]
        assert d.word == turned.get(c.word, c.word)
        assert (d.p, d.p_size, d.p_adjusted, d.changed) == (c.p, c.p_size, c.p_adjusted, c.changed)
        assert (d.before, d.after) == (c.after, c.before)
        assert (d.state_before, d.state_after) == (c.state_after, c.state_before)
        assert d.change.estimate == -c.change.estimate
        assert (d.change.low, d.change.high) == (-c.change.high, -c.change.low)
        assert (d.thin.low, d.thin.high) == (-c.thin.high, -c.thin.low)
        assert turned.get(d.group_word, d.group_word) == c.group_word
    others = {(p.attribute, p.level, p.metric): p for p in back.document.performance}
    for p in found.document.performance:
        q = others[p.attribute, p.level, p.metric]
        assert q.word == turned.get(p.word, p.word)
        if p.change.estimate is not None:
            assert q.change.estimate == -p.change.estimate
            assert (q.change.low, q.change.high) == pytest.approx(
                (-p.change.high, -p.change.low), abs=1e-12
            )


def test_a_run_with_itself_changes_by_nothing(results):
    same = ga.compare(results[0], results[0]).document
    assert {c.word for c in same.cells} == {"not_shown"}
    assert {c.change.estimate for c in same.cells} == {0.0}
    assert {(c.change.low, c.change.high) for c in same.cells} == {(0.0, 0.0)}
    assert {c.reason for c in same.cells} == {UNCHANGED}
    assert {p.word for p in same.performance} == {"not_shown"}
    assert {p.change.estimate for p in same.performance if p.change.estimate is not None} == {0.0}
    assert same.differences == ()
    assert same.headline.startswith("No change is shown")


def test_noise_of_arithmetic_is_never_a_change(patients, shortcut):
    """Another batch size moves heat by 1e-7, all the same way in one group: significant, and nothing."""
    table = shortcut.table.copy()
    v = (
        shortcut.images.set_index("image_id")["subgroup.tone"].reindex(table["image_id"]).to_numpy()
        == "V"
    )
    table["heat_share"] += np.where(v, 1e-7, 0) + 1e-9 * np.random.default_rng(0).standard_normal(
        len(table)
    )
    other = type(shortcut)(table, shortcut.images, None, shortcut.run)
    document = ga.compare(shortcut, other).document
    assert {c.word for c in document.cells} == {"not_shown"}
    assert not any(c.changed for c in document.cells)


def test_a_difference_that_turns_round_has_changed_and_is_not_better(patients):
    a = patients.audit(shifts={("ruler", "tone", "V"): 0.15}, seed=1)
    b = patients.audit(shifts={("ruler", "tone", "V"): -0.15}, seed=2)
    c = cell(ga.compare(a, b), "tone", "V")
    assert c.changed
    assert c.word == "not_shown"
    assert c.reason == TURNED
    assert c.p < 0.01 < c.p_size


def test_more_to_the_other_side_is_worse(patients):
    """From about 0 to -15 points: the size grew, whatever the sign."""
    c = cell(
        ga.compare(
            patients.audit(seed=1), patients.audit(shifts={("ruler", "tone", "V"): -0.15}, seed=2)
        ),
        "tone",
        "V",
    )
    assert c.word == "worse"
    assert c.group_word == "better"  # and for the group itself less heat on the ruler is better


def test_attend_and_avoid_have_their_own_sign_for_the_group(patients):
    more = {("ruler", "tone", "V"): 0.15, ("lesion", "tone", "V"): 0.15}
    found = ga.compare(patients.audit(seed=1), patients.audit(shifts=more, seed=2))
    assert cell(found, "tone", "V", "ruler").group_word == "worse"
    assert cell(found, "tone", "V", "lesion").group_word == "better"
    assert {cell(found, "tone", "V", r).word for r in REGIONS} == {
        "worse"
    }  # both are larger disparities


def test_a_disparity_that_shrinks_because_all_others_lose_is_said(patients):
    """V keeps its heat and gains a little more; the others catch up with it: better, and a note."""
    a = patients.audit(shifts={("ruler", "tone", "V"): 0.2}, seed=1)
    b = patients.audit(
        shifts={
            ("ruler", "tone", level): by for level, by in (("V", 0.26), ("I", 0.24), ("III", 0.24))
        },
        seed=2,
    )
    c = cell(ga.compare(a, b), "tone", "V")
    assert c.word == "better"
    assert c.group_word == "worse"
    assert any("wrong way" in note for note in c.notes)


def test_a_state_alone_is_no_change(patients, shortcut):
    """The same heat under a wider limit: every state is another one, and no word is better."""
    wider = a_plan(criteria={"margin": 0.30, "undefined_margin": 0.10})
    later = type(shortcut)(
        shortcut.table,
        shortcut.images,
        None,
        shortcut.run.model_copy(update={"plan": wider.model_dump(mode="json")}),
    )
    found = ga.compare(shortcut, later)
    c = cell(found, "tone", "V")
    assert (c.state_before, c.state_after) == (CellState.BEYOND, CellState.WITHIN)
    assert {x.word for x in found.document.cells} == {"not_shown"}
    first = found.document.differences[0]
    assert (first.area, first.before, first.after) == ("criteria", "0.1", "0.3")


# ── pairing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_order_of_rows_does_not_matter(found, results, clean):
    rng = np.random.default_rng(0)
    images = clean.images.sample(frac=1, random_state=3).reset_index(drop=True)
    table = clean.table.sample(frac=1, random_state=int(rng.integers(99))).reset_index(drop=True)
    again = ga.compare(results[0], type(clean)(table, images, None, clean.run))
    for c, d in zip(found.document.cells, again.document.cells, strict=True):
        assert (c.word, c.p, c.p_size) == (d.word, d.p, d.p_size)
        assert c.change.estimate == pytest.approx(d.change.estimate, abs=1e-12)
        assert c.change.low == pytest.approx(d.change.low, abs=1e-9)
    assert found.document.pairing == again.document.pairing


def with_images(meas, **columns):
    return type(meas)(meas.table, meas.images.assign(**columns), None, meas.run)


def test_images_exchanged_between_files_are_noticed(results, clean):
    digest = clean.images["digest"].to_numpy().copy()
    digest[[0, 150]] = digest[[150, 0]]
    digest[7] = hashlib.sha256(b"another picture").hexdigest()
    p = ga.compare(results[0], with_images(clean, digest=digest)).document.pairing
    assert p.n_replaced == 3  # under three names lies another file
    assert p.n_renamed == 2  # two of them are known under another name
    assert (p.n_pairs, p.n_only_before, p.n_only_after) == (299, 1, 1)
    assert set(p.replaced) == {"img/0000.png", "img/0007.png", "img/0150.png"}


def test_renamed_files_pair_by_their_digest(found, results, clean):
    names = [name.replace("img/", "pictures/") for name in clean.images["image_id"]]
    table = clean.table.assign(
        image_id=[name.replace("img/", "pictures/") for name in clean.table["image_id"]]
    )
    later = type(clean)(table, clean.images.assign(image_id=names), None, clean.run)
    again = ga.compare(results[0], later)
    p = again.document.pairing
    assert (p.n_pairs, p.n_by_digest, p.n_renamed) == (300, 300, 300)
    assert cell(again, "tone", "V").change == cell(found, "tone", "V").change


def test_without_digests_names_pair_and_that_is_said(results, shortcut):
    document = ga.compare(with_images(shortcut, digest=""), results[1]).document
    assert (document.pairing.n_by_digest, document.pairing.n_by_name) == (0, 300)
    assert any("exchanged" in text for text in document.cannot_tell)


def test_files_that_are_there_twice_pair_once_each(shortcut, clean):
    one = clean.images["digest"].iloc[0]
    digest = [one if k < 3 else d for k, d in enumerate(clean.images["digest"])]
    p = ga.compare(
        with_images(shortcut, digest=digest), with_images(clean, digest=digest)
    ).document.pairing
    assert (p.n_pairs, p.n_renamed, p.n_replaced) == (300, 0, 0)


def test_clusters_pair_by_an_image_where_their_names_differ(found, results, clean):
    """An anonymised export calls every patient otherwise; the patients are the same by their images."""
    other = [hashlib.sha256(name.encode()).hexdigest()[:8] for name in clean.images["cluster"]]
    renamed = ga.compare(results[0], with_images(clean, cluster=other))
    assert renamed.document.pairing.n_clusters_both == 150
    same, again = (cell(x, "tone", "V").change for x in (found, renamed))
    assert (again.high - again.low) == pytest.approx(same.high - same.low, rel=0.05)


def test_shared_patients_make_the_interval_narrower_than_strangers(found, results, clean):
    """Teeth of pairing: the same numbers, with every later patient called and pictured otherwise."""
    strangers = with_images(
        clean,
        cluster=[f"other {c}" for c in clean.images["cluster"]],
        digest=[d[::-1] for d in clean.images["digest"]],
    )
    renamed = strangers.images.assign(image_id=["other " + i for i in strangers.images["image_id"]])
    table = strangers.table.assign(image_id=["other " + i for i in strangers.table["image_id"]])
    apart = ga.compare(results[0], type(clean)(table, renamed, None, clean.run))
    assert (apart.document.pairing.n_pairs, apart.document.pairing.n_clusters_both) == (0, 0)
    a, b = (cell(x, "tone", "V").change for x in (found, apart))
    assert a.estimate == pytest.approx(b.estimate, abs=1e-12)
    assert (b.high - b.low) > 2 * (a.high - a.low)


# ── what cannot be compared ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sections", "words", "left"),
    [
        ({"explain": {"method": "layercam"}}, "another method", 0),
        ({"analysis": {"permutations": 199, "cluster_name": "patient", "weights": "precision"}}, "analysis.weights differs", 0),
        ({"regions": {"ruler": {"role": "avoid", "derive": "complement(lesion)"}, "lesion": {"role": "attend"}}}, "made otherwise", None),
        ({"subgroups": {"tone": {"order": ["V", "III", "I"]}}}, "order of its levels", None),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_what_is_another_comparison_is_named_with_its_reason(
    patients, shortcut, sections, words, left
):
    plan = a_plan(**sections)
    later = patients.audit(plan, seed=2)
    if plan.explain.method != "gradcam":
        later = type(later)(
            later.table.assign(method=plan.explain.method), later.images, None, later.run
        )
    if words == "made otherwise":  # derived regions are measured ones here
        later = type(later)(later.table, later.images, None, later.run)
    document = ga.compare(shortcut, later).document
    reasons = [c for c in document.cells if words in c.reason]
    assert reasons
    assert {c.word for c in reasons} == {"not_compared"}
    assert all(c.change.estimate is None for c in reasons)
    if left is not None:
        assert (
            sum(c.word == "not_shown" for c in document.cells if c.outcome == "heat_share") == left
        )
    assert any(d.consequence for d in document.differences)


def test_levels_attributes_and_regions_of_one_audit_alone_are_named(patients, shortcut):
    rows = (patients.images["subgroup.tone"] != "III").to_numpy()
    later = patients.audit(
        a_plan(subgroups={}, regions={"ruler": {"role": "avoid"}}), rows=rows, seed=2
    )
    later = type(later)(
        later.table[later.table["region"] == "ruler"].reset_index(drop=True),
        later.images.drop(columns=["subgroup.sex"]),
        None,
        later.run,
    )
    earlier = type(shortcut)(
        shortcut.table,
        shortcut.images,
        None,
        shortcut.run.model_copy(update={"plan": a_plan(subgroups={}).model_dump(mode="json")}),
    )
    document = ga.compare(earlier, later).document
    reasons = {c.reason for c in document.cells if c.word == "not_compared"}
    assert any("the attribute is not in the other manifest" in r for r in reasons)
    assert any("no level III" in r for r in reasons)
    assert any("not measured in the other audit" in r for r in reasons)
    names = [d.name for d in document.differences]
    assert {"attribute sex", "levels of tone", "regions measured", "images"} <= set(names)
    places = {
        (c.attribute, c.comparison, c.group, c.reference, c.region, c.outcome)
        for c in document.cells
    }
    assert len(places) == len(document.cells)  # every planned comparison of either audit once


@pytest.mark.slow
def test_one_plan_for_both_takes_away_what_differs(patients, shortcut):
    other = patients.audit(a_plan(criteria={"margin": 0.5, "undefined_margin": 0.1}), seed=2)
    assert ga.compare(shortcut, other).document.differences[0].area == "criteria"
    assert not ga.compare(shortcut, other, plan=a_plan()).document.differences


def test_relabelled_and_redrawn_images_are_listed(patients, shortcut, clean):
    images = clean.images.copy()
    images.loc[:19, "subgroup.sex"] = "m"
    table = clean.table.copy()
    table.loc[table["region"] == "lesion", "area_share"] *= 1.1
    told = {
        d.name: d.after
        for d in ga.compare(
            shortcut, type(clean)(table, images, None, clean.run)
        ).document.differences
    }
    changed = int((images["subgroup.sex"] != clean.images["subgroup.sex"]).sum())
    assert told["sex of paired images"] == (
        "fewer than 11 differ" if changed < 11 else f"{changed} differ"
    )
    assert told["outline of lesion in paired images"] == "300 differ"
    assert "outline of ruler in paired images" not in told


@pytest.mark.slow
def test_a_number_is_compared_along_one_line():
    patients = Patients(aged=True)
    a, b = patients.audit(seed=1), patients.audit(seed=2)
    age = patients.images["subgroup.age"].astype(float)
    table = b.table.copy()
    slope = 0.004 * (age - 50)
    table.loc[table["region"] == "ruler", "heat_share"] += slope.to_numpy()
    found = ga.compare(a, type(b)(table, b.images, None, b.run))
    c = next(c for c in found.document.cells if c.attribute == "age" and c.region == "ruler")
    low, high = np.quantile(np.r_[age, age], [0.1, 0.9])
    assert c.comparison == "line"
    assert c.word == "worse"
    assert c.change.estimate == pytest.approx(0.004 * (high - low), abs=0.01)


def test_two_levels_whose_reference_turns_round_are_one_comparison():
    """The larger of two levels is the reference, and f is the larger one only before."""
    patients = Patients(seed=5)
    f = np.flatnonzero(patients.images["subgroup.sex"] == "f")
    m = np.flatnonzero(patients.images["subgroup.sex"] == "m")
    few_m, few_f = np.r_[f, m[: len(m) // 2]], np.r_[m, f[: len(f) // 2]]
    a = patients.audit(rows=np.isin(np.arange(300), few_m), seed=1)
    b = patients.audit(
        rows=np.isin(np.arange(300), few_f), shifts={("ruler", "sex", "f"): 0.2}, seed=2
    )
    found = ga.compare(a, b)
    own = [c for c in found.document.cells if c.attribute == "sex" and c.region == "ruler"]
    assert len(own) == 1
    assert own[0].word == "worse"
    sign = 1 if own[0].group == "f" else -1
    assert own[0].change.estimate == pytest.approx(0.2 * sign, abs=0.04)
    assert own[0].before.estimate == pytest.approx(own[0].after.estimate - own[0].change.estimate)


# ── small groups ────────────────────────────────────────────────────────────────────────────────────────────────────

LOOSE, STRICT = {"min_cell": 1}, {"min_cell": 11}


def numbers_in(value):
    if isinstance(value, dict):
        for inner in value.values():
            yield from numbers_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from numbers_in(inner)
    elif isinstance(value, float):
        yield value


@pytest.mark.parametrize("loose_first", [True, False])
def test_a_cell_that_one_plan_withholds_is_withheld_here(loose_first):
    """One audit shows groups of 7; the other does not. Its number, the change, and thus the hidden number stay away."""
    patients = Patients(sizes=(60, 50, 7))
    open_, hidden = (
        patients.audit(a_plan(privacy=LOOSE), shifts=V_MORE, seed=1),
        patients.audit(a_plan(privacy=STRICT), seed=2),
    )
    pair = (open_, hidden) if loose_first else (hidden, open_)
    document = ga.compare(*pair).document
    small = [
        c
        for c in document.cells
        if c.attribute == "tone" and (c.group == "V" or c.comparison == "level")
    ]
    assert any(c.group == "V" for c in small)
    for c in document.cells:
        if c.attribute == "tone" and c.group == "V":
            assert c.word == "withheld"
            assert not list(numbers_in(c.model_dump(exclude={"margin_before", "margin_after"})))
            assert (c.n_before, c.n_after) == (None, None)
    for p in document.performance:
        if (p.attribute, p.level) == ("tone", "V"):
            assert p.word == "withheld"
            assert not list(numbers_in(p.model_dump()))
    own = ga.build_result(open_, a_plan(privacy=LOOSE)).document
    secret = next(c.estimate for c in own.cells if c.group == "V" and c.region == "ruler")
    if secret is not None:
        assert all(
            abs(abs(x) - abs(secret)) > 1e-9
            for x in numbers_in(json.loads(document.model_dump_json()))
        )


def test_a_group_that_is_small_later_is_withheld_in_both():
    patients = Patients(sizes=(60, 50, 40))
    v = np.flatnonzero(patients.images["subgroup.tone"] == "V")
    keep = ~np.isin(np.arange(300), v[12:])  # 6 of the 40 are left
    document = ga.compare(patients.audit(seed=1), patients.audit(rows=keep, seed=2)).document
    assert {c.word for c in document.cells if c.attribute == "tone" and c.group == "V"} == {
        "withheld"
    }
    assert {p.word for p in document.performance if (p.attribute, p.level) == ("tone", "V")} == {
        "withheld"
    }


def test_counts_that_differ_by_a_few_are_told_of_nobody():
    """40 patients of V, then 37: the three who left are a small group, and so no count of the attribute is told."""
    patients = Patients(sizes=(60, 50, 40))
    v = np.flatnonzero(patients.images["subgroup.tone"] == "V")
    keep = ~np.isin(np.arange(300), v[:6])
    document = ga.compare(patients.audit(seed=1), patients.audit(rows=keep, seed=2)).document
    tone = [c for c in document.cells if c.attribute == "tone"]
    assert {(c.n_before, c.n_after) for c in tone} == {(None, None)}
    assert all(c.group_change.low is None for c in tone)
    assert any(c.change.low is not None for c in tone)


def test_counts_stand_where_nothing_gives_a_small_group_away(found):
    assert cell(found, "tone", "V").n_before == 40


# ── doors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_result_alone_is_refused(tmp_path, results, shortcut, clean):
    result = results[0]
    path = result.write(tmp_path / "result.json")
    bare = ga.AuditResult(result.document)
    for wrong in (path, bare, 7, type(clean)(clean.table, clean.images)):
        with pytest.raises(
            ga.GradauditError, match=r"holds no value of any patient|takes two run folders"
        ):
            ga.compare(shortcut, wrong)


def test_results_and_measurements_give_the_same(found, shortcut, clean):
    again = ga.compare(shortcut, clean)
    assert again.document.cells == found.document.cells
    assert (again.document.before, again.document.after) == (
        found.document.before,
        found.document.after,
    )


def test_frames_of_a_comparison(found):
    assert {"attribute", "word", "change", "before", "after"} <= set(found.cells)
    assert {"metric", "word", "change"} <= set(found.performance)
    assert list(found.differences.columns) == ["area", "name", "before", "after", "consequence"]
    assert "planned comparison" in repr(found)


@pytest.mark.parametrize("sections", [
    pytest.param({"analysis": {"permutations": 199, "site": "hospital"}}, marks=pytest.mark.slow),
    pytest.param({"analysis": {"permutations": 199, "covariates": ["dose"]}}, marks=pytest.mark.slow),
    {"subgroups": {"site": {"within": True}}},
    pytest.param({"criteria": None}, marks=pytest.mark.slow),
])  # fmt: skip
@pytest.mark.slow
def test_every_kind_of_comparison_has_a_change(sections):
    """Sites above patients, covariates, differences inside patients, no criteria."""
    patients = Patients(seed=3)
    rng = np.random.default_rng(0)
    n = len(patients.images)
    patients.images["meta.hospital"] = np.array(
        [f"h{k}" for k in rng.integers(0, 8, patients.count)]
    )[patients.patient]
    patients.images["meta.dose"] = rng.normal(10, 2, n).round(2).astype(str)
    patients.images["subgroup.site"] = np.where(np.arange(n) % 2 == 0, "arm", "back")
    plan = a_plan(**sections)
    shifts = {("ruler", "tone", "V"): 0.2, ("ruler", "site", "arm"): 0.1}
    a, b = (
        ga.build_result(patients.audit(plan, shifts=s, seed=k)) for s, k in ((shifts, 1), ({}, 2))
    )
    found, back = ga.compare(a, b), ga.compare(b, a)
    own = next(c for c in found.document.cells if c.attribute == "site" and c.region == "ruler")
    by_site = "site" in sections.get(
        "analysis", {}
    )  # eight sites are few: the size is not shown, the change is
    assert cell(found, "tone", "V").changed
    assert cell(found, "tone", "V").word == ("not_shown" if by_site else "better")
    assert own.changed
    assert by_site or own.word == "better"
    assert abs(own.change.estimate) == pytest.approx(0.1, abs=0.02)
    assert cell(back, "tone", "V").p == cell(found, "tone", "V").p


def test_what_was_held_equal_is_what_the_sentence_says(patients, found):
    assert set(cell(found, "tone", "V").adjusted_for) == {"region size", "label"}
    assert "at equal label" not in found.document.facts[1]
    assert any(
        words in found.document.facts[1]
        for words in ("at equal region size and class", "at equal class and region size")
    )
    bare = ga.compare(*(patients.audit(labels=False, sized=False, seed=k) for k in (1, 2)))
    assert cell(bare, "tone", "V").adjusted_for == ()
    assert "at equal" not in bare.document.facts[1]


def test_another_batch_size_is_listed_and_nothing_follows(patients, shortcut):
    other = patients.audit(
        a_plan(run={"batch_size": 8}),
        shifts=V_MORE,
        seed=1,
        accuracy={"I": 0.9, "III": 0.9, "V": 0.5},
    )
    told = [
        d for d in ga.compare(shortcut, other).document.differences if d.name == "run.batch_size"
    ]
    assert [(d.area, d.after, d.consequence) for d in told] == [("software", "8", "")]
