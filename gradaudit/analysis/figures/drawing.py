"""Everything that the figures of one result are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from gradaudit.analysis.figures.difference_maps import difference_maps
from gradaudit.analysis.figures.distributions import distributions
from gradaudit.analysis.figures.pictures import (
    Chooser,
    Nearest,
    Picks,
    labels_of,
    of_findings,
    picture_groups,
    with_nearest,
)
from gradaudit.analysis.figures.sides import Sides, drawn_findings
from gradaudit.analysis.study import Study
from gradaudit.cohort.attributes import attributes_of
from gradaudit.cohort.population import Cohort
from gradaudit.disclosure.decision import Suppression
from gradaudit.plan import Plan
from gradaudit.records import Finding
from gradaudit.result_schema import (
    DifferenceMap,
    Distribution,
    GalleryItem,
    MeanMap,
    PictureGroup,
)


@dataclass(frozen=True)
class Drawing:
    """A study, its findings, and those of them that pictures and maps are drawn of."""

    sides: Sides
    findings: Sequence[Finding]
    drawn: Sequence[Finding]

    @classmethod
    def of(
        cls,
        cohort: Cohort,
        suppression: Suppression,
        plan: Plan,
        findings: Sequence[Finding],
        fact: str,
    ) -> Drawing:
        """What is drawn of the plan's own method and target; ``fact``: anchor of page one's finding."""
        attributes = attributes_of(cohort.meas, plan, cohort.groups)
        study = Study.of(cohort, plan, attributes, primary=True)
        return cls(Sides(study, suppression), findings, drawn_findings(findings, fact))

    @cached_property
    def chooser(self) -> Chooser:
        return Chooser(self.sides)

    @cached_property
    def nearest(self) -> dict[str, tuple[Nearest, ...]]:
        """Anchor of each drawn finding -> the images nearest to its means."""
        return of_findings(self.chooser, self.drawn)

    def with_pictures(self, picks: Picks) -> Picks:
        """The gallery's picks with the drawn findings' images; none where there is no gallery."""
        return with_nearest(picks, labels_of(self.nearest)) if picks else picks

    def pictures(self, gallery: Sequence[GalleryItem]) -> tuple[PictureGroup, ...]:
        """The pictures of each drawn finding that the gallery holds."""
        shown = {item.image_id for item in gallery}
        return picture_groups(self.chooser, self.nearest, shown) if shown else ()

    def distributions(self) -> tuple[Distribution, ...]:
        """Quantile dots of the decisive findings of groups."""
        return distributions(self.sides, self.findings, self.drawn)

    def difference_maps(self, mean_maps: Sequence[MeanMap]) -> tuple[DifferenceMap, ...]:
        """A map for each drawn finding of groups; ``mean_maps``: those that are shown."""
        study = self.sides.study
        alpha, least = study.plan.analysis.alpha, self.sides.suppression.min_cell
        return difference_maps(study.cohort, mean_maps, self.drawn, alpha, least)
