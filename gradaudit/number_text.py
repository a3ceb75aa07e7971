"""Numbers as text: the one place that says how many digits a number has and which signs stand
around it.

Sentences, tables, figures and checks all word their numbers here, so that the same number never
reads as two.  None and NaN are ``MISSING``; a minus is "−" (U+2212); zero has no sign.  Between the
thousands of a count, and before "%" in tables and figures, stands the narrow no-break space U+202F;
running text has an ordinary space before "%" and after "<".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MINUS = "−"
NARROW_SPACE = "\u202f"
MISSING = "–"
"""Stands for a number that does not exist; the table's note or the row says why."""

_MOST_DIGITS = 6
_ROUNDING = 1e-12
"""Shares nearer to 0 or 1 than this are 0 or 1: floating-point sums miss them by about as much."""


def is_known(value: float | None) -> bool:
    """Whether there is a finite number."""
    return value is not None and math.isfinite(value)


def finite_or_none(value: float) -> float | None:
    """The value, or None for NaN and infinity, which JSON does not have."""
    return float(value) if math.isfinite(value) else None


def significant(value: float, digits: int) -> float:
    """``value`` rounded to so many significant digits: 0.012345 to three is 0.0123."""
    return float(f"{value:.{digits}g}")


def count(number: int | None) -> str:
    """A whole number, its thousands set apart: "12 480"."""
    return (
        MISSING if number is None else f"{number:,}".replace(",", NARROW_SPACE).replace("-", MINUS)
    )


@dataclass(frozen=True)
class Noun:
    """What is counted, in the reader's own word: "patient", "patients"."""

    one: str
    many: str

    @classmethod
    def of(cls, text: str) -> Noun:
        """ "patient" as patient, patients; "person/people" as it is given."""
        one, slash, many = (part.strip() for part in text.partition("/"))
        return cls(one, many if slash else f"{one}s")

    def of_number(self, number: int | None) -> str:
        """The word that follows a number."""
        return self.one if number == 1 else self.many

    def counted(self, number: int | None) -> str:
        """ "1 patient", "1 200 patients"."""
        return f"{count(number)} {self.of_number(number)}"

    def said_in(self, text: str) -> str:
        """A text of the package about clusters, in this word: "fewer than 10 patients"."""
        own = {"cluster": self.one, "clusters": self.many}
        return re.sub(r"(?<![\w.–-])clusters?(?!\.?\w|[–=-])", lambda word: own[word[0]], text)


CLUSTERS = Noun("cluster", "clusters")
"""Images that belong together, where the plan has no word of its own for them."""


def decimal(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """A number with a fixed number of decimals: "1.25"; ``signed``: "+1.25"."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        return text.removeprefix("-")
    return ("+" if signed and value > 0 else "") + text.replace("-", MINUS)


def plain_number(value: float, digits: int = 6) -> str:
    """A number as a table or plan would hold it, without trailing zeros: "0.05", "1024", "-3".

    For values of the user's own data and settings, which a reader looks up: the minus is the one
    of the keyboard.  From a million on with an exponent.

    digits : significant digits, at most 6
    """
    return f"{significant(value, digits):g}"


# ── shares ────────────────────────────────────────────────────────────────────────────────────────


def percent_number(share: float | None, digits: int = 1, *, signed: bool = False) -> str:
    """A share in percent, without the sign "%": "31.2".

    A share that is neither 0 nor 1 never reads as 0 or 100: it has more decimals, "99.96", and after
    six of them "< 0.000001" or "> 99.999999".
    """
    if share is None or not math.isfinite(share):
        return MISSING
    whole = round(share)
    if whole in (0, 1) and abs(share - whole) < _ROUNDING:
        return decimal(100 * whole, digits, signed=signed)
    for more in range(digits, _MOST_DIGITS + 1):
        if round(100 * share, more) not in (0.0, 100.0):
            return decimal(100 * share, more, signed=signed)
    step = 10.0**-_MOST_DIGITS
    if 0 < share < 1:
        near_zero, near_one = f"< {step:.{_MOST_DIGITS}f}", f"> {100 - step:.{_MOST_DIGITS}f}"
        return near_zero if whole == 0 else near_one
    return decimal(100 * share, digits, signed=signed)


def share_percent(
    share: float | None, digits: int = 1, *, signed: bool = False, space: str = NARROW_SPACE
) -> str:
    """A share in percent: "31.2 %", never 0 % or 100 % of a share that is neither (see
    ``percent_number``).

    space : what stands before "%": " " in running text, "" in columns that a program splits
    """
    text = percent_number(share, digits, signed=signed)
    return text if text == MISSING else f"{text}{space}%"


def percent_in_text(share: float | None, digits: int = 0) -> str:
    """A share in running text: "97 %", with an ordinary space."""
    return share_percent(share, digits, space=" ")


def declared_percent(share: float, *, space: str = NARROW_SPACE) -> str:
    """A share that somebody set, such as the level of an interval: "95 %", "99.5 %"."""
    return f"{plain_number(100 * share)}{space}%"


def told_apart(low: float, high: float, digits: int) -> tuple[str, str]:
    """Two shares in percent, for running text, with as many more decimals as it takes to tell them
    apart; at most six.
    """
    while digits < _MOST_DIGITS and low != high and one_percent([low, high], digits):
        digits += 1
    return percent_in_text(low, digits), percent_in_text(high, digits)


def one_percent(shares: Sequence[float], digits: int) -> str:
    """The text, for running text, of shares that read alike; "" where they do not."""
    texts = {percent_in_text(share, digits) for share in shares}
    return texts.pop() if len(texts) == 1 else ""


# ── differences of shares ─────────────────────────────────────────────────────────────────────────


def share_digits(share: float | None) -> int:
    """Decimals of a share or of a difference of shares in running text: one below ten percent or
    points, none from ten on.  9.96 rounds to 10.0 and has none.
    """
    return 0 if share is not None and round(abs(100 * share), 1) >= 10 else 1


def points(share: float | None, digits: int = 1, *, signed: bool = True) -> str:
    """A difference of shares in percentage points: "+19.0", "−3.2", "0.0".

    Tables and figures keep one decimal, so that columns line up; running text asks
    ``share_digits``.
    """
    return decimal(None if share is None else 100 * share, digits, signed=signed)


def points_on_its_side(
    share: float | None, margin: float | None, digits: int = 0, *, signed: bool = True
) -> str:
    """A difference in points, with as many more decimals as it takes to read on its own side of
    plus and minus the margin: 10.4 against 10 is "+10.4", 36.2 is "+36".
    """
    if share is None or margin is None or not math.isfinite(share):
        return points(share, digits, signed=signed)
    while digits < _MOST_DIGITS and _reads_otherwise(share, margin, digits):
        digits += 1
    return points(share, digits, signed=signed)


def _reads_otherwise(share: float, margin: float, digits: int) -> bool:
    read = round(abs(100 * share), digits)
    return _side_of(read, 100 * margin) != _side_of(100 * abs(share), 100 * margin)


def _side_of(size: float, margin: float) -> int:
    """-1 below the margin, 1 above it, 0 at it."""
    near = abs(size - margin) <= 1e-9 * margin
    return 0 if near else 1 if size > margin else -1


def declared_points(share: float | None) -> str:
    """A margin that somebody set, in percentage points, as it was set: "5", "2.5"."""
    return MISSING if share is None or not math.isfinite(share) else plain_number(100 * share)


# ── p values and intervals ────────────────────────────────────────────────────────────────────────


def p_value(p: float | None, *, space: str = NARROW_SPACE) -> str:
    """A p value to three decimals, below a thousandth "< 0.001"; ``space`` as in
    ``share_percent``.
    """
    return f"<{space}0.001" if p is not None and p < 0.001 else decimal(p, 3)


def p_in_text(p: float | None) -> str:
    """A p value in running text: "p = 0.012", "p < 0.001"."""
    text = p_value(p, space=" ")
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def interval(
    low: float | None, high: float | None, worded: Callable[[float], str], joined: str = " to "
) -> str:
    """Two ends, each in words: "14.1 to 24.0"; "" where one of them is not known."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{worded(low)}{joined}{worded(high)}"


def share_interval(
    low: float | None,
    high: float | None,
    worded: Callable[[float], str] = percent_number,
    joined: str = " to ",
) -> str:
    """The two ends of the interval of a share, cut to 0 and 1, beyond which no share lies."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return interval(max(low, 0.0), min(high, 1.0), worded, joined)
