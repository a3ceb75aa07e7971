"""A second count of what figures are drawn from, in pandas and scipy alone, for ``recounts``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from recounts import Numbers, Recount

ALL, UNKNOWN, REST = "(all)", "(unknown)", "rest"
A_SIDE, MOST_DRAWN = 3, 12


def sides_of(recount: Recount, f: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Image rows of both sides of a finding: ``y`` and ``cluster``, by image id.

    Of a trend: everybody of its two end levels with a heat share.
    """
    if f["code"] == "GA102":
        out = {}
        for side, level in (("group", f["group"]), ("reference", f["reference"])):
            inside = recount.members(f["attribute"], level) & recount.defined[f["region"]]
            y = recount.wide["heat_share"].loc[inside, f["region"]]
            out[side] = pd.DataFrame({"y": y, "cluster": recount.cluster[inside]})
        return out
    rows = recount.entering(f"heat_share {f['region']}", f["attribute"])
    frame = rows.frame.assign(image=recount.images.index[rows.frame.index]).set_index("image")
    level = np.array(rows.order, object)[frame["group"].to_numpy(int)]
    own = level == f["group"]
    other = ~own if f["reference"] == REST else level == f["reference"]
    return {"group": frame[own], "reference": frame[other]}


def drawn(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Findings that pictures and maps may be drawn of: decisive, of heat, told, and no curve."""
    return [
        f
        for f in document["findings"]
        if f["test"]["family"] == "confirmatory"
        and f["outcome"] == "heat_share"
        and f["code"] in ("GA101", "GA102", "GA105")
        and not f["suppressed"]
    ]


def pictures(recount: Recount, document: dict[str, Any]) -> Numbers:
    """The value of each side; that its images are the nearest of different clusters is asserted."""
    findings = {f["anchor"]: f for f in drawn(document)}
    gallery = {item["image_id"]: item for item in document["gallery"]}
    assert len({p["finding"] for p in document["pictures"]}) <= MOST_DRAWN
    told = document["verdict"]["fact_finding"]
    if told in findings and findings[told]["code"] != "GA103":
        assert document["pictures"][0]["finding"] == told
    found: Numbers = {}
    for i, picture in enumerate(document["pictures"]):
        f = findings[picture["finding"]]
        assert picture["region"] == f["region"]
        side = sides_of(recount, f)[picture["side"]]
        low, middle, high = side["y"].quantile([0.25, 0.5, 0.75])
        mean = side.groupby("cluster")["y"].mean().mean()
        centre = "mean" if low <= mean <= high else "median"
        assert picture["centre"] == centre
        value = mean if centre == "mean" else middle
        found["pictures", i, "value"] = value
        if centre == "mean" and f["code"] != "GA102":
            stated = f["mean" if picture["side"] == "group" else "mean_reference"]["estimate"]
            assert abs(stated - mean) < 1e-9
        seen = side.loc[list(picture["images"])]
        assert 0 < len(seen) <= A_SIDE
        assert seen["cluster"].is_unique
        away = (seen["y"] - value).abs()
        assert away.is_monotonic_increasing
        shown = side[~hidden_images(recount, document)[side.index]]
        nearest = (shown["y"] - value).abs().groupby(shown["cluster"]).min().nsmallest(A_SIDE)
        assert all(np.isclose(nearest, one, atol=1e-12).any() for one in away), picture["finding"]
        if recount.plan == recount.parts.run["plan"]:  # thumbnails were written for it
            assert len(seen) == len(nearest)
        for image in picture["images"]:
            assert any(label.startswith("nearest: ") for label in gallery[image]["picked"])
    return found


def hidden_images(recount: Recount, document: dict[str, Any]) -> pd.Series:
    """Images of a level that is withheld, or with heat in a region in which theirs is."""
    out = recount.members(ALL, ALL) & False
    for row in document["flow"]:
        if row["suppressed"] and not row["area_share"] and row["attribute"] != ALL:
            out |= recount.members(row["attribute"], row["level"])
    for row in document["heat"]:
        if row["suppressed"] and row["attribute"] != ALL:
            out |= recount.members(row["attribute"], row["level"]) & recount.defined[row["region"]]
    return out
