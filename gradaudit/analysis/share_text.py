"""Shares as text, with as many digits as it takes not to say more than is true."""

from __future__ import annotations

from collections.abc import Sequence


def percent(share: float, digits: int = 0) -> str:
    """ "97%"; more digits where a share near 0 or 1 would be printed as 0% or 100%."""
    while digits < 6 and 0 < share < 1 and float(f"{100 * share:.{digits}f}") in (0.0, 100.0):
        digits += 1
    return f"{share:.{digits}%}"


def apart(low: float, high: float, digits: int) -> tuple[str, str]:
    """Both shares, with as many more digits as it takes to tell them apart."""
    while digits < 6 and low != high and percent(low, digits) == percent(high, digits):
        digits += 1
    return percent(low, digits), percent(high, digits)


def one_text(shares: Sequence[float], digits: int = 0) -> str:
    """The text of shares that are printed alike, "" where they are not."""
    texts = {percent(share, digits) for share in shares}
    return texts.pop() if len(texts) == 1 else ""
