"""What findings say: every state of every kind of comparison, headlines with their plurals, and the words that are never used."""

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from banned_words import BANNED, NAMES

from gradaudit.analysis.sentences.audits import (
    headline,
    reason_of_cell,
    reasons_of_cells,
    summary_sentences,
    told_first,
    what_cannot_be_told,
)
from gradaudit.analysis.sentences.comparisons import in_words, sentence
from gradaudit.analysis.sentences.performance import worse_performance
from gradaudit.errors import PlanError
from gradaudit.number_text import Noun, decimal, declared_points, interval, p_value, points
from gradaudit.plan import CriteriaPlan, Plan
from gradaudit.records import CellState, Finding, Interval, Limits, TestResult
from gradaudit.report.wording import of_clusters
from gradaudit.result_schema import PerformanceRow, PlannedCell
from gradaudit.stats.decision import MarginTest, decide
from gradaudit.stats.tails import SkewedT

ROOT = Path(__file__).parents[2]
BEYOND, WITHIN, OPEN, WITHHELD, NOT_ASSESSED, NOT_JUDGED = CellState
PATIENTS = Noun.of("patient")
NOTHING = {
    "n_images_reference": 0,
    "n_clusters_reference": 0,
    "mean": Interval(),
    "mean_reference": Interval(),
}
SLOPE = {**NOTHING, "n_images": 900, "n_clusters": 400}
BARE = {"adjusted": Interval(), "adjusted_for": ()}
CELL = {"code": "GA131", "attribute": "sex × site", "group": "male × head"}
KINDS = {
    "level": {},
    "level against all others": {"reference": "rest"},
    "two levels": {"attribute": "marking", "group": "with", "reference": "without", **BARE},
    "pair": {"code": "GA105", "attribute": "site", "group": "head", "reference": "trunk"},
    "trend": {"code": "GA102", **SLOPE},
    "continuous": {"code": "GA103", "attribute": "age", "group": "P90 (72)", "reference": "P10 (31)", **SLOPE},
    "curve": {
        "code": "GA103", "attribute": "age", "group": "P95 (79.5)", "reference": "P57.5 (48)", "curve": ((31.0, 0.1, 0.0, 0.2), (79.5, 0.3, 0.2, 0.4)), **SLOPE,
    },
    "departure": {"code": "GA104", **SLOPE, "raw": Interval(), "adjusted": Interval(), "margin": None},
    "undefined": {"code": "GA111", "outcome": "undefined", "region": "", "role": "", **BARE},
    "undefined, pair": {"code": "GA111", "attribute": "site", "group": "head", "reference": "trunk", "outcome": "undefined", "region": "", "role": "", **BARE},
    "undefined, trend": {"code": "GA111", "outcome": "undefined", "region": "", "role": "", **SLOPE},
    "undefined, curve": {
        "code": "GA111", "attribute": "age", "group": "P95 (79)", "reference": "P5 (31)", "curve": ((31.0, 0.1, 0.0, 0.2),), "outcome": "undefined",
        "region": "", "role": "", **SLOPE,
    },
    "absent": {"code": "GA112", "outcome": "absent"},
    "lift": {"code": "GA121", "outcome": "mass_lift"},
    "pointing game": {"code": "GA121", "outcome": "pointing_game"},
    "area under the curve": {"code": "GA121", "outcome": "auc"},
    "correct images": {"code": "GA121", "outcome": "heat_share_correct"},
    "cell": {**CELL, "reference": "rest"},
    "cell beside its parts": {**CELL, "reference": "additive prediction", **NOTHING},
    "stratum": {"code": "GA132", "group": "V–VI, within class malignant", "stratum": "class malignant", "reference": "rest"},
}  # fmt: skip
LIMITS = {
    BEYOND: {
        "thin": Limits(low=0.12, high=0.26),
        "thick": Limits(low=0.13, high=0.22),
        "beyond_up_to": 0.12,
        "within_from": 0.22,
    },
    OPEN: {
        "thin": Limits(low=-0.03, high=0.26),
        "thick": Limits(low=0.01, high=0.22),
        "beyond_up_to": 0.0,
        "within_from": 0.22,
    },
    WITHIN: {
        "thin": Limits(low=-0.02, high=0.12),
        "thick": Limits(low=-0.01, high=0.082),
        "beyond_up_to": 0.0,
        "within_from": 0.082,
    },
}
ESTIMATES = {
    WITHIN: Interval(estimate=0.03, low=-0.02, high=0.08),
    OPEN: Interval(estimate=0.12, low=-0.01, high=0.23),
}


def _example(state, **changes):
    known = state not in (NOT_ASSESSED, WITHHELD)
    limit = None if state is NOT_JUDGED else 0.10
    base = Finding(
        code="GA101", anchor="GA101-skin_tone-ruler", question="", attribute="skin_tone", group="V–VI", reference="I–II", region="ruler",
        role="avoid", n_images=212, n_clusters=212, n_images_reference=1480, n_clusters_reference=1200,
        mean=Interval(estimate=0.31, low=0.26, high=0.36),
        mean_reference=Interval(estimate=0.12), raw=Interval(estimate=0.19, low=0.14, high=0.24) if known else Interval(),
        adjusted=ESTIMATES.get(state, Interval(estimate=0.17, low=0.11, high=0.22)) if known else Interval(), margin=limit, mde80=0.08,
        state=state, shown=state in (BEYOND, NOT_JUDGED), **LIMITS.get(state, {}),
        adjusted_for=("region size",), test=TestResult(p=0.001, p_adjusted=0.004, family="confirmatory"),
        reason="" if known else "fewer than 10 clusters on one side (4)",
    )  # fmt: skip
    return base.model_copy(update=changes)


def _of_kind(kind, state, **changes):
    """A finding of one kind in one state, as an analysis makes them."""
    changes = KINDS[kind] | changes
    if state is NOT_ASSESSED:
        changes |= {"raw": Interval(), "adjusted": Interval()}
    if changes.get("raw") == Interval():
        changes |= {"adjusted_for": ()}
    return _example(state, **changes)


FACT = (
    "On skin tone V–VI, 31 % of the model's heat lies on the ruler; on I–II, 12 % "
    "(n = 212 and 1\u202f480 images of 1\u202f200 patients)"
)


@pytest.mark.parametrize(
    ("state", "end"),
    [
        (
            BEYOND,
            ". The plan allows a difference of 10 points; this one is +12 points even at the cautious end. "
            "Worse off: skin tone V–VI, with more heat where none should be. At equal region size: +17 points.",
        ),
        (
            WITHIN,
            ". The plan allows a difference of 10 points; this one is at most 8.2 points. "
            "Worse off, if anyone: skin tone V–VI, with more heat where none should be. At equal region size: +3.0 points.",
        ),
        (
            OPEN,
            ". The plan allows a difference of 10 points; whether this one is larger stays open: it could be anything from −3.0 to +26 points. "
            "Worse off, if anyone: skin tone V–VI, with more heat where none should be. At equal region size: +12 points.",
        ),
        (NOT_ASSESSED, ". Not assessed: fewer than 10 patients on one side (4)."),
        (
            NOT_JUDGED,
            ": a difference of +19 points (95 % interval +14 to +24). A disparity is shown (adjusted p = 0.004); no limit was set, so its importance is "
            "not judged. Worse off: skin tone V–VI, with more heat where none should be. At equal region size: +17 points (95 % interval +11 to +22).",
        ),
    ],
)  # fmt: skip
def test_the_sentence_of_every_state(state, end):
    assert in_words(_example(state), unit=PATIENTS).sentence == FACT + end


def test_a_comparison_that_is_withheld_says_nothing_else():
    for hidden in (_example(WITHHELD), _example(BEYOND, suppressed=True, reason="small_cell")):
        assert re.fullmatch(
            r"Skin tone V–VI against I–II, heat share on the ruler: withheld, because [^0-9]*(\d+ clusters on one side \(4\))?\.|"
            r"Skin tone V–VI against I–II, heat share on the ruler: withheld, because a group of this comparison holds too few "
            r"images or clusters to be shown\.",
            sentence(hidden),
        )  # fmt: skip


def test_a_difference_without_a_limit_that_is_not_shown():
    said = sentence(_example(NOT_JUDGED, shown=False))
    assert "No disparity is shown (adjusted p = 0.004); no limit was set. Data of this size would show a difference of 8.0 points in 80 % of audits." in said  # fmt: skip
    assert "Worse off, if anyone:" in said
    silent = sentence(_example(NOT_JUDGED, shown=False, mde80=None))
    assert "no limit was set. Worse off" in silent


def test_no_open_comparison_promises_what_more_data_would_show():
    """The former sentence counted clusters by n·(MDE/δ)², which is wrong by orders of magnitude."""
    for kind in KINDS:
        said = sentence(_of_kind(kind, OPEN))
        assert "of audits" not in said
        assert "takes about" not in said


def test_exploratory_comparisons_give_signals_and_no_verdict():
    explored = _example(NOT_JUDGED, test=TestResult(p_adjusted=0.03, family="exploratory"))
    assert "A signal (adjusted p = 0.030), not a verdict." in sentence(explored)
    silent = explored.model_copy(update={"shown": False})
    assert "No signal (adjusted p = 0.030)." in sentence(silent)
    lift = explored.model_copy(update={"outcome": "mass_lift", "code": "GA121"})
    assert "points" not in sentence(lift)


def test_a_provisional_verdict_says_so_once():
    assert sentence(_example(BEYOND, provisional=True)).endswith(
        "Provisional: fewer than 20 clusters on one side."
    )
    why = "provisional, fewer than 20 clusters on one side; it rests on 62 % of the clusters of a group (80 % are needed)"
    held = in_words(_example(WITHIN, provisional=True, reservation=why), unit=PATIENTS).sentence
    assert "It does not count as settled: provisional, fewer than 20 patients on one side; it rests on 62 % of the patients" in held  # fmt: skip
    assert held.lower().count("provisional") == 1
    assert "does not count" not in sentence(_example(WITHIN))


# ── the order, for every kind and state ───────────────────────────────────────────────────────────────────────────────

MARGIN_WORDS = {
    BEYOND: "even at the cautious end",
    WITHIN: "this one is at most",
    OPEN: "stays open",
    NOT_ASSESSED: "Not assessed: fewer than 10 clusters",
    NOT_JUDGED: "no limit was set",
    WITHHELD: "withheld, because",
}


def _text_is_sound(text):
    assert re.fullmatch(r"[A-Z0-9].*\.", text), text
    assert not re.search(
        r"None|\bnan\b|\s\s|_|\+−|\+\+|−−|[−+]0\.0\b(?! to)|,,|\.\.|\( |,\)|\(\)|: :|\bauc\b|n·|the the ", text
    ), text  # fmt: skip
    assert text.count("(") == text.count(")")
    assert not BANNED.search(text)


@pytest.mark.parametrize("family", ["confirmatory", "exploratory"])
@pytest.mark.parametrize(
    "extra", ["", "suppressed", "n_withheld", "reservation", "provisional", "no interval"]
)
@pytest.mark.parametrize(("kind", "state"), list(itertools.product(KINDS, CellState)))
def test_every_kind_has_a_sentence_for_every_state(kind, state, family, extra):
    changes = {
        "": {},
        "suppressed": {"suppressed": True},
        "n_withheld": {"n_withheld": True, "n_images": 0, "n_clusters": 0},
        "reservation": {"reservation": "it rests on 62 % of the clusters of a group (80 % are needed)"},
        "provisional": {"provisional": True},
        "no interval": {"thin": Limits(), "thick": Limits(), "within_from": None},
    }[extra]  # fmt: skip
    f = _of_kind(kind, state, test=TestResult(p_adjusted=0.004, family=family), **changes)
    text = sentence(f)
    _text_is_sound(text)
    assert f.region in text
    name = "sex male and site head" if "×" in f.attribute else f.attribute.replace("_", " ")
    assert name in text.lower()
    if extra == "suppressed" or state is WITHHELD:
        assert "withheld, because" in text
        assert not re.search(r"\d+ %|points", text)
        return
    assert re.search(r"n = \d|n withheld", text)
    if extra == "n_withheld":
        assert "n = " not in text
    if family == "confirmatory" and not f.stratum and extra != "no interval":
        assert MARGIN_WORDS[state] in text or kind == "departure"
    if family == "exploratory" and state is not NOT_ASSESSED and not f.stratum:
        assert ("A signal (adjusted p = 0.004)" in text) == f.shown
        assert ("No signal (adjusted p = 0.004)" in text) == (not f.shown)
    _parts_stand_in_order(text)


def _parts_stand_in_order(text):
    """Fact, margin, who is worse off, adjusted figure, reservation."""
    found = [
        text.find(part)
        for part in ("n = ", "The plan allows", "Worse off", "At equal", "Provisional:")
    ]
    there = [place for place in found if place >= 0]
    assert there == sorted(there), text


@pytest.mark.parametrize(
    ("kind", "changes", "start"),
    [
        ("trend", {}, "From skin tone I–II to V–VI, the share of the model's heat on the ruler rises by 19 points (95 % interval 14 to 24) (n = 900 images of 400 clusters). "),
        (
            "trend",
            {"raw": Interval(estimate=-0.17, low=-0.22, high=-0.11)},
            "From skin tone I–II to V–VI, the share of the model's heat on the ruler falls by 17 points (95 % interval 11 to 22) (n = ",
        ),
        (
            "trend",
            {"raw": Interval(estimate=0.004, low=-0.01, high=0.018)},
            "From skin tone I–II to V–VI, the share of the model's heat on the ruler changes by +0.4 points (95 % interval −1.0 to +1.8) (n = ",
        ),
        ("trend", {"raw": Interval()}, "From skin tone I–II to V–VI, the share of the model's heat on the ruler rises by 17 points (95 % interval 11 to 22), at equal region size (n = "),
        ("continuous", {}, "From age 31 (10th percentile) to 72 (90th percentile), the share of the model's heat on the ruler rises by 19 points"),
        ("continuous", {"reference": "P10", "group": "P90"}, "From age the 10th percentile to the 90th percentile, the share of the model's heat on the ruler rises"),
        ("curve", {}, "Where the curve over age differs most, from 48 (57.5th percentile) to 79.5 (95th percentile), the share of the model's heat on the ruler rises by 19"),
        ("departure", {}, "Skin tone, from I–II to V–VI: the share of the model's heat on the ruler does not follow a straight line (n = 900 images of 400 clusters)."),
        ("departure", {"shown": False}, "Skin tone, from I–II to V–VI: the share of the model's heat on the ruler shows no bend (n = 900 images of 400 clusters)."),
        ("cell", {}, "On sex male and site head, 31 % of the model's heat lies on the ruler; on all others, 12 % (n = "),
        ("cell beside its parts", {}, "On sex male and site head, the share of the model's heat on the ruler differs from what the two attributes add up to by +17 points (95 % interval +11 to +22) (n = 212)."),
        ("two levels", {}, "On marking with, 31 % of the model's heat lies on the ruler; on without, 12 % (n = 212 and 1\u202f480 images of 1\u202f200 clusters): a difference of +19 points"),
        ("pair", {}, "On site head, 31 % of the model's heat lies on the ruler; on trunk, 12 %"),
        ("area under the curve", {}, "On skin tone V–VI, the mean ROC AUC on the ruler is 31 %"),
        ("correct images", {}, "On skin tone V–VI, 31 % of the model's heat in correctly classified images lies on the ruler; on I–II, 12 %"),
        ("undefined", {}, "On skin tone V–VI, 31 % of the images have no defined heat map; on I–II, 12 %"),
        ("undefined, trend", {}, "From skin tone I–II to V–VI, the share of images without a defined heat map rises by 19 points"),
        ("level", {"region": "text_overlay"}, "On skin tone V–VI, 31 % of the model's heat lies on the text overlay; on I–II"),
        ("level", {"attribute": "ITA_angle"}, "On ITA angle V–VI, 31 %"),
        ("stratum", {}, "Within class malignant: on skin tone V–VI, 31 % of the model's heat lies on the ruler; on all others, 12 %"),
    ],
)  # fmt: skip
def test_what_is_said_first(kind, changes, start):
    assert sentence(_example(NOT_JUDGED, **{**KINDS[kind], **changes})).startswith(start)


# ── who is worse off ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", [BEYOND, OPEN, WITHIN, NOT_JUDGED])
@pytest.mark.parametrize(
    ("role", "size", "who", "what"),
    [
        ("avoid", 0.17, "skin tone V–VI", "more heat where none should be"),
        ("avoid", -0.17, "skin tone I–II", "more heat where none should be"),
        ("attend", -0.17, "skin tone V–VI", "less heat where it should be"),
        ("attend", 0.17, "skin tone I–II", "less heat where it should be"),
        ("neutral", 0.17, "", ""),
        ("", 0.17, "", ""),
        ("avoid", 0.0, "", ""),
    ],
)
def test_who_is_worse_off_by_the_role_of_the_region(state, role, size, who, what):
    found = Interval(estimate=size, low=size - 0.05, high=size + 0.05)
    said = sentence(_example(state, role=role, raw=found, adjusted=found))
    worse = re.findall(r"Worse off(?:, if anyone)?: (.+?), with (.+?)\.", said)
    assert worse == ([(who, what)] if who else [])
    assert ("if anyone" in said) == (bool(who) and state in (OPEN, WITHIN))


def test_of_a_slope_one_end_is_worse_off_and_of_the_rest_all_others():
    assert "Worse off: skin tone V–VI, with more heat" in sentence(_of_kind("trend", BEYOND))
    falling = Interval(estimate=-0.17, low=-0.22, high=-0.11)
    down = _of_kind("continuous", BEYOND, raw=falling, adjusted=falling)
    assert "Worse off: age 31 (10th percentile), with more heat" in sentence(down)
    rest = _of_kind("level against all others", BEYOND, raw=falling, adjusted=falling)
    assert "Worse off: all others, with more heat where none should be." in sentence(rest)


def test_nobody_is_called_worse_off_where_the_two_figures_disagree():
    said = sentence(_example(OPEN, adjusted=Interval(estimate=-0.02)))
    assert "Who has more heat where none should be depends on whether region size are held equal" not in said  # fmt: skip
    assert "depends on whether region size is held equal." in said
    assert "Worse off" not in said
    two = _example(OPEN, adjusted=Interval(estimate=-0.02), adjusted_for=("region size", "class"))
    assert "depends on whether region size and class are held equal." in sentence(two)


@pytest.mark.parametrize("kind", ["undefined", "departure", "cell beside its parts", "lift"])
def test_what_has_no_role_has_nobody_worse_off(kind):
    assert "Worse off" not in sentence(_of_kind(kind, NOT_JUDGED))


# ── a level is never compared with itself ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", list(CellState))
@pytest.mark.parametrize("kind", ["level", "trend", "undefined"])
def test_no_level_is_compared_with_itself(kind, state):
    said = sentence(_of_kind(kind, state, group="V–VI", reference="V–VI"))
    _text_is_sound(said)
    assert said.count("V–VI") == 1
    assert "allows" not in said
    assert "Worse" not in said


# ── a small share as a ratio ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("own", "other", "said"),
    [
        (0.06, 0.02, ": about 3 times as much"),
        (0.03, 0.02, ": about 1.5 times as much"),
        (0.02, 0.06, ": about 0.3 times as much"),
        (0.02, 0.0201, ": about as much"),
        (0.001, 0.02, ": about 0.05 times as much"),
        (0.16, 0.08, ": about 2 times as much"),  # pooled by clusters: 0.092
        (0.30, 0.08, ""),  # 0.113
        (0.31, 0.12, ""),
        (0.06, 0.0, ""),
        (0.0, 0.06, ""),
        (0.0999, 0.0999, ": about as much"),
        (0.10, 0.10, ""),
    ],
)
def test_below_a_pooled_mean_of_ten_percent_the_ratio_is_said_too(own, other, said):
    means = {"mean": Interval(estimate=own), "mean_reference": Interval(estimate=other)}
    text = sentence(_example(BEYOND, **means))
    assert ("times as much" in text or "about as much" in text) == bool(said)
    assert said in text


def test_a_ratio_is_said_of_shares_alone():
    lift = {"mean": Interval(estimate=0.06), "mean_reference": Interval(estimate=0.02)}
    assert "as much" not in sentence(_of_kind("lift", NOT_JUDGED, **lift))
    assert "as much" in sentence(_of_kind("undefined", WITHIN, **lift))


# ── the plan's own word ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_unit_is_the_plan_s_word():
    for text, unit in (("patient", "patients"), ("person/people", "people"), ("site visit", "site visits")):  # fmt: skip
        noun = Noun.of(text)
        told = in_words(_example(NOT_ASSESSED, provisional=True), unit=noun)
        assert "cluster" not in told.sentence + told.reason
        assert f"fewer than 10 {unit} on one side (4)" in told.sentence
        assert f"1\u202f200 {unit})" in told.sentence
    assert "cluster" in sentence(_example(NOT_ASSESSED))


def test_a_name_from_the_manifest_is_not_translated():
    level = _example(BEYOND, group="cluster B", attribute="clusters", notes=("no usable image in cluster B",))  # fmt: skip
    told = in_words(level, unit=PATIENTS)
    assert "On clusters cluster B, 31 %" in told.sentence
    assert told.notes == ("no usable image in cluster B",)


@pytest.mark.parametrize("word", ["", " ", "/", "a/b/c", "patient/", "12", "<b>", "x" * 60, "a\nb"])
def test_a_word_that_is_none_is_refused(word):
    with pytest.raises(PlanError, match=r"analysis\.cluster_name"):
        Plan().updated(analysis={"cluster_name": word})


def test_a_group_of_one_cluster_is_one_cluster():
    one = _example(NOT_ASSESSED, n_images=3, n_clusters=1, mean_reference=Interval())
    assert "(n = 3 images of 1 cluster and " in sentence(one)
    assert "(n = 3 images of 2 clusters and " in sentence(one.model_copy(update={"n_clusters": 2}))


# ── word, figure and sentence ─────────────────────────────────────────────────────────────────────────────────────────

STATE_OF = {"beyond": BEYOND, "within": WITHIN, "open": OPEN}


def _random_finding(rng):
    """One comparison decided by the package's own rule, among none to 39 others."""
    margin = float(rng.choice([0.01, 0.05, 0.0725, 0.1]))
    se = float(10 ** rng.uniform(-4, -1.2))
    estimate = float(np.clip(rng.normal(0, 2 * margin), -0.9, 0.9))
    if rng.random() < 0.4:  # ends close to the margin
        estimate = float(rng.choice([-1, 1]) * (margin + rng.normal(0, 2) * se))
    test = MarginTest(estimate, se, margin, SkewedT(float(rng.integers(8, 400)), 0.0))
    family = [test, *[None] * int(rng.integers(0, 40))]
    made = decide(family)[0]
    role = str(rng.choice(["attend", "avoid", "neutral"]))
    mean = float(rng.uniform(0, 1))
    return _example(
        STATE_OF[made.word], role=role, margin=margin, raw=Interval(estimate=estimate), adjusted=Interval(estimate=estimate),
        mean=Interval(estimate=mean), mean_reference=Interval(estimate=max(mean - estimate, 0.0)), shown=made.word == "beyond",
        thin=Limits(low=made.thin[0], high=made.thin[1]), thick=Limits(low=made.thick[0], high=made.thick[1]),
        beyond_up_to=made.beyond_up_to, within_from=made.within_from,
    )  # fmt: skip


def _number(text):
    return float(text.replace("−", "-").replace("+", "").replace("\u202f", ""))


def test_word_figure_and_sentence_agree_in_a_thousand_random_findings():
    rng = np.random.default_rng(4)
    seen = dict.fromkeys(CellState, 0)
    for _ in range(1000):
        f = _random_finding(rng)
        said = sentence(f)
        _text_is_sound(said)
        seen[f.state] += 1
        margin = 100 * f.margin
        assert f"allows a difference of {declared_points(f.margin)} points" in said
        cautious = re.search(r"this one is ([−+][\d.]+) points even at the cautious end", said)
        most = re.search(r"this one is at most ([\d.]+) points", said)
        reach = re.search(r"anything from ([−+]?[\d.]+) to ([−+]?[\d.]+) points", said)
        if f.state is BEYOND:
            assert "larger, if only just" in said or abs(_number(cautious[1])) > margin
            if cautious:
                assert _number(cautious[1]) * f.adjusted.estimate > 0
                nearest = 100 * min(f.thin.low, f.thin.high, key=abs)
                assert _number(cautious[1]) == pytest.approx(nearest, abs=0.51)
            assert most is reach is None
        elif f.state is WITHIN:
            assert _number(most[1]) < margin
            assert cautious is reach is None
        else:
            low, high = _number(reach[1]), _number(reach[2])
            assert low <= margin + 1e-9
            assert high >= -margin - 1e-9
            assert low <= -margin or high >= margin, said
            assert cautious is most is None
        worse = re.search(r"Worse off(?:, if anyone)?: (\S+ tone )?(.+?), with", said)
        more_in_group = f.adjusted.estimate > 0
        if f.role == "neutral":
            assert worse is None
        else:
            expected = "V–VI" if more_in_group == (f.role == "avoid") else "I–II"
            assert worse[2] == expected
    assert min(seen[state] for state in (BEYOND, WITHIN, OPEN)) > 100


def test_an_end_at_the_margin_is_not_called_larger_by_its_rounding():
    near = {"thin": Limits(low=0.1004, high=0.2)}
    assert "this one is +10.04 points even" in sentence(_example(BEYOND, **near))
    tie = {"thin": Limits(low=0.1, high=0.2)}
    assert "this one is larger, if only just." in sentence(_example(BEYOND, **tie))
    assert "at most 9.97 points" in sentence(_example(WITHIN, within_from=0.0997))
    assert "there is no difference at all." in sentence(_example(WITHIN, within_from=0.0))
    out = {"thin": Limits(low=-0.02, high=0.1003)}
    assert "from −2.0 to +10.03 points" in sentence(_example(OPEN, **out))


# ── numbers where they change their form ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("mean", "text"),
    [
        (Interval(estimate=0.02), "2.0 % of the model's heat lies on the ruler"),
        (Interval(estimate=0.97), "97 % of the model's heat lies on the ruler"),
        (Interval(estimate=0.1), "10 % of the model's heat lies on the ruler"),
        (Interval(estimate=0.0994), "9.9 % of the model's heat lies on the ruler"),
        (Interval(estimate=1.0), "100 % of the model's heat lies on the ruler"),
        (Interval(estimate=0.9996), "99.96 % of the model's heat lies on the ruler"),
    ],
)
def test_a_mean_share_is_written_as_in_the_tables(mean, text):
    assert sentence(_example(NOT_JUDGED, mean=mean)).startswith(f"On skin tone V–VI, {text}; on ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adjusted": Interval(estimate=0.1, low=0.06, high=0.14)}, "At equal region size: +10 points (95 % interval +6 to +14)"),
        ({"adjusted": Interval(estimate=0.0994, low=0.06, high=0.14)}, "At equal region size: +9.9 points (95 % interval +6.0 to +14.0)"),
        ({"adjusted": Interval(estimate=-0.096, low=-0.136, high=-0.056)}, "At equal region size: −9.6 points (95 % interval −13.6 to −5.6)"),
        ({"adjusted": Interval(estimate=0.0004, low=-0.03, high=0.0008)}, "At equal region size: 0.0 points (95 % interval −3.0 to +0.1)"),
        ({"outcome": "mass_lift", "adjusted": Interval(estimate=0.125, low=-0.004, high=0.254)}, "At equal region size: +0.12 (95 % interval 0.00 to +0.25)"),
        ({"outcome": "mass_lift", "mean": Interval(estimate=1.254)}, "the mean mass lift on the ruler is 1.25; on I–II, 0.12"),
        ({"adjusted": Interval()}, "a difference of +19 points (95 % interval +14 to +24)."),
        ({"n_withheld": True, "n_images": 0, "n_clusters": 0}, "on I–II, 12 % (n withheld)"),
    ],
)  # fmt: skip
def test_numbers_are_written_with_the_digits_that_they_have(changes, words):
    assert words in sentence(_example(NOT_JUDGED, **changes))


@pytest.mark.parametrize(
    ("p", "said"), [(0.000999, "p < 0.001"), (0.001, "p = 0.001"), (0.0096, "p = 0.010")]
)
def test_p_is_said_down_to_a_thousandth(p, said):
    assert f"(adjusted {said})" in sentence(
        _example(NOT_JUDGED, test=TestResult(p_adjusted=p, family="confirmatory"))
    )


def test_what_is_held_equal_is_named_and_nothing_else():
    for names, said in ((("region size", "class"), "region size and class"), (("age",), "age")):
        assert f"At equal {said}: +17 points" in sentence(_example(BEYOND, adjusted_for=names))
        slope = _of_kind("trend", NOT_JUDGED, adjusted_for=names, raw=Interval())
        assert "At equal" not in sentence(slope)
    assert "equal" not in sentence(_example(BEYOND, adjusted_for=()))
    assert "equal" not in sentence(_example(BEYOND, adjusted=Interval()))


def test_the_figure_at_equal_prediction_stands_beside_and_decides_nothing():
    f = _example(BEYOND, adjusted_predicted=Interval(estimate=0.0312, low=0.0, high=0.06))
    assert sentence(f).endswith(
        "At equal region size: +17 points (at equal predicted class instead: +3.1 points)."
    )
    plain = f.model_copy(update={"adjusted_predicted": Interval()})
    assert sentence(plain).endswith("At equal region size: +17 points.")
    reversed_ = f.model_copy(update={"adjusted_predicted": Interval(estimate=-0.2)})
    assert "Worse off: skin tone V–VI" in sentence(reversed_)


@pytest.mark.parametrize(("low", "high", "said"), [
    (0.0, 0.09, "changes by +4.0 points (95 % interval 0.0 to +9.0)"), (0.001, 0.09, "rises by 4.0 points (95 % interval 0.1 to 9.0)"),
    (-0.09, -0.001, "falls by 4.0 points (95 % interval 0.1 to 9.0)"), (-0.09, 0.0, "changes by −4.0 points (95 % interval −9.0 to 0.0)"),
])  # fmt: skip
def test_a_slope_rises_or_falls_only_where_its_interval_leaves_zero(low, high, said):
    found = Interval(estimate=0.04 if high > 0 else -0.04, low=low, high=high)
    assert said in sentence(_of_kind("trend", BEYOND, raw=found))


def test_the_level_of_the_interval_is_the_plan_s():
    assert "(90 % interval +14 to +24)" in sentence(_example(NOT_JUDGED), alpha=0.1)
    assert "(99.5 % interval +14 to +24)" in sentence(_example(NOT_JUDGED), alpha=0.005)


def test_a_sentence_words_counts_p_and_differences_as_the_table_does():
    f = _example(
        NOT_JUDGED, n_images=12_480, n_clusters=1_024,
        adjusted=Interval(estimate=0.0312, low=0.0004, high=0.0996), test=TestResult(p_adjusted=0.0004, family="confirmatory"),
    )  # fmt: skip
    said = sentence(f)
    for number in of_clusters(f.n_images, f.n_clusters).split(" / "):
        assert f" {number} " in said
    assert f"{points(f.adjusted.estimate)} points" in said
    assert interval(f.adjusted.low, f.adjusted.high, points) in said
    assert p_value(f.test.p_adjusted).replace("\u202f", " ") in said
    judged = _example(BEYOND, margin=0.12345, thin=Limits(low=0.2, high=0.3))
    assert f"a difference of {declared_points(judged.margin)} points" in sentence(judged)
    lift = f.model_copy(
        update={"outcome": "mass_lift", "adjusted": Interval(estimate=0.125, low=-0.2, high=0.254)}
    )
    assert decimal(0.125, signed=True) in sentence(lift)
    unknown = f.model_copy(
        update={"adjusted": Interval(estimate=float("nan"), low=float("nan"), high=0.1)}
    )
    assert not re.search(r"\bnan\b", sentence(unknown))


def test_margins_are_told_as_declared_and_detectable_differences_as_in_the_table():
    assert "allows a difference of 12.5 points" in sentence(_example(OPEN, margin=0.125))
    small = sentence(_example(NOT_JUDGED, shown=False, mde80=0.01234))
    assert "a difference of 1.2 points in 80 %" in small
    large = sentence(_example(NOT_JUDGED, shown=False, mde80=0.1234))
    assert "of 12 points in 80 %" in large


def test_slopes_are_told_by_their_ends_and_groups_by_their_name():
    trend = _of_kind("trend", BEYOND, n_clusters_reference=3)
    assert sentence(trend).startswith("From skin tone I–II to V–VI, ")
    rest = _example(BEYOND, reference="rest", n_clusters_reference=0, n_images_reference=0)
    assert sentence(rest).startswith("On skin tone V–VI, ")
    hidden = _example(NOT_ASSESSED, n_withheld=True, n_images=0, mean=Interval())
    assert "(n withheld). Not assessed:" in sentence(hidden)


# ── the audit as a whole ──────────────────────────────────────────────────────────────────────────────────────────────


def _cell(state, **changes):
    base = PlannedCell(
        attribute="skin_tone", comparison="level", group="V–VI", reference="rest", region="ruler", state=state,
        settled=state is WITHIN, margin=None if state is NOT_JUDGED else 0.1,
    )  # fmt: skip
    return base.model_copy(update=changes)


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("level", {}, "the share of the model's heat on the ruler is 17 points higher for skin tone V–VI than for I–II"),
        ("level against all others", {"adjusted": Interval(estimate=-0.034)}, "the share of the model's heat on the ruler is 3.4 points lower for skin tone V–VI than for all others"),
        ("two levels", {}, "the share of the model's heat on the ruler is 19 points higher for marking with than for without"),
        ("pair", {}, "the share of the model's heat on the ruler is 17 points higher for site head than for trunk"),
        ("trend", {}, "the share of the model's heat on the ruler rises by 17 points from skin tone I–II to V–VI"),
        ("continuous", {"adjusted": Interval(estimate=-0.17)}, "the share of the model's heat on the ruler falls by 17 points from age 31 (10th percentile) to 72 (90th percentile)"),
        ("undefined", {}, "the share of images without a defined heat map is 19 points higher for skin tone V–VI than for I–II"),
        ("undefined", {"raw": Interval()}, "the share of images without a defined heat map differs between skin tone V–VI and I–II"),
        ("level", {"attribute": "ITA_angle"}, "the share of the model's heat on the ruler is 17 points higher for ITA angle V–VI than for I–II"),
    ],
)  # fmt: skip
def test_the_headline_of_the_worst_finding(kind, changes, expected):
    worst = _example(BEYOND, **{**KINDS[kind], **changes})
    cells = [_cell(WITHIN), _cell(BEYOND)]
    assert headline("not_met", [_example(WITHIN, anchor="x"), worst], cells) == expected
    shown = worst.model_copy(update={"state": NOT_JUDGED})
    assert headline("none_declared", [shown], [_cell(NOT_JUDGED)]) == expected


TOO_SMALL = "withheld, because a group is too small to be shown"


@pytest.mark.parametrize(
    ("state", "cells", "expected"),
    [
        ("met", [WITHIN], "the only planned comparison lies within the limit"),
        ("met", [WITHIN] * 2, "both planned comparisons lie within the limit"),
        ("met", [WITHIN] * 16, "all 16 planned comparisons lie within the limit"),
        ("insufficient", [], "there is no comparison that the criteria could be held against"),
        ("insufficient", [OPEN], "the only planned comparison is not settled: 1 stays open"),
        ("insufficient", [OPEN] * 2, "both planned comparisons are not settled: 2 stay open"),
        ("insufficient", [OPEN] + [WITHIN] * 5, "1 of 6 planned comparisons is not settled: 1 stays open"),
        ("insufficient", [OPEN] * 3 + [WITHIN] * 3, "3 of 6 planned comparisons are not settled: 3 stay open"),
        ("insufficient", [WITHHELD], f"the only planned comparison is not settled: 1 is {TOO_SMALL}"),
        ("insufficient", [WITHHELD] * 2 + [WITHIN] * 7, f"2 of 9 planned comparisons are not settled: 2 are {TOO_SMALL}"),
        ("insufficient", [WITHHELD, OPEN, NOT_ASSESSED], f"all 3 planned comparisons are not settled: 1 stays open, 1 is {TOO_SMALL} and 1 is not assessed"),
    ],
)  # fmt: skip
def test_headlines_count_planned_comparisons_in_good_english(state, cells, expected):
    assert headline(state, [], [_cell(one) for one in cells]) == expected


def test_a_comparison_that_does_not_count_is_not_called_settled():
    cells = [_cell(WITHIN), _cell(WITHIN, settled=False)]
    assert headline("insufficient", [], cells) == (
        "1 of 2 planned comparisons is not settled: 1 lies within the limit and does not count as settled"
    )


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], "no comparison of the heat share was possible"),
        ([NOT_JUDGED], "no disparity is shown in the only comparison of the heat share"),
        ([NOT_JUDGED] * 2, "no disparity is shown in either comparison of the heat share"),
        ([NOT_JUDGED] * 4, "no disparity is shown in any of 4 comparisons of the heat share"),
        ([NOT_ASSESSED] * 2, "no comparison of the heat share was possible"),
        ([NOT_ASSESSED, NOT_JUDGED], "no disparity is shown in the only comparison of the heat share that could be assessed (1 more could not)"),
        ([WITHHELD, NOT_JUDGED], "no disparity is shown in the only comparison of the heat share that could be assessed (1 more could not)"),
    ],
)  # fmt: skip
def test_without_criteria_the_headline_says_whether_a_disparity_is_shown(states, expected):
    undefined = _of_kind("undefined", NOT_JUDGED, shown=False)
    found = [_example(state, shown=False) for state in states]
    assert headline("none_declared", [*found, undefined], []) == expected


def test_the_tally_names_every_state_once():
    def tally(*states):
        cells = [_cell(state) for state in states]
        lines = summary_sentences([], (), cells)[1]
        return next(line for line in lines if "planned" in line)

    assert tally(WITHIN) == "The only planned comparison lies within the limit."
    assert tally(BEYOND, BEYOND) == "Both planned comparisons lie beyond the limit."
    assert tally(BEYOND, WITHIN, WITHIN, OPEN, NOT_ASSESSED) == (
        "Of 5 planned comparisons, 1 lies beyond the limit, 1 stays open, 1 is not assessed and 2 lie within the limit."
    )
    assert tally() == "No comparison was planned."
    for state in CellState:
        _text_is_sound(tally(state, BEYOND))
        _text_is_sound(tally(state))


def _lines(decisive, findings=(), cells=(), performance=""):
    told = [f.model_copy(update={"sentence": name, "anchor": name}) for name, f in decisive]
    return summary_sentences(told, findings, cells, performance)[1]


def test_a_summary_has_three_to_five_sentences():
    worst = [
        (f"Finding {k}.", _example(BEYOND, adjusted=Interval(estimate=0.3 - k / 100)))
        for k in range(6)
    ]
    undefined = ("Undefined.", _of_kind("undefined", BEYOND))
    cells = [_cell(BEYOND)] * 7
    assert _lines([*worst, undefined], (), cells) == (
        "Finding 0.",
        "Finding 1.",
        "Finding 2.",
        "All 7 planned comparisons lie beyond the limit.",
        "Undefined.",
    )
    assert len(_lines([("One.", _example(WITHIN))])) == 3


def test_where_the_model_does_worse_is_told_second():
    worst = [(f"{k}.", _example(BEYOND, adjusted=Interval(estimate=0.3 - k / 100))) for k in range(4)]  # fmt: skip
    lines = _lines(worst, (), [_cell(BEYOND)] * 4, "Worse.")
    assert lines[:3] == ("0.", "Worse.", "1.")
    assert len(lines) <= 5
    assert _lines([], (), [], "Worse.")[0] == "Worse."


def test_the_worst_state_is_told_first_whatever_its_place():
    for worse, better in itertools.pairwise([BEYOND, OPEN, NOT_JUDGED, WITHIN]):
        small, large = Interval(estimate=0.02), Interval(estimate=0.30)
        pair = [
            ("Better.", _example(better, adjusted=large)),
            ("Worse.", _example(worse, adjusted=small)),
        ]
        assert _lines(pair)[0] == "Worse.", (worse, better)


def test_of_equal_states_the_heat_share_the_worse_group_a_group_and_the_larger_difference_come_first():
    def first(a, b):
        one, other = (_lines(pair)[0] for pair in ([("A.", a), ("B.", b)], [("B.", b), ("A.", a)]))
        assert one == other
        return one

    base = _example(BEYOND)
    large, small = Interval(estimate=0.4), Interval(estimate=0.2)
    assert first(base, _of_kind("undefined", BEYOND, raw=large)) == "A."
    less = base.model_copy(update={"adjusted": Interval(estimate=-0.4)})
    assert first(base, less) == "A."  # more heat on what should have none
    attended = base.model_copy(update={"role": "attend", "adjusted": Interval(estimate=-0.2)})
    more = base.model_copy(update={"role": "attend", "adjusted": large})
    assert first(attended, more) == "A."  # less heat on what should have it
    neutral = base.model_copy(update={"role": "neutral"})
    assert first(neutral, neutral.model_copy(update={"code": "GA102", "adjusted": large})) == "A."
    wide = neutral.model_copy(update={"adjusted": Interval(estimate=-0.4)})
    assert first(wide, neutral.model_copy(update={"adjusted": small})) == "A."


def test_the_same_fact_from_its_other_side_is_told_once():
    head = _example(BEYOND, anchor="head", sentence="Head.")
    other = _example(BEYOND, anchor="other", sentence="Other.", folded_under="head")
    alone = _example(BEYOND, anchor="alone", sentence="Alone.", folded_under="gone")
    assert [f.anchor for f in told_first([other, head, alone])] == ["head", "alone"]
    said = summary_sentences([other, head], (), [])[1]
    assert "Other." not in said[:1]
    weak = head.model_copy(update={"state": OPEN})
    assert [f.anchor for f in told_first([other, weak])] == ["other", "head"]
    both = [
        _example(BEYOND, anchor="a", folded_under="a"),
        _example(BEYOND, anchor="", folded_under=""),
    ]
    assert len(told_first(both)) == 2


def test_the_worst_of_undefined_heat_is_told_where_the_heat_share_fills_the_summary():
    heat = [
        (f"Heat {k}.", _example(BEYOND, adjusted=Interval(estimate=0.5 - 0.1 * k)))
        for k in range(4)
    ]
    mild, bad = _of_kind("undefined", WITHIN), _of_kind("undefined", BEYOND)
    cells = [_cell(BEYOND)] * 6
    tally = "All 6 planned comparisons lie beyond the limit."
    found = _lines([*heat, ("Mild.", mild), ("Bad.", bad)], (), cells)
    assert found == ("Heat 0.", "Heat 1.", "Heat 2.", tally, "Bad.")
    assert _lines([heat[0], ("Bad.", bad)], (), cells) == ("Heat 0.", "Bad.", tally)


def test_three_to_five_sentences_and_nothing_that_is_withheld():
    def count(n, state=BEYOND, findings=()):
        return len(_lines([(f"{k}.", _example(state)) for k in range(n)], findings))

    explored = [_example(NOT_JUDGED, test=TestResult(p_adjusted=0.01, family="exploratory"))]
    assert [count(n) for n in (0, 1, 2, 3, 9)] == [3, 3, 3, 4, 4]
    assert [count(n, findings=explored) for n in (0, 1, 2, 3, 9)] == [3, 3, 4, 5, 5]
    hidden = [
        ("Hidden.", _example(BEYOND, suppressed=True)),
        ("Also hidden.", _example(WITHHELD)),
    ]
    lines = _lines([*hidden, ("Shown.", _example(WITHIN)), ("Also.", _example(WITHIN))])
    assert not {"Hidden.", "Also hidden."} & set(lines)
    open_ = [(f"Open {k}.", _of_kind("undefined", NOT_ASSESSED)) for k in range(5)]
    assert _lines(open_) == ("No comparison was planned.", "Open 0.", "Open 1.")


def test_the_summary_claims_nothing_that_was_not_looked_at():
    """Three sentences at least: what else was compared comes before the claim that nothing else was."""
    beyond, undefined = ("Beyond.", _example(BEYOND)), ("Undefined.", _of_kind("undefined", WITHIN))
    cells = [_cell(BEYOND)]
    tally = "The only planned comparison lies beyond the limit."
    assert _lines([beyond, undefined], (), cells) == ("Beyond.", tally, "Undefined.")
    assert _lines([beyond], (), cells)[2] == "Nothing else was compared."
    gone = ("Not assessed.", _of_kind("undefined", NOT_ASSESSED))
    assert _lines([beyond, gone, undefined], (), cells)[2:] == ("Not assessed.",)
    assert _lines([]) == (
        "No comparison was planned.",
        "Nothing else was compared.",
        "The section on the data says how many images came through each step.",
    )


def test_signals_are_counted_and_none_is_no_reason_to_look():
    def told(*shown):
        family = TestResult(p_adjusted=0.3, family="exploratory")
        findings = [_example(NOT_JUDGED, test=family, shown=one) for one in shown]
        lines = summary_sentences([_example(WITHIN)], findings, [])[1]
        return next(line for line in lines if "exploratory" in line)

    assert told(False) == "Of 1 exploratory comparison, none gives a signal."
    assert (
        told(True, False)
        == "Of 2 exploratory comparisons, 1 gives a signal: a reason to look, not a verdict."
    )
    assert told(True, True).startswith("Of 2 exploratory comparisons, 2 give a signal: ")


# ── what is in the way ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("cell", "finding", "said"),
    [
        (_cell(BEYOND), _example(BEYOND), "Skin tone V–VI against all others, heat share on the ruler: beyond the limit, +12 points even at the cautious end (10 points are allowed)."),
        (_cell(BEYOND), None, "Skin tone V–VI against all others, heat share on the ruler: beyond the limit (10 points are allowed)."),
        (_cell(OPEN), _example(OPEN), "Skin tone V–VI against all others, heat share on the ruler: open, anything from −3.0 to +26 points (10 points are allowed)."),
        (_cell(OPEN, margin=0.025), None, "Skin tone V–VI against all others, heat share on the ruler: open (2.5 points are allowed)."),
        (_cell(WITHHELD, reason="a group of this comparison is too small to be shown"), None, "Skin tone V–VI against all others, heat share on the ruler: withheld: a group of this comparison is too small to be shown."),
        (_cell(NOT_ASSESSED, reason="fewer than 10 clusters on one side (4)"), None, "Skin tone V–VI against all others, heat share on the ruler: not assessed: fewer than 10 patients on one side (4)."),
        (_cell(NOT_ASSESSED), None, "Skin tone V–VI against all others, heat share on the ruler: not assessed."),
        (
            _cell(WITHIN, settled=False, reason="it rests on 62 % of the clusters of a group (80 % are needed)"), None,
            "Skin tone V–VI against all others, heat share on the ruler: within the limit, but it does not count: it rests on 62 % of the patients of a group "
            "(80 % are needed).",
        ),
        (_cell(OPEN, comparison="trend", group="", reference=""), None, "Skin tone, from the first level to the last, heat share on the ruler: open (10 points are allowed)."),
        (_cell(OPEN, comparison="curve", attribute="age", group="", reference="", outcome="undefined", region=""), None, "Age, over its whole range, images without a defined heat map: open (10 points are allowed)."),
    ],
)  # fmt: skip
def test_every_cell_in_the_way_has_its_reason_in_words(cell, finding, said):
    text = reason_of_cell(cell, finding, PATIENTS)
    assert text == said
    _text_is_sound(text.replace(": : ", ""))


def test_reasons_are_those_of_the_cells_in_the_way_the_worst_first():
    cells = [_cell(state, group=state.value) for state in (WITHIN, OPEN, NOT_JUDGED, BEYOND)]
    cells.append(_cell(WITHIN, group="held", settled=False))
    said = reasons_of_cells(cells, [])
    assert [re.match(r"Skin tone (\w+) ", line)[1] for line in said] == ["beyond", "open", "held"]
    told = _cell(OPEN, settle="If there is none, about 300 clusters in the group settle it.")
    assert reason_of_cell(told, None, PATIENTS).endswith(
        "(10 points are allowed). If there is none, about 300 patients in the group settle it."
    )
    found = _example(BEYOND, anchor="a1")
    (line,) = reasons_of_cells([_cell(BEYOND, finding="a1")], [found])
    assert "+12 points even at the cautious end" in line


# ── what cannot be told ───────────────────────────────────────────────────────────────────────────────────────────────


def test_what_no_audit_can_tell_comes_first():
    assert what_cannot_be_told([], Plan())[:2] == (
        "A difference in heat is evidence about the explanation, not proof that the model uses the region.",
        "A group whose region masks are worse would show a difference of its own: mask quality by group comes first.",
    )


def _line(start, decisive, plan=None):
    lines = what_cannot_be_told(decisive, plan or Plan())
    return next((text for text in lines if text.startswith(start)), "")


def test_what_is_open_in_one_region_is_not_called_open_in_every_region():
    decisive = [_example(NOT_ASSESSED), _example(WITHIN, region="lesion")]
    assert (
        _line("Nothing can be said", decisive)
        == "Nothing can be said about skin tone V–VI in at least one declared region: see the reasons beside each comparison."
    )
    assert "in at least one declared region" in _line("Nothing can be said", decisive[:1] * 2)


def test_what_cannot_be_told_names_five_counts_the_rest_and_keeps_what_is_withheld_apart():
    def groups(n, state=NOT_ASSESSED, **changes):
        return [_example(state, group=f"g{k}", **changes) for k in range(n)]

    names = [f"skin tone g{k}" for k in range(5)]
    assert f"about {', '.join(names)} in at least" in _line("Nothing can", groups(5))
    assert f"about {', '.join(names)} and 2 more in at least" in _line("Nothing can", groups(7))
    assert _line("Nothing can", groups(2, WITHHELD, suppressed=True)) == ""
    assert _line("Nothing can", groups(2, code="GA111")) == ""
    assert _line("Nothing can", groups(2, WITHIN)) == ""
    pairs = [f"{name} against I–II" for name in names]
    hidden = groups(6, WITHHELD, suppressed=True)
    assert f"to be shown: {', '.join(pairs)} and 1 more." in _line("Withheld", hidden)
    assert _line("Withheld", groups(6)) == ""
    declared = Plan(criteria=CriteriaPlan(margin=0.1))
    assert _line("Withheld", hidden, declared).endswith("What is not shown cannot be called met.")
    assert (
        _line("Without a declared limit", [])
        == "Without a declared limit, no difference can be called important or unimportant."
    )
    assert _line("Without a declared limit", [], declared) == ""


# ── where the model itself does worse ─────────────────────────────────────────────────────────────────────────────────


def _performance(level, accuracy, p=None, difference=None, metric="accuracy", **changes):
    base = {"attribute": "skin_tone", "level": level, "n_images": 100, **changes}
    rows = [PerformanceRow(**base, metric=metric, estimate=accuracy)]
    if p is not None:
        test = TestResult(p=p, p_adjusted=p)
        words = {"reason": "against everyone else", "test": test, **base}
        rows.append(PerformanceRow(**words, metric=f"{metric}_difference", estimate=difference))
    return rows


def test_a_group_in_which_the_model_does_worse_is_named_with_both_figures():
    rows = [
        *_performance("I–II", 0.82, 0.0002, 0.33),
        *_performance("V–VI", 0.49, 0.0002, -0.33),
    ]
    said = "The model itself does worse on skin tone V–VI: accuracy 49 % against 82 % on all others (adjusted p < 0.001)."
    assert worse_performance(rows) == said
    assert worse_performance(rows[::-1]) == said


def test_a_better_group_and_a_difference_that_chance_makes_are_not_told():
    assert worse_performance(()) == ""
    better = _performance("V–VI", 0.9, 0.001, 0.2)
    chance = _performance("V–VI", 0.4, 0.06, -0.4)
    hidden = _performance("V–VI", 0.4, 0.001, -0.4, suppressed=True)
    unknown = _performance("V–VI", None, 0.001, None)
    for rows in (better, chance, hidden, unknown):
        assert worse_performance(rows) == ""
    assert worse_performance(chance, alpha=0.1)
    edge = _performance("V–VI", 0.4, 0.05, -0.4)
    assert worse_performance(edge)


def test_of_several_the_accuracy_and_the_largest_loss_come_first():
    three = [
        *_performance("I–II", 0.8, 0.9, 0.1, n_images=300),
        *_performance("III–IV", 0.7, 0.01, -0.05),
        *_performance("V–VI", 0.5, 0.01, -0.275),
        *_performance("V–VI", 0.3, 0.01, -0.6, metric="auc"),
    ]
    # the others: (300 of 0.8 and 100 of 0.7) / 400
    assert worse_performance(three) == (
        "The model itself does worse on skin tone V–VI: accuracy 50 % against 78 % on all others (adjusted p = 0.010); so it does in 1 other group."
    )
    withheld = [
        row if row.level != "I–II" else row.model_copy(update={"suppressed": True, "estimate": None})
        for row in three
    ]  # fmt: skip
    assert "accuracy 50 %, 28 points lower than on all others" in worse_performance(withheld)


def test_of_a_score_that_should_be_low_more_is_worse():
    rows = _performance("V–VI", 0.31, 0.01, 0.1, metric="brier")
    assert "Brier score 0.31, 0.10 higher than on all others" in worse_performance(rows)
    assert worse_performance(_performance("V–VI", 0.31, 0.01, -0.1, metric="brier")) == ""
    assert worse_performance(_performance("V–VI", 2.0, 0.01, -0.1, metric="calibration_slope")) == ""  # fmt: skip


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _documents_of_the_project():
    listed = subprocess.run(
        ["git", "ls-files", "README.md", "reports", "notebooks", "benchmarks"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [
        name
        for name in listed.stdout.splitlines()
        if name.endswith((".md", ".html", ".ipynb", ".json"))
    ]


@pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not a git checkout"
)
def test_no_document_of_the_project_uses_the_banned_words():
    names = _documents_of_the_project()
    assert any(name.startswith("reports/") for name in names)
    found = {}
    for name in names:
        text = re.sub(
            r"data:[a-z/+-]+;base64,[A-Za-z0-9+/=]+|\"image/png\": \"[^\"]+\"",
            "",
            (ROOT / name).read_text(encoding="utf-8"),
        )
        hits = [m.group() for m in BANNED.finditer(NAMES.sub("", text))]
        found |= {name: hits} if hits else {}
    assert not found


def test_the_banned_words_are_found_where_they_stand():
    for text in (
        "The model is unbiased.",
        "a fair classifier",
        "GDPR-compliant",
        "we debiased it",
        "in compliance with",
        "fairness",
    ):
        assert BANNED.search(NAMES.sub("", text)), text
    assert not BANNED.search(
        NAMES.sub(
            "", "compared with fairlearn, whose user guide how_to_talk_about_fairness.rst says so"
        )
    )
