"""``Measurements``: what one wing hands to the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gradaudit.runs.record import RunFile

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Measurements:
    """What was measured: all that the table wing gets from the torch wing.

    ``table``: one row per image x method x target x region (``TABLE_COLUMNS`` first).
    ``images``: one row per manifest row, in manifest order, also for images that could not be read.
    ``maps``: coarse maps for display, or None: columns image_id, kind ("heat" | "region"), name
    (target | region), height, width, values (bytes: float32 heat, uint8 0-255 region coverage).
    ``run``: the run's record, or None for a bare table.  ``folder``: the run folder, or None for an
    in-memory measurement.
    """

    table: pd.DataFrame
    images: pd.DataFrame
    maps: pd.DataFrame | None = None
    run: RunFile | None = None
    folder: Path | None = None
