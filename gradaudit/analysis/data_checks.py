"""Checks of the data, with reasons: what this data set limits.

Each comes with the sentences that follow from it.

Reads the tables after small cells were withheld, so that no sentence tells what a table hides.  A
check that could not run says why; a check that found nothing says what it looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gradaudit.number_text import count, one_percent, percent_in_text, told_apart
from gradaudit.performance.table import classes_of, labels_without_class
from gradaudit.plan import Plan
from gradaudit.records import ALL, OTHER_LABELS, UNKNOWN
from gradaudit.result_schema import CheckOutcome, FlowRow, HeatRow, Tables
from gradaudit.runs.measurements import Measurements
from gradaudit.subgroups.contrast import MIN_PATIENTS, PROVISIONAL

FAILED_SHARE = 0.01
ANALYSED_GAP = 0.05
SIZE_RATIO = 1.25
PREVALENCE_GAP = 0.10
UNKNOWN_SHARE = 0.05
COARSE_SHARE = 0.05
"""Where a check speaks of an issue.  They decide what is pointed out, never a verdict."""

_Spread = tuple[tuple[Any, float], tuple[Any, float]]
"""The lowest and the highest row, each with its value."""

State = tuple[str, str]
"""State of a check, and its detail."""


def data_checks(meas: Measurements, plan: Plan, tables: Tables) -> tuple[CheckOutcome, ...]:
    """Every check of the data in a fixed order, each with the reason for its state."""
    found = []
    for code, (name, check) in _CHECKS.items():
        state, detail = check(meas, plan, tables)
        found.append(CheckOutcome(code=code, name=name, state=state, detail=detail))  # type: ignore[arg-type]
    return tuple(found)


def withheld_whole(row: FlowRow) -> bool:
    return row.suppressed and not row.area_share


# ── the checks ────────────────────────────────────────────────────────────────────────────────────


def _readable(meas: Measurements, plan: Plan, tables: Tables) -> State:
    n, failed = len(meas.images), int((meas.images["status"] != "ok").sum())
    if n == 0:
        return "not_applicable", "There are no images."
    words = f"{count(failed)} of {count(n)} images could not be used ({percent_in_text(failed / n, 1)})."
    return (
        "issue" if failed / n > FAILED_SHARE else "passed"
    ), words if failed else f"All {count(n)} images could be read."


def _duplicates(meas: Measurements, plan: Plan, tables: Tables) -> State:
    paths = meas.images["path"].dropna().astype(str)
    if paths.empty:
        return "not_applicable", "No image paths are known."
    repeated = int(paths.duplicated(keep=False).sum())
    if repeated:
        return (
            "issue",
            f"{count(repeated)} rows of the manifest name an image that another row names too: they count more than once.",
        )
    return "passed", f"No image is named twice among {count(len(paths))}."


def _clusters(meas: Measurements, plan: Plan, tables: Tables) -> State:
    declared = None if meas.run is None else meas.run.data.cluster_declared
    images, clusters = len(meas.images), meas.images["cluster"].nunique()
    if declared or (declared is None and clusters < images):
        return (
            "passed",
            f"{count(images)} images belong to {count(clusters)} clusters, which are the unit of every interval and test.",
        )
    return "issue", (
        "No cluster (patient, lesion, vehicle) was declared, so every image counts as independent: "
        "if several images show the same one, intervals are too narrow and differences look surer than they are."
    )


def _constant(meas: Measurements, plan: Plan, tables: Tables) -> State:
    if meas.images["cluster"].nunique() == len(meas.images):
        return "not_applicable", "Every cluster holds one image."
    mixed: list[str] = []
    rare: list[str] = []
    for attribute in tables.attributes:
        if attribute.kind != "continuous" and not attribute.within:
            levels = (
                meas.images[f"subgroup.{attribute.name}"]
                .groupby(meas.images["cluster"].astype(str))
                .nunique()
            )
            share = float((levels > 1).sum() / max((levels > 0).sum(), 1))
            if share > 0:
                (mixed if share > FAILED_SHARE else rare).append(
                    f"{attribute.name} ({percent_in_text(share)} of clusters)"
                )
    if mixed:
        return (
            "issue",
            f"Levels vary inside clusters for {listed(mixed)}: one label per cluster is wrong, or the plan lacks within = true.",
        )
    if rare:
        return (
            "passed",
            f"Nearly every cluster has one level of every attribute, or the plan declares otherwise; levels vary for {listed(rare)}.",
        )
    return (
        "passed",
        "Each cluster has one level of every attribute, or the plan declares otherwise.",
    )


def _group_sizes(meas: Measurements, plan: Plan, tables: Tables) -> State:
    most: dict[tuple[str, str], int] = {}
    for row in tables.heat:
        if row.attribute != ALL and row.level != UNKNOWN and row.n_clusters is not None:
            most[row.attribute, row.level] = max(
                row.n_clusters, most.get((row.attribute, row.level), 0)
            )
    if not most:
        return "not_applicable", "No attribute has a level whose heat is shown."
    few = [
        f"{attribute} = {level} ({n})" for (attribute, level), n in most.items() if n < PROVISIONAL
    ]
    if few:
        return (
            "issue",
            f"Few clusters in {listed(few)}: below {MIN_PATIENTS} nothing is assessed, below {PROVISIONAL} verdicts are provisional.",
        )
    return (
        "passed",
        f"Every level shown has at least {PROVISIONAL} clusters in the region that shows most of them.",
    )


def _known_levels(meas: Measurements, plan: Plan, tables: Tables) -> State:
    if not tables.attributes:
        return "not_applicable", "There are no attributes."
    gaps = []
    for attribute in tables.attributes:
        share = (
            float(meas.images[f"subgroup.{attribute.name}"].isna().mean())
            if len(meas.images)
            else 0.0
        )
        hidden = any(
            r.suppressed for r in tables.flow if (r.attribute, r.level) == (attribute.name, UNKNOWN)
        )
        if share > UNKNOWN_SHARE and not hidden:
            gaps.append(f"{attribute.name} ({percent_in_text(share)} of images)")
    if gaps:
        return (
            "issue",
            f"The level is unknown for many images of {listed(gaps)}: contrasts hold for the labelled ones only.",
        )
    return (
        "passed",
        f"No attribute that is shown lacks its level in more than {percent_in_text(UNKNOWN_SHARE)} of the images.",
    )


def _known_labels(meas: Measurements, plan: Plan, tables: Tables) -> State:
    label = meas.images["label"]
    missing = int(label.isna().sum()) if len(label) else 0
    if len(label) and missing == len(label):
        return "not_applicable", "The manifest has no labels: model performance is not reported."
    foreign, found = labels_without_class(meas), []
    if missing:
        found.append(f"The label of {count(missing)} of {count(len(label))} images is unknown")
    if foreign:
        odd = sum(map(len, foreign.values()))
        found.append(
            f"{count(odd)} of {count(len(label))} images have a label that is no class of the model ({listed([*map(repr, foreign)])})"
        )
    if found:
        needed = "label" in plan.explain.target.split(":")
        heat = "no heat, as the target is their label, and" if needed else "heat, and"
        known = listed(classes_of(meas)) if foreign and classes_of(meas) else ""
        classes = f"; the model's classes are {known}" if known else ""
        return "issue", f"{'; '.join(found)}: they have {heat} no part in performance{classes}."
    return "passed", "Every image has a label that is a class of the model."


def _balanced_exclusion(meas: Measurements, plan: Plan, tables: Tables) -> State:
    kept = [
        (r, r.n_analysed / r.n_manifest)
        for r in _visible(tables)
        if r.n_manifest and r.n_analysed is not None
    ]
    spread = _widest(kept)
    if spread is None:
        return "not_applicable", "No attribute has two levels with both counts shown."
    (low, a), (high, b) = spread
    less, more = told_apart(a, b, 0)
    words = f"{less} of the images of {_named(low)} could be analysed, {more} of {high.level}"
    if b - a > ANALYSED_GAP:
        return "issue", f"{words}: what is left may differ between the groups for that reason."
    if percent_in_text(a) != percent_in_text(b):
        return "passed", f"Exclusions are alike across groups; farthest apart: {words}."
    if all(share == 1 for _, share in kept):
        return (
            "passed",
            "Exclusions are alike across groups: every image of every level shown could be analysed.",
        )
    where = one_percent([share for _, share in kept], 0)
    return (
        "passed",
        f"Exclusions are alike across groups: {where or 'the same part'} of the images could be analysed in every level shown.",
    )


def _comparable_size(meas: Measurements, plan: Plan, tables: Tables) -> State:
    found = []
    regions = dict.fromkeys(name for row in tables.flow for name in row.area_share)
    for region in regions:
        sizes = [(r, area) for r in _visible(tables) if (area := r.area_share.get(region))]
        spread = _widest(sizes, lambda low, high: high / low)
        if spread is not None:
            (low, a), (high, b) = spread
            less, more = told_apart(a, b, 1)
            words = (
                f"{region} covers {more} of the image in {_named(high)} and {less} in {low.level}"
            )
            found.append((b / a, words, percent_in_text(a, 1) != percent_in_text(b, 1)))
    if not found:
        return "not_applicable", "No region has a size in two levels of an attribute."
    found.sort(key=lambda size: -size[0])
    far = [words for ratio, words, _ in found if ratio > SIZE_RATIO]
    if far:
        words = "; ".join(far[:4]) + (
            f"; and {len(far) - 4} more region{'s' * (len(far) > 5)}" if len(far) > 4 else ""
        )
        return (
            "issue",
            f"Region size differs between groups ({words}): larger regions hold more heat, so read the differences at equal size.",
        )
    differing = [words for _, words, differs in found if differs]
    if differing:
        return "passed", f"Region sizes are alike; farthest apart: {differing[0]}."
    return (
        "passed",
        "Region sizes are alike: each region covers the same part of the image in every level shown.",
    )


def _comparable_labels(meas: Measurements, plan: Plan, tables: Tables) -> State:
    spreads = []
    names = dict.fromkeys(name for row in tables.flow for name in row.label_prevalence)
    for label in names:
        spread = _widest(
            [
                (r, share)
                for r in _visible(tables)
                if (share := r.label_prevalence.get(label)) is not None
            ]
        )
        if spread is not None:
            spreads.append((spread[1][1] - spread[0][1], label, spread))
    if not spreads:
        return "not_applicable", "Label shares are not known for two levels of an attribute."
    gap, label, ((low, a), (high, b)) = max(spreads, key=lambda s: s[0])
    less, more = told_apart(a, b, 0)
    known = {OTHER_LABELS: "the rarer labels together make up", UNKNOWN: "unknown labels make up"}
    words = f"{known.get(label, f'label {label} makes up')} {more} of {_named(high)} and {less} of {low.level}"
    if gap > PREVALENCE_GAP:
        return (
            "issue",
            f"The mix of labels differs between groups ({words}): maps differ by class, so read the differences at equal class.",
        )
    if percent_in_text(a) == percent_in_text(b):
        return "passed", "The mix of labels is the same in every level shown."
    return "passed", f"The mix of labels is alike; farthest apart: {words}."


def _comparable_undefined(meas: Measurements, plan: Plan, tables: Tables) -> State:
    margin = plan.criteria.undefined_margin if plan.criteria else 0.05
    rows = [
        (r, r.undefined_share)
        for r in tables.heat
        if r.undefined_share is not None and r.attribute != ALL and r.level != UNKNOWN
    ]
    spreads = _spreads_by_place(rows)
    if not spreads:
        return (
            "not_applicable",
            "The share of undefined heat is not shown for two levels of an attribute.",
        )
    (low, a), (high, b) = max(spreads, key=lambda pair: pair[1][1] - pair[0][1])
    less, more = told_apart(a, b, 1)
    methods, targets = (
        len({getattr(r, name) for r, _ in rows}) > 1 for name in ("method", "target")
    )
    which = ", ".join([high.method] * methods + [high.target] * targets)
    words = f"{more} of the heat maps of {_named(high)} are undefined, {less} of {low.level}{f' ({which})' if which else ''}"
    if b - a > margin:
        return (
            "issue",
            f"Undefined heat differs between groups: {words}. The shares compare those that are left.",
        )
    if percent_in_text(a, 1) != percent_in_text(b, 1):
        return (
            "passed",
            f"Undefined heat is about as frequent in every group shown; farthest apart: {words}.",
        )
    return "passed", _equally_undefined([share for _, share in rows])


def _spreads_by_place(rows: Sequence[tuple[HeatRow, float]]) -> list[_Spread]:
    """Widest spread for each region, method and target: a level has one share for each of them."""
    places: dict[tuple[str, str, str], list[tuple[HeatRow, float]]] = {}
    for row, share in rows:
        places.setdefault((row.region, row.method, row.target), []).append((row, share))
    return [spread for own in places.values() if (spread := _widest(own)) is not None]


def _equally_undefined(shares: Sequence[float]) -> str:
    if not any(shares):
        return "No heat map of any level shown is undefined."
    where = one_percent(shares, 1)
    return f"Undefined heat is equally frequent in every level shown{f': {where} of the heat maps' if where else ''}."


def _resolved(meas: Measurements, plan: Plan, tables: Tables) -> State:
    table = meas.table
    present = table.loc[table["area_share"] > 0] if len(table) else table
    grid = _grid(meas)
    if present.empty or (grid is None and not (table["reason"] == "mask_below_cell").any()):
        return "not_applicable", "No region has a size, or the grid of the heat maps is not known."
    cell = 1.0 / (grid[0] * grid[1]) if grid else 0.0
    below = (present["area_share"] < cell) | (present["reason"] == "mask_below_cell")
    shares = below.groupby(present["region"]).mean()
    named = f"a cell of the {grid[0]} × {grid[1]} heat map" if grid else "a cell of the heat map"
    coarse = [
        f"{name} in {percent_in_text(share)} of the images that have it"
        for name, share in shares.items()
        if share > COARSE_SHARE
    ]
    if coarse:
        return (
            "issue",
            f"Regions are smaller than {named} ({listed(coarse)}): heat there cannot be told from its surroundings.",
        )
    return (
        "passed",
        f"Regions are larger than {named} in at least {percent_in_text(1 - COARSE_SHARE)} of the images that have them.",
    )


def _grid(meas: Measurements) -> tuple[int, int] | None:
    if meas.maps is None or not (meas.maps["kind"] == "heat").any():
        return None
    first = meas.maps.loc[meas.maps["kind"] == "heat"].iloc[0]
    return int(first["height"]), int(first["width"])


def _performance_alike(meas: Measurements, plan: Plan, tables: Tables) -> State:
    known = [
        r
        for r in tables.performance
        if r.metric == "accuracy" and r.attribute != ALL and r.level != UNKNOWN
    ]
    spread = _widest([(r, r.estimate) for r in known if r.estimate is not None])
    if spread is None:
        return "not_applicable", "Accuracy is not known for two levels of an attribute."
    (low, a), (high, b) = spread
    less, more = told_apart(a, b, 0)
    words = f"accuracy is {less} in {_named(low)} and {more} in {high.level}"
    if b - a > PREVALENCE_GAP:
        return (
            "issue",
            f"The model performs differently between groups ({words}): maps of wrong or unsure predictions tend to be more diffuse.",
        )
    if percent_in_text(a) != percent_in_text(b):
        return "passed", f"The model performs alike; farthest apart: {words}."
    where = one_percent([r.estimate for r in known if r.estimate is not None], 0)
    return (
        "passed",
        f"The model performs alike: accuracy is {where or 'the same'} in every level shown.",
    )


_CHECKS: dict[str, tuple[str, Callable[[Measurements, Plan, Tables], State]]] = {
    "GA401": ("Images can be read", _readable),
    "GA402": ("No image twice", _duplicates),
    "GA403": ("Clusters declared", _clusters),
    "GA404": ("One level per cluster", _constant),
    "GA405": ("Enough clusters per group", _group_sizes),
    "GA406": ("Levels known", _known_levels),
    "GA407": ("Labels known", _known_labels),
    "GA408": ("Exclusions alike across groups", _balanced_exclusion),
    "GA409": ("Region sizes alike across groups", _comparable_size),
    "GA410": ("Label mix alike across groups", _comparable_labels),
    "GA411": ("Undefined heat alike across groups", _comparable_undefined),
    "GA412": ("Regions larger than a cell of the map", _resolved),
    "GA413": ("Performance alike across groups", _performance_alike),
}


def _visible(tables: Tables) -> list[FlowRow]:
    """Rows of levels: neither the whole data set, nor the unknown, nor withheld whole."""
    return [
        r
        for r in tables.flow
        if r.attribute != ALL and r.level != UNKNOWN and not withheld_whole(r)
    ]


def _widest(
    rows: Iterable[tuple[Any, float]],
    gap: Callable[[float, float], float] = lambda low, high: high - low,
) -> _Spread | None:
    """The lowest and the highest row of the attribute whose levels are farthest apart.

    rows : one row per level, with its value      gap : of a lower and a higher value; the
        difference, unless told otherwise
    Always two rows, also where all are equal; None without two rows of one attribute.
    """
    by_attribute: dict[str, list[tuple[Any, float]]] = {}
    for row, value in rows:
        by_attribute.setdefault(row.attribute, []).append((row, value))
    ordered = [
        sorted(values, key=lambda pair: pair[1])
        for values in by_attribute.values()
        if len(values) > 1
    ]
    return max(
        ((values[0], values[-1]) for values in ordered),
        key=lambda pair: gap(pair[0][1], pair[1][1]),
        default=None,
    )


def _named(row: Any) -> str:
    return f"{row.attribute} = {row.level}"


def listed(items: Sequence[str], most: int = 5) -> str:
    shown = list(items[:most]) + ([f"{len(items) - most} more"] if len(items) > most else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
