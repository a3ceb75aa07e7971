"""What was measured on whom: the tables by subgroup that a reader needs before, and beside, any comparison.

Counts through every step, exclusions with their reasons, the distribution of heat, mean maps, model performance, checks
of the data, and the limits that this data sets.  Nothing here tests a hypothesis.  ``describe`` returns all of it with
small cells withheld; the single tables of ``flow`` and ``distributions`` are complete and are for the analyst's eyes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gradaudit.census import Array, Census, attribute_facts_of, method_targets, take_census
from gradaudit.config import Plan
from gradaudit.disclosure import least
from gradaudit.distributions import correctness_rows, heat_rows_of, map_rows
from gradaudit.flow import exclusion_rows, flow_rows, label_codes, region_rows
from gradaudit.limits import data_checks, limits_found
from gradaudit.performance import performance_table, predictions
from gradaudit.privacy import Cell, Parts, apply_min_cell, is_small, small_levels, withheld_cells
from gradaudit.records import Finding, Measurements

# ── privacy ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def suppressed_levels(meas: Measurements, plan: Plan) -> dict[str, set[str]]:
    """Attribute -> levels whose members are shown nowhere: small ones and those that would give them away.

    Attributes without such a level are left out.  Levels are the displayed ones (``level_groups``), with "(unknown)".
    """
    return _suppressed_levels(take_census(meas, plan), plan)


def _suppressed_levels(census: Census, plan: Plan) -> dict[str, set[str]]:
    found = {}
    for name, levels in census.groups.items():
        codes, analysed = levels.cat.codes.to_numpy(), census.analysed
        count = len(levels.cat.categories)
        sizes = pd.DataFrame(
            {
                "images": np.bincount(codes, minlength=count),
                "analysed": np.bincount(codes[analysed], minlength=count),
                "clusters": _distinct_by(codes, census.cluster, count),
                "analysed_clusters": _distinct_by(codes[analysed], census.cluster[analysed], count),
            },
            index=[str(level) for level in levels.cat.categories],
        )
        hidden = small_levels(sizes, _reference(name, plan), plan.privacy.min_cell)
        if hidden:
            found[name] = hidden
    return found


def _narrowed(census: Census, plan: Plan, predicted: Array) -> dict[tuple[str, str], Array]:
    """Levels whose performance is taken over the anchored images alone, because its own base, printed beside that of the
    heat, would give away how few images were lost in between; with a companion, as the total of the bases is printed too.

    predicted : rows of images with a label and a prediction
    """
    labelled = np.isin(np.arange(len(census.readable)), predicted)
    found: dict[tuple[str, str], Array] = {}
    for name in census.groups:
        cells = {level: members for attribute, level, members in census.cells() if attribute == name}
        gaps = {level: _gaps_to(members, labelled, census) for level, members in cells.items()}
        close = [level for level, gap in gaps.items() if any(is_small(g, plan.privacy.min_cell) for g in gap)]
        if len(close) == 1:
            others = [level for level in cells if level not in close and (cells[level] & labelled).any()]
            close += sorted(others, key=lambda level: int(cells[level].sum()))[-1:]
        found |= {(name, level): cells[level] & census.anchored for level in close}
    return found


def _gaps_to(members: Array, labelled: Array, census: Census) -> list[int]:
    """From the labelled images to every base that is printed, and to the labelled ones among those of the prevalence."""
    printed = [members & census.defined[:, r] for r in range(len(census.regions))]
    printed += [members & census.analysed, members & census.anchored & labelled]
    return [abs(int((members & labelled).sum()) - int(base.sum())) for base in printed]


def suppressed_cells(meas: Measurements, plan: Plan) -> set[Cell]:
    """(attribute, level, region, method, target) of every heat row that is withheld; what the findings must not show."""
    censuses = [take_census(meas, plan, pair) for pair in method_targets(meas, plan)]
    references = {name: _reference(name, plan) for name in censuses[0].groups}
    return withheld_cells(heat_rows_of(censuses, plan, ()), _suppressed_levels(censuses[0], plan), references, plan.privacy.min_cell)


def _distinct_by(codes: Array, cluster: Array, count: int) -> Array:
    if len(codes) == 0:
        return np.zeros(count, dtype=int)
    pairs = np.unique(codes.astype(np.int64) * (int(cluster.max()) + 1) + cluster)
    return np.bincount(pairs // (int(cluster.max()) + 1), minlength=count)


def _reference(name: str, plan: Plan) -> str:
    return plan.subgroups[name].reference if name in plan.subgroups else "rest"


# ── all of it ──


def describe(meas: Measurements, plan: Plan, findings: Sequence[Finding] = ()) -> Parts:
    """Every table of the result document that is not a finding, small cells withheld, keyed by the document's fields.

    Keys: regions, attributes, flow, exclusions, heat, performance, mean_maps, checks, limits.
    """
    censuses = [take_census(meas, plan, pair) for pair in method_targets(meas, plan)]
    census = censuses[0]
    hidden = _suppressed_levels(census, plan)
    references = {name: _reference(name, plan) for name in census.groups}
    data, predicted = predictions(meas, plan)
    bare = {
        "flow": flow_rows(census),
        "exclusions": exclusion_rows(census, hidden),
        "heat": heat_rows_of(censuses, plan, findings),
        "performance": performance_table(meas, plan, census.groups, references, _narrowed(census, plan, predicted)) + correctness_rows(census, plan),
        "mean_maps": map_rows(census),
    }
    smallest = plan.privacy.min_cell
    parts = apply_min_cell(bare, hidden, references, smallest)
    parts = least(census, data, bare, parts, label_codes(census), smallest)
    attributes, regions = attribute_facts_of(meas, plan, census.groups), region_rows(census, plan)
    parts = {"regions": regions, "attributes": attributes, **parts}
    checks = data_checks(meas, plan, parts)
    return {**parts, "checks": checks, "limits": limits_found(meas, plan, parts, checks)}
