"""The images of each side of a finding that lie nearest to the mean which its sentence states.

Thumbnails are written while the images are at hand, before anything is compared.  So the rule looks
at measurements and plan alone: ``nearest_picks`` names the images of every planned comparison, the
largest differences first, and ``picture_groups`` finds them again among those of a report.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from gradaudit.analysis.figures.sides import MOST_FINDINGS, Sides
from gradaudit.analysis.planned.cells import comparisons_planned
from gradaudit.analysis.study import Bools, Floats, Study
from gradaudit.cohort.attributes import Attribute, attributes_of
from gradaudit.cohort.gallery import pick_images, shown_name
from gradaudit.cohort.heat_distributions import heat_rows_of
from gradaudit.cohort.population import attribute_facts_of, take_cohorts
from gradaudit.disclosure.decision import decide
from gradaudit.errors import InputError
from gradaudit.plan import Plan
from gradaudit.records import Finding
from gradaudit.result_schema import PictureGroup
from gradaudit.runs.measurements import Measurements

A_SIDE = 3
"""Pictures of one side of a finding."""
MOST_NEAREST = 2 * A_SIDE * MOST_FINDINGS
"""Images whose thumbnails are written for this, beside those of the gallery."""
Picks = dict[str, tuple[str, ...]]
"""Image id -> labels that say why it is shown."""


@dataclass(frozen=True)
class Nearest:
    """The images of one side nearest to its stated mean.

    side : "group" or "reference"      label : why they are shown, as the gallery says it
    value, centre : see ``PictureGroup``      images : ids, the nearest first
    """

    side: Literal["group", "reference"]
    region: str
    label: str
    value: float
    centre: Literal["mean", "median"]
    images: tuple[str, ...]


@dataclass(frozen=True)
class Chooser:
    """Chooses images of the sides of comparisons; nobody of a hidden cell is ever chosen."""

    sides: Sides
    _ids: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        ids = self.sides.study.images["image_id"].astype(str)
        object.__setattr__(self, "_ids", tuple(ids))

    @cached_property
    def eligible(self) -> Bools:
        """(n,) images that may be shown: readable, with heat, and in no hidden cell."""
        cohort = self.sides.study.cohort
        out = np.asarray(cohort.readable & cohort.heat_ok)
        for attribute, levels in cohort.groups.items():
            codes = levels.cat.codes.to_numpy()
            for k, level in enumerate(levels.cat.categories):
                for r, region in enumerate(cohort.regions):
                    if self.sides.is_hidden(attribute, str(level), region):
                        whole = str(level) in self.sides.suppression.levels.get(attribute, set())
                        out &= ~((codes == k) & (whole | cohort.defined[:, r]))
        return out

    def of_comparison(
        self, attribute: str, region: str, group: str, reference: str, slope: bool = False
    ) -> tuple[Nearest, ...]:
        """The nearest images of both sides; of a trend, of its two end levels."""
        found = self._levels if slope else self.sides.of
        sides = found(attribute, region, group, reference)
        if sides is None:
            return ()
        names = (group, f"= {group}"), (reference, f"= {reference}")
        if reference == "rest":
            names = names[0], (group, f"not {group}")
        out = []
        for which, members, (level, words) in zip(
            ("group", "reference"), sides, names, strict=True
        ):
            hidden = which == "group" or reference != "rest"
            if hidden and self.sides.is_hidden(attribute, level, region):
                continue
            label = f"nearest: {region}, {attribute} {words}"
            nearest = self._nearest(region, members, which, label)  # type: ignore[arg-type]
            out += [] if nearest is None else [nearest]
        return tuple(out)

    def _levels(
        self, attribute: str, region: str, group: str, reference: str
    ) -> tuple[Bools, Bools] | None:
        cohort = self.sides.study.cohort
        if attribute not in cohort.groups or region not in cohort.regions:
            return None
        levels = cohort.groups[attribute].astype(str).to_numpy()
        defined = cohort.defined[:, cohort.regions.index(region)]
        return (levels == group) & defined, (levels == reference) & defined

    def _nearest(
        self, region: str, members: Bools, side: Literal["group", "reference"], label: str
    ) -> Nearest | None:
        if not members.any():
            return None
        shares = self.sides.study.heat_share(region)
        mean = float(self.sides.cluster_means(region, members).mean())
        low, middle, high = np.quantile(shares[members], [0.25, 0.5, 0.75])
        within = bool(low <= mean <= high)
        value = mean if within else float(middle)
        ids = tuple(self._ids[i] for i in self._rows(shares, members & self.eligible, value))
        return Nearest(side, region, label, value, "mean" if within else "median", ids)

    def _rows(self, shares: Floats, members: Bools, value: float) -> Iterator[int]:
        """Up to three images of different clusters, the nearest first; of equals the earlier."""
        rows = np.flatnonzero(members)
        seen: set[int] = set()
        for i in rows[np.argsort(np.abs(shares[rows] - value), kind="stable")]:
            cluster = int(self.sides.study.cohort.cluster[i])
            if cluster not in seen:
                seen.add(cluster)
                yield int(i)
            if len(seen) == A_SIDE:
                return


def pictures_to_keep(meas: Measurements, plan: Plan) -> Picks:
    """The images whose thumbnails a run keeps: the gallery's, and those nearest to any mean."""
    cohorts = take_cohorts(meas, plan)
    suppression = decide(cohorts, heat_rows_of(cohorts, plan), plan)
    groups = cohorts[0].groups
    facts = attribute_facts_of(meas, plan, groups)
    picks = pick_images(meas, plan, facts, suppression.levels)
    if not picks:
        return picks
    try:
        attributes = attributes_of(meas, plan, groups)
    except InputError:  # the analysis says what is wrong with them
        return picks
    study = Study.of(cohorts[0], plan, attributes, primary=True)
    return with_nearest(picks, nearest_picks(Chooser(Sides(study, suppression))))


def nearest_picks(chooser: Chooser) -> Picks:
    """The images nearest to the means of every planned comparison of groups, with their labels.

    Decisive regions come before others with a role, and larger differences of the means before
    smaller ones, up to ``MOST_NEAREST`` images.
    """
    study = chooser.sides.study
    decisive = study.confirmatory_regions
    others = [r for r in study.cohort.regions if r not in decisive and study.role(r) != "neutral"]
    ranked: list[tuple[bool, float, tuple[Nearest, ...]]] = []
    for region in (*decisive, *others):
        for attribute in study.attributes:
            for kind, group, reference in comparisons_planned(attribute):
                if kind in ("level", "pair"):
                    found = chooser.of_comparison(attribute.name, region, group, reference)
                elif kind == "trend":
                    last, first = _ends(study, attribute, region)
                    found = chooser.of_comparison(attribute.name, region, last, first, slope=True)
                else:
                    continue
                ranked.append((region not in decisive, -_gap(found), found))
    picks: dict[str, dict[str, None]] = {}
    for _, _, found in sorted(ranked, key=lambda entry: entry[:2]):
        if len(picks.keys() | {image for side in found for image in side.images}) > MOST_NEAREST:
            break
        _add(picks, found)
    return {image: tuple(labels) for image, labels in picks.items()}


def _ends(study: Study, a: Attribute, region: str) -> tuple[str, str]:
    """The last and the first level of an ordered attribute with heat in a region."""
    seen = np.isfinite(study.heat_share(region))
    present = np.unique(a.codes[seen & a.known])
    return (a.levels[present[-1]], a.levels[present[0]]) if len(present) else ("", "")


def _gap(found: Sequence[Nearest]) -> float:
    return abs(found[0].value - found[1].value) if len(found) == 2 else 0.0


def _add(picks: dict[str, dict[str, None]], found: Sequence[Nearest]) -> None:
    for side in found:
        for image in side.images:
            picks.setdefault(image, {})[side.label] = None


def of_findings(chooser: Chooser, findings: Sequence[Finding]) -> dict[str, tuple[Nearest, ...]]:
    """Anchor of each finding -> the images nearest to its means."""
    out = {}
    for f in findings:
        place = f.attribute, f.region, f.group, f.reference
        out[f.anchor] = chooser.of_comparison(*place, slope=f.is_slope)
    return out


def with_nearest(
    picks: Mapping[str, tuple[str, ...]], nearest: Mapping[str, tuple[str, ...]]
) -> Picks:
    """The gallery's picks, and after them the images that are nearest to a mean."""
    out = dict(picks)
    for image, labels in nearest.items():
        out[image] = tuple(dict.fromkeys((*out.get(image, ()), *labels)))
    return out


def labels_of(found: Mapping[str, tuple[Nearest, ...]]) -> Picks:
    """Image id -> the labels under which it is shown, of all findings together."""
    picks: dict[str, dict[str, None]] = {}
    for sides in found.values():
        _add(picks, sides)
    return {image: tuple(labels) for image, labels in picks.items()}


def picture_groups(
    chooser: Chooser, found: Mapping[str, tuple[Nearest, ...]], shown: Collection[str]
) -> tuple[PictureGroup, ...]:
    """The pictures of each finding, as far as the gallery holds them.

    shown : names of the images in the gallery
    """
    plan = chooser.sides.study.plan
    out = []
    for anchor, sides in found.items():
        for side in sides:
            names = [shown_name(image, plan) for image in side.images]
            images = tuple(name for name in names if name in shown)
            if images:
                out.append(
                    PictureGroup(
                        finding=anchor,
                        side=side.side,
                        region=side.region,
                        value=side.value,
                        centre=side.centre,
                        images=images,
                    )
                )
    return tuple(out)
