"""What can be compared between groups, and how it is named and printed.

Every member of the family METRICS is a secondary outcome of its own accord, told by its card; the
entries here add the outcomes that are no metric, and words that differ from a metric's card.
Questions, sentences and tables ask ``outcome``, so a metric registered in a test or a plug-in is
compared and reported like the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradaudit import metrics as metrics  # registers the members of METRICS
from gradaudit.metrics.mass import METRICS

HEAT_SHARE_METRIC = "relevance_mass_accuracy"
"""The metric that tables call ``heat_share``: the primary outcome, so no secondary one."""


@dataclass(frozen=True)
class Outcome:
    """One outcome: its name is also the column of the measurements table that holds a metric.

    label : inside a sentence      title : above a table
    is_share : between 0 and 1, printed in % and its differences in points; all others as they are
    measure, place, mean : parts of a sentence, with ``{region}`` and ``{value}``
    """

    name: str
    label: str
    title: str
    is_share: bool
    measure: str = ""
    place: str = ""
    mean: str = ""

    def measure_words(self, region: str) -> str:
        """ "the share of the model's heat on the ruler" """
        own = f"the {self.label} on {region_words(region)}"
        return _filled(self.measure, region=region_words(region)) or own

    def place_words(self, region: str) -> str:
        """ ", heat share on the ruler", to follow the group's name; "" where there is no region."""
        own = f", {self.label} on {region_words(region)}" if region else ""
        return _filled(self.place, region=region_words(region)) or own

    def mean_words(self, region: str, value: str) -> str:
        """ "34 % of the model's heat lies on the ruler" """
        own = f"the mean {self.label} on {region_words(region)} is {value}"
        return _filled(self.mean, region=region_words(region), value=value) or own


def region_words(region: str) -> str:
    """ "the ruler" of the region called ruler, "the text overlay" of text_overlay."""
    return f"the {region.replace('_', ' ').strip()}"


def _filled(template: str, **words: str) -> str:
    """A part of a sentence of this module with its words; labels of metrics are no templates."""
    return template.format(**words)


_CORRECT = "in correctly classified images"
_OWN = (
    Outcome(
        name="heat_share",
        label="heat share",
        title="share of heat",
        is_share=True,
        measure="the share of the model's heat on {region}",
        mean="{value} of the model's heat lies on {region}",
    ),
    Outcome(
        name="heat_share_correct",
        label=f"heat share {_CORRECT}",
        title="share of heat, correctly classified images",
        is_share=True,
        measure=f"the share of the model's heat on {{region}} {_CORRECT}",
        mean=f"{{value}} of the model's heat {_CORRECT} lies on {{region}}",
    ),
    Outcome(
        name="undefined",
        label="undefined",
        title="share of images with undefined heat",
        is_share=True,
        measure="the share of images without a defined heat map",
        place=", images without a defined heat map",
        mean="{value} of the images have no defined heat map",
    ),
    Outcome(
        name="absent",
        label="absent",
        title="share of images without the region",
        is_share=True,
        measure="the share of images without {region}",
        place=", images without {region}",
        mean="{value} of the images do not show {region}",
    ),
)
OUTCOMES: dict[str, Outcome] = {outcome.name: outcome for outcome in _OWN}
"""The outcomes that are no metric."""

_OWN_FIELDS = ("mass_lift", "pointing_game")

_SHARE_UNITS = ("share", "probability")
_TITLES = {"mass_lift": "lift", "auc": "AUC of a map"}
"""Titles in the words of the glossary, where the card has others."""


def outcome(name: str) -> Outcome:
    """The outcome called ``name``: one of ``OUTCOMES``, a metric, or else named as it is."""
    if name in OUTCOMES:
        return OUTCOMES[name]
    if name in METRICS:
        card = METRICS.card(name)
        return Outcome(name, card.label, _TITLES.get(name, card.label), card.unit in _SHARE_UNITS)
    text = name.replace("_", " ")
    return Outcome(name, text, text, is_share=False)


def secondary_outcomes() -> tuple[str, ...]:
    """Metrics that are compared beside the heat share, in the order of their registration."""
    return tuple(name for name in METRICS if name != HEAT_SHARE_METRIC)


def other_metrics() -> tuple[str, ...]:
    """Metrics that have no field of their own in a heat row (``HeatRow.others``)."""
    return tuple(name for name in secondary_outcomes() if name not in _OWN_FIELDS)
