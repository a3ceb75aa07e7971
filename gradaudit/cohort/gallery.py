"""Which images the report shows, and why: a random sample of every subgroup, and extremes.

Extremes are labeled as such. A gallery of striking cases alone misleads; a random sample alone may
lack what an auditor must see. Both are picked by a rule, so that nobody chooses the pictures.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gradaudit.cohort.population import level_groups, method_targets
from gradaudit.number_text import significant
from gradaudit.plan import Plan
from gradaudit.result_schema import AttributeFacts, GalleryItem
from gradaudit.runs.measurements import Measurements

MOST_ITEMS = 60
"""Cap on the gallery, so that a report stays small enough to mail."""


def pick_images(
    meas: Measurements,
    plan: Plan,
    attributes: tuple[AttributeFacts, ...],
    suppressed: Mapping[str, set[str]],
) -> dict[str, tuple[str, ...]]:
    """Choose the gallery: image id -> labels saying why the image is shown.

    Labels are such as "random: skin_tone = V-VI" and "highest: ruler, skin_tone = V-VI". Every
    level of every categorical or ordered attribute gives ``plan.report.gallery_per_cell`` images
    drawn with the plan's seed and, for each region with a role, the image with the highest and the
    one with the lowest heat share. Members of suppressed cells are never picked. With more than
    ``MOST_ITEMS`` images, random picks are removed first, evenly from all levels.
    """
    if plan.report.gallery_per_cell == 0 or meas.images.empty:
        return {}
    usable = meas.images.loc[
        (meas.images["status"] == "ok") & ~_in_suppressed_cell(meas, plan, suppressed)
    ]
    cells = [("", "", usable)] if not any(a.kind != "continuous" for a in attributes) else []
    for attribute in attributes:
        if attribute.kind != "continuous":
            column = usable[f"subgroup.{attribute.name}"]
            cells += [
                (attribute.name, level, usable.loc[column == level]) for level in attribute.levels
            ]
    extremes = _extremes(meas, plan, cells)
    random = _random_picks(cells, plan, max(MOST_ITEMS - len(extremes), len(cells)))
    picks: dict[str, list[str]] = {}
    for image_id, label in random + extremes:
        picks.setdefault(image_id, []).append(label)
    return {image_id: tuple(labels) for image_id, labels in list(picks.items())[:MOST_ITEMS]}


def gallery_items(
    meas: Measurements, plan: Plan, picks: Mapping[str, tuple[str, ...]], folder: Path | None
) -> tuple[GalleryItem, ...]:
    """The picked images that have a thumbnail in ``folder``/thumbs; none where pixels are withheld.

    ``levels`` of an item are those of every table: for a continuous attribute its range, never a
    person's own value.
    """
    if folder is None or plan.privacy.images == "none":
        return ()
    index_path = folder / "thumbs" / "index.json"
    if not index_path.exists():
        return ()
    index: dict[str, dict[str, Any]] = json.loads(index_path.read_text())
    groups = level_groups(meas, plan)
    images = meas.images.assign(**{f"subgroup.{name}": own for name, own in groups.items()})
    images = images.set_index("image_id", drop=False)
    shares = _shares_by_image(meas, plan)
    grids = _heat_grids(meas, plan, set(picks))
    items = []
    for image_id, labels in picks.items():
        if image_id in index and image_id in grids:
            thumb = index[image_id]
            content = (folder / "thumbs" / str(thumb["file"])).read_bytes()
            items.append(
                _item(
                    images.loc[image_id],
                    labels,
                    thumb,
                    content,
                    shares.get(image_id, {}),
                    grids[image_id],
                    plan,
                )
            )
    return tuple(items)


def shown_name(name: str, plan: Plan) -> str:
    """The name of a file or an image as shown: itself, or part of its digest.

    The plan decides whether names are hashed.
    """
    return hashlib.sha256(name.encode()).hexdigest()[:12] if plan.privacy.hash_names else name


def _in_suppressed_cell(
    meas: Measurements, plan: Plan, suppressed: Mapping[str, set[str]]
) -> pd.Series[bool]:
    """For each image, whether it is in a suppressed level.

    Levels are those displayed: for a continuous attribute, ranges.
    """
    hidden = pd.Series(False, index=meas.images.index)
    groups = level_groups(meas, plan)
    for attribute, levels in suppressed.items():
        hidden |= groups[attribute].isin(levels)
    return hidden


def _random_picks(
    cells: list[tuple[str, str, pd.DataFrame]], plan: Plan, most: int
) -> list[tuple[str, str]]:
    per_cell = max(1, min(plan.report.gallery_per_cell, most // max(len(cells), 1)))
    picks = []
    for attribute, level, members in cells:
        rng = np.random.default_rng([plan.run.seed, zlib.crc32(f"{attribute}={level}".encode())])
        ids = members["image_id"].to_numpy()
        chosen = np.sort(rng.permutation(len(ids))[:per_cell])
        picks += [(str(ids[i]), f"random{_cell_words(attribute, level)}") for i in chosen]
    return picks


def _extremes(
    meas: Measurements, plan: Plan, cells: list[tuple[str, str, pd.DataFrame]]
) -> list[tuple[str, str]]:
    table = _own_rows(meas, plan)
    table = table.loc[(table["status"] == "ok") & table["heat_share"].notna()]
    picks: dict[tuple[str, str], None] = {}
    for region in [
        name
        for name in dict.fromkeys(meas.table["region"])
        if plan.region_role(str(name)) != "neutral"
    ]:
        shares = (
            table.loc[table["region"] == region]
            .drop_duplicates("image_id")
            .set_index("image_id")["heat_share"]
        )
        for attribute, level, members in cells:
            inside = shares.loc[shares.index.isin(set(members["image_id"]))]
            if len(inside) > 1:
                picks[
                    (
                        str(inside.idxmax()),
                        f"highest: {region}{_cell_words(attribute, level, ', ')}",
                    )
                ] = None
                picks[
                    (str(inside.idxmin()), f"lowest: {region}{_cell_words(attribute, level, ', ')}")
                ] = None
    return list(picks)[: MOST_ITEMS // 2]


def _cell_words(attribute: str, level: str, lead: str = ": ") -> str:
    return f"{lead}{attribute} = {level}" if attribute else ""


def _own_rows(meas: Measurements, plan: Plan) -> pd.DataFrame:
    """The measured rows of the plan's own method and target.

    A table may hold several methods and targets, and an image has a heat share in each.
    """
    method, target = method_targets(meas, plan)[0]
    return meas.table.loc[
        (meas.table["method"].astype(str) == method) & (meas.table["target"].astype(str) == target)
    ]


def _shares_by_image(meas: Measurements, plan: Plan) -> dict[str, dict[str, float | None]]:
    shares: dict[str, dict[str, float | None]] = {}
    first = _own_rows(meas, plan).drop_duplicates(["image_id", "region"])
    for image_id, region, share in zip(
        first["image_id"], first["region"], first["heat_share"], strict=True
    ):
        shares.setdefault(str(image_id), {})[str(region)] = (
            None if pd.isna(share) else round(float(share), 4)
        )
    return shares


def _heat_grids(
    meas: Measurements, plan: Plan, wanted: set[str]
) -> dict[str, tuple[tuple[float, ...], ...]]:
    """The map of each wanted image, for the plan's own target if there are maps of several."""
    if meas.maps is None:
        return {}
    rows = meas.maps.loc[(meas.maps["kind"] == "heat") & meas.maps["image_id"].isin(wanted)]
    own = rows["name"].astype(str) == method_targets(meas, plan)[0][1]
    if own.any():
        rows = rows.loc[own]
    rows = rows.drop_duplicates("image_id")
    grids = {}
    for row in rows.itertuples():
        heat = (
            np.frombuffer(row.values, dtype=np.float32)
            if isinstance(row.values, bytes)
            else np.empty(0)
        )
        grid = heat.reshape(int(str(row.height)), int(str(row.width)))
        # four significant digits draw the same picture and keep result.json small
        grids[str(row.image_id)] = tuple(
            tuple(significant(v, 4) if np.isfinite(v) else 0.0 for v in line) for line in grid
        )
    return grids


def _item(
    row: Any,
    labels: tuple[str, ...],
    thumb: Mapping[str, Any],
    content: bytes,
    values: dict[str, float | None],
    heat: tuple[tuple[float, ...], ...],
    plan: Plan,
) -> GalleryItem:
    levels = {
        str(c).removeprefix("subgroup."): str(level)
        for c, level in row.items()
        if str(c).startswith("subgroup.")
    }
    return GalleryItem(
        image_id=shown_name(str(row["image_id"]), plan),
        path=shown_name(str(row["path"]), plan),
        picked=labels,
        levels=levels,
        label="" if pd.isna(row["label"]) else str(row["label"]),
        predicted="" if pd.isna(row["predicted"]) else str(row["predicted"]),
        probability=None if pd.isna(row["probability"]) else round(float(row["probability"]), 4),
        correct=None if pd.isna(row["correct"]) else bool(row["correct"]),
        values=values,
        width=int(thumb["width"]),
        height=int(thumb["height"]),
        image="data:image/jpeg;base64," + base64.b64encode(content).decode(),
        heat=heat,
        outlines={str(k): str(v) for k, v in thumb["outlines"].items()},
    )
