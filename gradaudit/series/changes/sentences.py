"""A comparison in words: its headline, the fact that leads, and what it cannot tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradaudit.analysis.planned.cells import HEAT
from gradaudit.analysis.sentences.names import attribute_words, end_words, rest_words, together
from gradaudit.number_text import (
    Noun,
    count,
    decimal,
    interval,
    percent_in_text,
    points,
    share_digits,
)
from gradaudit.outcomes import region_words
from gradaudit.records import ALL, Interval
from gradaudit.schema.comparison import (
    CellChange,
    Difference,
    ImagePairing,
    PerformanceChange,
)

METRIC_WORDS = {
    "auc": "AUC",
    "ppv": "PPV",
    "brier": "Brier score",
    "calibration_slope": "calibration slope",
}
OF_SHARES = ("accuracy", "sensitivity", "specificity", "ppv")
"""Figures that are told in percent, and their changes in points."""


def headline(cells: Sequence[CellChange]) -> str:
    """ "The disparity is smaller in 2 of 12 comparisons and larger in none; 10 show no change." """
    words = [cell.word for cell in cells]
    compared = [word for word in words if word in ("better", "worse", "not_shown")]
    if not compared:
        return f"Nothing could be compared: none of {_comparisons(len(cells))} is in both audits."
    better, worse = words.count("better"), words.count("worse")
    beside = [
        f"{count(words.count(word))} {said}"
        for word, said in (("withheld", "withheld"), ("not_compared", "not compared"))
        if word in words
    ]
    rest = f" ({together(beside)})" if beside else ""
    if not better and not worse:
        return f"No change is shown in any of {_comparisons(len(compared))}{rest}."
    smaller, larger = (count(n) if n else "none" for n in (better, worse))
    return (
        f"The disparity is smaller in {smaller} of {_comparisons(len(compared))} and larger in "
        f"{larger}{rest}."
    )


def _comparisons(number: int) -> str:
    return f"{count(number)} planned comparison{'s' * (number != 1)}"


# ── facts ─────────────────────────────────────────────────────────────────────────────────────────


def facts(cells: Sequence[CellChange], performance: Sequence[PerformanceChange]) -> tuple[str, ...]:
    """The fact that leads, what else changed, and performance."""
    lead = leading(cells)
    told = [] if lead is None else [fact_sentence(lead), change_sentence(lead)]
    return tuple(filter(None, (*told, _performance(performance))))


def leading(cells: Sequence[CellChange]) -> CellChange | None:
    """The comparison that is told first: worse before better before the widest difference.

    Of these one of heat, and one of two groups, whose means can be told.
    """
    known = [c for c in cells if c.change.estimate is not None]
    for word in ("worse", "better"):
        own = [c for c in known if c.word == word]
        if own:
            return max(own, key=lambda c: (*_tellable(c), abs(c.change.estimate or 0.0)))
    return max(known, key=lambda c: (*_tellable(c), _width(c)), default=None)


def _tellable(c: CellChange) -> tuple[bool, bool]:
    return c.outcome == HEAT, c.comparison in ("level", "pair")


def _width(c: CellChange) -> float:
    return max(abs(c.before.estimate or 0.0), abs(c.after.estimate or 0.0))


def fact_sentence(c: CellChange) -> str:
    """ "On skin tone V–VI, 43 % of the model's heat map lay on the ruler before and 9 % after; ..." """
    means = c.group_before, c.group_after, c.reference_before, c.reference_after
    if None in means or c.comparison not in ("level", "pair"):
        first, second = (_signed(i.estimate) for i in (c.before, c.after))
        return f"{subject(c)}{_where(c)}: the difference was {first} points before and is {second}."
    own, later, other, other_later = (_percent(m) for m in means)
    what = (
        f"of the model's heat map lay on {region_words(c.region)}"
        if c.outcome == HEAT
        else "of the images had no defined heat map"
    )
    group = f"On {attribute_words(c.attribute)} {c.group}"
    return (
        f"{group}, {own} {what} before and {later} after; on {rest_words(c.reference)}, {other} "
        f"and {other_later}."
    )


def _percent(share: float | None) -> str:
    return percent_in_text(share, share_digits(share))


def change_sentence(c: CellChange) -> str:
    """ "The disparity is smaller: from +35 to +1 points, a change of −34 (−38 to −30)." """
    words = {
        "better": "The disparity is smaller",
        "worse": "The disparity is larger",
    }
    said = words.get(c.word, "No change of the disparity is shown")
    if c.word == "not_shown" and c.changed:
        said = "The difference changed, and it is not shown to be smaller or larger in size"
    first, second = (_signed(i.estimate) for i in (c.before, c.after))
    ends = interval(c.change.low, c.change.high, _signed_end)
    ends = f" ({ends})" if ends else ""
    names = [_HELD.get(name, attribute_words(name)) for name in c.adjusted_for]
    held = f" at equal {together(names)}" if names else ""
    return (
        f"{said}: from {first} to {second} points{held}, a change of "
        f"{_signed(c.change.estimate)}{ends}."
    )


_HELD = {"label": "class", "class": "predicted class"}


def _signed(share: float | None) -> str:
    return points(share, share_digits(share))


def _signed_end(share: float) -> str:
    return points(share, share_digits(share))


def subject(c: CellChange) -> str:
    """ "skin tone V–VI against all others", "age, from 31 to 72", "skin tone, first to last level"."""
    name = attribute_words(c.attribute)
    if c.comparison == "trend":
        return f"{name}, first to last level"
    if c.comparison == "line":
        return f"{name}, from {end_words(c.reference)} to {end_words(c.group)}"
    return f"{name} {c.group} against {rest_words(c.reference)}"


def _where(c: CellChange) -> str:
    return f", heat on {region_words(c.region)}" if c.region else ", undefined heat"


def metric_words(name: str) -> str:
    return METRIC_WORDS.get(name, name.replace("_", " "))


def _performance(rows: Sequence[PerformanceChange]) -> str:
    """Accuracy over all images, and how many figures changed."""
    known = [r for r in rows if r.change.estimate is not None]
    if not known:
        return "No figure of performance could be compared."
    better, worse = (sum(r.word == word for r in known) for word in ("better", "worse"))
    smaller, larger = (count(n) if n else "none" for n in (better, worse))
    tally = f"Of {count(len(known))} figures of performance {smaller} are better and {larger} worse"
    first = next((r for r in known if r.attribute == ALL and r.metric == "accuracy"), None)
    if first is None:
        return f"{tally}."
    ends = _change_words(first.metric, first.change)
    was, now = (_value(first.metric, i.estimate) for i in (first.before, first.after))
    return f"{tally}; accuracy over all images was {was} and is {now} ({ends})."


def _value(metric: str, value: float | None) -> str:
    return percent_in_text(value, 1) if metric in OF_SHARES else decimal(value)


def _change_words(metric: str, change: Interval) -> str:
    in_points = metric in OF_SHARES

    def worded(value: float) -> str:
        return points(value) if in_points else decimal(value, signed=True)

    ends = interval(change.low, change.high, worded)
    number = worded(change.estimate) if change.estimate is not None else ""
    unit = " points" if in_points else ""
    return f"{number}{unit}" + (f", {ends}" if ends else "")


# ── what it cannot tell ───────────────────────────────────────────────────────────────────────────


def cannot_tell(
    differences: Sequence[Difference], pairing: ImagePairing, cells: Sequence[CellChange]
) -> tuple[str, ...]:
    return tuple(_cannot_tell(differences, pairing, cells))


def _cannot_tell(
    differences: Sequence[Difference], pairing: ImagePairing, cells: Sequence[CellChange]
) -> Iterator[str]:
    yield "A change in heat is evidence about the explanation, not proof of what the model uses."
    areas = dict.fromkeys(d.area for d in differences if d.area != "software")
    if len(areas) > 1:
        yield (
            "Which of the things that differ made a change: "
            f"{together([_AREA_WORDS[area] for area in areas])} are all others."
        )
    if pairing.n_by_name:
        number = count(pairing.n_by_name)
        said = f"{number} pairs rest" if pairing.n_by_name != 1 else "1 pair rests"
        yield (
            f"Whether a file was exchanged under its name: {said} on the name alone, because a run "
            "holds no digest of the file."
        )
    if pairing.n_pairs < max(pairing.n_before, pairing.n_after):
        yield (
            "Whether other images alone would have made the same change: "
            f"{count(pairing.n_only_before)} images are in the earlier audit alone and "
            f"{count(pairing.n_only_after)} in the later one."
        )
    if any(c.word == "not_shown" for c in cells):
        yield "That nothing changed: “not shown” holds smaller and larger disparities alike."


_AREA_WORDS = {
    "criteria": "criteria",
    "plan": "settings of the plan",
    "explanation": "the explanation",
    "model": "the model",
    "data": "the data",
    "images": "how images are described",
}


def pairing_words(pairing: ImagePairing, unit: Noun) -> str:
    """ "621 images are in both, by the digest of their file; 0 are in the earlier audit alone, ..." """
    if not pairing.n_pairs:
        how = "No image is in both audits"
    else:
        ways = []
        if pairing.n_by_digest:
            ways.append(f"{count(pairing.n_by_digest)} by the digest of their file")
        if pairing.n_by_name:
            ways.append(f"{count(pairing.n_by_name)} by their name alone")
        verb = "image is" if pairing.n_pairs == 1 else "images are"
        how = f"{count(pairing.n_pairs)} {verb} in both audits ({together(ways)})"
    shared = f"{unit.counted(pairing.n_clusters_both)} have images in both"
    return (
        f"{how}; {count(pairing.n_only_before)} are in the earlier audit alone and "
        f"{count(pairing.n_only_after)} in the later one alone. {shared}."
    )
