"""From drafts to findings: the record of a draft, without what small cells forbid to show.

``Withheld`` says of every draft what must not be shown; ``finding_of`` writes the rest down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradaudit.analysis.questions import QUESTIONS
from gradaudit.analysis.study import Draft
from gradaudit.disclosure.decision import Suppression
from gradaudit.disclosure.small_cells import is_small
from gradaudit.number_text import finite_or_none
from gradaudit.records import (
    CellState,
    Effect,
    Finding,
    Interval,
    Limits,
    TestResult,
)
from gradaudit.subgroups.contrast import JOINT, TEST_NAMES

TOO_FEW_TO_SHOW = "too few clusters, or too few different values, to compare"
"""Stands for a reason that holds counts where counts are withheld."""
REASON_WITHHELD = "its reason is withheld, because it would give a small count away"
"""Stands for why a comparison within its margin does not count, where counts are withheld."""

# ── small cells ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Withheld:
    """What findings must not show, so that no small group is given away.

    "all": the group itself is small.  "counts": its numbers would give a small group away.
    """

    cells: set[tuple[str, str, str, str, str]]
    levels: dict[str, set[str]]
    bases: dict[tuple[str, str, str, str, str], int]
    min_cell: int

    @classmethod
    def of(cls, suppression: Suppression, drafts: Sequence[Draft]) -> Withheld:
        bases = {
            (d.attribute, d.contrast.group, d.region, d.method, d.target): d.contrast.n_images
            for d in drafts
            if d.code == "GA101"
        }
        return cls(suppression.cells, suppression.levels, bases, suppression.min_cell)

    def of_draft(self, d: Draft) -> str:
        if self.min_cell <= 1:
            return ""
        c = d.contrast
        counts = (c.n_images, c.n_clusters, c.n_images_reference, c.n_clusters_reference)
        if c.kind not in ("level", "pair", "additivity"):
            return "all" if any(is_small(n, self.min_cell) for n in counts) else ""
        if any(is_small(n, self.min_cell) for n in counts) or (
            not c.n_images and self._is_hidden(d, c.group)
        ):
            return "all"
        if d.small_table or any(self._is_hidden(d, level) for level in (c.group, c.reference)):
            return "counts"
        if d.code in ("GA111", "GA112"):
            events = [
                n * mean[0]
                for n, mean in ((c.n_images, c.mean), (c.n_images_reference, c.mean_reference))
                if np.isfinite(mean[0])
            ]
            return "rates" if any(0 < e < self.min_cell for e in events) else ""
        if d.stratum or d.outcome == "heat_share_correct":
            return ""
        base = self.bases.get((d.attribute, c.group, d.region, d.method, d.target), c.n_images)
        return "counts" if is_small(abs(base - c.n_images), self.min_cell) else ""

    def _is_hidden(self, d: Draft, level: str) -> bool:
        if level in self.levels.get(d.attribute, set()):
            return True
        return any(
            a == d.attribute and cell == level and d.region in ("", region)
            for a, cell, region, *_ in self.cells
        )


def finding_of(d: Draft, withheld: str) -> Finding:
    """The record of a draft, without what ``Withheld.of_draft`` says must not be shown."""
    base = Finding(
        code=d.code,
        anchor=d.anchor,
        question=QUESTIONS.card(d.code).summary,
        attribute=d.attribute,
        group=d.contrast.group + (f", within {d.stratum}" if d.stratum else ""),
        reference=d.contrast.reference,
        stratum=d.stratum,
        region=d.region,
        role=d.role,
        method=d.method,
        target=d.target,
        outcome=d.outcome,
        margin=d.margin,
        adjusted_for=d.adjusted_for,
    )
    if withheld == "all":
        # a decisive comparison keeps its family: no verdict is given as if it had not been asked
        family = TestResult(family="confirmatory" if d.confirmatory else "")
        return base.model_copy(
            update={
                "suppressed": True,
                "reason": "small_cell",
                "n_withheld": True,
                "test": family,
                "state": CellState.WITHHELD,
            }
        )
    full = base.model_copy(update=_numbers(d))
    if withheld == "rates":
        return _without_rates(_without_counts(full))
    return _without_counts(full) if withheld else full


def _without_counts(full: Finding) -> Finding:
    """The finding without its counts, and without what they could be reckoned from."""
    notes = [
        "compared among clusters of common region size" if "compared among" in note else note
        for note in full.notes
    ]
    reason = TOO_FEW_TO_SHOW if full.reason else ""
    return full.model_copy(
        update={
            **dict.fromkeys(("n_images", "n_clusters"), 0),
            **dict.fromkeys(("n_images_reference", "n_clusters_reference"), 0),
            "n_withheld": True,
            "curve": (),
            "mde80": None,
            "test": full.test.model_copy(update={"df": None}),
            "mean": Interval(estimate=full.mean.estimate),
            "mean_reference": Interval(estimate=full.mean_reference.estimate),
            "reason": reason,
            "reservation": REASON_WITHHELD if full.reservation else "",
            "notes": tuple(notes),
        }
    )


def _without_rates(found: Finding) -> Finding:
    """The finding without rates and differences too: a rate of few events gives them away."""
    return found.model_copy(
        update={
            **dict.fromkeys(("mean", "mean_reference", "raw", "adjusted"), Interval()),
            "adjusted_predicted": Interval(),
            **dict.fromkeys(("thin", "thick"), Limits()),
            **dict.fromkeys(("beyond_up_to", "within_from"), None),
            "curve": (),
            "se": None,
            "effect": Effect(),
            "reason": "too few of these images to compare" if found.reason else "",
            "test": found.test.model_copy(update={"statistic": None}),
        }
    )


def _numbers(d: Draft) -> dict[str, Any]:
    c = d.contrast
    own = _interval((c.estimate, c.ci_low, c.ci_high))
    additive = c.kind == "additivity"  # a prediction has no images of its own
    return {
        "n_images": c.n_images,
        "n_clusters": c.n_clusters,
        "n_images_reference": 0 if additive else c.n_images_reference,
        "n_clusters_reference": 0 if additive else c.n_clusters_reference,
        "mean": _interval(c.mean),
        "mean_reference": _interval(c.mean_reference),
        "raw": _raw(d, own),
        "adjusted": own if d.adjusted_for else Interval(),
        "adjusted_predicted": _interval(c.adjusted_predicted),
        "mask_tipping": d.mask_tipping,
        "se": finite_or_none(c.se),
        "effect": Effect(
            ratio=_interval(c.ratio),
            standardised_difference=finite_or_none(c.standardised_difference),
            cliffs_delta=finite_or_none(c.cliffs_delta),
        ),
        "test": _test(d),
        "mde80": finite_or_none(c.mde80),
        "state": c.state,
        "shown": c.shown,
        "thin": Limits(low=finite_or_none(c.thin[0]), high=finite_or_none(c.thin[1])),
        "thick": Limits(low=finite_or_none(c.thick[0]), high=finite_or_none(c.thick[1])),
        "beyond_up_to": finite_or_none(c.beyond_up_to),
        "within_from": finite_or_none(c.within_from),
        "reservation": d.reservation,
        "folded_under": d.folded_under,
        "curve": c.curve,
        "provisional": c.provisional,
        "reason": c.reason,
        "notes": (*c.notes, *d.notes),
    }


def _raw(d: Draft, own: Interval) -> Interval:
    """The difference without adjustment: the finding's own where nothing was adjusted."""
    if d.raw is None:
        return Interval() if d.adjusted_for else own
    return _interval((d.raw.estimate, d.raw.ci_low, d.raw.ci_high))


def _test(d: Draft) -> TestResult:
    c = d.contrast
    name = TEST_NAMES.get(c.method, "")
    if c.kind in JOINT and name:
        name = "permuted Wald" if c.method == "permutation" else "Wald F"
    return TestResult(
        name=name,
        statistic=finite_or_none(c.statistic),
        df=finite_or_none(c.df),
        p=finite_or_none(c.p),
        p_adjusted=finite_or_none(c.p_adjusted),
        p_beyond=finite_or_none(c.p_beyond),
        p_beyond_adjusted=finite_or_none(c.p_beyond_adjusted),
        p_within=finite_or_none(c.p_within),
        family="confirmatory" if d.confirmatory else "exploratory",
        permutations=c.permutations or None,
    )


def _interval(values: tuple[float, float, float]) -> Interval:
    return Interval(
        estimate=finite_or_none(values[0]),
        low=finite_or_none(values[1]),
        high=finite_or_none(values[2]),
    )
