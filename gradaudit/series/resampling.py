"""A run's patients drawn again, by level, as a larger study would meet them.

A ``Study`` comes in, with one attribute and the images that enter; the same study over other
images goes out, so that whatever decides the run decides the larger one too.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from gradaudit.analysis.study import Bools, Floats, Study
from gradaudit.cohort.attributes import Attribute
from gradaudit.cohort.population import Cohort

Ints = np.ndarray[Any, np.dtype[np.int64]]
EVERYBODY = ""
"""The one level of an attribute that varies inside patients, or is a number."""


@dataclass(frozen=True)
class Pool:
    """Units of one attribute that can be drawn, and the images of each.

    study, attribute : of the run
    rows : (k,) images that enter, sorted by unit
    starts : (U + 1,) where each unit's images begin in ``rows``
    level : (U,) of each unit, an index of ``levels``
    levels : names; ``EVERYBODY`` alone where a patient may have several
    """

    study: Study
    attribute: Attribute
    rows: Ints
    starts: Ints
    level: Ints
    levels: tuple[str, ...]

    @classmethod
    def of(cls, study: Study, a: Attribute, enters: Bools) -> Pool:
        """The pool of the images that enter and whose level is known.

        enters : (n,)
        """
        rows = np.flatnonzero(enters & a.known)
        units = _units(study, rows)
        order = np.argsort(units, kind="stable")
        rows, units = rows[order], units[order]
        starts = np.flatnonzero(np.diff(units, prepend=-1, append=-1)) if len(rows) else np.zeros(1)
        level, levels = _levels(study, a, rows, starts.astype(np.int64))
        return cls(study, a, rows, starts.astype(np.int64), level, levels)

    @cached_property
    def counts(self) -> Ints:
        """(L,) units of each level."""
        return np.bincount(self.level, minlength=len(self.levels)).astype(np.int64)

    def grown(self, factor: float, smallest: int) -> Ints:
        """(L,) units of each level in a larger study: at least factor x smallest; larger ones stay.

        A level that is smaller than ``smallest`` (it is not compared) stays as it is.
        """
        wanted = np.where(self.counts >= smallest, int(np.ceil(factor * smallest - 1e-9)), 0)
        return np.maximum(self.counts, wanted)

    def draw(self, counts: Ints, rng: np.random.Generator) -> Drawn:
        """Units drawn with replacement, ``counts`` of each level; every copy is a new unit."""
        chosen = []
        for k, count in enumerate(counts):
            members = np.flatnonzero(self.level == k)
            if len(members):
                chosen.append(members[rng.integers(0, len(members), int(count))])
        units = np.concatenate(chosen)
        sizes = (self.starts[1:] - self.starts[:-1])[units]
        copy = np.repeat(np.arange(len(units)), sizes)
        within = np.arange(len(copy)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rows = self.rows[self.starts[units][copy] + within]
        return Drawn(rows, _study(self.study, rows, copy), _attribute(self.attribute, rows))


@dataclass(frozen=True)
class Drawn:
    """A study of drawn patients.

    rows : (n',) the images of the run that its images are copies of
    """

    rows: Ints
    study: Study
    attribute: Attribute


def _units(study: Study, rows: Ints) -> Ints:
    """(k,) what is drawn as a whole: the patient, or the pair where patients lie inside pairs."""
    cluster = study.cohort.cluster[rows].astype(np.int64)
    if study.pairs is None:
        return cluster
    codes, names = pd.factorize(pd.Series(study.pairs[rows]))
    pairs = np.where(codes < 0, len(names) + np.arange(len(rows)), codes).astype(np.int64)
    inside = pd.Series(cluster).groupby(pairs).nunique().max() > 1
    return pairs if inside else cluster


def _levels(study: Study, a: Attribute, rows: Ints, starts: Ints) -> tuple[Ints, tuple[str, ...]]:
    """The level of each unit; one for all where units carry several, or the attribute is a number."""
    nobody = len(starts) - 1
    if a.kind == "continuous" or a.within or study.pairs is not None or not len(rows):
        return np.zeros(max(nobody, 0), dtype=np.int64), (EVERYBODY,)
    place = {level: k for k, level in enumerate(a.levels)}
    codes = np.array([place[value] for value in a.values[rows]], dtype=np.int64)
    first = codes[starts[:-1]]
    mixed = codes != np.repeat(first, starts[1:] - starts[:-1])
    # the rule of ``analysis_set.takes_differences``: then all units are drawn alike, and otherwise
    # the few units of several levels are drawn as their first one
    several = np.diff(starts) > 1
    if several.any() and (np.add.reduceat(mixed, starts[:-1]) > 0)[several].mean() >= 0.5:
        return np.zeros(nobody, dtype=np.int64), (EVERYBODY,)
    return first, a.levels


def _study(study: Study, rows: Ints, copy: Ints) -> Study:
    images = study.images.iloc[rows].reset_index(drop=True)
    images["cluster"] = copy
    name = study.plan.analysis.pairs
    if name is not None:
        column = f"meta.{name}"
        images[column] = images[column].astype(str) + "#" + pd.Series(copy.astype(str))
    return replace(study, cohort=_cohort(study.cohort, images, rows, copy))


def _cohort(cohort: Cohort, images: pd.DataFrame, rows: Ints, copy: Ints) -> Cohort:
    arrays: dict[str, Any] = {}
    for field in fields(Cohort):
        value = getattr(cohort, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value[rows]
    arrays["cluster"] = copy
    groups = {name: column.iloc[rows] for name, column in cohort.groups.items()}
    return replace(cohort, meas=replace(cohort.meas, images=images), groups=groups, **arrays)


def _attribute(a: Attribute, rows: Ints) -> Attribute:
    return replace(a, values=a.values[rows])


def moved_rates(values: Floats, by: Floats, sides: Ints, rng: np.random.Generator) -> Floats:
    """Values of 0 and 1 whose rate on each side is moved, by flipping some of them at random.

    values : (n,) of 0, 1 or NaN
    by : (S,) how far each side's rate moves; rates beyond 0 and 1 stop there
    sides : (n,) 0..S-1, -1 for rows that stay
    """
    out = values.copy()
    for side, step in enumerate(by):
        own = (sides == side) & np.isfinite(values)
        if not step or not own.any():
            continue
        rate = float(values[own].mean())
        steps = np.where(own, step, 0.0)
        out = np.where(own, flipped(values, np.full(len(values), rate), steps, rng), out)
    return out


def flipped(values: Floats, rates: Floats, steps: Floats, rng: np.random.Generator) -> Floats:
    """Values of 0 and 1 some of which are flipped, so that their rates move by ``steps``.

    values : (n,) of 0, 1 or NaN
    rates, steps : (n,) the rate at each value's place, and how far it moves
    """
    room = np.where(steps < 0, rates, 1 - rates)
    chance = np.where(room > 0, np.abs(steps) / np.where(room > 0, room, 1.0), 0.0)
    flips = (values == np.where(steps > 0, 0.0, 1.0)) & (rng.random(len(values)) < chance)
    return np.where(flips, 1.0 - values, values)
