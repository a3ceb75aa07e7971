"""Refuses a plan that names something the run did not measure, with all such names in one answer.

Without this, such a name would be missing in the analysis, and with it whatever it would have
shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gradaudit.errors import PlanError
from gradaudit.plan import Plan, measured_target
from gradaudit.regions.derived import parse_derivation
from gradaudit.spelling import hint_in_brackets

OF_THE_MODEL = ("predicted", "probability", "correct")
"""Columns of what the model made of an image; what it looks at moves them."""
MOST_NAMES = 12
"""Names listed in one line of a message; the rest is counted."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The names that measurements hold, or that a manifest about to be measured will give.

    source : in words, "the run runs/first"
    remedy : how to measure what is missing
    levels : attribute -> level -> images
    regions : names
    derivations : of the derived regions, where they are known
    columns : names that covariates and the site may have
    pair_columns : names that pairs may have
    explained : (method, target), each "" where the measurements do not say
    classes : names; empty where unknown
    """

    source: str
    remedy: str
    levels: Mapping[str, Mapping[str, int]]
    regions: Sequence[str]
    derivations: Mapping[str, str] | None = None
    columns: Collection[str] = ()
    pair_columns: Collection[str] = ()
    explained: Collection[tuple[str, str]] = ()
    classes: Sequence[str] = ()


def refuse_unmeasured(plan: Plan, measured: Measured) -> None:
    """Raise an error if the plan names anything that was not measured; otherwise do nothing.

    An ordered level without images passes: the report notes it.

    Errors: ``PlanError`` naming every attribute, level, region, derivation, method, target,
    covariate, pair column and positive class that was not measured, what there is instead, and what
    to do.
    """
    problems = [problem for check in _CHECKS for problem in check(plan, measured)]
    if problems:
        count = f"{len(problems)} thing{'s' * (len(problems) != 1)}"
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise PlanError(
            f"The plan names {count} that {measured.source} does not hold:\n{lines}\nCorrect the plan, or {measured.remedy}."
        )


def _attributes(plan: Plan, measured: Measured) -> Iterator[str]:
    for name in plan.subgroups:
        if name not in measured.levels:
            yield _missing(f"attribute {name!r} ([subgroups.{name}])", name, measured.levels)


def _levels(plan: Plan, measured: Measured) -> Iterator[str]:
    for name, setting in plan.subgroups.items():
        levels = measured.levels.get(name)
        if levels is None or setting.kind == "continuous":
            continue
        if setting.reference != "rest" and setting.reference not in levels:
            yield _missing(
                f"reference {setting.reference!r} of the attribute {name!r}",
                setting.reference,
                levels,
            )
        order = setting.order or tuple(levels)
        outside = [
            f"{level!r} ({count} image{'s' * (count != 1)})"
            for level, count in levels.items()
            if level not in order
        ]
        if outside:
            yield f"the order of the attribute {name!r} leaves out {_listed(outside)}, whose images would drop out; the order is: {_listed(order)}"


def _regions(plan: Plan, measured: Measured) -> Iterator[str]:
    for name in dict.fromkeys((*plan.regions, *plan.analysis.regions)):
        places = [f"[regions.{name}]"] * (name in plan.regions) + ["[analysis] regions"] * (
            name in plan.analysis.regions
        )
        derive = plan.regions[name].derive if name in plan.regions else None
        if name not in measured.regions:
            how = f", derived as {derive}" if derive else ""
            yield _missing(f"region {name!r} ({' and '.join(places)}{how})", name, measured.regions)
        elif (
            derive is not None
            and measured.derivations is not None
            and not _same(measured.derivations.get(name), derive)
        ):
            was = (
                f"derived as {measured.derivations[name]}"
                if name in measured.derivations
                else "a column of the manifest"
            )
            yield f"region {name!r} derived as {derive}; it was measured as {was}"


def _same(measured: str | None, derive: str) -> bool:
    """Equal except for spaces; None, a region with a column, equals no derivation."""
    return measured is not None and (
        measured == derive or parse_derivation(measured).term == parse_derivation(derive).term
    )


def _explanations(plan: Plan, measured: Measured) -> Iterator[str]:
    method, target = plan.explain.method, measured_target(plan)
    methods, targets = ({pair[k] for pair in measured.explained} - {""} for k in (0, 1))
    if methods and method not in methods:
        yield _missing(f"method {method!r} ([explain] method)", method, methods)
    if targets and target not in targets:
        yield _missing(f"target {target!r} ([explain] target and sign)", target, targets)
    if method in methods and target in targets and (method, target) not in measured.explained:
        yield f"method {method!r} for target {target!r}; it has: {_listed([f'{m} for {t}' for m, t in measured.explained])}"


def _columns(plan: Plan, measured: Measured) -> Iterator[str]:
    for name in plan.analysis.covariates:
        if name in OF_THE_MODEL and f"meta.{name}" not in measured.columns:
            yield (
                f"the covariate {name!r} is what the model made of the images; holding it equal "
                "would take away a part of the disparity itself ([analysis] covariates)"
            )
        elif name not in measured.columns:
            yield _missing(
                f"the covariate {name!r} is not a column ([analysis] covariates)",
                name,
                measured.columns,
            )
    site = plan.analysis.site
    if site is not None and site not in measured.columns:
        yield _missing(
            f"the site {site!r} is not a column ([analysis] site)", site, measured.columns
        )
    pairs = plan.analysis.pairs
    if pairs is not None and pairs not in measured.pair_columns:
        yield _missing(
            f"the pairs {pairs!r} are not a column ([analysis] pairs)", pairs, measured.pair_columns
        )


def _classes(plan: Plan, measured: Measured) -> Iterator[str]:
    name, classes = plan.analysis.positive_class, measured.classes
    by_index = name is not None and name.isdecimal() and int(name) < len(classes)
    if name is not None and classes and name not in classes and not by_index:
        yield _missing(f"positive class {name!r} ([analysis] positive_class)", name, classes)


_CHECKS = (_attributes, _levels, _regions, _explanations, _columns, _classes)


def _missing(what: str, name: str, known: Collection[str]) -> str:
    hint = hint_in_brackets(name, known)
    return (
        f"{what}{hint}; it has: {_listed(sorted(known) if isinstance(known, set) else list(known))}"
    )


def _listed(names: Sequence[str]) -> str:
    more = [f"{len(names) - MOST_NAMES} more"] * (len(names) > MOST_NAMES)
    return ", ".join((*names[:MOST_NAMES], *more)) or "none"
