"""What the figures of a set of measurements are drawn from, without a run folder."""

from typing import NamedTuple

import compared_groups

from gradaudit.analysis.descriptives import tables_of
from gradaudit.analysis.figures.drawing import Drawing
from gradaudit.analysis.findings import analysis_of
from gradaudit.analysis.verdict import audit_verdict
from gradaudit.cohort.heat_distributions import heat_rows_of
from gradaudit.cohort.population import take_cohorts
from gradaudit.disclosure.decision import Suppression, decide
from gradaudit.records import Finding
from gradaudit.result_schema import AuditVerdict, Tables


def a_plan(**changes):
    """The plan of ``compared_groups`` with few permutations: what is drawn does not hang on them."""
    return compared_groups.a_plan(**{"analysis": {"permutations": 99}, **changes})


def measured(*given, age=False, **how):
    """The measurements of ``compared_groups``; without ages, whose curves take long."""
    meas = compared_groups.measured(*given, **how)
    if not age:
        del meas.images["subgroup.age"]
    return meas


class Drawn(NamedTuple):
    """An analysis, its tables with small cells withheld, and what its figures are drawn from."""

    drawing: Drawing
    findings: tuple[Finding, ...]
    tables: Tables
    verdict: AuditVerdict
    suppression: Suppression


def drawn(meas, plan):
    """As ``build_result`` puts them together."""
    cohorts = take_cohorts(meas, plan)
    heat = heat_rows_of(cohorts, plan)
    suppression = decide(cohorts, heat, plan)
    analysis = analysis_of(cohorts, suppression, plan)
    tables = tables_of(cohorts, heat, suppression, plan, analysis.findings)
    verdict = audit_verdict(analysis.findings, analysis.cells, plan, tables.performance)
    drawing = Drawing.of(cohorts[0], suppression, plan, analysis.findings, verdict.fact_finding)
    return Drawn(drawing, analysis.findings, tables, verdict, suppression)


def findings_of(found, *codes):
    """The findings of some codes that are decisive, of heat, and not withheld."""
    return [
        f
        for f in found.findings
        if f.code in codes and f.test.family == "confirmatory" and not f.suppressed
    ]
