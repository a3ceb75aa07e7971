"""How many more patients settle what is open: through the audit's own decision, three truths, nothing withheld given away."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from run_files import run_file

import gradaudit as ga
from gradaudit.errors import InputError, RunError
from gradaudit.plan import Plan
from gradaudit.result import build_result
from gradaudit.runs.folder import read_run
from gradaudit.series.power_words import power_sentence
from tests.series.open_runs import a_plan, a_run
from tests.small_audits import store_run

TRUTHS = ["as seen", "none", "far end"]


def an_open_run(gap=0.02, seed=0, **changes):
    return a_run({"dark": 30, "light": 120}, {"dark": gap}, seed=seed, **changes)


def of_heat(frame):
    return frame[frame["outcome"] == "heat_share"]


def chance(frame, truth, factor=1, what="within"):
    row = frame[(frame["truth"] == truth) & (frame["factor"] == factor)]
    return row[f"probability_{what}"].item()


# ── what it answers ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_three_truths_for_every_factor_and_more_patients_help():
    frame = of_heat(ga.power(an_open_run(), plan=a_plan(), factors=(1, 8), replicates=60))
    assert frame["truth"].tolist() == TRUTHS * 2
    assert frame["patients"].tolist() == [30] * 3 + [240] * 3
    assert chance(frame, "none", 8) > 0.95
    assert chance(frame, "none", 8) > chance(frame, "none", 1) > chance(frame, "as seen", 1)
    assert chance(frame, "far end", 8) < 0.1
    assert (frame["replicates"] == 60).all()


def test_the_same_seed_gives_the_same_table_and_another_one_another():
    tables = [ga.power(an_open_run(), plan=a_plan(), factors=(1,), replicates=20, seed=s) for s in (3, 3, 4)]  # fmt: skip
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert not tables[0].equals(tables[2])


def pilot_as_truth(meas, plan, difference, draws, seed):
    """Share of within and of beyond among audits of patients drawn from the run, values shifted: written without the package's drawing."""
    rng, share = np.random.default_rng(seed), meas.table["heat_share"].to_numpy()
    level = meas.images["subgroup.tone"].to_numpy()
    seen = share[level == "dark"].mean() - share[level == "light"].mean()
    words = []
    for i in range(draws):
        rows = np.concatenate([rng.choice(np.flatnonzero(level == k), (level == k).sum()) for k in ("dark", "light")])  # fmt: skip
        values = share[rows] + (difference - seen) * (level[rows] == "dark")
        found = ga.disparity(
            values, level[rows], reference="light", margin=plan.criteria.margin, permutations=999, seed=i, family=2, omnibus=False,
        )  # fmt: skip
        words.append(found.contrasts[0].state)
    return words.count("within") / draws, words.count("beyond") / draws


@pytest.mark.slow
def test_with_the_pilot_as_truth_it_says_what_happens():
    """The bound of the page is a mean error of 3 points and a mean absolute one of 5 over many pilots; here one pilot with the error of its draws."""
    meas, plan = an_open_run(), a_plan()
    frame = of_heat(ga.power(meas, plan=plan, factors=(1,), replicates=300))
    for truth in ("as seen", "none"):
        difference = frame.loc[frame["truth"] == truth, "difference"].item()
        within, beyond = pilot_as_truth(meas, plan, difference, 200, 1)
        assert chance(frame, truth) == pytest.approx(within, abs=0.12)
        assert chance(frame, truth, what="beyond") == pytest.approx(beyond, abs=0.06)


def test_a_trend_has_its_own_rows():
    levels = {"I": 30, "II": 60, "III": 30}
    meas = a_run(levels, {"II": 0.01, "III": 0.02}, seed=2, spread=0.12)
    frame = ga.power(meas, plan=a_plan(levels=levels), factors=(1, 8), replicates=40)
    own = frame[(frame["comparison"] == "trend") & (frame["outcome"] == "heat_share")]
    assert own["truth"].tolist() == TRUTHS * 2
    assert chance(own, "none", 8) > 0.9
    assert set(own["patients"]) == {30, 240}


def test_rates_are_moved_by_flipping_and_not_by_shifting():
    """Undefined heat: with no difference at all a large study is within, as seen (far beyond a margin of 15 points) it is not."""
    meas = an_open_run(gap=0, undefined=0.15, seed=5)
    dark = np.flatnonzero(meas.images["subgroup.tone"] == "dark")[::4]
    meas.table.loc[dark, ["heat_share", "status", "reason"]] = [np.nan, "no_positive_evidence", "zero_heat"]  # fmt: skip
    plan = a_plan(criteria={"margin": 0.05, "undefined_margin": 0.15}, privacy={"min_cell": 1})
    frame = ga.power(meas, plan=plan, factors=(1, 8), replicates=30)
    own = frame[frame["outcome"] == "undefined"]
    assert own["truth"].tolist() == [*TRUTHS, *TRUTHS]
    assert chance(own, "none", 8) > 0.8
    assert chance(own, "as seen", 8) == 0.0
    assert chance(own, "far end", 8, "beyond") > 0.9


# ── curves and pairs ────────────────────────────────────────────────────────────────────────────────────────────────


def a_curve_run(n=80, depth=0.06, seed=0, spread=0.13):
    """A U over a number between 20 and 80, 0.3 + depth at both ends."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 80, n)
    meas = a_run({"a": n}, values=0.3 + depth * ((age - 50) / 27) ** 2 + spread * rng.standard_normal(n))  # fmt: skip
    meas.images["subgroup.tone"] = [f"{a:.2f}" for a in age]
    return meas


def cold(meas, rows):
    """Images without defined heat."""
    meas.table.loc[rows, ["heat_share", "status", "reason"]] = [np.nan, "no_positive_evidence", "zero_heat"]  # fmt: skip
    return meas


def test_a_curve_has_three_truths_for_every_multiple_of_all_its_patients():
    frame = of_heat(ga.power(a_curve_run(), plan=a_plan(0.13), factors=(1, 4), replicates=40))
    assert (frame["comparison"] == "curve").all()
    assert frame["truth"].tolist() == TRUTHS * 2
    assert frame["patients"].tolist() == [80] * 3 + [320] * 3
    assert chance(frame, "none", 4) > 0.95
    assert chance(frame, "none", 4) > chance(frame, "none", 1) > chance(frame, "as seen", 1)
    assert chance(frame, "as seen", 4) < chance(frame, "none", 4)
    assert chance(frame, "far end", 4) < 0.1


def test_the_differences_of_a_curve_are_those_of_its_finding():
    from tests.compared_groups import audited

    meas, plan = a_curve_run(), a_plan(0.13)
    frame = of_heat(ga.power(meas, plan=plan, factors=(1,), replicates=10))
    finding = next(f for f in audited(meas, plan).findings if f.curve and f.region)
    y = np.array(finding.curve)[:, 1]
    seen, none, far = frame["difference"]
    assert none == 0
    assert abs(seen) == pytest.approx(np.ptp(y))
    assert abs(far) == pytest.approx(max(-finding.thick.low, finding.thick.high))
    assert seen * far > 0


def test_a_u_beyond_the_margin_is_never_promised_within():
    """Its ends are level: a line through it would be within at any size."""
    meas = a_curve_run(80, depth=0.25, seed=3)
    frame = of_heat(ga.power(meas, plan=a_plan(0.13), factors=(1, 8), replicates=30))
    assert chance(frame, "as seen", 1, "beyond") < 0.9
    assert chance(frame, "as seen", 8) == 0.0
    assert chance(frame, "as seen", 8, "beyond") > 0.9
    assert chance(frame, "none", 8) == 1.0


def test_the_words_of_a_curve_speak_of_its_shape_and_of_all_patients():
    frame = ga.power(a_curve_run(), plan=a_plan(0.13), factors=(1, 2), replicates=10)
    text = next(text for cell, text in frame.attrs["sentences"].items() if "ruler" in cell)
    one, two = text.splitlines()
    assert one.startswith(
        "1 x the patients (80 in all): If the true curve is the one that this run saw ("
    )
    assert two.startswith("2 x the patients (160 in all): ")
    for line in (one, two):
        assert "If it is flat: " in line
        assert "its largest difference lies at the far end of the thick whisker: " in line
        assert line.count(" %") >= 3
        assert "group" not in line
    assert "A curve keeps the shape that the run saw" in frame.attrs["note"]
    levels = ga.power(an_open_run(), plan=a_plan(), factors=(1,), replicates=10)
    assert "A curve" not in levels.attrs["note"]


def test_few_patients_of_a_curve_never_count():
    """Fifteen on each half: within, and provisional; with four times as many it counts."""
    frame = of_heat(ga.power(a_curve_run(30, 0, spread=0.1), plan=a_plan(0.3), factors=(1, 4), replicates=20))  # fmt: skip
    assert frame.loc[frame["factor"] == 1, "probability_within"].eq(0).all()
    assert chance(frame, "none", 4) == 1.0


def test_a_curve_of_rates_is_flipped_along_the_number():
    """Undefined heat that rises with age: flat truth is within in a large study, the rise never, and the far end is beyond."""
    meas = a_curve_run(160, 0, seed=5, spread=0.02)
    age = meas.images["subgroup.tone"].astype(float).to_numpy()
    cold(meas, np.random.default_rng(1).random(160) < 0.05 + 0.3 * (age - 20) / 60)
    plan = a_plan(0.13, criteria={"margin": 0.13, "undefined_margin": 0.3}, privacy={"min_cell": 1})
    frame = ga.power(meas, plan=plan, factors=(1, 4), replicates=30)
    own = frame[frame["outcome"] == "undefined"]
    assert own["truth"].tolist() == TRUTHS * 2
    assert (own.loc[own["truth"] == "as seen", "difference"] > 0.35).all()
    assert chance(own, "none", 4) > 0.9
    assert chance(own, "none", 1) < 0.9
    assert chance(own, "as seen", 4) == 0.0
    assert chance(own, "far end", 4, "beyond") > chance(own, "far end", 1, "beyond") > 0


def test_a_constant_outcome_over_a_number_is_the_same_under_every_truth():
    """No image without heat: within, and provisional for its 30 patients alone."""
    frame = ga.power(a_curve_run(30), plan=a_plan(0.3), factors=(1, 4), replicates=10)
    own = frame[frame["outcome"] == "undefined"]
    assert own["probability_within"].tolist() == [0.0] * 3 + [1.0] * 3
    assert own["difference"].eq(0).all()


def test_few_events_over_a_number_have_a_reason_and_no_chance():
    meas = cold(a_curve_run(80), np.arange(80) < 3)
    plan = a_plan(0.13, criteria={"margin": 0.13, "undefined_margin": 0.05}, privacy={"min_cell": 1})  # fmt: skip
    frame = ga.power(meas, plan=plan, factors=(1,), replicates=10)
    own = frame[frame["outcome"] == "undefined"]
    assert "nearly every value is the same" in own["reason"].item()
    assert own["probability_within"].isna().all()


def test_a_curve_inside_patients_is_not_assessed_and_not_drawn_again():
    meas = a_curve_run(160)
    meas.images["cluster"] = [str(k // 4) for k in range(160)]
    plan = a_plan(0.08, subgroups={"tone": {"within": True}})
    frame = of_heat(ga.power(meas, plan=plan, factors=(1,), replicates=10))
    assert "a smooth curve is not fitted inside clusters" in frame["reason"].item()
    assert frame[["factor", "patients", "probability_within"]].isna().all(axis=None)


@pytest.mark.slow
def test_sites_are_held_equal_and_said_to_stay():
    """Heat differs by 40 points between two hospitals: with them declared the curve is as sure as without that difference."""
    meas, other = (a_curve_run(100, seed=2) for _ in range(2))
    where = np.arange(100) % 2
    meas.table["heat_share"] += 0.4 * where
    for run in (meas, other):
        run.images["meta.hospital"] = [f"h{k}" for k in where]
    plan = a_plan(0.13, analysis={"permutations": 999, "site": "hospital"})
    settings = {"factors": (2,), "replicates": 40}
    found = ga.power(meas, plan=plan, **settings)
    same = ga.power(other, plan=plan, **settings)
    assert "patients of new sites may settle more" in found.attrs["note"]
    assert "sites" not in ga.power(other, plan=a_plan(0.13), **settings).attrs["note"]
    for truth in TRUTHS:
        assert chance(of_heat(found), truth, 2) == pytest.approx(chance(of_heat(same), truth, 2), abs=0.05)  # fmt: skip
    unheld = ga.power(meas, plan=a_plan(0.13), **settings)
    assert chance(of_heat(found), "none", 2) > chance(of_heat(unheld), "none", 2) + 0.3


def test_the_plan_s_weights_and_alpha_reach_the_curves_that_are_drawn(monkeypatch):
    """Half of the patients have one image and the others twelve, which count for more with weights = "precision"."""
    from gradaudit.series import repeated_audits

    asked, notes = [], []
    of = repeated_audits.disparity_of

    def spied(observations, settings):
        found = of(observations, settings)
        asked.append((settings.weights, settings.alpha, settings.permutations))
        notes.extend(found.contrasts[0].notes)
        return found

    monkeypatch.setattr(repeated_audits, "disparity_of", spied)
    meas = a_curve_run(100, seed=4)
    row = np.repeat(np.arange(100), np.where(np.arange(100) % 2, 1, 12))
    images, table = (frame.iloc[row].reset_index(drop=True) for frame in (meas.images, meas.table))
    images["image_id"] = table["image_id"] = [f"i{k}" for k in range(len(row))]
    images["cluster"] = row.astype(str)
    table["heat_share"] += 0.35 * np.random.default_rng(6).standard_normal(len(row))
    meas = replace(meas, images=images, table=table)
    analysis = {"permutations": 9999, "weights": "precision", "alpha": 0.01}
    ga.power(meas, plan=a_plan(0.25, analysis=analysis), factors=(1,), replicates=20)
    assert set(asked) == {("precision", 0.01, 1000)}  # the 1 % point rests on ten statistics
    assert any("weighted by the precision" in note for note in notes)


def test_a_curve_over_too_few_known_values_says_no_number():
    """Six or ten ages are known at min_cell 11: what is said does not depend on how many."""
    shown = {}
    for known in (6, 10):
        meas = a_curve_run(60)
        meas.images.loc[known:, "subgroup.tone"] = None
        plan = a_plan(0.2, subgroups={"tone": {"kind": "continuous"}})
        frame = of_heat(ga.power(meas, plan=plan, factors=(1, 2), replicates=10))
        assert frame["comparison"].tolist() == ["curve"]
        assert frame[["factor", "patients", "difference", "probability_within"]].isna().all(axis=None)  # fmt: skip
        assert "too small to be shown" in frame["reason"].item()
        shown[known] = json.dumps([frame.attrs["sentences"], frame.to_json()])
    assert shown[6] == shown[10]


def test_pairs_of_levels_have_rows_of_their_own():
    """Three unordered levels: each against the rest and every pair; the pair's own difference, and its smaller side."""
    levels, gaps = {"a": 30, "b": 45, "c": 110}, {"a": 0.02, "b": -0.02}
    meas = a_run(levels, gaps, spread=0.13)
    frame = of_heat(ga.power(meas, plan=a_plan(0.07), factors=(1, 4), replicates=40))
    own = frame[frame["comparison"] == "pair"]
    pair = own[(own["group"] == "a") & (own["reference"] == "b")]
    assert pair["truth"].tolist() == TRUTHS * 2
    assert pair["difference"].iloc[0] == pytest.approx(0.04)
    assert pair["patients"].tolist() == [30] * 3 + [120] * 3
    assert chance(pair, "none", 4) > 0.95
    assert chance(pair, "as seen", 4) < chance(pair, "none", 4)
    assert chance(pair, "as seen", 4) > chance(pair, "as seen", 1)
    assert chance(pair, "far end", 4) < 0.1
    assert "tone: a against b, ruler" in frame.attrs["sentences"]


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_sentence_of_a_cell_has_three_chances():
    rows = pd.DataFrame({"comparison": "level", "truth": TRUTHS, "difference": [0.03, 0, 0.08], "probability_within": [0.46, 0.85, 0], "probability_beyond": [0, 0, 0.0]})  # fmt: skip
    assert power_sentence(rows) == (
        "If the true difference is what this run saw (3 points): 46 %. If there is none: 85 %. "
        "If it lies at the far end of the thick whisker: 0 %."
    )


def test_every_open_cell_has_its_words_and_none_has_one_number_alone():
    frame = ga.power(an_open_run(), plan=a_plan(), factors=(1, 2), replicates=20)
    sentences = frame.attrs["sentences"]
    assert set(sentences) == set(frame["cell"])
    heat = next(text for cell, text in sentences.items() if "ruler" in cell)
    for line in heat.splitlines():
        assert line.count(" %") >= 3, line


# ── under attack ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pilot_that_saw_no_difference_says_the_same_twice():
    half = 0.22 * np.random.default_rng(1).standard_normal(15)
    dark, light = np.r_[half, -half], np.tile(np.r_[half, -half], 4)
    meas = a_run({"dark": 30, "light": 120}, values=0.3 + np.r_[dark, light])
    frame = of_heat(ga.power(meas, plan=a_plan(), factors=(1, 4), replicates=40))
    assert chance(frame, "as seen", 1) == pytest.approx(chance(frame, "none", 1), abs=0.03)
    assert np.isfinite(frame["probability_within"]).all()


def test_a_pilot_beyond_the_margin_but_open_is_never_promised_within():
    meas = an_open_run(gap=0.075, seed=4)
    frame = of_heat(ga.power(meas, plan=a_plan(), factors=(1, 8), replicates=40))
    seen = frame.loc[frame["truth"] == "as seen", "difference"]
    assert (seen.abs() > 0.05).all()
    assert chance(frame, "as seen", 8) == 0.0
    assert chance(frame, "as seen", 8, "beyond") > chance(frame, "as seen", 1, "beyond")


def withheld_run(small):
    return a_run({"dark": small, "light": 120, "mid": 40}, {"mid": 0.02}, seed=3)


def test_a_withheld_group_has_no_numbers_and_its_size_cannot_be_solved():
    """Levels of 6 and of 10 patients at min_cell 11: what is said does not depend on the size, but through chance."""
    shown = {}
    for small in (6, 10):
        frame = of_heat(ga.power(withheld_run(small), plan=a_plan(), factors=(1, 2), replicates=20))
        own = frame[frame["group"] == "dark"]
        assert len(own) == 3  # against the rest, and two pairs: one row each, with a reason
        assert own[["factor", "patients", "difference", "probability_within"]].isna().all(axis=None)
        assert frame["patients"].isna().all()
        assert len(frame) > len(own)  # the others are drawn again all the same
        text = json.dumps([frame.attrs["sentences"], frame["reason"].tolist()])
        assert f"({small})" not in text
        assert f"{small} patients" not in text
        shown[small] = frame[["cell", "factor", "patients", "truth", "reason"]]
    pd.testing.assert_frame_equal(shown[6], shown[10])


def test_a_withheld_level_does_not_set_the_size_of_the_larger_study():
    """Eight times the smallest *shown* level (40): not 8 x 6 = 48, nor 8 x 10 where ten are withheld."""
    for small in (6, 10):
        frame = of_heat(ga.power(withheld_run(small), plan=a_plan(), factors=(1, 8), replicates=40))
        own = frame[(frame["group"] == "mid") & (frame["comparison"] == "level")]
        assert chance(own, "none", 1) < 0.9
        assert chance(own, "none", 8) == 1.0


def test_settling_sentences_are_silent_where_counts_are_withheld():
    from tests.compared_groups import audited

    open_cells = [c for c in audited(an_open_run(), a_plan()).cells if c.state == "open"]
    assert any("about" in c.settle for c in open_cells)
    hidden = audited(withheld_run(6), a_plan()).cells
    assert any(c.state == "open" for c in hidden)
    assert {c.settle for c in hidden} == {""}


@pytest.mark.parametrize("factors", [(0,), (-1, 2), (), (float("nan"),), (0.5,), (float("inf"),)])
def test_factors_out_of_range_are_refused(factors):
    with pytest.raises(InputError, match="multiples of the smallest group"):
        ga.power(an_open_run(), plan=a_plan(), factors=factors)


def test_a_run_without_criteria_has_nothing_that_is_open():
    plan = Plan(regions={"ruler": {"role": "avoid"}})
    with pytest.raises(InputError, match=r"No criteria are declared.*\[criteria\] margin"):
        ga.power(an_open_run(), plan=plan)


def test_a_run_that_is_settled_everywhere_says_so():
    frame = ga.power(a_run({"dark": 60, "light": 120}, spread=0.02), plan=a_plan())
    assert frame.empty
    assert "every planned cell is settled" in frame.attrs["note"]


def test_what_is_no_run_is_refused():
    with pytest.raises(InputError, match="got str without any"):
        ga.power("runs/skin")
    with pytest.raises(RunError, match="record no plan"):
        ga.power(an_open_run())
    with pytest.raises(InputError, match="a run has its own"):
        ga.power(an_open_run(), plan=a_plan(), margin=0.1)
    with pytest.raises(InputError, match="seed is 0 or more; got -1"):
        ga.power(an_open_run(), plan=a_plan(), seed=-1)
    with pytest.raises(InputError, match="At least 10 replicates"):
        ga.power(an_open_run(), plan=a_plan(), replicates=1)


def test_it_takes_the_plan_that_the_run_recorded():
    meas = replace(an_open_run(), run=run_file(plan=a_plan().model_dump(mode="json")))
    frame = ga.power(meas, factors=(1,), replicates=10)
    assert frame.equals(ga.power(meas, plan=a_plan(), factors=(1,), replicates=10))


def test_a_result_and_its_measurements_say_the_same(tmp_path):
    meas = read_run(store_run(an_open_run(), a_plan(), tmp_path / "run")).measurements()
    settings = {"factors": (1,), "replicates": 10}
    assert ga.power(build_result(meas), **settings).equals(ga.power(meas, **settings))
