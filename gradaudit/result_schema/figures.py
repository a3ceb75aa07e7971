"""What the figures of a report are drawn from: pictures, distributions, differences of maps, curves."""

from __future__ import annotations

from typing import Literal

from gradaudit.records import Record


class PictureGroup(Record):
    """The images of one side of a finding that lie nearest to the figure stated for that side.

    value : the side's mean heat share as the sentence states it, or its median where the mean lies
        outside the middle half of the side's images (``centre`` tells which)
    images : up to three image ids of different clusters, as in ``gallery``; the nearest first
    """

    finding: str
    side: Literal["group", "reference"]
    region: str
    value: float
    centre: Literal["mean", "median"]
    images: tuple[str, ...]


class Distribution(Record):
    """The heat shares of both sides of a finding, as equally likely values (quantile dots).

    Each value stands for an equal share of the side's clusters; no value stands for fewer clusters
    than the small-cell rule allows to be told apart.
    """

    finding: str
    group: tuple[float, ...]
    reference: tuple[float, ...]


class DifferenceMap(Record):
    """Mean unit-mass heat map of a finding's group less that of its reference, h x w.

    shown : for each cell, 1 where the difference is beyond chance (maps compared cluster by
        cluster, Benjamini-Hochberg over the cells), else 0
    """

    finding: str
    n_images: int
    n_images_reference: int
    difference: tuple[tuple[float, ...], ...]
    shown: tuple[tuple[int, ...], ...]


class CalibrationPoint(Record):
    """One bin of a calibration curve: mean confidence and the share of right predictions in it."""

    confidence: float
    correct: float
    low: float | None = None
    high: float | None = None
    n_images: int | None = None


class CalibrationCurve(Record):
    """How often predictions of a given confidence are right in one level, by equally filled bins."""

    attribute: str
    level: str
    points: tuple[CalibrationPoint, ...]


class SizeCurve(Record):
    """Heat share against the size of the region, in one level: why the adjustment for size matters.

    points : (mean area share, mean heat share, number of clusters) of equally filled bins of size
    """

    attribute: str
    level: str
    region: str
    points: tuple[tuple[float, float, int], ...]
