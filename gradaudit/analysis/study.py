"""Measurements of one method and target, arranged so that every comparison of them is made once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from gradaudit.cohort.attributes import Attribute
from gradaudit.cohort.population import Cohort, heat_status
from gradaudit.plan import Plan
from gradaudit.subgroups.analysis_set import Observations
from gradaudit.subgroups.comparison import Disparity, disparity_of
from gradaudit.subgroups.contrast import EXPLORATORY_PERMUTATIONS, Contrast
from gradaudit.subgroups.settings import Settings

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

NO_HEAT = ("no_positive_evidence", "flat", "non_finite")
"""Heat statuses of an image whose map says nothing."""
NO_LABELS = "no labels are known, so the comparison is not at equal class"
"""Said of every difference in heat of a data set without labels."""
ANY_LEVEL = "any level"
"""The group of an attribute without a known level."""
NOBODY = Contrast("level", "", "", 0, 0, 0, 0)
"""Holds the place of a contrast in a draft until there is one."""


@dataclass(frozen=True)
class Draft:
    """A contrast with its place: what it is about, which family judges it, what is known beside it.

    reservation : why a comparison that lies within its margin does not count all the same
    stratum : among whom alone it is ("malignant", "sex female"); "" for everybody
    folded_under : anchor of the finding that tells the same fact from the other side
    mask_tipping : see ``comparison.mask_tipping``
    """

    code: str
    attribute: str
    region: str
    outcome: str
    contrast: Contrast
    raw: Contrast | None
    confirmatory: bool
    margin: float | None
    adjusted_for: tuple[str, ...]
    method: str
    target: str
    role: str = ""
    notes: tuple[str, ...] = ()
    small_table: bool = False
    anchor: str = ""
    reservation: str = ""
    stratum: str = ""
    folded_under: str = ""
    mask_tipping: float | None = None


@dataclass(frozen=True)
class Study:
    """Measurements of one method and target with the plan's settings.

    primary : the plan's own method and target, which alone decide
    planned : number of planned cells, which decides the number of permutations
    """

    cohort: Cohort
    plan: Plan
    table: pd.DataFrame
    attributes: tuple[Attribute, ...]
    primary: bool
    planned: int = 0

    @classmethod
    def of(
        cls,
        cohort: Cohort,
        plan: Plan,
        attributes: tuple[Attribute, ...],
        *,
        primary: bool,
        planned: int = 0,
    ) -> Study:
        """The study of one cohort, with the measurements of its own method and target."""
        table = cohort.meas.table
        method, target = table["method"].astype(str), table["target"].astype(str)
        own = table.loc[(method == cohort.method) & (target == cohort.target)]
        return cls(cohort, plan, own, attributes, primary=primary, planned=planned)

    @property
    def images(self) -> pd.DataFrame:
        return self.cohort.meas.images

    @cached_property
    def confirmatory_regions(self) -> tuple[str, ...]:
        """Declared by the plan; else every region with a role; else (no role anywhere) all of them."""
        if self.plan.analysis.regions:
            return tuple(r for r in self.cohort.regions if r in self.plan.analysis.regions)
        roles = [r for r in self.cohort.regions if self.role(r) != "neutral"]
        return tuple(roles or self.cohort.regions)

    def role(self, region: str) -> str:
        if region in self.plan.regions or "role" not in self.table:
            return self.plan.region_role(region)
        roles = self.table.loc[self.table["region"] == region, "role"]
        return str(roles.iloc[0]) if len(roles) else "neutral"

    def is_confirmatory(self, region: str) -> bool:
        return self.primary and region in self.confirmatory_regions

    @cached_property
    def label(self) -> pd.Categorical | None:
        """True class of each image, at which decisive differences are held equal; None without any.

        Whatever is explained: the predicted class is moved by what the model looks at, so holding
        it equal would take away a part of the disparity itself.
        """
        return self._column("label")

    @cached_property
    def predicted(self) -> pd.Categorical | None:
        """Predicted class of each image, whose adjusted figure stands beside."""
        return self._column("predicted")

    def _column(self, name: str) -> pd.Categorical | None:
        """One column of the images, its texts as codes; None where all are missing."""
        if name not in self.images or not self.images[name].notna().any():
            return None
        codes, values = pd.factorize(self.images[name].astype(object))
        return pd.Categorical.from_codes(codes, values)

    def site(self, besides: str) -> pd.Categorical | None:
        """The declared site of each image; None where the attribute itself is the site."""
        name = self.plan.analysis.site
        if name is None or name == besides:
            return None
        return self._column(self._place_of(name))

    def _place_of(self, name: str) -> str:
        return next(c for c in (f"meta.{name}", f"subgroup.{name}", name) if c in self.images)

    def covariates(self, besides: str) -> pd.DataFrame | None:
        """The declared covariates, without the attribute itself; numbers where every value is one."""
        columns = {}
        for name in self.plan.analysis.covariates:
            if name not in (besides, self.plan.analysis.site):
                columns[name] = _numbers_or_text(self.images[self._place_of(name)])
        return pd.DataFrame(columns) if columns else None

    @cached_property
    def pairs(self) -> np.ndarray[Any, Any] | None:
        name = self.plan.analysis.pairs
        return None if name is None else self.images[f"meta.{name}"].astype(object).to_numpy()

    def compare(
        self,
        a: Attribute,
        values: Floats,
        region: str | None,
        *,
        confirmatory: bool,
        adjust: bool = True,
        margin: float | None = None,
        area: Floats | None = None,
        analytic: bool = False,
        pairwise: bool = False,
        effects: bool = True,
    ) -> Disparity:
        """How one outcome, a value per image, differs over one attribute.

        ``region``: its size is a covariate; ``area`` takes the place of that size where it is
        given. ``pairwise``: three or more unordered levels are compared with each other too.
        ``effects``: effect sizes are wanted too.

        Nothing is remembered: no outcome is compared twice, and a memory keyed by names once gave
        one region's numbers to another.
        """
        observations = self.observations(a, values, region, adjust=adjust, area=area)
        if confirmatory and observations.label is not None:
            observations = replace(observations, klass=self.predicted)
        settings = self.settings(
            a, confirmatory=confirmatory, margin=margin, analytic=analytic, pairwise=pairwise
        )
        return disparity_of(observations, replace(settings, effects=effects))

    def observations(
        self,
        a: Attribute,
        values: Floats,
        region: str | None,
        *,
        adjust: bool = True,
        area: Floats | None = None,
    ) -> Observations:
        """What one comparison is given; with a region, its size and the label are held equal."""
        sized = region is not None and adjust
        if area is None and region is not None:
            area = self.cohort.area[:, self.cohort.regions.index(region)]
        return Observations(
            values=values,
            groups=a.groups,
            area_share=area if sized else None,
            label=self.label if sized else None,
            covariates=self.covariates(a.name) if adjust else None,
            site=self.site(a.name) if adjust else None,
            clusters=self.cohort.cluster,
            pairs=self.pairs,
        )

    def settings(
        self,
        a: Attribute,
        *,
        confirmatory: bool,
        margin: float | None,
        analytic: bool,
        pairwise: bool = False,
    ) -> Settings:
        """How one attribute is compared; exploratory comparisons take fewer permutations."""
        plan = self.plan.analysis
        few = (
            plan.permutations if confirmatory else min(plan.permutations, EXPLORATORY_PERMUTATIONS)
        )
        return Settings(
            reference=a.reference,
            rest_of_two=True,
            order=a.order,
            continuous=a.kind == "continuous",
            margin=margin,
            alpha=plan.alpha,
            permutations=few,
            seed=self.plan.run.seed,
            within=a.within,
            family=self.planned if confirmatory else None,
            omnibus=False,
            weights=plan.weights,
            paired=self.pairs is not None,
            analytic=analytic,
            pairwise=pairwise and len(a.levels) > 2,
            attribute=a.name,
            site_name=plan.site or "site",
        )

    def drafts(
        self,
        code: str,
        outcome: str,
        values: Floats,
        region: str,
        *,
        confirmatory: bool,
        margin: float | None = None,
        sized: bool = True,
    ) -> Iterator[Draft]:
        """Every contrast of an outcome for every attribute, adjusted and raw side by side.

        ``sized``: the region's size is a covariate.
        """
        place = Draft(
            code=code,
            attribute="",
            region=region,
            outcome=outcome,
            contrast=NOBODY,
            raw=None,
            confirmatory=confirmatory,
            margin=margin,
            adjusted_for=(),
            method=self.cohort.method,
            target=self.cohort.target,
            role=self.role(region) if region else "",
        )
        where = region if sized else None
        for a in self.attributes:
            found = self.compare(
                a, values, where, confirmatory=confirmatory, margin=margin, pairwise=confirmatory
            )
            raw = found
            if found.adjusted_for:
                raw = self.compare(
                    a,
                    values,
                    where,
                    confirmatory=False,
                    adjust=False,
                    pairwise=confirmatory,
                    effects=False,
                )
            said = (NO_LABELS,) if sized and self.label is None else ()
            yield from _drafts_of(replace(place, attribute=a.name, notes=said), a, found, raw)

    def heat_share(self, region: str) -> Floats:
        """(n,) heat share of one region, NaN where undefined."""
        r = self.cohort.regions.index(region)
        return np.where(self.cohort.defined[:, r], self.cohort.share[:, r], np.nan)

    @cached_property
    def undefined(self) -> Floats:
        """(n,) 1 where a readable image has no defined heat, 0 where it has, NaN otherwise."""
        status = heat_status(self.cohort.meas, self.table)
        return np.where(status == "ok", 0.0, np.where(np.isin(status, NO_HEAT), 1.0, np.nan))

    @cached_property
    def heat(self) -> tuple[Draft, ...]:
        """Heat share of every region, by every attribute: levels, trends and their departures."""
        out: list[Draft] = []
        for region in self.cohort.regions:
            decided = self.is_confirmatory(region)
            margin = self.plan.criteria.margin if decided and self.plan.criteria else None
            values = self.heat_share(region)
            out += self.drafts(
                "GA101", "heat_share", values, region, confirmatory=decided, margin=margin
            )
        return tuple(out)


def _drafts_of(place: Draft, a: Attribute, found: Disparity, raw: Disparity) -> Iterator[Draft]:
    """One draft per contrast of an attribute, and one per level that could not be compared."""
    notes = (*place.notes, *found.notes, *_missing(found, a))
    if not found.contrasts:
        yield replace(place, contrast=_nothing_to_compare(found, a), notes=notes)
        return
    plain = {(c.kind, c.group, c.reference): c for c in raw.contrasts}
    for c in found.contrasts:
        yield replace(
            place,
            contrast=c,
            raw=plain.get((c.kind, c.group, c.reference)),
            adjusted_for=found.adjusted_for,
            notes=notes,
        )
    for level in _left_out(found, a):
        nobody = Contrast("level", level, a.reference, 0, 0, 0, 0, reason="no usable image")
        yield replace(place, contrast=nobody, notes=(*place.notes, *found.notes))


def _numbers_or_text(column: pd.Series[Any]) -> pd.Series[Any]:
    numbers = pd.to_numeric(column, errors="coerce")
    if (
        numbers.notna().any()
        and (numbers.notna() | column.isna() | (column == "")).all()
        and numbers.nunique() > 2
    ):
        return numbers.astype(float).reset_index(drop=True)
    return column.astype(object).where(column.notna(), None).reset_index(drop=True)


def _missing(found: Disparity, a: Attribute) -> tuple[str, ...]:
    empty = [level for level in a.order or () if found.levels.get(level, (0, 0))[0] == 0]
    return (f"no usable image in {', '.join(empty)}",) if empty else ()


def _left_out(found: Disparity, a: Attribute) -> list[str]:
    """Levels that the plan or the manifest names and that have no usable image."""
    if a.kind == "continuous":
        return []
    compared = {level for c in found.contrasts for level in (c.group, c.reference)}
    return [
        level
        for level in a.levels
        if found.levels.get(level, (0, 0))[0] == 0 and level not in compared
    ]


def _nothing_to_compare(found: Disparity, a: Attribute) -> Contrast:
    """A contrast without a number, whose reason says why there is none."""
    if a.kind == "continuous":
        reason = "the attribute does not vary among the usable images"
        return Contrast("curve", "P95", "P5", 0, 0, 0, 0, reason=reason)
    present = [level for level, (images, _) in found.levels.items() if images]
    if not present:
        return Contrast("level", ANY_LEVEL, "rest", 0, 0, 0, 0, reason="no usable image")
    images, clusters = found.levels[present[0]]
    reason = "only one level has usable images"
    return Contrast("level", present[0], "rest", images, clusters, 0, 0, reason=reason)
