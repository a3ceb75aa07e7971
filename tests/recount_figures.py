"""A second count of what figures are drawn from, in pandas and scipy alone, for ``recounts``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

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


# ── distributions ───────────────────────────────────────────────────────────────────────────────────────────────────


def distributions(recount: Recount, document: dict[str, Any]) -> Numbers:
    """Each dot from a list in which every value stands as often as there are dots; and which findings have any."""
    least = document["min_cell"]
    found: Numbers = {}
    wanted = set()
    for f in drawn(document):
        told = f["state"] in ("beyond", "open") or (f["state"] == "not_judged" and f["shown"])
        if f["n_withheld"] or f["code"] == "GA102" or (f["code"] == "GA105" and not told):
            continue
        if f["reference"] == REST and has_hidden(document, f["attribute"], f["region"]):
            continue
        means = [side.groupby("cluster")["y"].mean() for side in sides_of(recount, f).values()]
        assert [len(side) for side in means] == [f["n_clusters"], f["n_clusters_reference"]]
        if min(map(len, means)) // least >= 5:
            wanted.add(f["anchor"])
    assert len(wanted) <= 60
    assert {d["finding"] for d in document["distributions"]} == wanted
    findings = {f["anchor"]: f for f in document["findings"]}
    for i, row in enumerate(document["distributions"]):
        sides = sides_of(recount, findings[row["finding"]])
        means = {side: np.sort(rows.groupby("cluster")["y"].mean()) for side, rows in sides.items()}
        dots = min(20, min(map(len, means.values())) // least)
        for side, values in means.items():
            assert len(row[side]) == dots
            parts = np.repeat(values, dots).reshape(dots, len(values))
            for k, part in enumerate(parts):
                found["distributions", i, side, k] = short(part.mean(), 4)
    return found


def short(value: float, digits: int) -> float:
    """So many significant digits."""
    return float(f"{value:.{digits}g}")


def has_hidden(document: dict[str, Any], attribute: str, region: str) -> bool:
    """Whether a level of the attribute is withheld as a whole, or in the region."""
    rows = [h for h in document["heat"] if h["attribute"] == attribute and h["region"] == region]
    return any(h["suppressed"] for h in rows)


# ── maps ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def difference_maps(recount: Recount, document: dict[str, Any]) -> Numbers:
    """Images' unit maps by group; cells by scipy's Welch test of clusters and statsmodels' Benjamini-Hochberg."""
    maps = recount.parts.maps
    own = maps[(maps["kind"] == "heat") & maps["image_id"].map(recount.anchored)]
    unit = {
        m.image_id: np.frombuffer(m.values, np.float32).astype(float).reshape(m.height, m.width)
        for m in own.itertuples()
    }
    unit = {image: heat / heat.sum() for image, heat in unit.items() if heat.sum() > 0}
    flat = pd.DataFrame({image: heat.ravel() for image, heat in unit.items()}).T
    findings = {f["anchor"]: f for f in drawn(document)}
    shown = {(m["attribute"], m["level"]): m["n_images"] for m in document["mean_maps"]}
    assert len(document["difference_maps"]) <= MOST_DRAWN
    found: Numbers = {}
    for i, row in enumerate(document["difference_maps"]):
        f = findings[row["finding"]]
        told = f["state"] in ("beyond", "open") or f["shown"]
        assert told or f["anchor"] == document["verdict"]["fact_finding"]
        levels = [str(x) for x in recount.levels[f["attribute"]].categories if x != UNKNOWN]
        others = (
            [x for x in levels if x != f["group"]] if f["reference"] == REST else [f["reference"]]
        )
        sides = []
        for names in ([f["group"]], others):
            inside = sum(recount.members(f["attribute"], x) for x in names) > 0
            side = flat[inside.reindex(flat.index).to_numpy()]
            assert len(side) == sum(shown.get((f["attribute"], x), 0) for x in names)
            sides.append(side)
        found["difference_maps", i, "n_images"] = len(sides[0])
        found["difference_maps", i, "n_images_reference"] = len(sides[1])
        difference = sides[0].mean() - sides[1].mean()
        a, b = (side.groupby(recount.cluster.reindex(side.index)).mean() for side in sides)
        assert min(len(a), len(b)) >= max(10, document["min_cell"])
        test = stats.ttest_ind(a, b, equal_var=False)
        p = np.where(np.isnan(test.pvalue), 1.0, test.pvalue)
        beyond = multipletests(p, recount.alpha, method="fdr_bh")[0]
        same = np.sign(a.mean() - b.mean()) == np.sign(difference)
        width = len(row["difference"][0])
        for k, (value, mark) in enumerate(zip(difference, beyond & same, strict=True)):
            at = k // width, k % width
            found["difference_maps", i, "difference", *at] = short(value, 3)
            found["difference_maps", i, "shown", *at] = int(mark)
    return found


# ── curves ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def calibration(recount: Recount, document: dict[str, Any]) -> Numbers:
    """Bins cut at quantiles by pandas, as many as hold enough; Wilson's interval from its formula."""
    images = recount.images
    classes = [c.removeprefix("probability.") for c in images if c.startswith("probability.")]
    usable = recount.readable & images["label"].isin(classes) & images["predicted"].isin(classes)
    least = max(10, document["min_cell"])
    accuracy = {
        (r["attribute"], r["level"]): r
        for r in document["performance"]
        if r["metric"] == "accuracy"
    }
    found: Numbers = {}
    curves = {(c["attribute"], c["level"]): (i, c) for i, c in enumerate(document["calibration"])}
    for key, members in recount.members_of.items():
        row = accuracy[key]
        if key[0] == ALL or row["n_images"] is None:
            assert key not in curves
            continue
        narrowed = "over images with a heat share" in row["reason"]
        data = images[members & usable & (recount.anchored | (not narrowed))]
        data = data.assign(right=data["label"] == data["predicted"])
        assert len(data) == row["n_images"]
        bins = filled(data["probability"].astype(float), data["cluster"], least)
        groups = [] if bins is None else [part for _, part in data.groupby(bins.to_numpy())]
        if len(groups) < 3:
            assert key not in curves
            continue
        i, curve = curves[key]
        assert len(curve["points"]) == len(groups)
        for k, part in enumerate(groups):
            low, high = wilson(part, recount.alpha)
            numbers = {
                "confidence": part["probability"].mean(), "correct": part["right"].mean(), "low": low, "high": high,
            }  # fmt: skip
            at = "calibration", i, "points", k
            found |= {(*at, name): short(value, 4) for name, value in numbers.items()}
            found[*at, "n_images"] = len(part)
            assert min(len(part), part["cluster"].nunique()) >= least
    return found


def filled(values: pd.Series, cluster: pd.Series, least: int) -> pd.Series | None:
    """The bin of each value; None where there are not two."""
    for count in range(10, 1, -1):
        cuts = sorted(set(values.quantile(np.arange(1, count) / count))) if len(values) else []
        bins = pd.cut(values, [-np.inf, *cuts, np.inf], right=False, labels=False)
        if len(values) and cluster.groupby(bins).nunique().min() >= least:
            return bins
    return None


def wilson(data: pd.DataFrame, alpha: float) -> tuple[float, float]:
    """Wilson's interval with the effective size of clustered images and Student's t."""
    p, n, sizes = data["right"].mean(), len(data), data.groupby("cluster").size()
    sums = ((data["right"] - p) / n).groupby(data["cluster"]).sum()
    variance = len(sizes) / (len(sizes) - 1) * (sums**2).sum()
    size = n**2 / (sizes**2).sum()
    if variance > 0 and 0 < p < 1:
        size = min(n, max(p * (1 - p) / variance, 1))
    t = stats.t.ppf(1 - alpha / 2, len(sizes) - 1)
    center, half = p + t**2 / (2 * size), t * np.sqrt(p * (1 - p) / size + t**2 / (4 * size**2))
    below, above = ((center + sign * half) / (1 + t**2 / size) for sign in (-1, 1))
    return max(0.0, min(below, p)), min(1.0, max(above, p))


def size_curves(recount: Recount, document: dict[str, Any]) -> Numbers:
    """Clusters by size; those of equal size share their heat."""
    least = max(10, document["min_cell"])
    roles = recount.plan["regions"]
    regions = [r for r in recount.regions if roles.get(r, {}).get("role", "neutral") != "neutral"]
    told = {(h["attribute"], h["level"], h["region"]): h["n_clusters"] for h in document["heat"]}
    curves = {
        (c["attribute"], c["level"], c["region"]): i for i, c in enumerate(document["size_curves"])
    }
    found: Numbers = {}
    for (attribute, level), members in recount.members_of.items():
        for region in regions or recount.regions:
            key = attribute, level, region
            if attribute == ALL or told[key] is None or told[key] < 3 * least:
                assert key not in curves
                continue
            used = members & recount.defined[region]
            frame = pd.DataFrame({
                "size": recount.wide["area_share"].loc[used, region], "heat": recount.wide["heat_share"].loc[used, region],
            })  # fmt: skip
            people = frame.groupby(recount.cluster[used]).mean().sort_values("size")
            images = recount.cluster[used].value_counts()
            several = int((images > 1).sum())
            people["heat"] = people.groupby("size")["heat"].transform("mean")
            count = min(10, len(people) // least)
            ends = np.cumsum(
                [len(people) // count + (k < len(people) % count) for k in range(count)]
            )
            parts = [
                people.iloc[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)
            ]
            for k, part in enumerate(parts):
                at = "size_curves", curves[key], "points", k
                found[*at, 0] = short(part["size"].mean(), 2 if 0 < several < least else 3)
                found[*at, 1] = short(part["heat"].mean(), 3)
                found[*at, 2] = len(part)
            assert sum(map(len, parts)) == told[key]
    return found


PARTS = (pictures, distributions, difference_maps, calibration, size_curves)
