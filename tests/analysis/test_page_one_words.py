"""Page one in words: a fact of at most 25 words in every state, and three answers that follow from the run alone."""

import re

import numpy as np
import pandas as pd
import pytest
from banned_words import BANNED
from compared_groups import a_plan, measured
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradaudit.analysis.descriptives import describe
from gradaudit.analysis.findings import analysis_of
from gradaudit.analysis.sentences.comparisons import value_words
from gradaudit.analysis.sentences.plain_facts import MOST_WORDS, in_few_words
from gradaudit.analysis.sentences.three_questions import is_it_right
from gradaudit.analysis.verdict import audit_verdict
from gradaudit.cohort.heat_distributions import heat_rows_of
from gradaudit.cohort.population import take_cohorts
from gradaudit.disclosure.decision import decide
from gradaudit.number_text import points, share_digits
from gradaudit.plan import Plan
from gradaudit.records import ALL, CellState, Finding, Interval, Limits, TestResult
from gradaudit.result_schema import PerformanceRow, PlannedCell, RegionFacts

BEYOND, WITHIN, OPEN, WITHHELD, NOT_ASSESSED, NOT_JUDGED = CellState
PLAN = Plan(
    criteria={"margin": 0.10, "undefined_margin": 0.05}, analysis={"cluster_name": "patient"}
)
NO_CRITERIA = Plan()


def finding(state=BEYOND, **changes):
    """Skin tone V–VI against all others on the ruler, unless changed."""
    limit = None if state is NOT_JUDGED else 0.10
    base = Finding(
        code="GA101", anchor="GA101-skin_tone-ruler-V–VI", question="", attribute="skin_tone", group="V–VI", reference="rest", region="ruler", role="avoid",
        n_images=146, n_clusters=92, n_images_reference=312, n_clusters_reference=175, mean=Interval(estimate=0.431), mean_reference=Interval(estimate=0.0841),
        raw=Interval(estimate=0.347, low=0.31, high=0.38), adjusted=Interval(estimate=0.352, low=0.32, high=0.39), adjusted_for=("region size",),
        margin=limit, state=state, shown=state in (BEYOND, NOT_JUDGED), thin=Limits(low=0.31, high=0.41), thick=Limits(low=0.32, high=0.38),
        beyond_up_to=0.3142, within_from=0.39, test=TestResult(family="confirmatory"),
    )  # fmt: skip
    return base.model_copy(update=changes)


def cell_of(f, *, settled=None, **changes):
    """The planned cell that a finding answers."""
    kinds = {"GA105": "pair", "GA102": "trend", "GA103": "curve"}
    base = PlannedCell(
        attribute=f.attribute, comparison=kinds.get(f.code, "level"), group=f.group, reference=f.reference, region=f.region, outcome=f.outcome, state=f.state,
        settled=f.state is WITHIN if settled is None else settled, margin=f.margin, finding=f.anchor,
    )  # fmt: skip
    return base.model_copy(update=changes)


def told(*findings, plan=PLAN, cells=None, performance=(), regions=(), classes=2, also=()):
    cells = [cell_of(f) for f in findings] if cells is None else cells
    return audit_verdict(
        [*findings, *also], cells, plan, performance, regions=regions, classes=classes
    )


def answers(verdict):
    assert [q.question for q in verdict.questions] == [
        "Does it matter?",
        "Is it right?",
        "Everything else?",
    ]
    return [q.answer for q in verdict.questions]


# ── the fact of one finding ─────────────────────────────────────────────────────────────────────────────────────────

SLOPE = {
    "mean": Interval(), "mean_reference": Interval(), "n_images_reference": 0, "n_clusters_reference": 0, "group": "V–VI", "reference": "I–II",
}  # fmt: skip
UNDEFINED = {"code": "GA111", "outcome": "undefined", "region": "", "role": "", "margin": 0.05}
FACTS = {
    "level": ({}, "On skin tone V–VI, 43 % of the model's heat map lies on the ruler; on all others, 8.4 %."),
    "against a level": ({"reference": "I–II"}, "On skin tone V–VI, 43 % of the model's heat map lies on the ruler; on I–II, 8.4 %."),
    "pair": (
        {"code": "GA105", "attribute": "site", "group": "head", "reference": "trunk"},
        "On site head, 43 % of the model's heat map lies on the ruler; on trunk, 8.4 %.",
    ),
    "trend": (
        {"code": "GA102", **SLOPE}, "From skin tone I–II to V–VI, the share of the model's heat map on the ruler rises by 35 points.",
    ),
    "falling": (
        {"code": "GA102", **SLOPE, "raw": Interval(estimate=-0.347, low=-0.38, high=-0.31)},
        "From skin tone I–II to V–VI, the share of the model's heat map on the ruler falls by 35 points.",
    ),
    "curve": (
        {"code": "GA103", **SLOPE, "attribute": "age", "group": "P95 (79)", "reference": "P5 (31)", "raw": Interval()},
        "From age 31 (5th percentile) to 79 (95th percentile), the share of the heat map on the ruler rises by 35 points, adjusted.",
    ),
    "undefined": (UNDEFINED, "On skin tone V–VI, 43 % of the images have no usable heat map; on all others, 8.4 %."),
    "undefined, trend": (
        {**UNDEFINED, **SLOPE}, "From skin tone I–II to V–VI, the share of images without a usable heat map rises by 35 points.",
    ),
    "rates withheld": (
        {**UNDEFINED, "mean": Interval(), "mean_reference": Interval(), "raw": Interval(), "adjusted": Interval(), "n_withheld": True},
        "Skin tone V–VI against all others: the shares of images without a usable heat map differ by more than the plan allows; they are withheld.",
    ),
    "long names": (
        {"attribute": "self_described_ethnic_background", "group": "Native Hawaiian or other Pacific Islander", "region": "text_overlay"},
        "On Native Hawaiian or other Pacific Islander, 43 % of the heat map lies on the text overlay; on the others, 8.4 %.",
    ),
    "names longer than the fact": (
        {"group": " ".join(["one"] * 30), "region": "_".join(["part"] * 30)},
        "43 % of the heat map lies on one region in one group; in the others, 8.4 %.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FACTS)
def test_the_fact_says_both_means_or_the_change(kind):
    changes, wanted = FACTS[kind]
    f = finding(**changes)
    verdict = told(f)
    assert verdict.fact == wanted
    assert verdict.state == "not_met"
    assert verdict.fact_finding == f.anchor
    allowed = 5 if f.outcome == "undefined" else 10
    assert verdict.limit == f"The plan allows a difference of {allowed} points."


# ── one form for each state ─────────────────────────────────────────────────────────────────────────────────────────


def test_met_says_the_largest_difference_of_a_group():
    small = finding(
        WITHIN, adjusted=Interval(estimate=-0.021), group="I–II", anchor="small", within_from=0.04
    )
    large = finding(WITHIN, adjusted=Interval(estimate=0.0671), within_from=0.0838)
    slope = finding(
        WITHIN,
        code="GA102",
        **SLOPE,
        adjusted=Interval(estimate=0.069),
        anchor="slope",
        within_from=0.0866,
    )
    verdict = told(small, large, slope)
    assert verdict.fact == (
        "Every group's heat map on the ruler is shown to differ by less than 10 points; the largest difference is +6.7 (skin tone V–VI)."
    )
    assert (verdict.fact_finding, verdict.limit) == (
        large.anchor,
        "The plan allows a difference of 10 points.",
    )
    assert answers(verdict)[2].endswith(
        "With a limit of 8.6 points or less the criteria would not be met."
    )


def test_met_with_several_regions_says_where_the_largest_is():
    other = finding(WITHIN, adjusted=Interval(estimate=0.01), region="lesion", anchor="lesion")
    verdict = told(
        finding(WITHIN, adjusted=Interval(estimate=0.0671), attribute="sex", group="f"), other
    )
    assert verdict.fact == (
        "Every group's heat map is shown to differ by less than 10 points; the largest difference is +6.7 (sex f on the ruler)."
    )
    verdict = told(
        finding(WITHIN, adjusted=Interval(estimate=0.0)),
        other.model_copy(update={"adjusted": Interval(estimate=0.0)}),
    )
    assert "the largest difference is 0.0 (" in verdict.fact


def test_met_on_average_says_where_not():
    whole = finding(WITHIN, adjusted=Interval(estimate=0.02))
    part = finding(
        NOT_JUDGED, code="GA132", group="V–VI, within class malignant", stratum="class malignant", anchor="part", margin=0.10,
        adjusted=Interval(estimate=0.2), test=TestResult(family="exploratory"),
    )  # fmt: skip
    smaller = part.model_copy(update={"anchor": "smaller", "adjusted": Interval(estimate=-0.15)})
    verdict = told(whole, also=[smaller, part])
    assert verdict.words.startswith("criteria met on average; not the same in every class")
    assert verdict.fact == (
        "Within class malignant, on skin tone V–VI, 43 % of the model's heat map lies on the ruler; on all others, 8.4 %."
    )
    assert verdict.fact_finding == "part"
    assert (
        verdict.limit
        == "The plan allows a difference of 10 points; on average every group lies within it."
    )


def test_insufficient_says_the_widest_open_comparison():
    near = finding(OPEN, group="I–II", anchor="near", thin=Limits(low=-0.02, high=0.12))
    wide = finding(
        OPEN, attribute="site", group="trunk", reference="limb", anchor="wide", thin=Limits(low=-0.141, high=0.031),
        adjusted=Interval(estimate=-0.052), raw=Interval(estimate=-0.06),
    )  # fmt: skip
    within = finding(WITHIN, anchor="within")
    settle = "If there is no difference, about 410 patients in the group settle it (now 92); if the true difference is (each with a chance of 80 %)."
    cells = [cell_of(near), cell_of(wide, settle=settle), cell_of(within)]
    verdict = told(near, wide, within, cells=cells)
    assert verdict.fact == (
        "2 of 3 planned heat map comparisons are open. The widest between groups: site trunk against limb on the ruler, −5.2 points (−14 to +3.1)."
    )
    assert verdict.fact_finding == "wide"
    assert answers(verdict)[2] == (
        "No other attribute is beyond the limit. 1 of 3 planned comparisons lie within the limit. "
        "The widest: if there is no difference, about 410 patients in the group settle it (now 92)."
    )


def test_the_widest_is_of_heat_and_between_groups_where_there_is_one():
    curve = finding(
        OPEN,
        code="GA103",
        **{**SLOPE, "attribute": "age", "group": "P95 (79)", "reference": "P5 (31)"},
        anchor="curve",
        thin=Limits(low=-0.5, high=0.5),
    )
    undefined = finding(
        OPEN, **{**UNDEFINED, "anchor": "undefined", "thin": Limits(low=-0.6, high=0.5)}
    )
    group = finding(OPEN, anchor="group", thin=Limits(low=-0.02, high=0.12))
    assert told(curve, undefined, group).fact_finding == "group"
    assert told(curve, undefined).fact == (
        "2 of 2 planned heat map comparisons are open. The widest: age on the ruler, +35 points (−50 to +50)."
    )
    assert told(undefined).fact == (
        "1 of 1 planned heat map comparison is open. The widest between groups, in unusable heat maps: V–VI, +35 points (−60 to +50)."
    )


def test_insufficient_without_anything_open_counts_what_is_in_the_way():
    few = finding(WITHIN, reservation="provisional", anchor="few")
    gone = finding(
        NOT_ASSESSED,
        attribute="kind",
        anchor="gone",
        **{k: Interval() for k in ("mean", "mean_reference", "raw", "adjusted")},
    )
    cells = [cell_of(few, settled=False), cell_of(gone), cell_of(gone, group="other")]
    verdict = told(few, gone, cells=cells)
    assert (
        verdict.fact
        == "3 of 3 planned heat map comparisons are not settled: 2 not assessed and 1 within the limit but not counted."
    )
    assert verdict.fact_finding == ""
    assert answers(verdict)[2] == "What is not settled is mostly by kind (2 of 3)."


REGION = RegionFacts(name="ruler", role="avoid", n_present=0)
NOTHING = {
    "no region anywhere": ({"regions": (REGION,)}, NOT_ASSESSED, "The ruler was found in no image, so no heat map was compared: check the masks."),
    "found somewhere": (
        {"regions": (REGION.model_copy(update={"n_present": 3}),)}, NOT_ASSESSED, "No heat maps could be compared: fewer than 10 patients on one side (3).",
    ),
    "all withheld": ({}, WITHHELD, "Every group is too small to be shown, so nothing is told of their heat maps."),
}  # fmt: skip


@pytest.mark.parametrize("why", NOTHING)
@pytest.mark.parametrize("plan", [PLAN, NO_CRITERIA])
def test_nothing_comparable_says_why(why, plan):
    given, state, wanted = NOTHING[why]
    reason = {"reason": "fewer than 10 patients on one side (3)"} if state is NOT_ASSESSED else {}
    cells = [
        PlannedCell(attribute="tone", comparison="level", group=level, reference="rest", region="ruler", state=state, margin=0.1, **reason)
        for level in ("I", "II")
    ]  # fmt: skip
    if plan is NO_CRITERIA:
        cells = [
            c.model_copy(
                update={"margin": None, "state": NOT_JUDGED if state is NOT_ASSESSED else state}
            )
            for c in cells
        ]
    verdict = told(plan=plan, cells=cells, **given)
    assert verdict.fact == wanted
    assert verdict.fact_finding == ""
    assert verdict.limit == (
        "The plan allows a difference of 10 points."
        if plan is PLAN
        else "No limit was set, so this page gives no verdict."
    )


def test_two_regions_that_nobody_has_are_not_named():
    cells = [
        PlannedCell(
            attribute="tone", comparison="level", region=name, state=NOT_ASSESSED, margin=0.1
        )
        for name in ("ruler", "ink")
    ]
    verdict = told(
        cells=cells, regions=(REGION, RegionFacts(name="ink", role="avoid", n_present=0))
    )
    assert (
        verdict.fact
        == "No region was found in any image, so no heat map was compared: check the masks."
    )


def test_without_a_limit_a_shown_difference_comes_first():
    larger = finding(NOT_JUDGED, shown=False, anchor="larger", adjusted=Interval(estimate=0.5))
    verdict = told(larger, finding(NOT_JUDGED), plan=NO_CRITERIA)
    assert verdict.state == "none_declared"
    assert verdict.fact_finding == "GA101-skin_tone-ruler-V–VI"
    assert verdict.fact.startswith("On skin tone V–VI, 43 %")
    assert verdict.limit == "No limit was set, so this page gives no verdict."


def test_the_fact_takes_the_first_form_that_fits():
    words = [" ".join(["word"] * n) for n in (30, 27, 26, 25, 3)]
    assert in_few_words(words) == words[3]
    assert in_few_words(words[:3]) == words[2]


# ── is it right? ────────────────────────────────────────────────────────────────────────────────────────────────────


def accuracy(
    level, estimate, low=None, high=None, n=100, attribute="skin_tone", metric="accuracy", **more
):
    return PerformanceRow(
        attribute=attribute, level=level, metric=metric, estimate=estimate, low=low, high=high, n_images=n, n_clusters=n, **more
    )  # fmt: skip


EVERYBODY = accuracy(ALL, 0.74, 0.70, 0.78, attribute=ALL)
GROUP = accuracy("V–VI", 0.49, 0.39, 0.59)
OTHERS = (accuracy("I–II", 0.9, n=300), accuracy("III–IV", 0.74, n=100))
GAP = accuracy("V–VI", -0.334, metric="accuracy_difference", reason="against everyone else")
HIDDEN = {"suppressed": True, "n": None}
RIGHT = {
    "both told": ((EVERYBODY, GROUP, *OTHERS), 2, "On skin tone V–VI the model is right in 49 % of images (39 to 59 %), no better than tossing a coin; on all others in 86 %."),
    "three classes": ((EVERYBODY, GROUP, *OTHERS), 3, "On skin tone V–VI the model is right in 49 % of images (39 to 59 %); on all others in 86 %."),
    "better than a coin": (
        (EVERYBODY, accuracy("V–VI", 0.62, 0.51, 0.72), *OTHERS), 2, "On skin tone V–VI the model is right in 62 % of images (51 to 72 %); on all others in 86 %.",
    ),
    "worse than a coin": (
        (EVERYBODY, accuracy("V–VI", 0.31, 0.22, 0.42), *OTHERS), 2, "On skin tone V–VI the model is right in 31 % of images (22 to 42 %); on all others in 86 %.",
    ),
    "perhaps better": (
        (EVERYBODY, accuracy("V–VI", 0.62, 0.45, 0.77), *OTHERS), 2,
        "On skin tone V–VI the model is right in 62 % of images (45 to 77 %), not shown to be better than tossing a coin; on all others in 86 %.",
    ),
    "no interval, no coin": ((EVERYBODY, accuracy("V–VI", 0.5), *OTHERS), 2, "On skin tone V–VI the model is right in 50 % of images; on all others in 86 %."),
    "the others withheld": (
        (EVERYBODY, GROUP, OTHERS[0], accuracy("III–IV", None, **HIDDEN), GAP), 3,
        "On skin tone V–VI the model is right in 49 % of images (39 to 59 %), 33 points less than on all others.",
    ),
    "the difference withheld too": (
        (EVERYBODY, GROUP, OTHERS[0], accuracy("III–IV", None, **HIDDEN), accuracy("V–VI", None, metric="accuracy_difference", **HIDDEN)), 3,
        "On skin tone V–VI the model is right in 49 % of images (39 to 59 %); on all others that is not shown.",
    ),
    "the group withheld": (
        (EVERYBODY, accuracy("V–VI", None, **HIDDEN), *OTHERS), 2, "Withheld for skin tone V–VI: too few images. Over all images the model is right in 74 % (70 to 78 %).",
    ),
    "no label in the group": (
        (EVERYBODY, accuracy("V–VI", None, n=0, reason="no labelled image"), *OTHERS), 2,
        "Not known for skin tone V–VI: no labelled image. Over all images the model is right in 74 % (70 to 78 %).",
    ),
    "no labels": ((accuracy(ALL, None, n=0, attribute=ALL, reason="no labelled image"),), 2, "Not known: there are no labels, so nobody can say which answers are right."),
    "nothing measured": ((), 2, "Not known: there are no labels, so nobody can say which answers are right."),
    "everything withheld": ((accuracy(ALL, None, attribute=ALL, **HIDDEN), accuracy("V–VI", None, **HIDDEN)), 2, "Withheld for skin tone V–VI: too few images. How often the model is right is withheld: too few images."),
}  # fmt: skip


@pytest.mark.parametrize("case", RIGHT)
def test_is_it_right(case):
    rows, classes, wanted = RIGHT[case]
    assert answers(told(finding(), performance=rows, classes=classes))[1] == wanted


def test_a_curve_has_no_group_so_everybody_is_told():
    f = finding(
        code="GA103", **{**SLOPE, "attribute": "age", "group": "P95 (79)", "reference": "P5 (31)"}
    )
    assert (
        is_it_right(f, [EVERYBODY, GROUP])
        == "Over all images the model is right in 74 % (70 to 78 %)."
    )
    assert (
        is_it_right(None, [EVERYBODY, GROUP])
        == "Over all images the model is right in 74 % (70 to 78 %)."
    )


# ── everything else? ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_mirror_is_told_from_shown_means_alone():
    lesion = finding(
        WITHIN,
        region="lesion",
        role="attend",
        mean=Interval(estimate=0.081),
        mean_reference=Interval(estimate=0.43),
        anchor="lesion",
    )
    assert answers(told(finding(), lesion))[2].startswith(
        "On the lesion, 8.1 % of the heat against 43 %."
    )
    beside = lesion.model_copy(update={"test": TestResult(), "margin": None, "state": NOT_JUDGED})
    assert answers(told(finding(), also=[beside]))[2].startswith(
        "On the lesion, where no limit was set, 8.1 % of the heat against 43 %."
    )
    for hidden in (
        {"mean": Interval()},
        {"mean_reference": Interval()},
        {"group": "I–II"},
        {"attribute": "sex"},
        {"code": "GA121"},
    ):
        assert "lesion" not in answers(told(finding(), also=[beside.model_copy(update=hidden)]))[2]


def test_other_attributes_and_what_would_overturn():
    more = finding(attribute="sex", group="f", anchor="sex", beyond_up_to=0.12)
    wide = finding(OPEN, attribute="site", group="head", anchor="site")
    assert answers(told(finding(), more, wide))[2] == (
        "Also beyond the limit: sex. 1 of 3 planned comparisons is open, by site. A limit above 32 points would leave nothing beyond it."
    )
    rates = finding(**{**UNDEFINED, "anchor": "undefined"})
    assert "would leave" not in answers(told(finding(), rates))[2]  # its limit is another one
    unknown = finding(beyond_up_to=None, anchor="unknown")
    assert "would leave" not in answers(told(finding(), unknown))[2]


def test_removal_is_not_guessed():
    answer = answers(told(finding()))[0]
    assert answer.startswith("Not tested: this version does not remove the ruler from the images")


# ── every state and every pattern of what is withheld ───────────────────────────────────────────────────────────────

NAMES = st.text("abc مرحبا 皮肤&\"'‮", min_size=1, max_size=12).map(str.strip).filter(bool)
LONG = st.one_of(NAMES, st.lists(NAMES, min_size=8, max_size=30).map(" ".join))
SHARES = st.one_of(
    st.none(), st.sampled_from([0.0, 1e-9, 0.004, 0.0996, 0.5, 1.0]), st.floats(0, 1)
)
SIGNED = st.one_of(st.none(), st.floats(-1, 1))
INTERVALS = st.builds(Interval, estimate=SIGNED, low=SIGNED, high=SIGNED)
ENDS = st.builds(
    lambda a, b: Limits(low=min(a, b), high=max(a, b)), st.floats(-1, 1), st.floats(-1, 1)
) | st.just(Limits())
KINDS = [
    {"code": "GA101"}, {"code": "GA105"}, {"code": "GA102", **{k: SLOPE[k] for k in ("mean", "mean_reference", "n_images_reference", "n_clusters_reference")}},
    {"code": "GA103", "curve": ((0.0, 0.1, 0.0, 0.2),), **{k: SLOPE[k] for k in ("mean", "mean_reference", "n_images_reference", "n_clusters_reference")}},
    {"code": "GA111", "outcome": "undefined", "region": ""}, {"code": "GA132", "stratum": "class x"},
]  # fmt: skip


@st.composite
def findings_of(draw):
    out = []
    for k in range(draw(st.integers(0, 4))):
        f = finding(
            draw(st.sampled_from(list(CellState))), anchor=f"f{k}", attribute=draw(LONG), group=draw(LONG), reference=draw(st.just("rest") | LONG),
            region=draw(LONG), mean=Interval(estimate=draw(SHARES)), mean_reference=Interval(estimate=draw(SHARES)), raw=draw(INTERVALS),
            adjusted=draw(INTERVALS), thin=draw(ENDS), beyond_up_to=draw(SHARES), within_from=draw(SHARES), shown=draw(st.booleans()),
            n_withheld=draw(st.booleans()), role=draw(st.sampled_from(["avoid", "attend", "neutral"])),
        )  # fmt: skip
        f = f.model_copy(update=draw(st.sampled_from(KINDS)))
        if f.stratum:
            f = f.model_copy(
                update={
                    "group": f"{f.group}, within class x",
                    "test": TestResult(family="exploratory"),
                }
            )
        if f.state is WITHHELD or draw(st.integers(0, 5)) == 0:
            f = Finding(
                code=f.code, anchor=f.anchor, question="", attribute=f.attribute, group=f.group, reference=f.reference, region=f.region, outcome=f.outcome,
                margin=f.margin, suppressed=True, state=WITHHELD, n_withheld=True, test=TestResult(family="confirmatory"), reason="small_cell",
            )  # fmt: skip
        out.append(f)
    return out


@st.composite
def audits(draw):
    findings = draw(findings_of())
    cells = []
    for f in findings:
        if f.stratum:
            continue
        kept = f.state is WITHIN and draw(st.booleans())
        cells.append(
            cell_of(
                f,
                settled=kept,
                settle=draw(st.sampled_from(["", "If there is none, about 30 do; if."])),
                reason=draw(LONG),
            )
        )
    if draw(st.booleans()):
        cells.append(
            PlannedCell(
                attribute="lost",
                comparison="level",
                region="ruler",
                state=NOT_ASSESSED,
                margin=0.1,
                reason="no usable image",
            )
        )
    rows = [EVERYBODY] if draw(st.booleans()) else []
    for f in findings:
        hidden = draw(st.booleans())
        rows.append(
            accuracy(
                f.group,
                None if hidden else draw(SHARES),
                0.2,
                0.7,
                attribute=f.attribute,
                suppressed=hidden,
            )
        )
    plan = PLAN if any(c.margin is not None for c in cells) or draw(st.booleans()) else NO_CRITERIA
    return findings, cells, rows, plan


def numbers_in(text, names):
    for name in sorted(filter(None, names), key=len, reverse=True):
        text = text.replace(name, "…")
    return re.findall(r"[−+]?(?:[<>] )?\d+(?:\.\d+)?", text)


@settings(
    deadline=None,
    max_examples=400,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(audits())
@pytest.mark.slow
def test_every_audit_has_a_fact_that_is_its_findings(audit):
    findings, cells, rows, plan = audit
    verdict = audit_verdict(findings, cells, plan, rows, classes=2)
    assert 0 < len(verdict.fact.split()) <= MOST_WORDS, verdict.fact
    assert "heat map" in verdict.fact
    assert verdict.fact.endswith(".")
    assert verdict.limit.endswith(".")
    assert all(answer.strip() for answer in answers(verdict)[:2])
    texts = [verdict.fact, verdict.limit, *answers(verdict)]
    assert not [t for t in texts if re.search(r"\bnan\b|None|\binf\b|–\s*%", t)], texts
    names = {part for f in findings for part in (f.attribute, f.group, f.reference, f.region)}
    bare = [t for t in texts if not any(BANNED.search(name) for name in names)]
    assert not [t for t in bare if BANNED.search(t)]
    shown = {f.anchor: f for f in findings if not f.suppressed}
    assert verdict.fact_finding == "" or verdict.fact_finding in shown
    if not verdict.fact_finding:
        return
    f = shown[verdict.fact_finding]
    assert f.group != f.reference, "a level is compared with itself"
    sizes = [v for v in (f.raw.estimate, f.adjusted.estimate) if v is not None]
    allowed = {value_words(f, side.estimate) for side in (f.mean, f.mean_reference)}
    allowed |= {points(v, share_digits(v)) for v in sizes} | {
        points(abs(v), share_digits(v), signed=False) for v in sizes
    }
    allowed |= {f"{len(cells)}", "10", *map(str, range(len(cells) + 1))}
    told_numbers = numbers_in(verdict.fact, names | {f.stratum or "class x"})
    ends = (
        numbers_in(verdict.fact.rpartition("(")[2], names)
        if verdict.state == "insufficient"
        else []
    )
    for number in told_numbers:
        assert number in ends or any(number == a.removesuffix(" %").strip() for a in allowed), (
            number,
            verdict.fact,
            allowed,
        )


# ── on tables ───────────────────────────────────────────────────────────────────────────────────────────────────────

WORLDS = {
    "a gap": ({"gap": 0.2}, {}),
    "no gap": ({"gap": 0.0, "patients": 400}, {}),
    "few patients": ({"patients": 27}, {}),
    "no criteria": ({"gap": 0.2}, {"criteria": None}),
    "a small group": ({"gap": 0.2, "tone": (0.6, 0.37, 0.03)}, {}),
    "hardly any heat": ({"undefined": (0.02, 0.05, 0.4)}, {}),
    "no ruler": ({"absent": (1.0, 1.0, 1.0)}, {}),
    "age alone": ({"age_slope": 0.01}, {}),
    "other where both meet": ({"joint": 0.3, "patients": 400}, {}),
}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.slow
def test_the_fact_holds_the_means_of_the_table(world, seed):
    how, changes = WORLDS[world]
    meas, plan = measured(seed, **how), a_plan(**changes)
    cohorts = take_cohorts(meas, plan)
    analysis = analysis_of(cohorts, decide(cohorts, heat_rows_of(cohorts, plan), plan), plan)
    parts = describe(meas, plan, analysis.findings)
    verdict = audit_verdict(
        analysis.findings, analysis.cells, plan, parts.performance, regions=parts.regions, classes=2
    )
    assert len(verdict.fact.split()) <= MOST_WORDS
    assert "heat map" in verdict.fact
    found = [f for f in analysis.findings if f.anchor == verdict.fact_finding]
    if not found or found[0].mean.estimate is None or found[0].stratum or "%" not in verdict.fact:
        return
    f = found[0]
    rows = (
        meas.table[meas.table["region"] == f.region]
        if f.region
        else meas.table.drop_duplicates("image_id")
    )
    values = rows.set_index("image_id")["heat_share"]
    if f.outcome == "undefined":
        values = (rows.set_index("image_id")["status"] != "ok").astype(float)
    images = meas.images.set_index("image_id").assign(value=values).dropna(subset="value")
    level = images[f"subgroup.{f.attribute}"]
    means = images.groupby([level, "cluster"])["value"].mean()
    own, others = (
        means[f.group],
        means.drop(f.group, level=0) if f.reference == "rest" else means[f.reference],
    )
    for mean in (own.mean(), others.mean()):
        digits = 0 if round(100 * mean, 1) >= 10 else 1
        assert f" {mean * 100:.{digits}f} %" in verdict.fact, (mean, verdict.fact)
    right = meas.images.assign(right=meas.images["label"] == meas.images["predicted"])
    inside = right[f"subgroup.{f.attribute}"] == f.group
    assert (
        f"right in {100 * right.loc[inside, 'right'].mean():.0f} % of images" in answers(verdict)[1]
    )
    others = right.loc[
        ~inside if f.reference == "rest" else right[f"subgroup.{f.attribute}"] == f.reference,
        "right",
    ]
    if f"on {'all others' if f.reference == 'rest' else f.reference} in" in answers(verdict)[1]:
        assert answers(verdict)[1].endswith(f"in {100 * others.mean():.0f} %.")


@pytest.mark.slow
def test_the_worlds_reach_every_state():
    states = set()
    for how, changes in WORLDS.values():
        meas, plan = measured(0, **how), a_plan(**changes)
        cohorts = take_cohorts(meas, plan)
        analysis = analysis_of(cohorts, decide(cohorts, heat_rows_of(cohorts, plan), plan), plan)
        states.add(audit_verdict(analysis.findings, analysis.cells, plan).state)
    assert states >= {"not_met", "insufficient", "none_declared"}


def test_no_labels_are_said():
    meas, plan = measured(0, gap=0.2), a_plan()
    meas.images["label"] = None
    assert isinstance(np.nan, float)
    assert pd.isna(meas.images["label"]).all()
    parts = describe(meas, plan)
    verdict = told(finding(), performance=parts.performance)
    assert answers(verdict)[1].startswith("Not known: there are no labels")
