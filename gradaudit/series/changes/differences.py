"""What else differs between two audits, and what therefore is not compared.

Everything here is told before any number of a change.  ``Obstacles`` says of a planned comparison
why it is another one before than after ("" where it is the same).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gradaudit.disclosure.small_cells import is_small
from gradaudit.number_text import count, plain_number
from gradaudit.plan import Plan, measured_target
from gradaudit.schema.comparison import Difference
from gradaudit.series.changes.pairing import Pairing
from gradaudit.series.changes.sides import Audited, Key

NOTHING = "–"
NO_HEAT = "no difference in heat is compared: another heat map is another quantity"
OTHERWISE_ADJUSTED = "no difference in heat is compared: it was adjusted for other things"
_NOT_TOLD = ("report", "columns")
_NAMES = {
    "criteria.margin": "limit: largest difference in heat held to be immaterial",
    "criteria.undefined_margin": "limit for the rate of undefined heat",
    "criteria.min_coverage": "share of each group's clusters that must be seen",
    "criteria.declared_by": "criteria declared by",
    "criteria.declared_on": "criteria declared on",
    "criteria.rationale": "rationale of the criteria",
    "model.source": "model as named",
    "model.weights": "weights as named",
    "model.layer": "layer as named",
    "explain.method": "method of the heat maps",
    "explain.target": "score that is explained",
    "explain.sign": "evidence for (1) or against (-1)",
    "analysis.regions": "regions that decide",
    "analysis.covariates": "held equal (covariates)",
    "analysis.site": "held equal (site)",
    "analysis.positive_class": "positive class",
    "analysis.alpha": "level of the tests",
    "analysis.permutations": "permutations",
    "privacy.min_cell": "smallest group that is shown",
    "run.seed": "seed",
}
_SAME_AREA = 1e-6
"""Shares of an image's area nearer than this are one outline."""


# ── what is not the same comparison ───────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Obstacles:
    """Why comparisons are not the same before and after, in words; "" where they are.

    everywhere : of every difference in heat      regions, attributes : name -> why
    trends : attributes whose order of levels is another one
    performance : of every figure      positive : of the figures of one class
    """

    everywhere: str
    regions: Mapping[str, str]
    attributes: Mapping[str, str]
    trends: Mapping[str, str]
    performance: str
    positive: str

    @classmethod
    def between(cls, before: Audited, after: Audited) -> Obstacles:
        a, b = before.plan, after.plan
        classes = [side.run.model.classes for side in (before, after)]
        return cls(
            everywhere=_other_quantity(a, b) or _other_adjustment(a, b),
            regions=_regions(a, b),
            attributes=_attributes(a, b),
            trends=_orders(a, b),
            performance="" if classes[0] == classes[1] else "the model's classes differ",
            positive=_positive(a, b),
        )

    def of_cell(self, key: Key) -> str:
        attribute, comparison, _, _, region, _ = key
        trend = self.trends.get(attribute, "") if comparison == "trend" else ""
        reasons = self.everywhere, self.attributes.get(attribute), self.regions.get(region), trend
        return next((reason for reason in reasons if reason), "")


def _other_quantity(a: Plan, b: Plan) -> str:
    if a.explain.method != b.explain.method:
        return f"the heat maps are of another method ({a.explain.method}, then {b.explain.method})"
    targets = measured_target(a), measured_target(b)
    if targets[0] != targets[1]:
        return f"another score is explained ({targets[0]}, then {targets[1]})"
    return ""


def _other_adjustment(a: Plan, b: Plan) -> str:
    for name in ("covariates", "site", "pairs", "weights"):
        first, second = getattr(a.analysis, name), getattr(b.analysis, name)
        same = set(first) == set(second) if name == "covariates" else first == second
        if not same:
            return f"analysis.{name} differs ({_text(first)}, then {_text(second)})"
    return ""


def _regions(a: Plan, b: Plan) -> dict[str, str]:
    out = {}
    for name in {*a.regions, *b.regions}:
        first, second = (p.regions[name].derive if name in p.regions else None for p in (a, b))
        if first != second:
            out[name] = f"the region is made otherwise ({_text(first)}, then {_text(second)})"
    return out


def _attributes(a: Plan, b: Plan) -> dict[str, str]:
    out = {}
    for name in {*a.subgroups, *b.subgroups}:
        for what in ("kind", "within"):
            first, second = (
                getattr(p.subgroups[name], what) if name in p.subgroups else None for p in (a, b)
            )
            if (first or None) != (second or None):
                out[name] = f"its {what} differs ({_text(first)}, then {_text(second)})"
    return out


def _orders(a: Plan, b: Plan) -> dict[str, str]:
    out = {}
    for name in {*a.subgroups, *b.subgroups}:
        first, second = (p.subgroups[name].order if name in p.subgroups else None for p in (a, b))
        if first != second:
            out[name] = f"the order of its levels differs ({_text(first)}, then {_text(second)})"
    return out


def _positive(a: Plan, b: Plan) -> str:
    first, second = a.analysis.positive_class, b.analysis.positive_class
    return "" if first == second else f"the positive class differs ({first}, then {second})"


# ── what is told ──────────────────────────────────────────────────────────────────────────────────


def differences(
    before: Audited, after: Audited, pairing: Pairing, min_cell: int
) -> tuple[Difference, ...]:
    """Everything that differs, criteria first."""
    found = [
        *_of_plans(before.declared, after.declared),
        *_of_models(before, after),
        *_of_levels(before, after),
        *_of_data(before, after, pairing),
        *_of_pairs(before, after, pairing, min_cell),
        *_of_software(before, after),
    ]
    order = ("criteria", "plan", "explanation", "model", "data", "images", "software")
    return tuple(sorted(found, key=lambda d: order.index(d.area)))


def _of_plans(a: Plan, b: Plan) -> Iterator[Difference]:
    flat = [dict(_flat(p.model_dump(mode="json"))) for p in (a, b)]
    for key in dict.fromkeys((*flat[0], *flat[1])):
        section, _, rest = key.partition(".")
        first, second = flat[0].get(key), flat[1].get(key)
        if first == second or section in _NOT_TOLD or rest.endswith("description"):
            continue
        yield Difference(
            area="plan" if key == "run.seed" else _area(section),
            name=_NAMES.get(key, key),
            before=_text(first),
            after=_text(second),
            consequence=_consequence(key),
        )


def _area(section: str) -> Any:
    areas = {"criteria": "criteria", "explain": "explanation", "run": "software"}
    return areas.get(section, "model" if section in ("model", "preprocess") else "plan")


def _consequence(key: str) -> str:
    section, _, rest = key.partition(".")
    last = rest.rpartition(".")[2]
    if section == "criteria":
        return "states before and after were held against their own limit; changes are not"
    if section == "explain":
        return NO_HEAT
    if section == "analysis" and last in ("covariates", "site", "pairs", "weights"):
        return OTHERWISE_ADJUSTED
    if section == "regions":
        role = "whether a group's own heat is better or worse is not said there"
        return {"derive": "this region is not compared", "role": role}.get(last, "")
    if section == "subgroups":
        told = {
            "kind": "this attribute is not compared",
            "within": "this attribute is not compared",
            "order": "its trend is not compared",
            "reference": "its levels are not compared where the reference is another one",
        }
        return told.get(last, "")
    if key == "analysis.positive_class":
        return "figures of one class are not compared"
    if key == "privacy.min_cell":
        return "the larger one holds here, for both"
    return ""


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{prefix}.{name}" if prefix else str(name))
    elif value is not None:
        yield prefix, value


def _text(value: Any) -> str:
    if value is None or value in ("", [], ()):
        return NOTHING
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return plain_number(value)
    return str(value)


def _of_models(before: Audited, after: Audited) -> Iterator[Difference]:
    a, b = before.run.model, after.run.model
    rows = (
        ("model", a.source, b.source),
        ("weights and structure (digest)", a.digest[:12], b.digest[:12]),
        ("explained layer", a.layer, b.layer),
        ("classes", _text(a.classes), _text(b.classes)),
        ("preprocessing as used", _preprocess(a.preprocess), _preprocess(b.preprocess)),
    )
    for name, first, second in rows:
        if first != second:
            follows = "performance is not compared" if name == "classes" else ""
            yield Difference(
                area="model", name=name, before=first, after=second, consequence=follows
            )


def _preprocess(facts: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {_text(value)}" for name, value in sorted(facts.items()))


def _of_levels(before: Audited, after: Audited) -> Iterator[Difference]:
    for name in dict.fromkeys((*before.attributes, *after.attributes)):
        a, b = before.attributes.get(name), after.attributes.get(name)
        if a is None or b is None:
            said = ("in the manifest", NOTHING) if b is None else (NOTHING, "in the manifest")
            yield Difference(
                area="data", name=f"attribute {name}", before=said[0], after=said[1],
                consequence="it is in one audit alone, and not compared",
            )  # fmt: skip
        elif set(a.levels) != set(b.levels):
            yield Difference(
                area="data", name=f"levels of {name}", before=_text(a.levels), after=_text(b.levels),
                consequence="levels of one audit alone are not compared, and “all others” are others",
            )  # fmt: skip
    regions = [side.study.cohort.regions for side in (before, after)]
    if set(regions[0]) != set(regions[1]):
        yield Difference(
            area="data", name="regions measured", before=_text(regions[0]), after=_text(regions[1]),
            consequence="regions of one audit alone are not compared",
        )  # fmt: skip


def _of_data(before: Audited, after: Audited, pairing: Pairing) -> Iterator[Difference]:
    a, b = before.run.data, after.run.data
    if a.name != b.name:
        yield Difference(area="data", name="manifest", before=a.name, after=b.name)
    if a.digest != b.digest:
        yield Difference(
            area="data", name="manifest (digest)", before=a.digest[:12], after=b.digest[:12]
        )
    sizes = len(pairing.names_before), len(pairing.names_after)
    if sizes[0] != sizes[1]:
        yield Difference(area="data", name="images", before=count(sizes[0]), after=count(sizes[1]))
    if a.cluster_declared != b.cluster_declared:
        said = {True: "declared", False: "not declared: each image counts as one"}
        yield Difference(
            area="data", name="clusters", before=said[a.cluster_declared], after=said[b.cluster_declared]
        )  # fmt: skip


def _of_pairs(
    before: Audited, after: Audited, pairing: Pairing, min_cell: int
) -> Iterator[Difference]:
    """How paired images are described and outlined otherwise; small numbers are not told."""
    a = before.meas.images.iloc[pairing.before].reset_index(drop=True)
    b = after.meas.images.iloc[pairing.after].reset_index(drop=True)
    told = {"label": "label", "cluster": "cluster", "status": "readable or not"}
    columns = [c for c in a if c in told or str(c).startswith("subgroup.")]
    for column in columns:
        if column in b:
            changed = int((_plain(a[column]) != _plain(b[column])).sum())
            name = told.get(str(column), str(column).removeprefix("subgroup."))
            yield from _changed(f"{name} of paired images", changed, min_cell)
    for region in before.study.cohort.regions:
        if region in after.study.cohort.regions:
            changed = _outlines_changed(before, after, pairing, region)
            yield from _changed(f"outline of {region} in paired images", changed, min_cell)


def _plain(column: pd.Series[Any]) -> pd.Series[Any]:
    return column.astype(object).where(column.notna(), None).map(lambda v: "" if v is None else v)


def _outlines_changed(before: Audited, after: Audited, pairing: Pairing, region: str) -> int:
    areas = []
    for side, rows in ((before, pairing.before), (after, pairing.after)):
        cohort = side.study.cohort
        areas.append(cohort.area[rows, cohort.regions.index(region)])
    known = np.isfinite(areas[0]) & np.isfinite(areas[1])
    return int(np.sum(known & (np.abs(areas[0] - areas[1]) > _SAME_AREA)))


def _changed(name: str, number: int, min_cell: int) -> Iterator[Difference]:
    if number:
        text = f"fewer than {min_cell} differ" if is_small(number, min_cell) else (
            f"{count(number)} differ"
        )  # fmt: skip
        yield Difference(
            area="images", name=name, before=NOTHING, after=text,
            consequence="each audit keeps its own description",
        )  # fmt: skip


def _of_software(before: Audited, after: Audited) -> Iterator[Difference]:
    a, b = before.run, after.run
    for name in sorted({*a.versions, *b.versions}):
        first, second = a.versions.get(name, NOTHING), b.versions.get(name, NOTHING)
        if first != second:
            yield Difference(area="software", name=name, before=first, after=second)
    for name, first, second in (("device", a.device, b.device), ("precision", a.dtype, b.dtype)):
        if first != second:
            yield Difference(area="software", name=name, before=first, after=second)
