"""Rows that a model is fitted to, and the hypotheses about it.

``collapse`` averages images over patients.  ``ModelRows`` are patient rows with what is held equal
beside them; a ``Hypothesis`` is a linear function of the model that is fitted to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gradaudit.stats import effect_sizes, linear_model
from gradaudit.stats.family import Floats, Ints
from gradaudit.stats.strata import Strata
from gradaudit.subgroups.analysis_set import AnalysisSet
from gradaudit.subgroups.contrast import MIN_PATIENTS, Bools, Contrast
from gradaudit.subgroups.settings import Settings

RELATED = 0.10
"""p of the number of images with the outcome, at which no weights depend on that number."""
ONCE = "each cluster counts once"
WEIGHTED = "clusters are weighted by the precision of their means, 1/(τ² + σ²/n) for n images"
UNWEIGHTED = f"weights by precision would rest on too few clusters: {ONCE}"


@dataclass(frozen=True)
class Patients:
    """One row per patient: means over its images; ``images``: how many.

    owners : (k,) the covariate that each column of z belongs to
    held : what patients are compared within, or None
    sites : (P,) units above the patients, or None
    weights : (P,) precision of each mean, of mean 1, or None where each patient counts once
    ids : (P,) number of each, where the settings keep it, or None
    """

    y: Floats
    codes: Ints
    x: Floats
    size: Floats | None
    z: Floats
    images: Ints
    owners: tuple[str, ...] = ()
    held: Strata | None = None
    sites: Ints | None = None
    weights: Floats | None = None
    ids: Ints | None = None

    @cached_property
    def pooled_mode_share(self) -> float:
        return effect_sizes.mode_share(self.y)

    def mode_share(self, rows: Bools) -> float:
        """Share of the modal value among some rows; nothing to count where no value comes twice."""
        count = int(np.count_nonzero(rows))
        if count == len(self.y):
            return self.pooled_mode_share
        if count and round(self.pooled_mode_share * len(self.y)) == 1:
            return 1 / count
        return effect_sizes.mode_share(self.y[rows])

    def keep(self, rows: Bools | Ints) -> Patients:
        return replace(
            self,
            y=self.y[rows],
            codes=self.codes[rows],
            x=self.x[rows],
            size=None if self.size is None else self.size[rows],
            z=self.z[rows],
            images=self.images[rows],
            held=None if self.held is None else self.held.keep(rows),
            sites=None if self.sites is None else self.sites[rows],
            weights=None if self.weights is None else self.weights[rows],
            ids=None if self.ids is None else self.ids[rows],
        )


@dataclass(frozen=True)
class Side:
    """Patients on one side of comparisons, with what every comparison says of them.

    rows : (P,) which they are      count, images : how many      mean : with its t interval
    sizes : (count,) logit region sizes, or None
    """

    rows: Bools
    count: int
    images: int
    mean: tuple[float, float, float]
    sizes: Floats | None

    @cached_property
    def common_sizes(self) -> tuple[float, float]:
        """The 1-99 % range of the sizes."""
        assert self.sizes is not None
        low, high = np.quantile(self.sizes, [0.01, 0.99])
        return float(low), float(high)


class Sides:
    """The sides of all comparisons between levels; each is looked at once.

    alpha : 1 - coverage of the intervals of means
    """

    def __init__(self, patients: Patients, alpha: float) -> None:
        self.patients, self._alpha = patients, alpha
        self._seen: dict[tuple[int, bool], Side] = {}

    def of(self, level: int, *, others: bool = False) -> Side:
        """The patients of a level, or all others."""
        if (level, others) not in self._seen:
            patients = self.patients
            rows = (patients.codes != level) if others else (patients.codes == level)
            mean = effect_sizes.mean_interval(patients.y[rows], self._alpha)
            count, images = int(np.count_nonzero(rows)), int(patients.images[rows].sum())
            sizes = None if patients.size is None else patients.size[rows]
            self._seen[level, others] = Side(rows, count, images, mean, sizes)
        return self._seen[level, others]


def collapse(rows: AnalysisSet) -> Patients:
    """One row per patient: means over its images."""
    if rows.count == len(rows.y):
        return Patients(
            y=rows.y,
            codes=rows.codes,
            x=rows.x,
            size=rows.size,
            z=rows.z,
            images=np.ones(len(rows.y), dtype=np.int64),
            owners=rows.owners,
            held=None if rows.strata is None else rows.strata.keep(rows.clusters),
            sites=None if rows.sites is None else rows.sites[rows.clusters],
            ids=None if rows.ids is None else rows.ids[rows.clusters],
        )

    def mean(column: Floats) -> Floats:
        means: Floats = linear_model.cluster_means(column, rows.clusters, rows.count)
        return means

    codes = np.empty(rows.count, dtype=np.int64)
    codes[rows.clusters] = rows.codes
    return Patients(
        y=mean(rows.y),
        codes=codes,
        x=codes / 1.0 if len(rows.levels) > 1 else mean(rows.x),
        size=None if rows.size is None else mean(rows.size),
        z=mean(rows.z),
        images=np.bincount(rows.clusters, minlength=rows.count),
        owners=rows.owners,
        held=rows.strata,
        sites=rows.sites,
        ids=rows.ids,
    )


# ── weights by the number of images ───────────────────────────────────────────────────────────────


def patient_rows(rows: AnalysisSet, settings: Settings) -> Patients:
    """One row per patient, weighted by the precision of its mean where the settings ask for it.

    All weigh the same where every patient has as many images, or images of a patient do not differ.
    """
    patients = collapse(rows)
    if settings.weights == "equal":
        return patients
    between, inside = linear_model.variance_components(
        rows.y, rows.clusters, patients.codes, len(patients.y)
    )
    weights = linear_model.precision_weights(patients.images, between, inside)
    return replace(patients, weights=weights)


Parts = Sequence[tuple[str, Bools]]
"""Sides of a comparison, or what a slope goes through: (where, which patients)."""


def images_related(patients: Patients, parts: Parts) -> str:
    """A note where the number of images is related to the outcome in some part; "" where it is not.

    Weights by the number of images would move the difference then.  It is asked inside levels, so
    that levels which differ do not look like it.
    """
    if patients.weights is None:
        return ""
    related = []
    for where, part in parts:
        p = linear_model.p_of_sizes(patients.images[part], patients.y[part], patients.codes[part])
        if p <= RELATED:
            related.append(where)
    places = " and ".join(related)
    return f"the number of images is related to the outcome {places}: {ONCE}" if related else ""


def relied_on(patients: Patients, parts: Parts) -> tuple[Patients, str]:
    """The patients of a slope, without weights where images are related to the outcome; the note."""
    note = images_related(patients, parts)
    return (replace(patients, weights=None) if note else patients), note


def thirds(x: Floats) -> Parts:
    """Everybody, and the thirds of a number."""
    low, high = np.quantile(x, [1 / 3, 2 / 3]) if len(x) else (0.0, 0.0)
    return [
        ("overall", np.ones(len(x), dtype=bool)),
        ("in the lowest third", x <= low),
        ("in the middle third", (x > low) & (x <= high)),
        ("in the highest third", x > high),
    ]


def with_note(contrasts: Sequence[Contrast], note: str) -> list[Contrast]:
    """The contrasts, those that have a number with a note; as they are where it is empty."""
    said = (note,) if note else ()
    return [c if c.reason else replace(c, notes=(*c.notes, *said)) for c in contrasts]


@dataclass(frozen=True)
class ModelLevels:
    """Levels as a model has them: those of under ten patients share one indicator.

    place : (levels,) column of each level in the model, -1 where it has none (no patient, or the
        only one among the small levels)
    width : number of columns
    large : levels with ten patients
    """

    place: Ints
    width: int
    large: Ints

    @classmethod
    def of(cls, codes: Ints, levels: int) -> ModelLevels:
        counts = np.bincount(codes, minlength=levels)
        place = np.full(levels, -1)
        large = counts >= MIN_PATIENTS
        width = int(large.sum())
        place[large] = np.arange(width)
        small = (counts > 0) & ~large
        if counts[small].sum() > 1:
            place[small] = width
            width += 1
        return cls(place, width, np.flatnonzero(large))


@dataclass(frozen=True)
class ImageRows:
    """Image rows of one model, sorted by cluster, for estimates with unit="image".

    patients : (n,) the patient of each image; the other entries are the images' own
    """

    y: Floats
    z: Floats
    patients: Ints


@dataclass(frozen=True)
class ModelRows:
    """What one model is fitted to.

    y : (n,) outcome of each patient
    strata : (n,) level of the attribute, from which a sample of patients is drawn evenly
    codes : (n,) level in the model, 0..G-1
    columns : (n, k) covariates; owners : (k,) the covariate that each belongs to, "" or none for
        columns of the attribute itself
    images : the images of these patients, where estimates are made on them
    flip : rows are differences, whose signs are flipped (otherwise rows are permuted)
    held : what patients are compared within, or None
    varying : (n,) what is compared; patients in strata inside which it does not vary say nothing
    sites : (n,) units above the patients, or None
    weights : (n,) precision of each row, or None where all weigh the same
    ids : (n,) number of each row's cluster, where the settings keep it, or None
    """

    y: Floats
    strata: Ints
    codes: Ints
    columns: Floats
    images: ImageRows | None = None
    flip: bool = False
    owners: tuple[str, ...] = ()
    held: Strata | None = None
    varying: Floats | Ints | None = None
    sites: Ints | None = None
    weights: Floats | None = None
    ids: Ints | None = None

    @classmethod
    def without_levels(cls, patients: Patients, columns: Floats) -> ModelRows:
        """Rows of a model with one mean for everybody; the patients' own columns come last."""
        codes = np.zeros(len(patients.y), dtype=np.int64)
        own = ("",) * (columns.shape[1] - len(patients.owners))
        return cls._of(patients, codes, columns, patients.x, own)

    @classmethod
    def with_levels(
        cls, patients: Patients, levels: ModelLevels, images: ImageRows | None = None
    ) -> ModelRows:
        """Rows of a model with a mean for each level; every patient's level has a column."""
        codes = levels.place[patients.codes]
        return cls._of(patients, codes, patients.z, codes, (), images)

    @classmethod
    def _of(
        cls,
        patients: Patients,
        codes: Ints,
        columns: Floats,
        varying: Floats | Ints,
        own: tuple[str, ...],
        images: ImageRows | None = None,
    ) -> ModelRows:
        return cls(
            y=patients.y,
            strata=patients.codes,
            codes=codes,
            columns=columns,
            images=images,
            owners=(*own, *patients.owners),
            held=patients.held,
            varying=varying,
            sites=patients.sites,
            weights=patients.weights,
            ids=patients.ids,
        )

    def keep(self, rows: Bools | Ints) -> ModelRows:
        """Those rows alone, in that order; images stay."""
        return replace(
            self,
            y=self.y[rows],
            strata=self.strata[rows],
            codes=self.codes[rows],
            columns=self.columns[rows],
            held=None if self.held is None else self.held.keep(rows),
            varying=None if self.varying is None else self.varying[rows],
            sites=None if self.sites is None else self.sites[rows],
            weights=None if self.weights is None else self.weights[rows],
            ids=None if self.ids is None else self.ids[rows],
        )

    def without(self, name: str) -> ModelRows:
        """The same rows, with one covariate no longer held equal."""
        held = None if self.held is None else self.held.without(name)
        left = [k for k, owner in enumerate(self.owners) if owner != name]
        if not self.owners:
            return replace(self, held=held)
        columns, owners = self.columns[:, left], tuple(self.owners[k] for k in left)
        return replace(self, columns=columns, owners=owners, held=held)

    @property
    def sorted_by(self) -> tuple[Floats, ...]:
        """What rows of one level are ordered by, the first key last.

        Weights go before values: means that differ by rounding alone may not change places where
        their weights differ.
        """
        keys = (*self.columns.T, self.y)
        return keys if self.weights is None else (*keys, self.weights)

    @property
    def names(self) -> tuple[str, ...]:
        """Every covariate that is held equal."""
        held = () if self.held is None else self.held.names
        return tuple(dict.fromkeys(name for name in (*held, *self.owners) if name))


@dataclass(frozen=True)
class Hypothesis:
    """A linear function of a model, with the contrast that it completes and the sides it compares.

    on_levels : (G,) or (q, G) coefficients of the level effects
    on_columns : (k,) or (q, k) coefficients of the covariate columns; q > 1 rows are tested
        together (Wald)
    sides : which patients are compared, two (n,), or None
    analytic : every side is large enough for Student's t
    once : each patient counts once in it, whatever the weights
    """

    contrast: Contrast
    on_levels: Floats
    on_columns: Floats
    sides: tuple[Bools, Bools] | None
    analytic: bool
    once: bool = False

    @property
    def coefficients(self) -> list[tuple[Floats, Floats]]:
        """(on levels, on columns) of each of its rows."""
        levels, columns = np.atleast_2d(self.on_levels), np.atleast_2d(self.on_columns)
        return list(zip(levels, columns, strict=True))


def with_weights_said(contrast: Contrast, rows: ModelRows) -> Contrast:
    """A contrast for which weights were asked, with how its patients are weighted."""
    if contrast.reason:
        return contrast
    said = UNWEIGHTED if rows.weights is None else WEIGHTED
    return replace(contrast, notes=(*contrast.notes, said))
