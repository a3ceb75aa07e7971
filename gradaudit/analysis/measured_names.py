"""The names that measurements hold, to hold a plan against."""

from __future__ import annotations

from gradaudit.cohort.population import texts
from gradaudit.manifest.unmeasured import Measured
from gradaudit.performance.table import classes_of
from gradaudit.plan import Plan
from gradaudit.runs.measurements import Measurements


def measured_names(meas: Measurements, plan: Plan) -> Measured:
    """The names in the measurements that a plan can refer to, with counts of declared levels."""
    columns = [str(c) for c in meas.images.columns]
    carried = [c.removeprefix("meta.") for c in columns if c.startswith("meta.")]
    attributes = [c.removeprefix("subgroup.") for c in columns if c.startswith("subgroup.")]
    counted = {
        name: texts(meas.images[f"subgroup.{name}"]).value_counts()
        for name in attributes
        if name in plan.subgroups
    }
    run = meas.run
    recorded = None if run is None or run.plan is None else run.plan.get("regions")
    found = (
        [str(name) for name in meas.table["region"].dropna().unique()] if len(meas.table) else []
    )
    again = "measure again with this plan, into another folder: gradaudit report MANIFEST --config PLAN --run FOLDER"
    return Measured(
        source="the table"
        if run is None
        else "the run"
        if meas.folder is None
        else f"the run {meas.folder}",
        remedy=again if run is not None else "add to the table what it lacks",
        levels={
            name: {str(k): int(n) for k, n in counted[name].items()} if name in counted else {}
            for name in attributes
        },
        regions=list(dict.fromkeys([*found, *(() if run is None else run.data.regions)])),
        derivations=None
        if recorded is None
        else {name: region["derive"] for name, region in recorded.items() if region.get("derive")},
        columns=[*carried, *attributes, *columns],
        pair_columns=carried,
        explained=_explained(meas),
        classes=classes_of(meas),
    )


def _explained(meas: Measurements) -> set[tuple[str, str]]:
    """Every (method, target) that is in the table."""
    if not len(meas.table):
        return set()
    found = meas.table[["method", "target"]].drop_duplicates()
    return set(zip(found["method"].astype(str), found["target"].astype(str), strict=True))
