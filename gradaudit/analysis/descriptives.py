"""What was measured on whom: the tables by subgroup that a reader needs before, and beside, any
comparison.

Counts through every step, exclusions with their reasons, the distribution of heat, mean maps, model
performance, checks of the data, and the limits that this data sets.  Nothing here tests a
hypothesis.  ``describe`` returns all of it with small cells withheld; the single tables of ``flow``
and ``distributions`` are complete and are for the analyst's eyes.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.analysis.data_checks import data_checks, limits_found
from gradaudit.cohort.heat_distributions import correctness_rows, heat_rows_of, map_rows
from gradaudit.cohort.image_flow import exclusion_rows, flow_rows, label_codes, region_rows
from gradaudit.cohort.population import attribute_facts_of, method_targets, take_census
from gradaudit.disclosure.attacker import least
from gradaudit.disclosure.decision import levels_suppressed_in, narrowed_levels, reference_of
from gradaudit.disclosure.suppression import apply_min_cell
from gradaudit.performance.table import performance_table, predictions
from gradaudit.plan import Plan
from gradaudit.records import Finding, Measurements, Parts

# ── all of it ─────────────────────────────────────────────────────────────────────────────────────


def describe(meas: Measurements, plan: Plan, findings: Sequence[Finding] = ()) -> Parts:
    """Every table of the result document that is not a finding, small cells withheld, keyed by the
    document's fields.

    Keys: regions, attributes, flow, exclusions, heat, performance, mean_maps, checks, limits.
    """
    censuses = [take_census(meas, plan, pair) for pair in method_targets(meas, plan)]
    census = censuses[0]
    hidden = levels_suppressed_in(census, plan)
    references = {name: reference_of(name, plan) for name in census.groups}
    data, predicted = predictions(meas, plan)
    bare = {
        "flow": flow_rows(census),
        "exclusions": exclusion_rows(census, hidden),
        "heat": heat_rows_of(censuses, plan, findings),
        "performance": performance_table(
            meas, plan, census.groups, references, narrowed_levels(census, plan, predicted)
        )
        + correctness_rows(census, plan),
        "mean_maps": map_rows(census),
    }
    smallest = plan.privacy.min_cell
    parts = apply_min_cell(bare, hidden, references, smallest)
    parts = least(census, data, bare, parts, label_codes(census), smallest)
    attributes, regions = attribute_facts_of(meas, plan, census.groups), region_rows(census, plan)
    parts = {"regions": regions, "attributes": attributes, **parts}
    checks = data_checks(meas, plan, parts)
    return {**parts, "checks": checks, "limits": limits_found(meas, plan, parts, checks)}
