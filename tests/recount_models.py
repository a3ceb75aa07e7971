"""Comparisons of patients counted a second time: rows, guards, least squares, errors, whiskers; nothing of the package is imported.

Everything held equal enters as explicit columns: an indicator for each class, site or stratum, the textbook spline for each number.
Errors are statsmodels' HC2, or Bell and McCaffrey's CR2 by square roots of whole blocks of the hat matrix; degrees of freedom are
traces of products of whole matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, special
from statsmodels.regression.linear_model import OLS

REST = "rest"
FEWEST, SETTLED, FEWEST_OFF_MODE, PER_COLUMN, FEWEST_SITES = 10, 20, 5.0, 20, 5
CLASSES = ("label", "class")
SIZE = "region size"
Span = tuple[float, float]
Values = dict[str, Any]


# ── rows of images, rows of patients ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Rows:
    """Images that enter: y, group, cluster, size and covariates, all as numbers; ``order`` of the levels (None: numbers).

    group : place of the level in ``order``, or the number      cluster : code of the patient
    factors : columns of codes in the order of their levels' names, -1 where unknown
    numbers : columns of numbers      site : which factor is the unit above patients
    mixed : clusters with several levels, before each keeps its most frequent one
    """

    frame: pd.DataFrame
    order: list[str] | None
    factors: list[str]
    numbers: list[str]
    site: str | None
    mixed: int = 0


@dataclass(frozen=True)
class Factor:
    """A factor over the images that enter; a patient with an unknown level is equal to nobody.

    codes : (n,) of levels, -1 where unknown      patient : (n,) 0..P-1
    """

    name: str
    codes: Any
    patient: Any

    @cached_property
    def levels(self) -> Any:
        return np.unique(self.codes[self.codes >= 0])

    @property
    def holds_nothing(self) -> bool:
        return len(self.levels) < 2 and bool((self.codes >= 0).all())

    @cached_property
    def mixed(self) -> bool:
        return bool(_varies(self.patient, self.codes).any())

    @cached_property
    def _table(self) -> tuple[Any, Any]:
        """(P, L) images of each level, and who has an image of unknown level."""
        table = np.zeros((self.patient.max() + 1, max(len(self.levels), 1)))
        known = self.codes >= 0
        np.add.at(table, (self.patient[known], np.searchsorted(self.levels, self.codes[known])), 1)
        return table, np.bincount(self.patient[~known], minlength=len(table)) > 0

    def main(self) -> Any:
        """Most frequent level of each patient, (P,)."""
        table, unknown = self._table
        return np.where(unknown, -1 - np.arange(len(table)), table.argmax(axis=1))

    def profile(self) -> Any:
        """The mix of a patient's levels, as a code, (P,)."""
        table, unknown = self._table
        with np.errstate(invalid="ignore"):
            mix = (table / table.sum(axis=1, keepdims=True)).round(9)
        codes = np.unique(mix, axis=0, return_inverse=True)[1].ravel()
        return np.where(unknown, -1 - np.arange(len(table)), codes)

    def indicators(self) -> list[Any]:
        """One per level, but for the most frequent of all images."""
        most = self._table[0].sum(axis=0).argmax()
        return [(self.codes == x).astype(float) for k, x in enumerate(self.levels) if k != most]


@dataclass(frozen=True)
class People:
    """Patients: means of y, size, number and covariate columns, their level, and what they are compared within.

    Covariate columns are called "owner|number", factors "held owner"; ``absorbed``: factors that enter as strata.
    """

    frame: pd.DataFrame
    order: list[str] | None
    columns: list[str]
    held: list[str]
    absorbed: list[str]
    adjusted_for: list[str]
    site: str | None
    mixed: int = 0

    @classmethod
    def of(cls, rows: Rows) -> People:
        frame = rows.frame
        patient = np.unique(frame["cluster"], return_inverse=True)[1]
        count = patient.max(initial=-1) + 1
        columns: dict[str, Any] = {}
        if "size" in frame:
            columns |= _named(SIZE, _spline_or_nothing(frame["size"]))
        sizes = list(columns)
        for name in rows.numbers:
            columns |= _named(name, _spline_or_nothing(frame[name]))
        factors = [Factor(name, frame[name].to_numpy(), patient) for name in rows.factors]
        factors = [f for f in factors if not f.holds_nothing]
        many = [f for f in factors if max(len(f.levels), 1) - 1 > count // PER_COLUMN]
        absorbed = many or [f for f in factors if not f.mixed][:1]
        beside = [f for f in factors if f not in absorbed]
        for f in beside:
            columns |= _named(f.name, f.indicators())
        first = factors[0] if factors and factors[0].name in CLASSES else None
        if first and sizes and count >= PER_COLUMN * (len(first.levels) * (1 + len(sizes)) - 1):
            products = [columns[a] * b for a in sizes for b in first.indicators()]
            columns |= _named(SIZE, products, start=len(sizes))
        plain = {name: frame[name] for name in ("y", "size", "group") if name in frame}
        grouped = pd.DataFrame({**plain, **columns}, index=frame.index).groupby(patient)
        out = grouped.mean().assign(images=grouped.size())
        for f in absorbed:
            out[f"held {f.name}"] = f.profile()
        for f in beside:
            out[f"held {f.name}"] = f.main()
        if rows.site:
            out["site"] = Factor(rows.site, frame[rows.site].to_numpy(), patient).main()
        owners = list(dict.fromkeys(name.partition("|")[0] for name in columns))
        held = [f.name for f in (*absorbed, *beside)]
        names = list(dict.fromkeys([*owners, *held]))
        return cls(
            out,
            rows.order,
            list(columns),
            held,
            [f.name for f in absorbed],
            names,
            rows.site,
            rows.mixed,
        )

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def y(self) -> Any:
        return self.frame["y"].to_numpy(float)

    @cached_property
    def place(self) -> Any:
        """Position of each level in the order; of numbers, the numbers."""
        return self.frame["group"].to_numpy(float)

    @cached_property
    def group(self) -> Any:
        """Name of each level; of numbers, the numbers."""
        if self.order is None:
            return self.place
        return np.array(self.order, object)[self.place.astype(int)]

    def sides(self, group: str, reference: str) -> tuple[Any, Any]:
        """Who is in a level, and in the level (or the rest) that it is compared with."""
        own = self.group == group
        return own, ~own if reference == REST else self.group == reference

    @cached_property
    def levels(self) -> LevelModel:
        return LevelModel(self)

    def keep(self, inside: Any) -> People:
        return replace(self, frame=self.frame[inside])

    def without(self, names: Sequence[str]) -> People:
        """The same patients with some covariates no longer held equal."""
        return replace(
            self,
            columns=[c for c in self.columns if c.partition("|")[0] not in names],
            held=[f for f in self.held if f not in names],
            absorbed=[f for f in self.absorbed if f not in names],
        )

    def sharing(self, own: Any, other: Any) -> Any:
        """Patients whose level of each factor holds both sides."""
        out = np.ones(len(self), bool)
        for name in self.held:
            level = self.frame[f"held {name}"].to_numpy()
            out &= np.isin(level, level[own]) & np.isin(level, level[other])
        return out

    def informative(self, varying: Any) -> Any:
        """Patients in levels of each factor in which something varies, until no more drop out."""
        inside = np.ones(len(self), bool)
        while self.held:
            left = np.ones(inside.sum(), bool)
            for codes in (self._stratum, *(self.frame[f"held {f}"] for f in self.held)):
                left &= _varies(np.asarray(codes)[inside], np.asarray(varying)[inside])
            if left.all():
                break
            inside[np.flatnonzero(inside)[~left]] = False
        return inside

    @cached_property
    def _stratum(self) -> Any:
        """One code for each combination of the absorbed factors; 0 without any."""
        codes = [self.frame[f"held {f}"].to_numpy() for f in self.absorbed]
        together = np.column_stack([*codes, np.zeros(len(self))])
        return np.unique(together, axis=0, return_inverse=True)[1].ravel()

    def covariates(self) -> Any:
        """(n, k) explicit columns: strata as indicators, then covariates on a common scale."""
        strata = np.empty((len(self), 0))
        if self.absorbed:
            strata = (self._stratum[:, None] == np.unique(self._stratum)[1:]).astype(float)
        return np.hstack([strata, self.frame[self.columns].to_numpy(float) / self.scale])

    @cached_property
    def scale(self) -> Any:
        """Of each covariate column: its root mean square."""
        scale = np.sqrt((self.frame[self.columns].to_numpy(float) ** 2).mean(axis=0))
        return np.where(scale > 0, scale, 1)


def _varies(codes: Any, values: Any) -> Any:
    """Whether values differ inside the level of each."""
    level = np.unique(codes, return_inverse=True)[1].ravel()
    low, high = (
        np.full(level.max(initial=0) + 1, np.inf),
        np.full(level.max(initial=0) + 1, -np.inf),
    )
    np.minimum.at(low, level, values)
    np.maximum.at(high, level, values)
    return (low < high)[level]


def _named(owner: str, columns: Sequence[Any], start: int = 0) -> dict[str, Any]:
    return {f"{owner}|{start + k}": column for k, column in enumerate(columns)}


def _spline_or_nothing(column: pd.Series) -> list[Any]:
    x = column.to_numpy(float)
    return list(spline(x).T) if len(x) and np.ptp(x) > 0 else []


def spline(x: Any, at: Any = None) -> Any:
    """Natural cubic spline with knots at the 5, 35, 65 and 95 % points (Harrell 2015, eq. 2.25); x alone where they are fewer than three."""
    t = np.unique(np.quantile(x, [0.05, 0.35, 0.65, 0.95]))
    x = x if at is None else at
    if len(t) < 3:
        return x[:, None]
    cube = lambda knot: np.clip(x - knot, 0, None) ** 3  # noqa: E731
    last, before = t[-1], t[-2]
    bends = [
        cube(a)
        - cube(before) * (last - a) / (last - before)
        + cube(last) * (before - a) / (last - before)
        for a in t[:-2]
    ]
    return np.column_stack([x, *(bend / (last - t[0]) ** 2 for bend in bends)])


# ── least squares ───────────────────────────────────────────────────────────────────────────────────────────────────


class LeastSquares:
    """y on columns of one's own and the covariates; a contrast is a vector over the columns of one's own."""

    def __init__(self, people: People, lead: Any) -> None:
        self.people, self.lead = people, lead.shape[1]
        self.x = np.hstack([lead, people.covariates()])
        self.fit = OLS(people.y, self.x).fit(cov_type="HC2")
        self.pinv = np.linalg.pinv(self.x)
        self.hat = self.x @ self.pinv
        self.residuals = people.y - self.hat @ people.y
        self.rank = round(float(np.trace(self.hat)))

    @property
    def leverage(self) -> Any:
        return np.diag(self.hat)

    @property
    def center(self) -> Any:
        return self.x[:, self.lead :].mean(axis=0)

    @property
    def spread(self) -> float:
        return float(np.sqrt((self.residuals**2).sum() / (len(self.x) - self.rank)))

    def full(self, lead: Any, z: Any = 0.0) -> Any:
        return np.r_[lead, np.broadcast_to(z, self.x.shape[1] - self.lead)]

    def weights(self, c: Any) -> Any:
        return self.pinv.T @ c

    def is_estimable(self, c: Any) -> bool:
        return bool(np.abs(self.x.T @ self.weights(c) - c).max() < 1e-7 * np.abs(c).max())

    def numbers(self, c: Any, by_site: bool = False) -> Values:
        """Estimate, error and degrees of freedom of one function of all columns."""
        if by_site:
            return self._by_site(c)
        if self.leverage.max() < 1 - 1e-9:
            tested = self.fit.t_test(c)
            estimate, se = float(np.squeeze(tested.effect)), float(np.squeeze(tested.sd))
        else:  # a patient that its own column fits says nothing of the error
            estimate, se = float(c @ self.fit.params), float(np.sqrt(c @ self.covariance @ c))
        w = self.weights(c)
        md = (np.eye(len(w)) - self.hat) * (w**2 * self.inverse_left)
        df = np.trace(md) ** 2 / np.trace(md @ md)
        e = w * self.residuals
        skewness = (e**3).sum() / (e**2).sum() ** 1.5
        return {
            "estimate": estimate,
            "se": se,
            "df": df,
            "statistic": estimate / se,
            "skewness": skewness,
        }

    @cached_property
    def inverse_left(self) -> Any:
        left = 1 - self.leverage
        return np.where(left > 1e-9, 1 / np.maximum(left, 1e-9), 0.0)

    @cached_property
    def covariance(self) -> Any:
        """HC2 of all coefficients."""
        return self.pinv @ np.diag(self.residuals**2 * self.inverse_left) @ self.pinv.T

    def _by_site(self, c: Any) -> Values:
        w, m = self.weights(c), np.eye(len(self.x)) - self.hat
        sites = self.people.frame["site"].to_numpy()
        total, rows = 0.0, []
        for site in sorted(set(sites)):
            own = sites == site
            value, vector = np.linalg.eigh(m[np.ix_(own, own)])
            root = np.where(value > 1e-9, np.maximum(value, 1e-9) ** -0.5, 0.0)
            u = (vector * root) @ vector.T @ w[own]
            total += float(u @ self.residuals[own]) ** 2
            rows.append(u @ m[own])
        gram = np.array(rows) @ np.array(rows).T
        estimate = float(w @ self.people.y)
        df = np.trace(gram) ** 2 / (gram**2).sum()
        return {
            "estimate": estimate,
            "se": np.sqrt(total),
            "df": df,
            "statistic": estimate / np.sqrt(total),
            "skewness": 0.0,
        }

    def draws(self, rows: Sequence[Any], count: int) -> tuple[Any, Any]:
        """Permuted estimates (B, k) and their HC2 covariances (B, k, k) of functions of the columns: ter Braak's residuals."""
        w = np.column_stack([self.weights(c) for c in rows])
        drawn = self.residuals[_orders(len(w), count)]
        square = (drawn - drawn @ self.hat) ** 2 * self.inverse_left
        k = w.shape[1]
        products = (w[:, :, None] * w[:, None, :]).reshape(len(w), k * k)
        return drawn @ w, (square @ products).reshape(count, k, k)


@lru_cache(maxsize=20)
def _orders(n: int, count: int) -> Any:
    """(count, n) orders of the rows, other ones than the package's."""
    rng = np.random.default_rng(20_000_000 + n)
    return rng.permuted(np.broadcast_to(np.arange(n), (count, n)), axis=1)


# ── whiskers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def student_quantile(level: float, df: float, skewness: float) -> float:
    """The t that is exceeded with probability ``level``, moved by the skewness of the estimate (Hall 1992)."""
    z = -special.ndtri(level)
    return float(-special.stdtrit(df, level) - skewness / 6 * (2 * z**2 + 1))


def student_p(t: float, df: float, skewness: float) -> float:
    """The level whose quantile is t."""
    if not skewness:
        return float(special.stdtr(df, -t))
    at = lambda z: student_quantile(special.ndtr(-z), df, skewness) - t  # noqa: E731
    if at(-6.5) > 0 or at(6.5) < 0:
        return 1.0 if at(-6.5) > 0 else float(special.ndtr(-6.5))
    return float(special.ndtr(-optimize.brentq(at, -6.5, 6.5, xtol=1e-12)))


def student_whisker(n: Values, level: float) -> Span:
    low = n["estimate"] - student_quantile(level, n["df"], n["skewness"]) * n["se"]
    return low, n["estimate"] + student_quantile(level, n["df"], -n["skewness"]) * n["se"]


def student_p_within(n: Values, margin: float) -> float:
    if abs(n["estimate"]) >= margin:
        return 1.0
    below, above = (margin - n["estimate"]) / n["se"], (margin + n["estimate"]) / n["se"]
    return max(student_p(below, n["df"], -n["skewness"]), student_p(above, n["df"], n["skewness"]))


def student_p_beyond(n: Values, margin: float) -> float:
    d = n["estimate"]
    if abs(d) <= margin:
        return 1.0
    skewness = n["skewness"] if d > 0 else -n["skewness"]
    return min(1.0, 2 * student_p((abs(d) - margin) / n["se"], n["df"], skewness))


# ── guards ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Guard:
    """Why there is no number ("" where there is), the numbers that the reason says, and whether few are compared."""

    why: str = ""
    told: tuple[float, ...] = ()
    provisional: bool = False


def guard(y: Any, smaller: float) -> Guard:
    if smaller < FEWEST:
        return Guard("fewer than", (FEWEST, smaller))
    _, counts = np.unique(y.round(12), return_counts=True)
    away = round(smaller * (1 - counts.max() / len(y)), 9)
    if away == 0:
        return Guard("every value is the same")
    told = np.floor(10 * away) / 10  # 4.96 is not called 5.0, of which it falls short
    if away < FEWEST_OFF_MODE:
        return Guard("nearly every value", (told, FEWEST_OFF_MODE))
    return Guard(provisional=bool(smaller < SETTLED))


def guard_of_sides(people: People, own: Any, other: Any) -> tuple[Guard, tuple[int, int]]:
    """And how many of each side the estimate rests on."""
    shared = people.sharing(own, other)
    entered = int((own & shared).sum()), int((other & shared).sum())
    if min(own.sum(), other.sum()) >= FEWEST > min(entered):
        return Guard("cannot be told apart"), entered
    return guard(people.y[(own | other) & shared], min(entered)), entered


def guard_of_slope(people: People) -> Guard:
    """Its sides are halves, or what holds either end of the line over ordered levels (Kish's number)."""
    smaller = float(len(people) // 2)
    if people.order is not None:
        away = people.place - people.place.mean()
        smaller = min(np.floor(kish(side) + 1e-9) for side in (away[away < 0], away[away > 0]))
    return guard(people.y, smaller)


def kish(weights: Any) -> float:
    square = float((weights**2).sum())
    return float(np.abs(weights).sum() ** 2 / square) if square > 0 else 0.0


# ── one comparison ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Answer:
    """One comparison: why it has no number, or the model and the functions of its columns that are the number.

    ``rows``: of a level, pair, trend, slope, cell one; of joint tests several; of a curve its spline columns.
    ``sides``: in the model's rows.  ``entered``: patients of each side that the estimate rests on, where fewer than counted.
    ``span``: of logit size, where sides are compared on common sizes alone, with the number of ``common`` patients.
    """

    kind: str
    guard: Guard
    entered: tuple[int, int] | None = None
    squares: LeastSquares | None = None
    rows: tuple[Any, ...] = ()
    sides: tuple[Any, Any] | None = None
    span: Span | None = None
    common: tuple[int, int] = (0, 0)
    ends: tuple[Any, Any] = (None, None)
    by_site: bool = False
    sites: int = 0
    points: Any = None
    at_points: Any = None

    @property
    def has_number(self) -> bool:
        return not self.guard.why

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """(upper, lower) point of each difference on a curve."""
        return [(j, i) for i, j in combinations(range(len(self.points)), 2)]

    @cached_property
    def differences(self) -> list[Any]:
        return [self.at_points[j] - self.at_points[i] for j, i in self.pairs]

    @cached_property
    def values(self) -> Values:
        """Estimate, error, degrees of freedom, statistic, skewness."""
        assert self.squares is not None
        if self.kind == "curve":
            return self._largest
        if self.kind in ("departure", "nonlinear"):
            return self._joint
        return self.squares.numbers(self.rows[0], self.by_site)

    @property
    def _joint(self) -> Values:
        assert self.squares is not None
        if self.by_site and len(self.rows) == 1:
            return {
                "statistic": self.squares.numbers(self.rows[0], True)["statistic"] ** 2,
                "df": 1,
            }
        tested = self.squares.fit.wald_test(np.array(self.rows), use_f=False, scalar=True)
        return {"statistic": float(tested.statistic), "df": len(self.rows)}

    @property
    def _largest(self) -> Values:
        assert self.squares is not None
        d = np.array([c @ self.squares.fit.params for c in self.differences])
        se = np.sqrt([c @ self.squares.covariance @ c for c in self.differences])
        if self.by_site:
            se = np.array([self.squares.numbers(c, True)["se"] for c in self.differences])
        place = int(np.argmax(np.abs(d)))
        found = self.squares.numbers(self.differences[place], self.by_site)
        return {
            **found,
            "statistic": float(np.max(np.abs(d) / se)),
            "place": place,
            "all": d,
            "errors": se,
        }

    def drawn(self, count: int) -> Any:
        """Permuted statistics: signed t (B,), of a curve all differences (B, pairs), of a joint test Wald's (B,)."""
        assert self.squares is not None
        top, square = self.squares.draws(self.rows, count)
        if self.kind in ("departure", "nonlinear"):
            return np.einsum("bk,bk->b", top, np.linalg.solve(square, top[:, :, None])[:, :, 0])
        if self.kind != "curve":
            return top[:, 0] / np.sqrt(square[:, 0, 0])
        c = np.array(self.differences)[:, 1 : 1 + top.shape[1]]
        return top @ c.T / np.sqrt(np.einsum("pk,bkl,pl->bp", c, square, c, optimize=True))

    @cached_property
    def effects(self) -> Values:
        """Standardized difference; of two sides the adjusted means, their covariance and Cliff's delta too."""
        assert self.squares is not None
        found: Values = {"standardised_difference": self.values["estimate"] / self.squares.spread}
        if self.sides is None:
            return found
        fit, lead = self.squares, self.squares.lead
        ends = np.array([fit.full(side, fit.center) for side in self.ends])
        moved = fit.people.y - (fit.x[:, lead:] - fit.center) @ fit.fit.params[lead:]
        moved = moved.round(12)  # equal by construction, but for the last digits
        own, other = self.sides
        delta = np.sign(moved[own][:, None] - moved[other][None]).mean()
        return found | {
            "means": ends @ fit.fit.params,
            "covariance": ends @ fit.covariance @ ends.T,
            "cliffs_delta": delta,
        }


class LevelModel:
    """Levels of patients side by side: an indicator each, one for all levels under ten patients (one such patient is left out)."""

    def __init__(self, people: People) -> None:
        assert people.order is not None
        counts = pd.Series(
            [int((people.group == level).sum()) for level in people.order], people.order
        )
        few = counts[(counts > 0) & (counts < FEWEST)]
        self.counts = counts
        self.large = [level for level in people.order if counts[level] >= FEWEST]
        self.names = self.large + ["(few)"] * int(few.sum() > 1)
        self.alone = list(few.index) if few.sum() == 1 else []
        place = np.where(np.isin(people.group, list(few.index)), "(few)", people.group)
        self.inside = np.isin(place, self.names)
        self.used, self.place = people.keep(self.inside), place[self.inside]
        self.said = self.used.informative(self._numbered(self.place))
        self.weights = np.array(
            [(self.place[self.said] == name).sum() for name in self.names], float
        )

    def _numbered(self, place: Any) -> Any:
        return np.array([self.names.index(name) for name in place])

    @cached_property
    def _whole(self) -> tuple[LeastSquares | None, Any]:
        return self._fitted(())

    def fitted(self, without: Sequence[str] = ()) -> tuple[LeastSquares | None, Any]:
        """The model, and which of the patients with a level it takes."""
        return self._fitted(without) if without else self._whole

    def _fitted(self, without: Sequence[str]) -> tuple[LeastSquares | None, Any]:
        used = self.used.without(without)
        inside = used.informative(self._numbered(self.place))
        if not inside.any():
            return None, inside
        lead = np.column_stack([self.place[inside] == name for name in self.names]).astype(float)
        return LeastSquares(used.keep(inside), lead), inside

    def unit(self, level: str) -> Any:
        return np.array([name == level for name in self.names], float)

    def base(self, group: str, reference: str) -> Any:
        if reference != REST:
            return self.unit(reference)
        others = self.weights * (1 - self.unit(group))
        return others / max(others.sum(), 1)

    def additivity(self, cell: str) -> Any:
        """Coefficients of a cell minus its prediction: weighted least squares of the large cells on their two levels, weights patients."""
        parts = pd.DataFrame([name.split(" × ") for name in self.large])
        columns = pd.get_dummies(parts).to_numpy(float)
        weights = np.diag(self.counts[self.large].to_numpy(float))
        hat = columns @ np.linalg.pinv(columns.T @ weights @ columns) @ columns.T @ weights
        on = np.eye(len(self.large))[self.large.index(cell)] - hat[self.large.index(cell)]
        return np.r_[on, np.zeros(len(self.names) - len(self.large))]

    def beside_a_line(self) -> list[Any]:
        """Contrasts of the large levels that a straight line has none of."""
        assert self.used.order is not None
        position = [self.used.order.index(name) for name in self.large]
        line = np.column_stack([np.ones(len(position)), position])
        rows = np.linalg.svd(line.T)[2][2:]
        return [np.r_[row, np.zeros(len(self.names) - len(position))] for row in rows]


def compare(people: People, kind: str, group: str = "", reference: str = "") -> Answer:
    """One comparison among patients."""
    if kind in ("level", "pair"):
        return _two_sided(people, kind, group, reference)
    if kind == "additivity":
        model = people.levels
        own, other = people.sides(group, REST)
        found, _ = guard_of_sides(people, own, other)
        if found.why:
            return Answer(kind, found)
        return _in_levels(model, Answer(kind, found), [model.additivity(group)])
    found = guard_of_slope(people)
    if found.why:
        return Answer(kind, found)
    if kind == "departure":
        model = people.levels
        if len(model.large) < 3:
            return Answer(kind, Guard("fewer than three levels", (FEWEST,)))
        return _in_levels(model, Answer(kind, found), model.beside_a_line())
    return _along(people, Answer(kind, found))


def _two_sided(people: People, kind: str, group: str, reference: str) -> Answer:
    own, other = people.sides(group, reference)
    found, entered = guard_of_sides(people, own, other)
    if found.why:
        return Answer(kind, found, None if entered == (own.sum(), other.sum()) else entered)
    counted = (int(own.sum()), int(other.sum()))
    span = common_sizes(people, group, reference)
    common = (0, 0)
    if span is not None:
        people = people.keep(people.frame["size"].between(*span))
        own, other = people.sides(group, reference)
        found, entered = guard_of_sides(people, own, other)
        common = int(own.sum()), int(other.sum())
        if found.why or span[0] >= span[1]:
            return Answer(kind, Guard("region sizes overlap too little", found.told))
    model = people.levels
    ends = model.unit(group), model.base(group, reference)
    shell = Answer(
        kind, found, None if entered == counted else entered, sides=(own[model.inside], other[model.inside]),
        span=span, common=common, ends=ends,
    )  # fmt: skip
    return _in_levels(model, shell, [ends[0] - ends[1]])


def _in_levels(model: LevelModel, shell: Answer, leads: list[Any]) -> Answer:
    """The answer of a function of level effects, with what it cannot be told apart from."""

    def fitted(
        without: Sequence[str] = (),
    ) -> tuple[LeastSquares | None, list[Any], tuple[Any, Any] | None]:
        squares, inside = model.fitted(without)
        if squares is None:
            return None, [], None
        sides = None if shell.sides is None else (shell.sides[0][inside], shell.sides[1][inside])
        return squares, [squares.full(lead) for lead in leads], sides

    return _standing(shell, model.used.adjusted_for, len(model.used), fitted)


def _along(people: People, shell: Answer) -> Answer:
    """The answer of a line or a curve over a number or over positions of levels."""
    x, kind = people.place, shell.kind
    low, high = (x.min(), x.max()) if kind == "trend" else np.quantile(x, [0.1, 0.9])
    if kind in ("curve", "nonlinear"):
        lead = np.column_stack([np.ones(len(x)), spline(x)])
        points = np.unique(np.quantile(x, np.linspace(0.05, 0.95, 13)))
        at = np.column_stack([np.ones(len(points)), spline(x, points)])
        if kind == "curve":
            shell = replace(shell, points=points)
    else:
        lead = np.column_stack([np.ones(len(x)), x])

    def fitted(without: Sequence[str] = ()) -> tuple[LeastSquares | None, list[Any], None]:
        own = people.without(without)
        inside = own.informative(x)
        if not inside.any():
            return None, [], None
        squares = LeastSquares(own.keep(inside), lead[inside])
        if kind == "nonlinear":
            return squares, [squares.full(row) for row in np.eye(lead.shape[1])[2:]], None
        if kind == "curve":
            return squares, [squares.full(row) for row in np.eye(lead.shape[1])[1:]], None
        return squares, [squares.full(np.array([0.0, high - low]))], None

    found = _standing(shell, people.adjusted_for, len(people), fitted)
    if kind == "curve" and found.has_number:
        assert found.squares is not None
        own = found.squares.people
        strata = found.squares.x[:, lead.shape[1] :].mean(axis=0)[: -len(people.columns) or None]
        z = people.frame[people.columns].to_numpy(float).mean(axis=0) / own.scale  # of everybody
        full = [found.squares.full(row, np.r_[strata, z]) for row in at]
        found = replace(found, at_points=full)
    return found


def _standing(shell: Answer, names: list[str], count: int, fitted: Callable[..., Any]) -> Answer:
    """With the model; or with the reason, where fewer than ten patients on a side are left free by what is held equal."""
    squares, rows, sides = fitted()
    few = squares is not None and len(squares.x) - squares.rank < FEWEST // 2
    if few and squares is not None and len(squares.x) == count and shell.kind != "curve":
        return replace(shell, guard=Guard("too few clusters for the covariates"))
    effective = _effective(shell.kind, squares, rows, sides)
    found = shell.guard
    if names and effective < FEWEST:
        free = [n for n in names if _effective(shell.kind, *fitted([n])) >= FEWEST]
        if free or _effective(shell.kind, *fitted(names)) >= FEWEST:
            told = (effective, FEWEST) if effective else ()
            return replace(shell, guard=Guard("cannot be told apart", told))
        assert effective, "a comparison that its own columns determine is not written here"
    if few:
        return replace(shell, guard=Guard("too few clusters for the covariates"))
    if names and effective < SETTLED:
        found = replace(found, provisional=True)
    entered = shell.entered
    if (
        squares is not None
        and shell.sides is None
        and entered is None
        and len(squares.x) < count
        and names
    ):
        entered = len(squares.x), 0
    sites = _sites(squares, sides)
    by_site = sites >= FEWEST_SITES and (len(rows) == 1 or shell.kind == "curve")
    return replace(
        shell, guard=found, squares=squares, rows=tuple(rows), sides=sides, entered=entered, by_site=by_site, sites=sites
    )  # fmt: skip


def _effective(
    kind: str, squares: LeastSquares | None, rows: list[Any], sides: tuple[Any, Any] | None
) -> float:
    asked = rows[:1] if kind == "curve" else rows
    if squares is None or not all(squares.is_estimable(c) for c in asked):
        return 0.0
    if kind in ("departure", "nonlinear", "additivity"):
        return float("inf")
    w = squares.weights(rows[0])
    return round(min(kish(w[side]) for side in (sides or (w > 0, w < 0))), 9)


def _sites(squares: LeastSquares | None, sides: tuple[Any, Any] | None) -> int:
    """Sites that hold both sides; of a slope, all that are left."""
    if squares is None or squares.people.site is None:
        return 0
    site = squares.people.frame["site"].to_numpy()
    return len(set(site) if sides is None else set(site[sides[0]]) & set(site[sides[1]]))


def common_sizes(people: People, group: str, reference: str) -> Span | None:
    """Interval of logit region size that both sides reach, where under 80 % of the smaller side lie in the larger side's 1-99 % range."""
    if "size" not in people.frame:
        return None
    size = people.frame["size"].to_numpy()
    small, large = sorted((size[side] for side in people.sides(group, reference)), key=len)
    (low, high), (own_low, own_high) = (np.quantile(side, [0.01, 0.99]) for side in (large, small))
    if np.mean((small >= low) & (small <= high)) >= 0.8:
        return None
    return max(low, own_low), min(high, own_high)
