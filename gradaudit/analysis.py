"""Questions put to the measurements, and their answers as findings with verdicts and sentences.

A question is a member of the family ``QUESTIONS``: it turns a ``Study`` (one method and target, arranged over images and
regions) into ``Draft``s.  ``analyze`` asks all of them, adjusts p-values within the confirmatory family (Holm) and among
the exploratory rest (Benjamini-Hochberg), gives verdicts, withholds small cells, and writes one sentence per finding.
``audit_verdict`` reads the findings only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from gradaudit import stats
from gradaudit.analysed_rows import attribute_kind, sort_levels
from gradaudit.between import CROSS
from gradaudit.census import Census, level_groups, measured_names, method_targets, take_census
from gradaudit.config import Plan, SubgroupPlan
from gradaudit.contrasts import EXPLORATORY_PERMUTATIONS, JOINT, TEST_NAMES, Contrast
from gradaudit.description import suppressed_cells, suppressed_levels
from gradaudit.errors import InputError
from gradaudit.performance import refuse_foreign_labels
from gradaudit.privacy import UNKNOWN, is_small
from gradaudit.records import AuditState, AuditVerdict, Effect, Finding, Interval, Measurements, TestResult, Verdict
from gradaudit.registry import Family
from gradaudit.sentences import headline, sentence, summary_sentences, what_cannot_be_told
from gradaudit.subgroups import Disparity, disparity, intersections
from gradaudit.unmeasured import refuse_unmeasured

__all__ = ["QUESTIONS", "analyze", "audit_verdict", "sentence"]

SECONDARY = ("mass_lift", "relevance_rank_accuracy", "pointing_game", "auc")
_NO_HEAT = ("no_positive_evidence", "flat", "non_finite")
_ABSENT = ("empty_mask", "empty_after_crop")
_MOST_CELLS = 40
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Attribute:
    """One ``subgroup.*`` column, ready to compare: levels as text (None unknown), or numbers."""

    name: str
    kind: str
    values: np.ndarray[Any, Any]
    order: tuple[str, ...] | None
    reference: str
    within: bool | None


@dataclass(frozen=True)
class Draft:
    """A contrast with its place: what it is about, which family judges it, what is known beside it."""

    code: str
    attribute: str
    region: str
    outcome: str
    contrast: Contrast
    raw: Contrast | None
    confirmatory: bool
    margin: float | None
    adjusted_for: tuple[str, ...]
    method: str
    target: str
    role: str = ""
    notes: tuple[str, ...] = ()
    small_table: bool = False
    anchor: str = ""


@dataclass(frozen=True)
class Study:
    """Measurements of one method and target with the plan's settings."""

    census: Census
    plan: Plan
    table: pd.DataFrame
    attributes: tuple[Attribute, ...]
    primary: bool

    @property
    def images(self) -> pd.DataFrame:
        return self.census.meas.images

    @cached_property
    def confirmatory_regions(self) -> tuple[str, ...]:
        """Declared by the plan; else every region with a role; else (no role anywhere) all of them."""
        if self.plan.analysis.regions:
            return tuple(r for r in self.census.regions if r in self.plan.analysis.regions)
        roles = [r for r in self.census.regions if self.role(r) != "neutral"]
        return tuple(roles or self.census.regions)

    def role(self, region: str) -> str:
        if region in self.plan.regions or "role" not in self.table:
            return self.plan.region_role(region)
        roles = self.table.loc[self.table["region"] == region, "role"]
        return str(roles.iloc[0]) if len(roles) else "neutral"

    def is_confirmatory(self, region: str) -> bool:
        return self.primary and region in self.confirmatory_regions

    @cached_property
    def family_size(self) -> int:
        """Most contrasts that the confirmatory family can hold; decides the number of permutations."""
        each = 0
        for a in self.attributes:
            levels = 0 if a.kind == "continuous" else len({v for v in a.values if v is not None})
            each += 1 if a.kind == "continuous" or levels == 2 else levels + (a.order is not None)
        return each * (len(self.confirmatory_regions) + 1)

    @cached_property
    def klass(self) -> np.ndarray[Any, Any] | None:
        """Explained class of each image, where it varies from image to image."""
        target = self.plan.explain.target
        column = "predicted" if target == "predicted" else "label" if "label" in target.split(":") else None
        return self.images[column].astype(object).to_numpy() if column and column in self.images else None

    def covariates(self, besides: str) -> pd.DataFrame | None:
        """The declared covariates, without the attribute itself; numbers where every value is one."""
        columns = {}
        for name in self.plan.analysis.covariates:
            found = next(c for c in (f"meta.{name}", f"subgroup.{name}", name) if c in self.images)
            if name != besides:
                columns[name] = _numbers_or_text(self.images[found])
        return pd.DataFrame(columns) if columns else None

    @cached_property
    def pairs(self) -> np.ndarray[Any, Any] | None:
        name = self.plan.analysis.pairs
        return None if name is None else self.images[f"meta.{name}"].astype(object).to_numpy()

    def compare(
        self, a: Attribute, values: Floats, region: str | None, *, confirmatory: bool, adjust: bool = True, margin: float | None = None
    ) -> Disparity:
        """Disparity of one outcome, one value per image, over one attribute; ``region`` brings its size as a covariate.

        Nothing is remembered: no outcome is compared twice, and a memory keyed by names once gave one region's numbers to another.
        """
        settings = self.plan.analysis
        count = settings.permutations if confirmatory else min(settings.permutations, EXPLORATORY_PERMUTATIONS)
        area = self.census.area[:, self.census.regions.index(region)] if region is not None else None
        return disparity(
            values, a.values, area_share=area if adjust else None, klass=self.klass if adjust and region is not None else None,
            covariates=self.covariates(a.name) if adjust else None, clusters=self.census.cluster, pairs=self.pairs, reference=a.reference,
            order=a.order, continuous=a.kind == "continuous", margin=margin, alpha=settings.alpha, permutations=count,
            seed=self.plan.run.seed, within=a.within, family=self.family_size if confirmatory else None, omnibus=False,
        )  # fmt: skip

    def drafts(
        self, code: str, outcome: str, values: Floats, region: str, *, confirmatory: bool, margin: float | None = None, sized: bool = True
    ) -> Iterator[Draft]:
        """Every contrast of an outcome, adjusted beside raw, for every attribute.  ``sized``: the region's size is a covariate."""
        where = region if sized else None
        for a in self.attributes:
            shared: dict[str, Any] = {
                      "code": code, "attribute": a.name, "region": region, "outcome": outcome, "confirmatory": confirmatory, "margin": margin,
                      "method": self.census.method, "target": self.census.target, "role": self.role(region) if region else ""}  # fmt: skip
            found = self.compare(a, values, where, confirmatory=confirmatory, margin=margin)
            raw = found if not found.adjusted_for else self.compare(a, values, where, confirmatory=False, adjust=False)
            plain = {(c.kind, c.group, c.reference): c for c in raw.contrasts}
            notes = (*found.notes, *_missing(found, a))
            if not found.contrasts:
                yield Draft(**shared, contrast=_nothing_to_compare(found, a), raw=None, adjusted_for=(), notes=notes)
            for c in found.contrasts:
                yield Draft(**shared, contrast=c, raw=plain.get((c.kind, c.group, c.reference)), adjusted_for=found.adjusted_for, notes=notes)
            for level in _left_out(found, a) if found.contrasts else ():
                nobody = Contrast("level", level, a.reference, 0, 0, 0, 0, reason="no usable image")
                yield Draft(**shared, contrast=nobody, raw=None, adjusted_for=(), notes=found.notes)

    @cached_property
    def heat(self) -> tuple[Draft, ...]:
        """Heat share of every region, by every attribute: levels, trends and their departures."""
        out: list[Draft] = []
        for r, region in enumerate(self.census.regions):
            decided = self.is_confirmatory(region)
            margin = self.plan.criteria.margin if decided and self.plan.criteria else None
            values = np.where(self.census.defined[:, r], self.census.share[:, r], np.nan)
            out += self.drafts("GA101", "heat_share", values, region, confirmatory=decided, margin=margin)
        return tuple(out)


def _numbers_or_text(column: pd.Series[Any]) -> pd.Series[Any]:
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.notna().any() and (numbers.notna() | column.isna() | (column == "")).all() and numbers.nunique() > 2:
        return numbers.astype(float).reset_index(drop=True)
    return column.astype(object).where(column.notna(), None).reset_index(drop=True)


def _missing(found: Disparity, a: Attribute) -> tuple[str, ...]:
    empty = [level for level in a.order or () if found.levels.get(level, (0, 0))[0] == 0]
    return (f"no usable image in {', '.join(empty)}",) if empty else ()


def _left_out(found: Disparity, a: Attribute) -> list[str]:
    """Levels that the plan or the manifest names and of which no image entered: a comparison without a number, but a comparison."""
    if a.kind == "continuous":
        return []
    named = dict.fromkeys([*(a.order or ()), *sort_levels([str(level) for level in a.values if level is not None])])
    compared = {level for c in found.contrasts for level in (c.group, c.reference)}
    return [level for level in named if found.levels.get(level, (0, 0))[0] == 0 and level not in compared]


def _nothing_to_compare(found: Disparity, a: Attribute) -> Contrast:
    present = [level for level, (images, _) in found.levels.items() if images]
    if a.kind == "continuous":
        return Contrast("continuous", "P90", "P10", 0, 0, 0, 0, reason="the attribute does not vary among the usable images")
    n = found.levels[present[0]] if present else (0, 0)
    reason = "only one level has usable images" if present else "no usable image"
    return Contrast("level", present[0] if present else "any level", "rest", n[0], n[1], 0, 0, reason=reason)


# ── the questions ───────────────────────────────────────────────────────────────────────────────────────────────────

Question = Callable[[Study], list[Draft]]
QUESTIONS: Family[Question] = Family("question")
"""Members are named by the code that their findings carry."""


@QUESTIONS.register(
    name="GA101", label="heat share by group", summary="Does the mean share of heat in a region differ between a group and the others?",
    formula="mean over patients, group minus reference, at equal region size and class", unit="share of heat, 0 to 1",
    source="Arras et al. 2022, eq. 1 (heat share); ter Braak 1992; DiCiccio & Romano 2017 (test)",
)  # fmt: skip
def heat_share_by_group(study: Study) -> list[Draft]:
    """Each level against its reference; with the range that undefined heat leaves open."""
    return [_with_bounds(study, d) for d in study.heat if d.contrast.kind == "level"]


@QUESTIONS.register(
    name="GA102", label="trend over ordered levels", summary="Does the heat share rise or fall along the ordered levels?",
    formula="slope over level positions, times (last - first)", unit="share of heat, first to last level", source="ter Braak 1992",
)  # fmt: skip
def trend(study: Study) -> list[Draft]:
    return [replace(d, code="GA102") for d in study.heat if d.contrast.kind == "trend"]


@QUESTIONS.register(
    name="GA103", label="continuous attribute", summary="Does the heat share change with a numeric attribute?",
    formula="slope, times (90 % point - 10 % point)", unit="share of heat, P10 to P90", source="ter Braak 1992",
)  # fmt: skip
def continuous(study: Study) -> list[Draft]:
    return [replace(d, code="GA103") for d in study.heat if d.contrast.kind == "continuous"]


@QUESTIONS.register(
    name="GA104", label="departure from a straight line", summary="Is the trend bent, so that its slope does not tell the whole?",
    formula="Wald statistic of the level effects beside the slope, permuted", source="ter Braak 1992; Harrell 2015, ch. 2",
)  # fmt: skip
def departure(study: Study) -> list[Draft]:
    found = [d for d in study.heat if d.contrast.kind in JOINT and not d.contrast.reason]
    return [replace(d, code="GA104", confirmatory=False, margin=None, raw=None) for d in found]


@QUESTIONS.register(
    name="GA111", label="undefined heat by group", summary="Are maps without any positive evidence more frequent in a group?",
    formula="share of readable images whose heat is undefined", unit="share of images",
    source="ter Braak 1992; worst-case bounds: Manski 1990, Am. Econ. Rev. 80:319",
)  # fmt: skip
def undefined_heat(study: Study) -> list[Draft]:
    status = _status(study)
    values = np.where(status == "ok", 0.0, np.where(np.isin(status, _NO_HEAT), 1.0, np.nan))
    margin = study.plan.criteria.undefined_margin if study.primary and study.plan.criteria else None
    found = study.drafts("GA111", "undefined", values, "", confirmatory=study.primary, margin=margin, sized=False)
    return [d for d in found if d.contrast.kind in ("level", "trend", "continuous")]


@QUESTIONS.register(
    name="GA112", label="region absent by group", summary="Is the region missing from the image more often in a group?",
    formula="share of annotated images in which the region is empty", unit="share of images",
    source="ter Braak 1992; worst-case bounds: Manski 1990, Am. Econ. Rev. 80:319",
    caveat="Part of the disparity itself where the region is a shortcut: marks that only one group carries.",
)  # fmt: skip
def region_absent(study: Study) -> list[Draft]:
    out: list[Draft] = []
    for r, region in enumerate(study.census.regions):
        area, reason = study.census.area[:, r], study.census.reason[:, r].astype(str)
        empty = np.isin(reason, _ABSENT) | np.equal(area, 0)  # where heat is undefined, the reason tells that and not the empty mask
        looked_for = np.isfinite(area) | empty
        absent = np.where(looked_for, empty / 1.0, np.nan)
        if 0 < np.nansum(absent) < np.count_nonzero(looked_for):
            found = study.drafts("GA112", "absent", absent, region, confirmatory=False, sized=False)
            out += [d for d in found if d.contrast.kind == "level"]
    return out


@QUESTIONS.register(
    name="GA121", label="secondary measures", summary="Do other measures of heat, or right predictions alone, point the same way?",
    formula="as the heat share", source="Zhang et al. 2018 (pointing game); Benjamini & Hochberg 1995 (signals)",
)  # fmt: skip
def secondary(study: Study) -> list[Draft]:
    """Lift, rank accuracy, pointing game and AUC; and the heat share within correctly classified images."""
    out: list[Draft] = []
    correct = study.images["correct"].fillna(False).astype(bool).to_numpy() if "correct" in study.images else np.zeros(len(study.images), dtype=bool)
    for r, region in enumerate(study.census.regions):
        if not study.is_confirmatory(region):
            continue
        for metric in SECONDARY:
            values = _spread(study, metric, region)
            if np.isfinite(values).any():
                out += study.drafts("GA121", metric, values, region, confirmatory=False)
        if 0 < correct.sum() < len(correct):
            values = np.where(study.census.defined[:, r] & correct, study.census.share[:, r], np.nan)
            within = study.drafts("GA121", "heat_share_correct", values, region, confirmatory=False)
            out += [replace(d, notes=(*d.notes, "within correctly classified images")) for d in within]
    return [d for d in out if d.contrast.kind in ("level", "trend", "continuous") and not d.contrast.reason]


@QUESTIONS.register(
    name="GA131", label="intersections", summary="Does a two-way cell differ from the rest, or from what its two attributes add up to?",
    formula="cell minus rest; cell minus patient-weighted additive prediction", unit="share of heat",
    source="Searle 1971, Linear Models, ch. 7 (additive prediction); Benjamini & Hochberg 1995 (signals)",
)  # fmt: skip
def intersection(study: Study) -> list[Draft]:
    if not study.primary:
        return []
    out: list[Draft] = []
    named = [a for a in study.attributes if a.kind != "continuous" and not a.within]
    for region in study.confirmatory_regions:
        for first, second in combinations(named, 2):
            out += _cells(study, first, second, region)
    return out


def _cells(study: Study, first: Attribute, second: Attribute, region: str) -> list[Draft]:
    r = study.census.regions.index(region)
    values = np.where(study.census.defined[:, r], study.census.share[:, r], np.nan)
    if len(set(first.values) - {None}) * len(set(second.values) - {None}) > _MOST_CELLS:
        return []
    covariates = study.covariates(first.name)
    if covariates is not None:
        covariates = covariates.drop(columns=[c for c in covariates if c == second.name])
    found = intersections(
        values, first.values, second.values, area_share=study.census.area[:, r], klass=study.klass, covariates=covariates,
        clusters=study.census.cluster, alpha=study.plan.analysis.alpha, permutations=min(study.plan.analysis.permutations, EXPLORATORY_PERMUTATIONS),
        seed=study.plan.run.seed,
    )  # fmt: skip
    against_rest = [c for c in found.contrasts if c.kind == "level" and not c.reason]
    pulled = stats.shrunken(np.array([c.estimate for c in against_rest]), np.array([c.se for c in against_rest]))
    small = any(is_small(n, study.plan.privacy.min_cell) for counts in found.levels.values() for n in counts)
    notes = {c.group: (f"shrunken for display: {_signed(float(p))} points",) for c, p in zip(against_rest, pulled, strict=True)}
    shared: dict[str, Any] = {
              "code": "GA131", "attribute": f"{first.name}{CROSS}{second.name}", "region": region, "outcome": "heat_share", "confirmatory": False,
              "margin": None, "method": study.census.method, "target": study.census.target, "role": study.role(region), "raw": None,
              "adjusted_for": found.adjusted_for, "small_table": small}  # fmt: skip
    return [Draft(**shared, contrast=c, notes=notes.get(c.group, ()) if c.kind == "level" else ()) for c in found.contrasts if not c.reason]


def _spread(study: Study, metric: str, region: str) -> Floats:
    """One metric column over images, NaN where undefined."""
    own = study.table.loc[study.table["region"] == region]
    if metric not in own:
        return np.full(len(study.images), np.nan)
    values = pd.Series(own[metric].to_numpy(dtype=float, na_value=np.nan), index=own["image_id"].astype(str))
    out = values.reindex(study.images["image_id"].astype(str)).to_numpy(dtype=float)
    return np.where(np.isfinite(out), out, np.nan)


def _status(study: Study) -> np.ndarray[Any, Any]:
    """Heat status of each image for this method and target, "not_measured" where there is no map."""
    first = study.table.drop_duplicates("image_id")
    by_image = pd.Series(first["status"].astype(str).to_numpy(), index=first["image_id"].astype(str))
    return by_image.reindex(study.images["image_id"].astype(str)).fillna("not_measured").to_numpy(dtype=object)


def _with_bounds(study: Study, draft: Draft) -> Draft:
    """Note how far undefined heat, counted as 0 and 1 in opposite directions, could move the difference and the verdict."""
    c, r = draft.contrast, study.census.regions.index(draft.region)
    status = _status(study)
    gone = np.isin(status, _NO_HEAT) & study.census.usable[:, r] & ~study.census.defined[:, r]
    attribute = next(a for a in study.attributes if a.name == draft.attribute)
    mine = attribute.values == c.group
    theirs = ~mine & (attribute.values != None) if c.reference == "rest" else attribute.values == c.reference  # noqa: E711 (elementwise)
    if c.reason or not (gone & (mine | theirs)).any():
        return draft
    sides = np.full(len(mine), None, dtype=object)
    sides[mine], sides[theirs] = "group", "other"
    share = np.where(study.census.defined[:, r], study.census.share[:, r], np.nan)
    cases = [share, np.where(gone, np.where(mine, 0.0, 1.0), share), np.where(gone, np.where(mine, 1.0, 0.0), share)]
    found = [_analytic(study, draft, values, sides, r) for values in cases]
    if any(f is None for f in found):
        return draft
    base, low, high = (f for f in found if f is not None)
    few = any(is_small(int((gone & side).sum()), study.plan.privacy.min_cell) for side in (mine, theirs))
    span = "" if few else f" leaves the difference between {_signed(low.estimate)} and {_signed(high.estimate)} points"
    text = f"undefined heat counted as 0 or 1 in opposite directions{span}"
    changed = {low.verdict, high.verdict} != {base.verdict}
    return replace(draft, notes=(*draft.notes, text + (": the verdict could change" if changed else ": the verdict would stay")))


def _analytic(study: Study, draft: Draft, values: Floats, sides: np.ndarray[Any, Any], r: int) -> Contrast | None:
    found = disparity(
        values, sides, area_share=study.census.area[:, r], klass=study.klass, covariates=study.covariates(draft.attribute),
        clusters=study.census.cluster, reference="other", margin=draft.margin, alpha=study.plan.analysis.alpha, within=False, omnibus=False,
        analytic=True,
    )  # fmt: skip
    return next((c for c in found.contrasts if not c.reason), None)


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


# ── from drafts to findings ─────────────────────────────────────────────────────────────────────────────────────────


def analyze(meas: Measurements | pd.DataFrame, plan: Plan | None = None, images: pd.DataFrame | None = None) -> list[Finding]:
    """Ask every question of ``QUESTIONS`` and return the findings, decisive ones first.

    meas : ``Measurements``, or a table with ``records.TABLE_COLUMNS``; then ``images`` holds one row per image with
        image_id, cluster and ``subgroup.<name>`` (default: those columns of the table itself)
    plan : roles, criteria, order of levels, covariates; None: no margin, and every region counts as declared

    Confirmatory: heat share in the declared regions by every attribute, and the rate of undefined heat; Holm.
    Everything else is exploratory: Benjamini-Hochberg, worded as a signal.  Cells below ``privacy.min_cell`` are withheld.

    Errors: ``InputError`` for missing columns; ``PlanError`` where the plan names what was not measured (see ``refuse_unmeasured``);
    ``ManifestError`` where no label is a class of the model.
    """
    named, plan = plan, plan or Plan()
    meas = meas if isinstance(meas, Measurements) else _measurements(meas, images)
    if named is not None and len(meas.images):
        refuse_unmeasured(named, measured_names(meas, named))
    refuse_foreign_labels(meas)
    if not len(meas.images) or not len(meas.table):
        return []
    attributes = _attributes(meas, plan)
    drafts: list[Draft] = []
    for i, (method, target) in enumerate(method_targets(meas, plan)):
        table = meas.table.loc[(meas.table["method"].astype(str) == method) & (meas.table["target"].astype(str) == target)]
        study = Study(take_census(meas, plan, (method, target)), plan, table, attributes, primary=i == 0)
        for code in QUESTIONS:
            drafts += QUESTIONS.get(code)(study)
    withheld = _Withheld.of(meas, plan, drafts)
    judged = _judged(_with_anchors(drafts), withheld, plan)
    found = [_finding(d, withheld.of_draft(d)) for d in judged]
    return [f.model_copy(update={"sentence": sentence(f, plan.analysis.alpha)}) for f in found]


def audit_verdict(findings: Sequence[Finding], plan: Plan) -> AuditVerdict:
    """The verdict of the whole audit over the confirmatory findings.

    not_met : a material disparity is shown.  met : every comparison of the heat share lies within the margin (the
    union of all is tested by testing each: no correction needed); one that is withheld or not assessed does not.
    insufficient : neither.  none_declared : no margin.
    """
    decisive = [f for f in findings if f.test.family == "confirmatory"]
    heat = [f for f in decisive if f.outcome == "heat_share"]
    within = {Verdict.EQUIVALENT, Verdict.WITHIN_MARGIN}
    state: AuditState = "insufficient"
    if plan.criteria is None:
        state = "none_declared"
    elif any(f.verdict is Verdict.MATERIAL for f in decisive):
        state = "not_met"
    elif heat and all(f.verdict in within for f in heat):
        state = "met"
    chosen, lines = summary_sentences(decisive, findings)
    return AuditVerdict(
        state=state,
        headline=headline(state, decisive),
        sentences=lines,
        cannot_tell=what_cannot_be_told(decisive, plan),
        finding_anchors=tuple(f.anchor for f in chosen),
    )


def _measurements(table: pd.DataFrame, images: pd.DataFrame | None) -> Measurements:
    """A bare table as measurements: what is not there is filled with what it means."""
    missing = [c for c in ("image_id", "region", "heat_share") if c not in table]
    if missing:
        raise InputError(f"The table lacks {', '.join(missing)}; it has {', '.join(map(str, table.columns))}.")
    defaults: dict[str, Any] = {"method": "", "target": "", "reason": "", "area_share": np.nan, "mass_lift": np.nan, "pointing_game": np.nan}
    table = table.assign(**{name: value for name, value in defaults.items() if name not in table})
    if "status" not in table:
        table = table.assign(status=np.where(table["heat_share"].notna(), "ok", "no_positive_evidence"))
    if images is None:
        carried = [
            c for c in table if str(c).startswith(("subgroup.", "meta.")) or c in ("cluster", "label", "predicted", "probability", "correct", "path")
        ]
        images = table[["image_id", *carried]].drop_duplicates("image_id")
    if not any(str(c).startswith("subgroup.") for c in images):
        raise InputError("No column subgroup.<name> in the images (or the table): there are no groups to compare.")
    blank: dict[str, Any] = {"label": None, "predicted": None, "correct": None, "probability": np.nan, "path": "", "status": "ok", "reason": ""}
    images = images.reset_index(drop=True).assign(**{name: value for name, value in blank.items() if name not in images})
    if "cluster" not in images:
        images = images.assign(cluster=images["image_id"].astype(str))
    return Measurements(table.reset_index(drop=True), images)


def _attributes(meas: Measurements, plan: Plan) -> tuple[Attribute, ...]:
    """Attributes as they are compared: the displayed levels, unknown as None; continuous ones as numbers."""
    out = []
    for name, shown in level_groups(meas, plan).items():
        declared = plan.subgroups.get(name, SubgroupPlan())
        text = shown.astype(object).where(shown.astype(object) != UNKNOWN, None).to_numpy(dtype=object)
        column = meas.images[f"subgroup.{name}"]
        kind = attribute_kind(pd.Series(column.unique()), declared.kind, declared.order)
        order = declared.order if kind == "ordered" else None
        if order is not None:
            text = np.array([level if level in order else None for level in text], dtype=object)
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float) if kind == "continuous" else text
        if declared.reference == "rest" and kind == "categorical":
            declared = declared.model_copy(update={"reference": _larger_of_two(text, meas.images["cluster"])})
        out.append(Attribute(name, kind, values, order, declared.reference, True if declared.within else None))
    return tuple(out)


def _larger_of_two(text: np.ndarray[Any, Any], clusters: pd.Series[Any]) -> str:
    """Two levels have one comparison: the same level is the reference in every region, the one with more clusters."""
    sizes = pd.DataFrame({"level": text, "cluster": clusters.to_numpy()}).dropna(subset="level").groupby("level")["cluster"].nunique()
    return str(sizes.sort_index().idxmax()) if len(sizes) == 2 else "rest"


def _with_anchors(drafts: Sequence[Draft]) -> list[Draft]:
    """``GA101-skin_tone-ruler``, with what further tells findings apart: the group, the measure, the method."""
    seen: dict[str, int] = {}
    out = []
    for d in drafts:
        parts = [d.code, d.attribute, d.region, d.outcome if d.code == "GA121" else "", d.contrast.kind if d.contrast.kind == "additivity" else ""]
        parts.append(d.contrast.group if d.contrast.kind in ("level", "additivity") else "")
        text = "-".join(p for p in parts if p)
        seen[text] = seen.get(text, 0) + 1
        out.append(replace(d, anchor=text if seen[text] == 1 else f"{text}-{seen[text]}"))
    return out


# ── small cells ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Withheld:
    """What findings must not show.  "all": the group is small.  "counts": its numbers would give a small one away."""

    cells: set[tuple[str, str, str, str, str]]
    levels: dict[str, set[str]]
    bases: dict[tuple[str, str, str, str, str], int]
    min_cell: int

    @classmethod
    def of(cls, meas: Measurements, plan: Plan, drafts: Sequence[Draft]) -> _Withheld:
        smallest = plan.privacy.min_cell
        if smallest <= 1:
            return cls(set(), {}, {}, smallest)
        bases = {(d.attribute, d.contrast.group, d.region, d.method, d.target): d.contrast.n_images for d in drafts if d.code == "GA101"}
        return cls(suppressed_cells(meas, plan), suppressed_levels(meas, plan), bases, smallest)

    def of_draft(self, d: Draft) -> str:
        if self.min_cell <= 1:
            return ""
        c = d.contrast
        counts = (c.n_images, c.n_clusters, c.n_images_reference, c.n_clusters_reference)
        if c.kind not in ("level", "additivity"):
            return "all" if any(is_small(n, self.min_cell) for n in counts) else ""
        if any(is_small(n, self.min_cell) for n in counts) or (not c.n_images and self._is_hidden(d, c.group)):
            return "all"
        if d.small_table or any(self._is_hidden(d, level) for level in (c.group, c.reference)):
            return "counts"
        if d.code in ("GA111", "GA112"):
            events = [n * mean[0] for n, mean in ((c.n_images, c.mean), (c.n_images_reference, c.mean_reference)) if np.isfinite(mean[0])]
            return "rates" if any(0 < e < self.min_cell for e in events) else ""
        base = self.bases.get((d.attribute, c.group, d.region, d.method, d.target), c.n_images)
        return "counts" if d.outcome != "heat_share_correct" and is_small(abs(base - c.n_images), self.min_cell) else ""

    def _is_hidden(self, d: Draft, level: str) -> bool:
        if level in self.levels.get(d.attribute, set()):
            return True
        return any(a == d.attribute and cell == level and d.region in ("", region) for a, cell, region, *_ in self.cells)


# ── families, verdicts, records ─────────────────────────────────────────────────────────────────────────────────────


def _judged(drafts: Sequence[Draft], withheld: _Withheld, plan: Plan) -> list[Draft]:
    """Adjust within families and give verdicts.  Findings that are withheld whole have no p to adjust: nobody reads them."""
    shown = [withheld.of_draft(d) != "all" for d in drafts]
    p, near = np.full(len(drafts), np.nan), np.full(len(drafts), np.nan)
    decided = np.array([d.confirmatory and s for d, s in zip(drafts, shown, strict=True)], dtype=bool)
    others = np.array([not d.confirmatory and s for d, s in zip(drafts, shown, strict=True)], dtype=bool)
    raw = np.array([d.contrast.p for d in drafts])
    p[decided], p[others] = stats.holm(raw[decided]), stats.benjamini_hochberg(raw[others])
    near[decided] = stats.holm([d.contrast.p_equivalence for d, one in zip(drafts, decided, strict=True) if one])
    out = []
    for d, adjusted, equivalence, seen in zip(drafts, p, near, shown, strict=True):
        c = d.contrast
        verdict = stats.verdict(float(adjusted), float(equivalence), c.ci_low, c.ci_high, d.margin, plan.analysis.alpha)
        verdict = verdict if seen and not c.reason else Verdict.NOT_ASSESSED
        out.append(replace(d, contrast=replace(c, p_adjusted=float(adjusted), p_equivalence_adjusted=float(equivalence), verdict=verdict)))
    return out


def _finding(d: Draft, withheld: str) -> Finding:
    c = d.contrast
    base = Finding(
        code=d.code, anchor=d.anchor, question=QUESTIONS.card(d.code).summary, attribute=d.attribute, group=c.group, reference=c.reference,
        region=d.region, role=d.role, method=d.method, target=d.target, outcome=d.outcome, margin=d.margin, adjusted_for=d.adjusted_for,
    )  # fmt: skip
    if withheld == "all":  # a decisive comparison keeps its family: no verdict is given as if it had not been asked
        family = TestResult(family="confirmatory" if d.confirmatory else "")
        return base.model_copy(update={"suppressed": True, "reason": "small_cell", "n_withheld": True, "test": family})
    full = base.model_copy(update=_numbers(d))
    if not withheld:
        return full
    hidden: dict[str, Any] = dict.fromkeys(("n_images", "n_clusters", "n_images_reference", "n_clusters_reference"), 0)
    hidden |= {"n_withheld": True, "mde80": None, "clusters_needed": None, "test": full.test.model_copy(update={"df": None})}
    hidden |= {side: Interval(estimate=getattr(full, side).estimate) for side in ("mean", "mean_reference")}
    hidden["reason"] = "too few clusters, or too few different values, to compare" if full.reason else ""
    hidden["notes"] = tuple("compared among clusters of common region size" if "compared among" in note else note for note in full.notes)
    if withheld == "rates":
        hidden |= {side: Interval() for side in ("mean", "mean_reference", "raw", "adjusted")}
        hidden |= {"se": None, "effect": Effect(), "reason": "too few of these images to compare" if full.reason else ""}
        hidden |= {"test": full.test.model_copy(update={"statistic": None, "df": None})}
    return full.model_copy(update=hidden)


def _numbers(d: Draft) -> dict[str, Any]:
    c, raw = d.contrast, d.raw
    own = _interval((c.estimate, c.ci_low, c.ci_high))
    plain = own if raw is c else _interval((raw.estimate, raw.ci_low, raw.ci_high)) if raw is not None else Interval()
    if raw is None and not d.adjusted_for:
        plain = own
    name = TEST_NAMES.get(c.method, "")
    if c.kind in JOINT and name:
        name = "permuted Wald" if c.method == "permutation" else "Wald F"
    others = (0, 0) if c.kind == "additivity" else (c.n_images_reference, c.n_clusters_reference)  # a prediction has no images of its own
    return {
        "n_images": c.n_images, "n_clusters": c.n_clusters, "n_images_reference": others[0], "n_clusters_reference": others[1],
        "mean": _interval(c.mean), "mean_reference": _interval(c.mean_reference),
        "raw": plain, "adjusted": own if d.adjusted_for else Interval(), "se": _or_none(c.se),
        "effect": Effect(
            ratio=_interval(c.ratio), standardised_difference=_or_none(c.standardised_difference), cliffs_delta=_or_none(c.cliffs_delta)
        ),
        "test": TestResult(
            name=name, statistic=_or_none(c.statistic), df=_or_none(c.df), p=_or_none(c.p), p_adjusted=_or_none(c.p_adjusted),
            p_equivalence=_or_none(c.p_equivalence), p_equivalence_adjusted=_or_none(c.p_equivalence_adjusted),
            family="confirmatory" if d.confirmatory else "exploratory", permutations=c.permutations or None,
        ),
        "mde80": _or_none(c.mde80), "clusters_needed": int(c.clusters_needed) if np.isfinite(c.clusters_needed) else None,
        "verdict": c.verdict, "provisional": c.provisional, "reason": c.reason, "notes": (*c.notes, *d.notes),
    }  # fmt: skip


def _interval(values: tuple[float, float, float]) -> Interval:
    return Interval(estimate=_or_none(values[0]), low=_or_none(values[1]), high=_or_none(values[2]))


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
