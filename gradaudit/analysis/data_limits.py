"""Sentences on what limits the reading of this audit.

Tables without small cells and the checks of the data come in; sentences go out.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.analysis.data_checks import listed, withheld_whole
from gradaudit.plan import Plan
from gradaudit.records import Measurements
from gradaudit.result_schema import AttributeFacts, CheckOutcome, Tables


def limits_found(
    meas: Measurements, plan: Plan, tables: Tables, checks: Sequence[CheckOutcome]
) -> tuple[str, ...]:
    """Sentences on what limits the reading of this audit: the issues that the checks found, then
    declarations.

    tables : attributes, flow, heat and performance, small cells withheld.
    """
    sentences = [check.detail for check in checks if check.state == "issue"]
    for attribute in tables.attributes:
        if attribute.inferred:
            sentences.append(
                f"The labels of {attribute.name} were estimated by an algorithm: a disparity may be one of its errors."
            )
    sentences += [
        text
        for attribute in tables.attributes
        if (text := _withheld_words(attribute, tables, plan))
    ]
    return (*sentences, *_criteria_words(meas, plan))


def _withheld_words(attribute: AttributeFacts, tables: Tables, plan: Plan) -> str:
    hidden = [
        row.level for row in tables.flow if row.attribute == attribute.name and withheld_whole(row)
    ]
    if not hidden:
        return ""
    if len(hidden) == 1:
        why = f"is withheld, because it holds fewer than {plan.privacy.min_cell} images or clusters"
    else:
        why = f"are withheld, because one at least holds fewer than {plan.privacy.min_cell} images or clusters, which the others would give away"
    return f"{attribute.name}: {listed(hidden)} {why}. To keep more: join small levels, or complete unknown labels."


def _criteria_words(meas: Measurements, plan: Plan) -> list[str]:
    if plan.criteria is None:
        return [
            "No margin was declared, so no limit was set: a difference can be shown, its importance not judged."
        ]
    started = "" if meas.run is None else meas.run.started[:10]
    if plan.criteria.declared_on is None:
        return [
            "The margin carries no date: whether it was declared before the data were seen is not known."
        ]
    if started and plan.criteria.declared_on.isoformat() > started:
        when = f"on {plan.criteria.declared_on}, after the measuring began ({started})"
        return [f"The margin was declared {when}: it may have been chosen in sight of the data."]
    return []
