"""Comparisons made up by hand, with every word, every kind of row, and names that attack."""

from gradaudit.records import CellState, Interval, Limits
from gradaudit.schema.comparison import (
    AuditSide,
    CellChange,
    ChangeMethod,
    ComparisonDocument,
    Difference,
    ImagePairing,
    PerformanceChange,
)

HOSTILE = "<script>alert('x')</script> | `a` ‮evil‬ العربية 中文 " + "very_long_name_" * 8


def side(audit_id, **changes):
    facts = {
        "audit_id": audit_id, "measured": "2026-01-15T10:00:00+00:00", "title": "Skin", "model_source": "factory:net.py:build",
        "model_digest": "ab" * 32, "data_name": "manifest.csv", "data_digest": "cd" * 32, "n_images": 1200, "n_clusters": 400,
        "state": "not_met", "state_words": "criteria not met", "headline": "", "margin": 0.1,
    }  # fmt: skip
    return AuditSide(**(facts | changes))


def cell(group, before, after, word="not_shown", **changes):
    change = after - before
    facts = {
        "attribute": "skin_tone", "comparison": "level", "group": group, "reference": "rest", "region": "ruler", "role": "avoid", "word": word,
        "state_before": CellState.BEYOND, "state_after": CellState.WITHIN, "margin_before": 0.1, "margin_after": 0.1,
        "before": Interval(estimate=before, low=before - 0.02, high=before + 0.02), "after": Interval(estimate=after, low=after - 0.02, high=after + 0.02),
        "change": Interval(estimate=change, low=change - 0.03, high=change + 0.03), "thin": Limits(low=change - 0.05, high=change + 0.05),
        "p": 0.001, "p_size": 0.002, "p_adjusted": 0.01, "group_before": 0.43, "group_after": 0.14, "reference_before": 0.084, "reference_after": 0.071,
        "group_change": Interval(estimate=-0.29, low=-0.32, high=-0.26), "group_word": "better", "n_before": 92, "n_after": 92,
    }  # fmt: skip
    return CellChange(**(facts | changes))


def figure(level, metric, before, after, word="not_shown", **changes):
    change = after - before
    facts = {
        "attribute": "skin_tone", "level": level, "metric": metric, "word": word, "before": Interval(estimate=before, low=before - 0.02, high=before + 0.02),
        "after": Interval(estimate=after, low=after - 0.02, high=after + 0.02), "change": Interval(estimate=change, low=change - 0.03, high=change + 0.03),
        "thin": Limits(low=change - 0.05, high=change + 0.05),
    }  # fmt: skip
    return PerformanceChange(**(facts | changes))


def comparison(**changes):
    cells = (
        cell("V–VI", 0.347, 0.067, "better", changed=True),
        cell("I–II", 0.02, 0.21, "worse", changed=True, notes=("the others moved further",)),
        cell("III–IV", 0.15, -0.14, changed=True, reason="the difference changed, and it is not shown that it is smaller or larger in size"),
        CellChange(attribute="site", comparison="level", group="hand", reference="rest", region="ruler", word="withheld", reason="a group of this comparison is too small to be shown in one of the two audits", state_before=CellState.WITHHELD, state_after=CellState.OPEN),
        CellChange(attribute="sex", comparison="level", group="male", reference="female", region="ruler", word="not_compared", reason="only before: the attribute is not in the other manifest"),
        cell("V–VI", 0.0, 0.0, region="", role="", outcome="undefined", change=Interval(estimate=0.0, low=0.0, high=0.0), reason="no cluster's value is another one"),
    )  # fmt: skip
    performance = (
        figure("(all)", "accuracy", 0.709, 0.791, "better", attribute="(all)"),
        figure("(all)", "calibration_slope", 0.43, 1.17, attribute="(all)"),
        figure("V–VI", "accuracy", 0.49, 0.757, "better"), figure("V–VI", "brier", 0.3, 0.4, "worse"), figure("I–II", "accuracy", 0.818, 0.828),
        PerformanceChange(attribute="site", level="hand", metric="accuracy", word="withheld", reason="it is withheld in one of the two audits"),
    )  # fmt: skip
    differences = (
        Difference(area="criteria", name="limit: largest difference in heat held to be immaterial", before="0.1", after="0.2", consequence="states before and after were held against their own limit; changes are not"),
        Difference(area="model", name="weights as named", before="shortcut.safetensors", after="clean.safetensors"),
    )  # fmt: skip
    facts = {
        "comparison_id": "0123456789ab", "created": "2026-02-01T00:00:00+00:00", "tool_version": "0.1.0", "title": "Skin, before → after", "notices": ("Rendered images.",),
        "before": side("aaaaaaaaaaaa"), "after": side("bbbbbbbbbbbb", state="met", state_words="criteria met", margin=0.2),
        "pairing": ImagePairing(n_before=1200, n_after=1190, n_pairs=1180, n_by_digest=1170, n_by_name=10, n_renamed=2, n_replaced=1, n_only_before=20, n_only_after=10, n_clusters_before=400, n_clusters_after=398, n_clusters_both=397, renamed=("a.png → b.png",), replaced=("c.png",)),
        "differences": differences, "headline": "The disparity is smaller in 1 of 4 planned comparisons and larger in 1.",
        "facts": ("On skin tone V–VI, 43 % of the model's heat map lay on the ruler before and 14 % after; on all others, 8.4 % and 7.1 %.", "The disparity is smaller."),
        "cells": cells, "performance": performance, "cannot_tell": ("Proof of use.",), "min_cell": 11,
        "method": ChangeMethod(alpha=0.05, permutations=9999, seed=0, family=6, family_performance=5, smallest=0.0005, unit="patient", cluster_name="patient"),
    }  # fmt: skip
    return ComparisonDocument(**(facts | changes))


def hostile():
    """Every text that a user may choose is an attack or very long."""
    cells = (
        cell(HOSTILE, 0.3, 0.1, "better", attribute=HOSTILE, reference=HOSTILE),
        cell(HOSTILE, 0.3, 0.2, attribute="x_y", reason=HOSTILE, notes=(HOSTILE,)),
    )
    return comparison(
        title=HOSTILE, notices=(HOSTILE,), cells=cells, performance=(figure(HOSTILE, "accuracy", 0.5, 0.6, attribute=HOSTILE),),
        differences=(Difference(area="plan", name=HOSTILE, before=HOSTILE, after=HOSTILE, consequence=HOSTILE),),
        before=side("aaaaaaaaaaaa", title=HOSTILE, model_source=HOSTILE, data_name=HOSTILE), facts=(HOSTILE, HOSTILE), headline=HOSTILE, cannot_tell=(HOSTILE,),
    )  # fmt: skip


def nothing_compared():
    cells = tuple(
        CellChange(attribute="tone", comparison="level", group=g, reference="rest", region="ruler", word="not_compared", reason="the heat maps are of another method (gradcam, then layercam)")
        for g in ("I", "II")
    )  # fmt: skip
    return comparison(
        cells=cells,
        performance=(),
        facts=("No figure of performance could be compared.",),
        differences=(),
        headline="Nothing could be compared: none of 2 planned comparisons is in both audits.",
    )


def many_levels(levels=33, attributes=3):
    cells = tuple(
        cell(f"L{k}", 0.1 + k / 200, 0.1, attribute=f"attribute_{a}", region=region)
        for a in range(attributes) for k in range(levels) for region in ("ruler", "lesion")
    )  # fmt: skip
    figures = tuple(
        figure(f"L{k}", m, 0.8, 0.82, attribute=f"attribute_{a}")
        for a in range(attributes)
        for k in range(levels)
        for m in (
            "accuracy",
            "sensitivity",
            "specificity",
            "ppv",
            "auc",
            "brier",
            "calibration_slope",
        )
    )
    return comparison(cells=cells, performance=figures)
