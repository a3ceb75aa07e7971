"""Two audits side by side (``ga.compare``): results or run folders in, an ``AuditComparison`` out.

Loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gradaudit.errors import InputError
from gradaudit.plan import Plan, build_plan, read_plan
from gradaudit.report.changes import comparison_json as as_json
from gradaudit.report.changes import (
    render_comparison,
    render_comparison_fragment,
    render_comparison_markdown,
    write_comparison,
)
from gradaudit.result import AuditResult, audit_id_of, build_result, created_now, recorded_plan
from gradaudit.result_schema import ResultDocument
from gradaudit.runs.folder import RunFolder, read_run
from gradaudit.runs.measurements import Measurements
from gradaudit.schema.comparison import (
    CellChange,
    ComparisonDocument,
    Difference,
    PerformanceChange,
)
from gradaudit.series.changes.document import comparison_of

Source = AuditResult | RunFolder | Measurements | str | Path


class AuditComparison:
    """The outcome of a comparison: what differs, what changed, and every render of it.

    ``document`` is the content of comparison.json.
    """

    def __init__(self, document: ComparisonDocument) -> None:
        self.document = document

    @property
    def cells(self) -> pd.DataFrame:
        """The planned comparisons, one row each, with the fields of ``CellChange`` as columns."""
        rows = [cell.model_dump(mode="json") for cell in self.document.cells]
        return pd.DataFrame(rows, columns=list(CellChange.model_fields))

    @property
    def performance(self) -> pd.DataFrame:
        """The performance figures, one row each, with the fields of ``PerformanceChange``."""
        rows = [row.model_dump(mode="json") for row in self.document.performance]
        return pd.DataFrame(rows, columns=list(PerformanceChange.model_fields))

    @property
    def differences(self) -> pd.DataFrame:
        """What differs between the two audits, one row each."""
        rows = [row.model_dump(mode="json") for row in self.document.differences]
        return pd.DataFrame(rows, columns=list(Difference.model_fields))

    @property
    def worse(self) -> bool:
        """Whether any planned comparison is shown to be worse."""
        return any(cell.word == "worse" for cell in self.document.cells)

    def to_json(self) -> str:
        return as_json(self.document)

    def to_html(self) -> str:
        return render_comparison(self.document)

    def to_markdown(self) -> str:
        return render_comparison_markdown(self.document)

    def write(self, path: str | Path) -> Path:
        """Write the comparison; the suffix chooses the render: .html, .json or .md."""
        return write_comparison(self.document, path)

    def _repr_html_(self) -> str:
        return render_comparison_fragment(self.document)

    def __repr__(self) -> str:
        return f"AuditComparison({self.document.headline!r})"


def compare(
    before: Source, after: Source, *, plan: Plan | str | Path | None = None
) -> AuditComparison:
    """What changed from one audit to another: two models, two dates, before and after a change.

    before, after : a run folder (its path, or what ``ga.read_run`` gives), a result of ``ga.audit``
        or ``ga.build_result``, or measurements with their run record.  A result.json alone is
        refused: the error of a change rests on what each patient adds to both audits, which no
        result holds
    plan : both audits are read by this one; None: each by its own, and what differs is listed
    returns : ``AuditComparison``; ``.cells`` has the change of every planned comparison (after -
        before) with its interval and one of the words better, worse, not shown (see
        ``series.changes.cells``), ``.performance`` the same of every performance figure,
        ``.differences`` what else differs; ``.write("compare.html")`` writes the page

    Images are paired by the digest of their file, clusters by their name or a shared image.  Groups
    below the larger ``privacy.min_cell`` of both plans are withheld in either audit and here; no
    picture is shown.

    Errors: ``InputError`` for something else; ``RunError`` for a folder that is no finished run;
    ``PlanError`` where the plan names what was not measured.
    """
    given = read_plan(plan) if isinstance(plan, str | Path) else plan
    sides = [_opened(source, given) for source in (before, after)]
    smallest = max(side.declared.privacy.min_cell for side in sides)
    first, second = (_audited(side, smallest) for side in sides)
    return AuditComparison(comparison_of(first, second, created_now()))


@dataclass(frozen=True)
class _Opened:
    """One audit as it was given; ``document``: its result, where it is of the same plan."""

    meas: Measurements
    declared: Plan
    document: ResultDocument | None = None


def _opened(source: Source, plan: Plan | None) -> _Opened:
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_file():
            raise InputError(_NO_VALUES.format(what=path))
        source = read_run(path)
    if isinstance(source, AuditResult):
        if source.measurements is None:
            raise InputError(_NO_VALUES.format(what="A result without its measurements"))
        if plan is not None:
            return _Opened(source.measurements, plan)
        own = build_plan(source.document.plan, "the plan of the result")
        return _Opened(source.measurements, own, source.document)
    meas = source.measurements() if isinstance(source, RunFolder) else source
    if not isinstance(meas, Measurements) or meas.run is None:
        raise InputError(
            "ga.compare takes two run folders, or two results with their measurements; got "
            f"{type(source).__name__}{' without a run record' if isinstance(meas, Measurements) else ''}."
        )
    return _Opened(meas, plan or recorded_plan(meas.run))


_NO_VALUES = (
    "{what} cannot be compared: it holds no value of any patient, and the error of a change rests "
    "on these. Name the run folder that it was made from: gradaudit compare RUN_A RUN_B"
)


def _audited(side: _Opened, smallest: int) -> tuple[ResultDocument, Measurements, Plan, Plan]:
    """The result of one audit as both may be shown, under the name of its own."""
    declared, meas = side.declared, side.meas
    if side.document is not None and declared.privacy.min_cell == smallest:
        return side.document, meas, declared, declared
    plan = declared.updated(privacy={"min_cell": smallest, "images": "none"})
    document = build_result(meas, plan).document
    if meas.run is not None:
        document = document.model_copy(update={"audit_id": audit_id_of(meas.run, declared)})
    return document, meas, plan, declared
