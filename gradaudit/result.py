"""Measurements in, result document out, without torch: findings, tables, gallery, run record."""

from __future__ import annotations

import datetime
import os
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pandas as pd

from gradaudit.analysis.descriptives import tables_of
from gradaudit.analysis.findings import analysis_of, refuse_unmeasured_names
from gradaudit.analysis.method_cards import method_cards
from gradaudit.analysis.verdict import audit_verdict
from gradaudit.cohort.gallery import gallery_items, pick_images, shown_name
from gradaudit.cohort.heat_distributions import heat_rows_of
from gradaudit.cohort.population import take_cohorts
from gradaudit.disclosure.decision import decide
from gradaudit.errors import PlanError, RunError
from gradaudit.number_text import Noun
from gradaudit.performance.table import refuse_foreign_labels
from gradaudit.plan import Plan, build_plan
from gradaudit.records import Finding
from gradaudit.report import write_report
from gradaudit.report.render import render_fragment, render_html, to_json
from gradaudit.result_schema import (
    CriteriaFacts,
    DataFacts,
    MethodFacts,
    ModelFacts,
    PlannedCell,
    ResultDocument,
    RunRecord,
    Tables,
)
from gradaudit.runs.measurements import Measurements
from gradaudit.runs.record import RunFile, digest_of


class AuditResult:
    """The outcome of an audit: findings, verdict and every render of them.

    ``document`` is the content of result.json; ``measurements`` what it was computed from.
    """

    def __init__(self, document: ResultDocument, measurements: Measurements | None = None) -> None:
        self.document = document
        self.measurements = measurements

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.document.findings

    @property
    def cells(self) -> pd.DataFrame:
        """The planned cells, one row each, with the fields of ``PlannedCell`` as columns."""
        rows = [cell.model_dump(mode="json") for cell in self.document.cells]
        return pd.DataFrame(rows, columns=list(PlannedCell.model_fields))

    @property
    def verdict(self) -> str:
        """met | not_met | insufficient | none_declared"""
        return self.document.verdict.state

    def to_json(self) -> str:
        return to_json(self.document)

    def to_html(self) -> str:
        return render_html(self.document)

    def write(self, path: str | Path) -> Path:
        """Write the report; the suffix chooses the render: .html, .json or .md."""
        return write_report(self.document, path)

    def _repr_html_(self) -> str:
        return render_fragment(self.document)

    def __repr__(self) -> str:
        return f"AuditResult({self.document.verdict.headline!r}, {len(self.findings)} findings)"


def build_result(meas: Measurements, plan: Plan | None = None) -> AuditResult:
    """Analyse measurements and assemble the result.

    ``plan``: roles, criteria, subgroups and privacy may differ from those in force while measuring
    (a colleague's re-analysis); None takes the plan that the run recorded.
    Errors: ``RunError`` where ``meas`` carries no run record (a bare table can be given to
    ``analyze``); ``PlanError`` where the plan names what the run did not measure;
    ``ManifestError`` where no label is a class of the model.
    """
    run = meas.run
    if run is None:
        raise RunError(
            "These measurements carry no run record (model, data, versions), which a report needs. Use ga.analyze for a bare table."
        )
    plan = plan or recorded_plan(run)
    meas = _with_roles(meas, plan)
    refuse_unmeasured_names(meas, plan)
    refuse_foreign_labels(meas)
    cohorts = take_cohorts(meas, plan)
    heat = heat_rows_of(cohorts, plan)
    suppression = decide(cohorts, heat, plan)
    analysis = analysis_of(cohorts, suppression, plan)
    findings = analysis.findings
    tables = tables_of(cohorts, heat, suppression, plan, findings)
    picks = pick_images(meas, plan, tables.attributes, suppression.levels)
    document = ResultDocument(
        audit_id=audit_id_of(run, plan),
        created=created_now(),
        tool_version=metadata.version("gradaudit"),
        title=plan.report.title or f"Audit of {run.model.source} on {run.data.name}",
        auditor=plan.report.auditor,
        notice=plan.report.notice,
        model=ModelFacts(**dict(run.model), grid=_grid(meas)),
        data=_data_facts(meas, run, plan),
        criteria=_criteria(plan),
        verdict=audit_verdict(findings, analysis.cells, plan, tables.performance),
        cells=analysis.cells,
        findings=findings,
        gallery=gallery_items(meas, plan, picks, meas.folder),
        method=_method(run, plan, findings),
        plan=plan.model_dump(mode="json"),
        run=_run_record(meas, run),
        min_cell=plan.privacy.min_cell,
        images_shown=plan.privacy.images != "none",
        **vars(_with_shown_names(tables, plan)),
    )
    return AuditResult(document, meas)


def audit_id_of(run: RunFile, plan: Plan) -> str:
    """What an audit is called: twelve digits of what was measured and of the plan."""
    return digest_of([run.plan_id, plan.model_dump(mode="json")])[:12]


def recorded_plan(run: RunFile) -> Plan:
    """The plan that a run was measured with.  Errors: ``RunError`` where its record holds none that
    this version can read.
    """
    if run.plan is None:
        raise RunError(
            "The run's record (run.json) holds no plan. Give one: gradaudit analyze RUN --config audit.toml"
        )
    try:
        return build_plan(run.plan, "the plan that the run recorded")
    except PlanError as error:
        advice = "Another version wrote it, or run.json was changed. Give a plan: gradaudit analyze RUN --config audit.toml"
        raise RunError(f"{error}\n{advice}") from error


def _with_roles(meas: Measurements, plan: Plan) -> Measurements:
    """Roles are the plan's of today: they are a reading of the numbers, not a measurement."""
    table = meas.table.assign(role=[plan.region_role(str(name)) for name in meas.table["region"]])
    return Measurements(table, meas.images, meas.maps, meas.run, meas.folder)


def _with_shown_names(tables: Tables, plan: Plan) -> Tables:
    exclusions = []
    for row in tables.exclusions:
        examples = tuple(shown_name(name, plan) for name in row.examples)
        exclusions.append(row.model_copy(update={"examples": examples}))
    return replace(tables, exclusions=tuple(exclusions))


def created_now() -> str:
    """Now, in UTC, or SOURCE_DATE_EPOCH (reproducible-builds.org), to repeat a build."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = (
        datetime.datetime.fromtimestamp(int(epoch), datetime.UTC)
        if epoch
        else datetime.datetime.now(datetime.UTC)
    )
    return moment.isoformat(timespec="seconds")


def _grid(meas: Measurements) -> tuple[int, ...]:
    if meas.maps is None or not (meas.maps["kind"] == "heat").any():
        return ()
    first = meas.maps.loc[meas.maps["kind"] == "heat"].iloc[0]
    return int(first["height"]), int(first["width"])


def _data_facts(meas: Measurements, run: RunFile, plan: Plan) -> DataFacts:
    return DataFacts(
        name=run.data.name,
        digest=run.data.digest,
        n_images=len(meas.images),
        n_clusters=int(meas.images["cluster"].nunique()),
        cluster_declared=run.data.cluster_declared,
        cluster_name=plan.analysis.cluster_name,
    )


def _criteria(plan: Plan) -> CriteriaFacts | None:
    if plan.criteria is None:
        return None
    declared_on = plan.criteria.declared_on.isoformat() if plan.criteria.declared_on else ""
    return CriteriaFacts(**{**plan.criteria.model_dump(), "declared_on": declared_on})


def _method(run: RunFile, plan: Plan, findings: tuple[Finding, ...]) -> MethodFacts:
    adjusted = dict.fromkeys(name for finding in findings for name in finding.adjusted_for)
    unit = Noun.of(plan.analysis.cluster_name).one
    return MethodFacts(
        explain_method=plan.explain.method,
        explain_target=plan.explain.target,
        alpha=plan.analysis.alpha,
        permutations=plan.analysis.permutations,
        seed=plan.run.seed,
        unit=unit if run.data.cluster_declared else "image",
        confirmatory_contrasts=sum(f.test.family == "confirmatory" for f in findings),
        exploratory_contrasts=sum(f.test.family == "exploratory" for f in findings),
        adjusted_for=tuple(adjusted),
        cards=method_cards(run.cards, plan.analysis),
    )


def _run_record(meas: Measurements, run: RunFile) -> RunRecord:
    status = meas.images["status"].value_counts()
    return RunRecord(
        command=run.command,
        plan_id=run.plan_id,
        digests=run.identity,
        versions=run.versions,
        device=run.device,
        dtype=run.dtype,
        seed=run.seed,
        started=run.started,
        finished=run.finished or "",
        seconds=run.seconds,
        counts={f"images {name}": int(count) for name, count in sorted(status.items())},
    )
