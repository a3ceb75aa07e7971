"""The cards that the method section quotes: how each number of the report is computed.

Each card names the function that computes the number.

A function's card stands beside the function; only the cards of functions that belong to no family
are kept here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from gradaudit.analysis.questions import QUESTIONS
from gradaudit.metrics.mass import METRICS
from gradaudit.performance import differences, intervals, metrics, pseudo_values, ranking
from gradaudit.plan import AnalysisPlan
from gradaudit.registry import Family
from gradaudit.stats.family import STATISTICS
from gradaudit.subgroups.contrast_tests import estimate_all

EXPLANATION, FIGURES = "explanation", "performance figure"

STATISTICS.register(
    name="standardised_difference",
    label="standardised difference",
    summary="The adjusted difference in units of the residual spread.",
    formula="d / s,  s² = Σ e_i² / (n − G − z), G groups and z covariate columns",
    source="Cohen 1988, Statistical Power Analysis, 2nd ed., ch. 2",
)(estimate_all)
STATISTICS.register(
    name="wilson_clustered",
    label="Wilson interval over clusters",
    summary="Interval of a proportion that lets clusters vary, not images; it stays inside 0 to 100 %.",
    formula="(p + t²/2n ± t·√(p(1 − p)/n + t²/4n²)) / (1 + t²/n),  n = p(1 − p)/var,  var = G/(G − 1)·Σ_g (Σ_{i∈g} u_i)²",
    source="Wilson 1927, JASA 22:209; clustered: Franco, Little, Louis & Slud 2019, J. Surv. Stat. Methodol. 7:334",
)(intervals.wilson_clustered)
STATISTICS.register(
    name="obuchowski_variance",
    label="AUC interval",
    summary="Wilson's form on the AUC, whose variance comes from placement values summed over clusters.",
    formula="n = A(1 − A)/var(A),  var(A) = S10/m + S01/n + 2·S11/(m·n)",
    source="DeLong et al. 1988, Biometrics 44:837; clustered: Obuchowski 1997, Biometrics 53:567",
)(ranking.obuchowski_variance)
STATISTICS.register(
    name="mover_difference",
    label="difference of two figures",
    summary="Interval of a difference, recovered from the two intervals.",
    formula="d − √(a² + b² − 2rab), a and b the distances to the nearer limits (the upper limit likewise)",
    source="Newcombe 1998, Stat. Med. 17:873; Zou & Donner 2008, Stat. Med. 27:1693",
)(differences.mover_difference)
STATISTICS.register(
    name="pseudo_values",
    label="pseudo-values of a figure",
    summary="What a cluster adds to a figure that is no mean over images; tested like any other value of a cluster.",
    formula="AUC, means over classes: z_c = G·T(A) − (G − 1)·T(A without c), T = arcsin √;  slope: z_c = b + G·Σ_{i∈c} u_i",
    source="Tukey 1958, Ann. Math. Stat. 29:614; Arvesen 1969, Ann. Math. Stat. 40:2076; Cressie 1981, Biometrika 68:297",
)(pseudo_values.pseudo_values)


def method_cards(
    recorded: Mapping[str, dict[str, str]], settings: AnalysisPlan | None = None
) -> dict[str, tuple[dict[str, str], ...]]:
    """The cards of each family, as the result document holds them.

    A card has the fields of ``Card`` and ``function``, the name to look up.

    recorded : cards of the map method and the explained score, by "method" and "target", as the run
        kept them
    settings : the plan's [analysis]; None: its defaults
    Statistics that this audit did not use are left out: those that ``need`` an option of
    ``disparity``, or a key of [analysis] that stands at its default.
    """
    used = _changed(settings or AnalysisPlan())
    statistics = tuple(card for card in _cards_of(STATISTICS) if _is_used(card["needs"], used))
    return {
        EXPLANATION: tuple(recorded[key] for key in ("method", "target") if key in recorded),
        METRICS.title: _cards_of(METRICS),
        QUESTIONS.title: _cards_of(QUESTIONS),
        STATISTICS.title: statistics,
        FIGURES: tuple(_from_docstring(name, figure) for name, figure in metrics.FIGURES.items()),
    }


def _changed(settings: AnalysisPlan) -> set[str]:
    """Keys of [analysis] that do not stand at their default."""
    given, default = settings.model_dump(), AnalysisPlan().model_dump()
    return {name for name, value in given.items() if value != default[name]}


def _is_used(needs: str, changed: set[str]) -> bool:
    """Whether the statistic of a card needs nothing, or a key of the plan that was set."""
    asked = re.findall(r"\[analysis\] (\w+)", needs)
    return not needs or any(name in changed for name in asked)


def _cards_of(family: Family[Any]) -> tuple[dict[str, str], ...]:
    return tuple(
        {**vars(card), "function": function_name(family.get(card.name))} for card in family.cards()
    )


def function_name(member: Any) -> str:
    """The full name of a function, by which a reader finds it.

    As in "gradaudit.stats.multiplicity.holm"; for a library's function, private modules are left
    out, so that the public package is named.
    """
    module = (
        getattr(member, "__module__", None) or "scipy.special"
    )  # ufuncs name no module, and only scipy's are members
    return f"{re.sub(r'[.]_.*', '', module)}.{getattr(member, '__qualname__', member.__name__)}"


def _from_docstring(name: str, figure: Callable[..., Any]) -> dict[str, str]:
    """The card of a performance figure, read from its docstring.

    The first paragraph says what the figure is, and "Source:" where it comes from.
    """
    text = inspect.getdoc(figure) or ""
    source = re.search(r"Source: (.*?)(?:\.  |\.?$)", text, flags=re.S)
    summary = " ".join(text.split("\n\n")[0].split()).rstrip(".")
    label = {"auc": "AUC", "ppv": "PPV", "brier": "Brier score"}.get(name, name.replace("_", " "))
    return {
        "name": name,
        "label": label,
        "summary": summary,
        "function": function_name(figure),
        "source": " ".join(source.group(1).split()) if source else "definition",
    }
