"""A bare table as measurements: what is not there is filled with what it means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gradaudit.errors import InputError
from gradaudit.runs.measurements import Measurements

_ROUNDING = 1e-6
"""By how much a share may lie outside 0 to 1."""


def measurements_of(table: pd.DataFrame, images: pd.DataFrame | None) -> Measurements:
    """Measurements from a table with ``records.TABLE_COLUMNS``, or some of them.

    images : one row per image; default: the columns of the table that are about images
    Errors: ``InputError`` for missing columns, where there is no ``subgroup.<name>``, and for rows
        that cannot be (see ``_refuse_wrong_rows``).
    """
    missing = [c for c in ("image_id", "region", "heat_share") if c not in table]
    if missing:
        raise InputError(
            f"The table lacks {', '.join(missing)}; it has {', '.join(map(str, table.columns))}."
        )
    defaults: dict[str, Any] = {
        "method": "",
        "target": "",
        "reason": "",
        "area_share": np.nan,
        "mass_lift": np.nan,
        "pointing_game": np.nan,
    }
    table = table.assign(**{name: value for name, value in defaults.items() if name not in table})
    if "status" not in table:
        table = table.assign(
            status=np.where(table["heat_share"].notna(), "ok", "no_positive_evidence")
        )
    images = _images_of(table) if images is None else images
    if not any(str(c).startswith("subgroup.") for c in images):
        raise InputError(
            "No column subgroup.<name> in the images (or the table): there are no groups to compare."
        )
    blank: dict[str, Any] = {
        "label": None,
        "predicted": None,
        "correct": None,
        "probability": np.nan,
        "path": "",
        "status": "ok",
        "reason": "",
    }
    images = images.reset_index(drop=True).assign(
        **{name: value for name, value in blank.items() if name not in images}
    )
    if "cluster" not in images:
        images = images.assign(cluster=images["image_id"].astype(str))
    _refuse_wrong_rows(table, images)
    return Measurements(table.reset_index(drop=True), images)


def _refuse_wrong_rows(table: pd.DataFrame, images: pd.DataFrame) -> None:
    """Errors: ``InputError`` for rows that are there twice, shares that are none, and images
    without a cluster.
    """
    twice = int(table.duplicated(["image_id", "method", "target", "region"]).sum())
    twice += int(images["image_id"].duplicated().sum())
    if twice:
        raise InputError(
            f"{twice} rows are there twice: one row for each image, region, method and target."
        )
    share = table["heat_share"].to_numpy(dtype=float, na_value=np.nan)
    outside = int((~np.isnan(share) & ~((share >= -_ROUNDING) & (share <= 1 + _ROUNDING))).sum())
    if outside:
        raise InputError(
            f"{outside} heat shares lie outside 0 to 1; an undefined share is an empty cell."
        )
    unknown = int(images["cluster"].isna().sum())
    if unknown:
        raise InputError(
            f"The cluster of {unknown} images is unknown; give each such image one of its own."
        )


def _images_of(table: pd.DataFrame) -> pd.DataFrame:
    """One row per image with the columns of the table that are about images."""
    known = ("cluster", "label", "predicted", "probability", "correct", "path")
    carried = [c for c in table if str(c).startswith(("subgroup.", "meta.")) or c in known]
    return table[["image_id", *carried]].drop_duplicates("image_id")
