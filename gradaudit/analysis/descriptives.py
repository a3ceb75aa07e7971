"""What was measured on whom: the tables by subgroup that go with the comparisons.

A reader needs them before any comparison, and beside it.

Counts through every step, exclusions with their reasons, the distribution of heat, mean maps, model
performance, checks of the data, and the limits that this data sets.  Nothing here tests a
hypothesis.  ``describe`` returns all of it with small cells withheld; the single tables of
``cohort/`` are complete: they may hold small cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gradaudit.analysis.data_checks import data_checks
from gradaudit.analysis.data_limits import limits_found, undeclared_site
from gradaudit.cohort.heat_distributions import (
    correctness_rows,
    heat_rows_of,
    map_rows,
    with_adjusted_means,
)
from gradaudit.cohort.image_flow import exclusion_rows, flow_rows, label_codes, region_rows
from gradaudit.cohort.population import Cohort, attribute_facts_of, take_cohorts
from gradaudit.disclosure.attacker import least
from gradaudit.disclosure.decision import Suppression, decide, narrowed_levels
from gradaudit.disclosure.suppression import apply_min_cell
from gradaudit.number_text import Noun
from gradaudit.performance.table import performance_table, predictions
from gradaudit.plan import Plan
from gradaudit.records import Finding
from gradaudit.result_schema import HeatRow, Tables
from gradaudit.runs.measurements import Measurements

# ── all of it ─────────────────────────────────────────────────────────────────────────────────────


def describe(meas: Measurements, plan: Plan, findings: Sequence[Finding] = ()) -> Tables:
    """Every table of the result document that is not a finding, small cells withheld."""
    cohorts = take_cohorts(meas, plan)
    heat = heat_rows_of(cohorts, plan)
    return tables_of(cohorts, heat, decide(cohorts, heat, plan), plan, findings)


def tables_of(
    cohorts: Sequence[Cohort],
    heat: Sequence[HeatRow],
    suppression: Suppression,
    plan: Plan,
    findings: Sequence[Finding],
) -> Tables:
    """``describe``, from cohorts, their complete heat table and what is to be withheld."""
    cohort = cohorts[0]
    meas, hidden, references = cohort.meas, suppression.levels, suppression.references
    data, predicted = predictions(meas, plan)
    narrowed = narrowed_levels(cohort, plan, predicted)
    performance = performance_table(meas, plan, cohort.groups, references, narrowed)
    bare = Tables(
        regions=region_rows(cohort, plan),
        attributes=attribute_facts_of(meas, plan, cohort.groups),
        flow=flow_rows(cohort),
        exclusions=exclusion_rows(cohort, hidden),
        heat=with_adjusted_means(heat, findings),
        performance=performance + correctness_rows(cohort, plan),
        mean_maps=map_rows(cohort),
    )
    shown = apply_min_cell(bare, hidden, references, suppression.min_cell)
    shown = least(cohort, data, bare, shown, label_codes(cohort), suppression.min_cell)
    unit = Noun.of(plan.analysis.cluster_name)
    checks = tuple(
        check.model_copy(update={k: unit.said_in(getattr(check, k)) for k in ("name", "detail")})
        for check in (*data_checks(meas, plan, shown), undeclared_site(meas, plan))
    )
    return replace(shown, checks=checks, limits=limits_found(meas, plan, shown, checks))
