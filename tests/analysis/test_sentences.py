"""What findings say: every verdict of every kind of comparison, headlines with their plurals, and the words that are never used."""

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from banned_words import BANNED, NAMES

from gradaudit.analysis.sentences import headline, sentence, summary_sentences, what_cannot_be_told
from gradaudit.number_text import decimal, declared_points, interval, p_value, points
from gradaudit.plan import CriteriaPlan, Plan
from gradaudit.records import Finding, Interval, TestResult, Verdict
from gradaudit.report.wording import of_clusters

ROOT = Path(__file__).parents[2]
NOTHING = {
    "n_images_reference": 0,
    "n_clusters_reference": 0,
    "mean": Interval(),
    "mean_reference": Interval(),
}
SLOPE = {**NOTHING, "n_images": 900, "n_clusters": 400}
KINDS = {
    "level": {},
    "level against all others": {"reference": "rest"},
    "pair": {"attribute": "marking", "group": "with", "reference": "without", "adjusted": Interval(), "adjusted_for": ()},
    "trend": {"code": "GA102", **SLOPE},
    "continuous": {"code": "GA103", "attribute": "age", "group": "P90 (72)", "reference": "P10 (31)", **SLOPE},
    "departure": {"code": "GA104", **SLOPE, "raw": Interval(), "adjusted": Interval(), "margin": None},
    "undefined": {"code": "GA111", "outcome": "undefined", "region": "", "adjusted": Interval(), "adjusted_for": ()},
    "undefined, trend": {"code": "GA111", "outcome": "undefined", "region": "", **SLOPE},
    "absent": {"code": "GA112", "outcome": "absent"},
    "lift": {"code": "GA121", "outcome": "mass_lift"},
    "pointing game": {"code": "GA121", "outcome": "pointing_game"},
    "area under the curve": {"code": "GA121", "outcome": "auc"},
    "correct images": {"code": "GA121", "outcome": "heat_share_correct"},
    "cell": {"code": "GA131", "attribute": "sex × site", "group": "male × head", "reference": "rest"},
    "cell beside its parts": {
        "code": "GA131", "attribute": "sex × site", "group": "male × head", "reference": "additive prediction", "mean_reference": Interval(),
        "n_images_reference": 0, "n_clusters_reference": 0, "mean": Interval(),
    },
}  # fmt: skip


def _example(verdict, **changes):
    known = verdict is not Verdict.NOT_ASSESSED
    limit = None if verdict in (Verdict.SHOWN, Verdict.NOT_SHOWN) else 0.10
    base = Finding(
        code="GA101", anchor="GA101-skin_tone-ruler", question="", attribute="skin_tone", group="V–VI", reference="I–II", region="ruler",
        role="avoid", n_images=212, n_clusters=212, n_images_reference=1480, n_clusters_reference=1200,
        mean=Interval(estimate=0.31, low=0.26, high=0.36),
        mean_reference=Interval(estimate=0.12), raw=Interval(estimate=0.19, low=0.14, high=0.24) if known else Interval(),
        adjusted=Interval(estimate=0.17, low=0.11, high=0.22) if known else Interval(), margin=limit, mde80=0.08, clusters_needed=300, verdict=verdict,
        adjusted_for=("region size",), test=TestResult(p=0.001, p_adjusted=0.004, p_equivalence_adjusted=0.02, family="confirmatory"),
        reason="" if known else "fewer than 10 clusters on one side (4)",
    )  # fmt: skip
    return base.model_copy(update=changes)


@pytest.mark.parametrize(
    ("verdict", "end"),
    [
        (
            Verdict.MATERIAL,
            "A disparity is shown (adjusted p = 0.004), and its whole interval lies beyond the declared margin of 10 points; "
            "the group has the adverse side of it.",
        ),
        (Verdict.SIZE_UNCERTAIN, "A disparity is shown (adjusted p = 0.004); whether it exceeds the declared margin of 10 points stays open."),
        (Verdict.WITHIN_MARGIN, "A disparity is shown (adjusted p = 0.004), and it lies within the declared margin of 10 points."),
        (Verdict.EQUIVALENT, "No disparity is shown, and any that exists lies within the declared margin of 10 points (adjusted p = 0.020)."),
        (
            Verdict.INCONCLUSIVE,
            "Inconclusive (adjusted p = 0.004): data of this size would show a difference of 8.0 points in 80 % of audits; "
            "to show one of 10 points takes about 300 clusters in the group.",
        ),
        (Verdict.SHOWN, "A disparity is shown (adjusted p = 0.004); no limit was set, so its importance is not judged."),
        (Verdict.NOT_SHOWN, "No disparity is shown (adjusted p = 0.004); no limit was set. Data of this size would show a difference of 8.0 points in 80 % of audits."),
    ],
)  # fmt: skip
def test_the_sentence_of_every_verdict(verdict, end):
    start = (
        "Skin tone V–VI: 31 % of the heat falls on ruler (95 % CI 26–36, n = 212); I–II: 12 % (n = 1\u202f480 images of 1\u202f200 clusters): "
        "a difference of +19 points (+14 to +24); at equal region size +17 points (+11 to +22). "
    )
    assert sentence(_example(verdict)) == start + end


def test_sentences_of_what_is_not_assessed_withheld_or_explored():
    assert sentence(_example(Verdict.NOT_ASSESSED)) == (
        "Skin tone V–VI, heat share on ruler: 31 % (n = 212); I–II: 12 % (n = 1\u202f480 images of 1\u202f200 clusters); "
        "not assessed, fewer than 10 clusters on one side (4)."
    )
    hidden = _example(Verdict.NOT_ASSESSED, suppressed=True, n_images=0)
    assert (
        sentence(hidden)
        == "Skin tone V–VI: withheld, because a group of this comparison holds too few images or clusters to be shown."
    )
    explored = _example(Verdict.SHOWN, test=TestResult(p_adjusted=0.03, family="exploratory"))
    assert sentence(explored).endswith("A signal (adjusted p = 0.030), not a verdict.")
    assert sentence(_example(Verdict.MATERIAL, provisional=True)).endswith(
        "Provisional: fewer than 20 clusters on one side."
    )
    lift = _example(
        Verdict.NOT_SHOWN,
        outcome="mass_lift",
        code="GA121",
        test=TestResult(p_adjusted=0.3, family="exploratory"),
    )
    assert "points" not in sentence(lift)


# ── numbers where they change their form ──


@pytest.mark.parametrize(
    ("mean", "text"),
    [
        (
            Interval(estimate=0.02, low=-0.01, high=0.05),
            "2.0 % of the heat falls on ruler (95 % CI 0.0–5.0, n = 212)",
        ),
        (
            Interval(estimate=0.97, low=0.92, high=1.02),
            "97 % of the heat falls on ruler (95 % CI 92–100, n = 212)",
        ),
    ],
)
def test_a_mean_share_and_its_interval_stay_between_0_and_100_percent(mean, text):
    assert sentence(_example(Verdict.SHOWN, mean=mean)).startswith(f"Skin tone V–VI: {text}; ")


def test_the_interval_of_a_mean_ratio_is_not_cut():
    lift = _example(
        Verdict.SHOWN,
        outcome="mass_lift",
        code="GA121",
        mean=Interval(estimate=1.4, low=0.9, high=1.9),
    )
    assert "(95 % CI 0.90–1.90, n = 212)" in sentence(lift)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0.1, "+10 points (+6 to +14)"),
        (0.064, "+6.4 points (+2.4 to +10.4)"),
        (-0.096, "−9.6 points (−13.6 to −5.6)"),
    ],
)
def test_differences_under_ten_points_have_a_decimal(size, said):
    found = _example(
        Verdict.SHOWN, adjusted=Interval(estimate=size, low=size - 0.04, high=size + 0.04)
    )
    assert f"at equal region size {said}." in sentence(found)


@pytest.mark.parametrize(
    ("p", "said"), [(0.000999, "p < 0.001"), (0.001, "p = 0.001"), (0.0096, "p = 0.010")]
)
def test_p_is_said_down_to_a_thousandth(p, said):
    assert f"(adjusted {said})" in sentence(
        _example(Verdict.SHOWN, test=TestResult(p_adjusted=p, family="confirmatory"))
    )


def test_what_is_held_equal_is_named():
    for names, said in ((("region size", "class"), "region size and class"), (("age",), "age")):
        text = sentence(_example(Verdict.SHOWN, adjusted_for=names))
        assert f"; at equal {said} +17 points" in text
        slope = sentence(_example(Verdict.SHOWN, adjusted_for=names, **KINDS["trend"]))
        assert f"(11 to 22), at equal {said} (n = " in slope


@pytest.mark.parametrize(("needed", "told"), [(212, False), (213, True)])
def test_only_a_group_that_is_too_small_is_told_how_large_to_be(needed, told):
    assert (
        "clusters in the group" in sentence(_example(Verdict.INCONCLUSIVE, clusters_needed=needed))
    ) == told


@pytest.mark.parametrize(
    ("role", "size", "adverse"),
    [
        ("avoid", 0.17, True),
        ("avoid", -0.17, False),
        ("attend", -0.17, True),
        ("attend", 0.17, False),
        ("", 0.17, False),
    ],
)
def test_the_adverse_side_is_heat_where_it_does_not_belong_or_none_where_it_does(
    role, size, adverse
):
    found = _example(
        Verdict.MATERIAL,
        role=role,
        adjusted=Interval(estimate=size, low=size - 0.05, high=size + 0.05),
    )
    assert ("the group has the adverse side of it" in sentence(found)) == adverse


def test_a_summary_has_three_to_five_sentences():
    worst = [
        _example(
            Verdict.MATERIAL, sentence=f"Finding {k}.", adjusted=Interval(estimate=0.3 - k / 100)
        )
        for k in range(6)
    ]
    undefined = _example(Verdict.SHOWN, code="GA111", outcome="undefined", sentence="Undefined.")
    told, lines = summary_sentences([*worst, undefined], ())
    assert [f.sentence for f in told] == ["Finding 0.", "Finding 1.", "Finding 2."]
    assert lines == (
        "Finding 0.",
        "Finding 1.",
        "Finding 2.",
        "All 6 decisive comparisons of the heat share lie beyond the margin.",
        "Undefined.",
    )
    assert len(summary_sentences([_example(Verdict.EQUIVALENT, sentence="One.")], ())[1]) == 3


# ── every kind with every verdict ───────────────────────────────────────────────────────────────────────────────────

DECISIONS = {
    Verdict.MATERIAL: "beyond the declared margin",
    Verdict.SIZE_UNCERTAIN: "stays open",
    Verdict.WITHIN_MARGIN: "it lies within the declared margin",
    Verdict.EQUIVALENT: "any that exists lies within the declared margin",
    Verdict.INCONCLUSIVE: "Inconclusive",
    Verdict.NOT_ASSESSED: "not assessed, fewer than 10 clusters",
    Verdict.SHOWN: "no limit was set",
    Verdict.NOT_SHOWN: "No disparity is shown",
}


def _text_is_sound(text):
    assert re.fullmatch(r"[A-Z0-9].*\.", text), text
    assert not re.search(
        r"None|nan|\s\s|_|\+−|\+\+|−−|[−+]0\.0\b(?! to)|,,|\.\.|\( |,\)|\(\)|: :|\bauc\b", text
    ), text
    assert text.count("(") == text.count(")")


@pytest.mark.parametrize("family", ["confirmatory", "exploratory"])
@pytest.mark.parametrize(("kind", "verdict"), list(itertools.product(KINDS, Verdict)))
def test_every_kind_has_a_sentence_for_every_verdict(kind, verdict, family):
    one = _example(verdict)
    f = one.model_copy(
        update={**KINDS[kind], "test": one.test.model_copy(update={"family": family})}
    )
    if verdict is Verdict.NOT_ASSESSED:
        f = f.model_copy(update={"raw": Interval(), "adjusted": Interval()})
    text = sentence(f)
    _text_is_sound(text)
    assert text.startswith(
        "Skin tone" if f.attribute == "skin_tone" else f.attribute.split(" ")[0].capitalize()
    )
    assert re.search(r"n = \d", text)
    assert f.region in text
    if family == "confirmatory" or verdict is Verdict.NOT_ASSESSED:
        assert DECISIONS[verdict] in text
    else:
        assert text.endswith(
            "A signal (adjusted p = 0.004), not a verdict."
            if verdict is Verdict.SHOWN
            else "No signal (adjusted p = 0.004)."
        )


@pytest.mark.parametrize(
    ("kind", "changes", "start"),
    [
        ("trend", {}, "Skin tone, from I–II to V–VI: the share of heat on ruler rises by 17 points (11 to 22), at equal region size (n = 900 images of 400 clusters)."),
        (
            "trend",
            {"adjusted": Interval(estimate=-0.17, low=-0.22, high=-0.11)},
            "Skin tone, from I–II to V–VI: the share of heat on ruler falls by 17 points (11 to 22), at equal region size",
        ),
        (
            "trend",
            {"adjusted": Interval(estimate=0.004, low=-0.01, high=0.018)},
            "Skin tone, from I–II to V–VI: the share of heat on ruler changes by +0.4 points (−1.0 to +1.8), at equal region size",
        ),
        ("continuous", {}, "Age, from 31 (10th percentile) to 72 (90th percentile): the share of heat on ruler rises by 17 points (11 to 22)"),
        ("continuous", {"reference": "P10", "group": "P90"}, "Age, from the 10th percentile to the 90th percentile: the share of heat on ruler rises"),
        ("departure", {}, "Skin tone, from I–II to V–VI: the share of heat on ruler does not follow a straight line (n = 900 images of 400 clusters)."),
        ("cell", {}, "Sex male and site head: 31 % of the heat falls on ruler (95 % CI 26–36, n = 212); all others: 12 %"),
        ("cell beside its parts", {}, "Sex male and site head: the share of heat on ruler differs from what the two attributes add up to by +17 points (+11 to +22)"),
        ("pair", {}, "Marking with: 31 % of the heat falls on ruler (95 % CI 26–36, n = 212); without: 12 % (n = 1\u202f480 images of 1\u202f200 clusters): a difference of +19 points"),
        ("area under the curve", {}, "Skin tone V–VI: mean ROC AUC on ruler 31 %"),
        ("correct images", {}, "Skin tone V–VI: 31 % of the heat in correctly classified images falls on ruler"),
        ("undefined, trend", {}, "Skin tone, from I–II to V–VI: the share of images without a defined heat map rises by 17 points"),
    ],
)  # fmt: skip
def test_what_is_said_first(kind, changes, start):
    assert sentence(_example(Verdict.SHOWN, **{**KINDS[kind], **changes})).startswith(start)


# ── the audit as a whole ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("level", {}, "the share of heat on ruler is 17 points higher for skin tone V–VI than for I–II"),
        ("level against all others", {"adjusted": Interval(estimate=-0.034)}, "the share of heat on ruler is 3.4 points lower for skin tone V–VI than for all others"),
        ("pair", {}, "the share of heat on ruler is 19 points higher for marking with than for without"),
        ("trend", {}, "the share of heat on ruler rises by 17 points from skin tone I–II to V–VI"),
        ("continuous", {"adjusted": Interval(estimate=-0.17)}, "the share of heat on ruler falls by 17 points from age 31 (10th percentile) to 72 (90th percentile)"),
        ("undefined", {}, "the share of images without a defined heat map is 19 points higher for skin tone V–VI than for I–II"),
        ("undefined", {"raw": Interval()}, "the share of images without a defined heat map differs between skin tone V–VI and I–II"),
        ("level", {"attribute": "ITA_angle"}, "the share of heat on ruler is 17 points higher for ITA angle V–VI than for I–II"),
    ],
)  # fmt: skip
def test_the_headline_of_the_worst_finding(kind, changes, expected):
    worst = _example(Verdict.MATERIAL, **{**KINDS[kind], **changes})
    assert headline("not_met", [_example(Verdict.EQUIVALENT), worst]) == expected
    shown = worst.model_copy(update={"verdict": Verdict.SHOWN})
    assert headline("none_declared", [shown]) == expected


@pytest.mark.parametrize(
    ("state", "verdicts", "expected"),
    [
        ("met", [Verdict.EQUIVALENT], "the only comparison of the heat share lies within the declared margin"),
        ("met", [Verdict.EQUIVALENT] * 2, "both comparisons of the heat share lie within the declared margin"),
        ("met", [Verdict.EQUIVALENT] * 16, "all 16 comparisons of the heat share lie within the declared margin"),
        ("insufficient", [], "no comparison of the heat share was possible"),
        ("insufficient", [Verdict.INCONCLUSIVE], "the only comparison of the heat share stays open"),
        ("insufficient", [Verdict.INCONCLUSIVE] * 2, "both comparisons of the heat share stay open"),
        ("insufficient", [Verdict.INCONCLUSIVE] + [Verdict.EQUIVALENT] * 5, "1 of 6 comparisons of the heat share stays open"),
        ("insufficient", [Verdict.INCONCLUSIVE] * 3 + [Verdict.EQUIVALENT] * 3, "3 of 6 comparisons of the heat share stay open"),
        ("none_declared", [], "no comparison of the heat share was possible"),
        ("none_declared", [Verdict.NOT_SHOWN], "no disparity is shown in the only comparison of the heat share"),
        ("none_declared", [Verdict.NOT_SHOWN] * 2, "no disparity is shown in either comparison of the heat share"),
        ("none_declared", [Verdict.NOT_SHOWN] * 4, "no disparity is shown in any of 4 comparisons of the heat share"),
        ("none_declared", [Verdict.NOT_ASSESSED] * 2, "no comparison of the heat share was possible"),
        (
            "none_declared", [Verdict.NOT_ASSESSED, Verdict.NOT_SHOWN],
            "no disparity is shown in the only comparison of the heat share that could be assessed (1 more could not)",
        ),
    ],
)  # fmt: skip
def test_headlines_count_in_good_english(state, verdicts, expected):
    assert headline(state, [_example(v) for v in verdicts]) == expected


@pytest.mark.parametrize(
    ("verdicts", "hidden", "expected"),
    [
        ([], 1, "the only comparison of the heat share is withheld, because a group is too small to be shown"),
        ([Verdict.EQUIVALENT] * 8, 1, "1 of 9 comparisons of the heat share is withheld, because a group is too small to be shown"),
        ([Verdict.EQUIVALENT] * 7, 2, "2 of 9 comparisons of the heat share are withheld, because a group is too small to be shown"),
        (
            [Verdict.EQUIVALENT] * 7 + [Verdict.INCONCLUSIVE], 1,
            "2 of 9 comparisons of the heat share stay open, 1 of them withheld, because a group is too small to be shown",
        ),
        ([Verdict.NOT_ASSESSED], 1, "both comparisons of the heat share stay open, 1 of them withheld, because a group is too small to be shown"),
    ],
)  # fmt: skip
def test_a_headline_says_what_is_withheld(verdicts, hidden, expected):
    withheld = _example(Verdict.NOT_ASSESSED, suppressed=True, n_images=0)
    decisive = [*(_example(v) for v in verdicts), *[withheld] * hidden]
    assert headline("insufficient", decisive) == expected
    tally = next(line for line in summary_sentences(decisive, ())[1] if "decisive" in line)
    _text_is_sound(tally)
    assert re.search(rf"{hidden} (is|are) withheld|The only .* is withheld", tally)
    told = what_cannot_be_told(decisive, Plan(criteria=CriteriaPlan(margin=0.1)))
    assert (
        "Withheld, because a group is too small to be shown: Skin tone V–VI. What is not shown cannot be called met."
        in told
    )


def test_the_tally_names_every_verdict_once():
    def tally(*verdicts):
        return next(
            line
            for line in summary_sentences([_example(v) for v in verdicts], ())[1]
            if "decisive" in line
        )

    assert (
        tally(Verdict.EQUIVALENT)
        == "The only decisive comparison of the heat share lies within the margin."
    )
    assert (
        tally(*[Verdict.MATERIAL] * 2)
        == "Both decisive comparisons of the heat share lie beyond the margin."
    )
    mixed = tally(
        Verdict.MATERIAL,
        Verdict.EQUIVALENT,
        Verdict.EQUIVALENT,
        Verdict.INCONCLUSIVE,
        Verdict.NOT_ASSESSED,
    )
    assert mixed == (
        "Of 5 decisive comparisons of the heat share, 1 lies beyond the margin, 2 lie within the margin, 1 is inconclusive and 1 is not assessed."
    )
    for verdict in Verdict:
        _text_is_sound(tally(verdict, Verdict.MATERIAL))


def test_what_no_audit_can_tell_comes_first():
    assert what_cannot_be_told([], Plan())[:2] == (
        "A difference in heat is evidence about the explanation, not proof that the model uses the region.",
        "A group whose region masks are worse would show a difference of its own: mask quality by group comes first.",
    )


def test_what_cannot_be_told_counts_in_good_english():
    note = ("undefined heat counted as 0 or 1 in opposite directions: the verdict could change",)
    lines = [
        what_cannot_be_told([_example(Verdict.EQUIVALENT, notes=note)] * n, Plan()) for n in (1, 2)
    ]
    assert any("could change 1 verdict, depending" in line for line in lines[0])
    assert any("could change 2 verdicts, depending" in line for line in lines[1])


def test_a_group_of_one_cluster_is_one_cluster():
    one = _example(Verdict.NOT_ASSESSED, n_images=3, n_clusters=1)
    assert "(n = 3 images of 1 cluster)" in sentence(one)
    assert "(n = 3 images of 2 clusters)" in sentence(one.model_copy(update={"n_clusters": 2}))


def test_the_summary_claims_nothing_that_was_not_looked_at():
    """Three sentences at least: what else was compared comes before the claim that nothing else was."""
    material, same = (
        _example(Verdict.MATERIAL, sentence="Material."),
        _example(Verdict.EQUIVALENT, sentence="Equivalent."),
    )
    undefined = same.model_copy(
        update={"code": "GA111", "outcome": "undefined", "sentence": "Undefined heat is alike."}
    )
    lines = summary_sentences([material, undefined], ())[1]
    assert lines == (
        "Material.",
        "The only decisive comparison of the heat share lies beyond the margin.",
        "Undefined heat is alike.",
    )
    assert summary_sentences([material], ())[1][2] == "Nothing else was compared."
    gone = _example(
        Verdict.NOT_ASSESSED, code="GA111", outcome="undefined", sentence="Not assessed."
    )
    assert summary_sentences([material, gone, undefined], ())[1][2:] == ("Not assessed.",)
    nothing = summary_sentences([], ())[1]
    assert nothing == (
        "No comparison of the heat share in a declared region was possible.", "Nothing else was compared.",
        "The section on the data says how many images came through each step.",
    )  # fmt: skip


def test_what_is_open_in_one_region_is_not_called_open_in_every_region():
    decisive = [_example(Verdict.NOT_ASSESSED), _example(Verdict.EQUIVALENT, region="lesion")]
    (line,) = (
        text
        for text in what_cannot_be_told(decisive, Plan())
        if text.startswith("Nothing can be said")
    )
    assert (
        line
        == "Nothing can be said about Skin tone V–VI in at least one declared region: see the reasons beside each comparison."
    )
    (line,) = (
        text
        for text in what_cannot_be_told(decisive[:1] * 2, Plan())
        if text.startswith("Nothing can be said")
    )
    assert "in at least one declared region" in line


# ── who is named, in which order, and how numbers are written ───────────────────────────────────────────────────────


def _lines(decisive, findings=()):
    return summary_sentences(
        [f.model_copy(update={"sentence": name}) for name, f in decisive], findings
    )[1]


def test_the_worst_verdict_is_told_first_whatever_its_place():
    order = [
        Verdict.MATERIAL, Verdict.SIZE_UNCERTAIN, Verdict.SHOWN, Verdict.INCONCLUSIVE, Verdict.NOT_SHOWN, Verdict.WITHIN_MARGIN, Verdict.EQUIVALENT,
    ]  # fmt: skip
    for worse, better in itertools.pairwise(order):
        small, large = Interval(estimate=0.02), Interval(estimate=0.30)
        pair = [
            ("Better.", _example(better, adjusted=large)),
            ("Worse.", _example(worse, adjusted=small)),
        ]
        assert _lines(pair)[0] == "Worse.", (worse, better)
    both = _lines(
        [
            ("B.", _example(Verdict.EQUIVALENT)),
            ("A.", _example(Verdict.WITHIN_MARGIN)),
            ("C.", _example(Verdict.EQUIVALENT)),
        ]
    )
    assert both[:3] == ("A.", "B.", "C.")


def test_the_tally_of_comparisons_without_a_limit_leaves_none_open():
    pair = [("A.", _example(Verdict.SHOWN)), ("B.", _example(Verdict.NOT_SHOWN))]
    assert (
        _lines(pair)[2]
        == "Of 2 decisive comparisons of the heat share, 1 shows a disparity that no limit judges and 1 shows no disparity."
    )


def test_of_equal_verdicts_the_heat_share_the_adverse_side_a_group_and_the_larger_difference_come_first():
    def first(a, b):
        one, other = (_lines(pair)[0] for pair in ([("A.", a), ("B.", b)], [("B.", b), ("A.", a)]))
        assert one == other
        return one

    base = _example(Verdict.MATERIAL)
    large, small = Interval(estimate=0.4), Interval(estimate=0.2)
    undefined = base.model_copy(update={"code": "GA111", "outcome": "undefined", "adjusted": large})
    assert first(base, undefined) == "A."
    assert (
        first(base, base.model_copy(update={"adjusted": Interval(estimate=-0.4)})) == "A."
    )  # more heat on what should have none
    attended = base.model_copy(update={"role": "attend", "adjusted": Interval(estimate=-0.2)})
    assert (
        first(attended, base.model_copy(update={"role": "attend", "adjusted": large})) == "A."
    )  # less heat on what should have it
    neutral = base.model_copy(update={"role": "neutral"})
    assert first(neutral, neutral.model_copy(update={"code": "GA102", "adjusted": large})) == "A."
    assert (
        first(
            neutral.model_copy(update={"adjusted": Interval(estimate=-0.4)}),
            neutral.model_copy(update={"adjusted": small}),
        )
        == "A."
    )
    slope = base.model_copy(update={"code": "GA102"})
    assert "adverse" not in sentence(slope)  # everybody is the group of a slope
    nothing = base.model_copy(update={"adjusted": Interval(estimate=0.0, low=0.0, high=0.0)})
    assert "adverse" not in sentence(nothing)


def test_the_worst_of_undefined_heat_is_told_where_the_heat_share_fills_the_summary():
    heat = [
        (f"Heat {k}.", _example(Verdict.MATERIAL, adjusted=Interval(estimate=0.5 - 0.1 * k)))
        for k in range(4)
    ]
    undefined = {
        "code": "GA111",
        "outcome": "undefined",
        "adjusted": Interval(),
        "adjusted_for": (),
    }
    mild, bad = (
        _example(Verdict.WITHIN_MARGIN, **undefined),
        _example(Verdict.MATERIAL, **undefined),
    )
    tally = "All 4 decisive comparisons of the heat share lie beyond the margin."
    assert _lines([*heat, ("Mild.", mild), ("Bad.", bad)]) == (
        "Heat 0.",
        "Heat 1.",
        "Heat 2.",
        tally,
        "Bad.",
    )
    assert _lines([heat[0], ("Bad.", bad)]) == (
        "Heat 0.",
        "Bad.",
        "The only decisive comparison of the heat share lies beyond the margin.",
    )


def test_three_to_five_sentences_and_nothing_that_is_withheld():
    def count(n, verdict=Verdict.MATERIAL, findings=()):
        return len(_lines([(f"{k}.", _example(verdict)) for k in range(n)], findings))

    explored = [_example(Verdict.SHOWN, test=TestResult(p_adjusted=0.01, family="exploratory"))]
    assert [count(n) for n in (0, 1, 2, 3, 9)] == [3, 3, 3, 4, 4]
    assert [count(n, findings=explored) for n in (0, 1, 2, 3, 9)] == [3, 3, 4, 5, 5]
    hidden = _example(Verdict.MATERIAL, suppressed=True)
    lines = _lines(
        [
            ("Hidden.", hidden),
            ("Shown.", _example(Verdict.EQUIVALENT)),
            ("Also.", _example(Verdict.EQUIVALENT)),
        ]
    )
    assert "Hidden." not in lines
    open_ = [
        (f"Open {k}.", _example(Verdict.NOT_ASSESSED, code="GA111", outcome="undefined"))
        for k in range(5)
    ]
    assert _lines(open_) == (
        "No comparison of the heat share in a declared region was possible.",
        "Open 0.",
        "Open 1.",
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mean": Interval(estimate=0.1)}, "10 % of the heat falls on ruler"),
        ({"mean": Interval(estimate=0.0994)}, "9.9 % of the heat falls on ruler"),
        ({"adjusted": Interval(estimate=0.1, low=0.06, high=0.14)}, "at equal region size +10 points (+6 to +14)"),
        ({"adjusted": Interval(estimate=0.0994, low=0.06, high=0.14)}, "at equal region size +9.9 points (+6.0 to +14.0)"),
        ({"adjusted": Interval(estimate=-0.0004, low=-0.03, high=0.0003)}, "at equal region size 0.0 points (−3.0 to 0.0)"),
        ({"outcome": "mass_lift", "adjusted": Interval(estimate=0.125, low=-0.004, high=0.254)}, "at equal region size +0.12 (0.00 to +0.25)"),
        ({"outcome": "mass_lift", "mean": Interval(estimate=1.254, low=1.1, high=1.4)}, "mean mass lift on ruler 1.25 (95 % CI 1.10–1.40"),
        ({"adjusted": Interval()}, "a difference of +19 points (+14 to +24)."),
        ({"n_withheld": True, "n_images": 0, "n_clusters": 0}, "(95 % CI 26–36, n withheld)"),
    ],
)  # fmt: skip
def test_numbers_are_written_with_the_digits_that_they_have(changes, words):
    assert words in sentence(_example(Verdict.MATERIAL, **changes))


@pytest.mark.parametrize(("low", "high", "said"), [
    (0.0, 0.09, "changes by +4.0 points (0.0 to +9.0)"), (0.001, 0.09, "rises by 4.0 points (0.1 to 9.0)"),
    (-0.09, -0.001, "falls by 4.0 points (0.1 to 9.0)"), (-0.09, 0.0, "changes by −4.0 points (−9.0 to 0.0)"),
])  # fmt: skip
def test_a_slope_rises_or_falls_only_where_its_interval_leaves_zero(low, high, said):
    estimate = 0.04 if high > 0 else -0.04
    f = _example(
        Verdict.MATERIAL,
        **{**KINDS["trend"], "adjusted": Interval(estimate=estimate, low=low, high=high)},
    )
    assert said in sentence(f)


def test_the_level_of_the_interval_is_the_plan_s():
    assert "(90 % CI 26–36" in sentence(_example(Verdict.MATERIAL), alpha=0.1)
    assert "(99.5 % CI 26–36" in sentence(_example(Verdict.MATERIAL), alpha=0.005)


def test_a_sentence_words_counts_p_and_differences_as_the_table_does():
    f = _example(
        Verdict.MATERIAL, n_images=12_480, n_clusters=1_024, margin=0.12345,
        adjusted=Interval(estimate=0.0312, low=0.0004, high=0.0996), test=TestResult(p_adjusted=0.0004, family="confirmatory"),
    )  # fmt: skip
    said = sentence(f)
    for number in of_clusters(f.n_images, f.n_clusters).split(" / "):
        assert f" {number} " in said
    assert f"{points(f.adjusted.estimate)} points" in said
    assert interval(f.adjusted.low, f.adjusted.high, points) in said
    assert p_value(f.test.p_adjusted).replace("\u202f", " ") in said
    assert f"the declared margin of {declared_points(f.margin)} points" in said
    lift = f.model_copy(
        update={"outcome": "mass_lift", "adjusted": Interval(estimate=0.125, low=-0.2, high=0.254)}
    )
    assert decimal(0.125, signed=True) in sentence(lift)
    unknown = f.model_copy(
        update={"adjusted": Interval(estimate=float("nan"), low=float("nan"), high=0.1)}
    )
    assert "nan" not in sentence(unknown)


def test_margins_are_told_as_declared_and_detectable_differences_as_in_the_table():
    said = sentence(_example(Verdict.INCONCLUSIVE, mde80=0.01234, margin=0.125))
    assert "a difference of 1.2 points in 80 %" in said
    assert "of 12 points in 80 %" in sentence(_example(Verdict.INCONCLUSIVE, mde80=0.1234))
    assert "to show one of 12.5 points takes about 300 clusters" in said
    assert "neither a disparity nor its absence is shown." in sentence(
        _example(Verdict.INCONCLUSIVE, mde80=None)
    )
    assert sentence(_example(Verdict.NOT_SHOWN, mde80=None)).endswith(
        "No disparity is shown (adjusted p = 0.004); no limit was set."
    )


def test_slopes_are_told_by_their_ends_and_groups_by_their_name():
    trend = _example(Verdict.MATERIAL, **{**KINDS["trend"], "n_clusters_reference": 3})
    assert sentence(trend).startswith("Skin tone, from I–II to V–VI:")
    rest = _example(
        Verdict.MATERIAL, reference="rest", n_clusters_reference=0, n_images_reference=0
    )
    assert sentence(rest).startswith("Skin tone V–VI: ")
    hidden = _example(Verdict.NOT_ASSESSED, n_withheld=True, n_images=0, mean=Interval())
    assert sentence(hidden).endswith("(n withheld).")


def test_headlines_count_comparisons_of_the_heat_share_alone():
    undefined = _example(Verdict.NOT_SHOWN, code="GA111", outcome="undefined")
    assert (
        headline("met", [_example(Verdict.EQUIVALENT), undefined])
        == "the only comparison of the heat share lies within the declared margin"
    )
    assert (
        headline("none_declared", [_example(Verdict.NOT_SHOWN), undefined])
        == "no disparity is shown in the only comparison of the heat share"
    )
    assert (
        headline("insufficient", [_example(Verdict.INCONCLUSIVE), undefined])
        == "the only comparison of the heat share stays open"
    )


def test_what_cannot_be_told_names_five_counts_the_rest_and_keeps_what_is_withheld_apart():
    def line(start, decisive, plan=None):
        return next(
            (
                text
                for text in what_cannot_be_told(decisive, plan or Plan())
                if text.startswith(start)
            ),
            "",
        )

    def groups(n, verdict=Verdict.NOT_ASSESSED, **changes):
        return [_example(verdict, group=f"g{k}", **changes) for k in range(n)]

    names = [f"Skin tone g{k}" for k in range(5)]
    assert f"about {', '.join(names)} in at least" in line("Nothing can", groups(5))
    assert f"about {', '.join(names)} and 2 more in at least" in line("Nothing can", groups(7))
    assert line("Nothing can", groups(2, suppressed=True)) == ""
    assert line("Nothing can", groups(2, code="GA111")) == ""
    assert line("Nothing can", groups(2, Verdict.EQUIVALENT)) == ""
    assert f"to be shown: {', '.join(names)} and 1 more." in line(
        "Withheld", groups(6, suppressed=True)
    )
    assert line("Withheld", groups(6)) == ""
    declared = Plan().updated(criteria={"margin": 0.1})
    assert (
        line("Without a declared margin", [])
        == "Without a declared margin, no difference can be called important or unimportant."
    )
    assert line("Without a declared margin", [], declared) == ""


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


def test_signals_are_counted_and_none_is_no_reason_to_look():
    def told(*verdicts):
        family = TestResult(p_adjusted=0.3, family="exploratory")
        findings = [_example(v, test=family) for v in verdicts]
        return next(
            line
            for line in summary_sentences([_example(Verdict.EQUIVALENT)], findings)[1]
            if "exploratory" in line
        )

    assert told(Verdict.NOT_SHOWN) == "Of 1 exploratory comparison, none gives a signal."
    assert (
        told(Verdict.SHOWN, Verdict.NOT_SHOWN)
        == "Of 2 exploratory comparisons, 1 gives a signal: a reason to look, not a verdict."
    )
    assert told(Verdict.SHOWN, Verdict.SHOWN).startswith(
        "Of 2 exploratory comparisons, 2 give a signal: "
    )
