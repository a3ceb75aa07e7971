"""The words of ``ga.power``: three chances for every open cell, never one."""

from __future__ import annotations

import pandas as pd

from gradaudit.number_text import percent_in_text, plain_number
from gradaudit.stats.power import points

_TRUTHS = {
    "as seen": "If the true difference is what this run saw ({points}): {chance}.",
    "none": "If there is none: {chance}.",
    "far end": "If it lies at the far end of the thick whisker: {chance}.",
}
_TRUTHS_OF_CURVE = {
    "as seen": "If the true curve is the one that this run saw ({points} between the two points "
    "that differ most): {chance}.",
    "none": "If it is flat: {chance}.",
    "far end": "If it has the same shape, and its largest difference lies at the far end of the "
    "thick whisker: {chance}.",
}


def power_sentence(rows: pd.DataFrame) -> str:
    """How likely a study of one size settles one cell, under each of the three truths.

    rows : of one cell and one factor, as ``ga.power`` returns them
    """
    parts = []
    of_curve = (rows["comparison"] == "curve").any()
    for truth, words in (_TRUTHS_OF_CURVE if of_curve else _TRUTHS).items():
        for row in rows.loc[rows["truth"] == truth].to_dict("records"):
            within, beyond = row["probability_within"], row["probability_beyond"]
            chance = _chance(float(within), float(beyond))
            parts.append(words.format(points=points(float(row["difference"])), chance=chance))
    return " ".join(parts)


def power_sentences(frame: pd.DataFrame) -> dict[str, str]:
    """Cell -> its words: why there are none, or the sentence of each size of study, by line."""
    out = {}
    for cell, rows in frame.groupby("cell", sort=False):
        reason = str(rows["reason"].iloc[0])
        if reason:
            out[str(cell)] = f"Not resampled: {reason}."
            continue
        lines = []
        for factor, own in rows.groupby("factor", sort=False):
            lines.append(f"{_size(float(str(factor)), own)}: {power_sentence(own)}")
        out[str(cell)] = "\n".join(lines)
    return out


def _size(factor: float, rows: pd.DataFrame) -> str:
    patients = rows["patients"].iloc[0]
    if rows["comparison"].iloc[0] == "curve":
        known = "" if pd.isna(patients) else f" ({int(patients)} in all)"
        return f"{plain_number(factor)} x the patients{known}"
    known = "" if pd.isna(patients) else f" ({int(patients)} patients in the smaller group)"
    return f"{plain_number(factor)} x the smallest group{known}"


def _chance(within: float, beyond: float) -> str:
    """The chance of "within", and that of "beyond" where there is any."""
    shown = f", beyond the limit {percent_in_text(beyond)}" if round(100 * beyond) else ""
    return f"{percent_in_text(within)}{shown}"
