"""A second count of result.json: every number again from the run's parquet parts, without gradaudit.

Counts and means are pandas' ``groupby``; figures of merit are scikit-learn's, adjusted differences statsmodels' least squares with
HC2 errors.  Definitions are those of the docstrings in ``records``, ``census``, ``flow``, ``distributions``, ``performance``,
``merits``, ``analysed_rows``, ``contrasts`` and ``stats``; nothing of the package is imported, so that no mistake is made twice.

``Recount(parts, plan).numbers(document)`` -> path of a number in the document -> the number that belongs there.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import recount_figures
from recount_models import (
    REST,
    Answer,
    LevelModel,
    People,
    Rows,
    compare,
    student_p_beyond,
    student_p_within,
    student_whisker,
)
from scipy import special, stats
from sklearn import config_context
from sklearn import metrics as sk
from statsmodels.discrete.discrete_model import Logit
from statsmodels.stats.multitest import multipletests

ALL, UNKNOWN = "(all)", "(unknown)"
COLD = {"no_positive_evidence": "zero_heat", "flat": "flat", "non_finite": "non_finite"}
MASKLESS = ("not_annotated", "missing_mask", "unreadable_mask", "mask_size")
METRICS = ("accuracy", "sensitivity", "specificity", "ppv", "auc", "brier", "calibration_slope")
SECONDARY = ("mass_lift", "relevance_rank_accuracy", "pointing_game", "auc")
PERMUTED, FEWER_PERMUTED = 4000, 400
PLANNED = ("level", "pair", "trend", "curve")
NOT_EVERYWHERE_Q = 0.10
Place = tuple[Any, ...]
"""Where a number stands in the document: ("heat", 3, "mean")."""
COUNTS: tuple[Place, ...] = (
    ("n_images",),
    ("n_clusters",),
    ("n_images_reference",),
    ("n_clusters_reference",),
)
Figure = tuple[float | None, int, int]
NO_FIGURE: Figure = (None, 0, 0)
Numbers = dict[Place, Any]


class Parts:
    """What a run folder holds: its record, and its parquet parts read by pandas."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = json.loads((folder / "run.json").read_text())
        self.images, self.regions, self.maps = (
            _plain_text(
                pd.concat(
                    [pd.read_parquet(path) for path in sorted((folder / part).glob("*.parquet"))],
                    ignore_index=True,
                )
            )
            for part in ("images", "regions", "maps")
        )


def _plain_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Text as plain objects, None where it is missing: thrice as fast as Arrow's strings."""
    for column in frame.select_dtypes("string"):
        text = frame[column].astype(object)
        frame[column] = text.where(text.notna(), None)
    return frame


@dataclass(frozen=True, eq=False)
class Ask:
    """How an outcome is compared: adjusted or not, at equal label or predicted class, among whom, with which values and sizes."""

    adjust: bool = True
    klass: str = "label"
    stratum: str = ""
    values: pd.Series | None = None
    sides: pd.Series | None = None
    area: pd.Series | None = None


ASKED = Ask()


class Recount:
    """One run and one plan, counted again."""

    def __init__(self, parts: Parts, plan: dict[str, Any]) -> None:
        self.parts, self.plan = parts, plan
        self.alpha = plan["analysis"]["alpha"]
        self.own = (plan["explain"]["method"], plan["explain"]["target"])
        images = parts.images.set_index("image_id", drop=False)
        rows = parts.regions[
            (parts.regions["method"] == self.own[0]) & (parts.regions["target"] == self.own[1])
        ]
        self.images, self.rows = images, rows
        self.regions = list(dict.fromkeys(rows["region"]))
        self.cluster = images["cluster"].astype(str)
        wide = {
            name: rows.pivot(index="image_id", columns="region", values=name).reindex(images.index)
            for name in ("reason", "heat_share", "area_share", *SECONDARY)
        }
        self.wide = wide
        self.status = (
            rows.drop_duplicates("image_id").set_index("image_id")["status"].reindex(images.index)
        )
        self.readable = images["status"] == "ok"
        self.warm = self.readable & (self.status == "ok")
        self.in_place = wide["area_share"] > 0
        self.masked = self.readable & self.in_place.any(axis=1)
        self.heated = self.masked & self.warm
        self.defined = wide["heat_share"].notna().mul(self.heated, axis=0)
        self.analysed = self.defined.any(axis=1)
        most = self.defined[self.regions].sum()
        self.anchored = (
            self.defined[most.index[int(np.argmax(most.to_numpy()))]]
            if len(most)
            else self.analysed
        )
        self.kinds = {name: self._kind(name) for name in self._attributes()}
        self.levels = {name: self._levels(name) for name in self.kinds}
        self.members_of = {(ALL, ALL): pd.Series(True, index=images.index)}
        for name, levels in self.levels.items():
            self.members_of |= {
                (name, level): pd.Series(levels == level, index=images.index)
                for level in levels.categories
            }
        self.klass = images["predicted"] if self.own[1] == "predicted" else images["label"]

    def _attributes(self) -> list[str]:
        return [c.removeprefix("subgroup.") for c in self.images if c.startswith("subgroup.")]

    def _declared(self, name: str) -> dict[str, Any]:
        return self.plan["subgroups"].get(name) or {
            "order": None,
            "kind": None,
            "reference": REST,
            "within": False,
        }

    def _kind(self, name: str) -> str:
        declared = self._declared(name)
        if declared["order"] or declared["kind"]:
            return declared["kind"] or "ordered"
        values = pd.to_numeric(self.images[f"subgroup.{name}"].dropna(), errors="coerce")
        return "continuous" if values.notna().all() and values.nunique() > 10 else "categorical"

    def _levels(self, name: str) -> pd.Categorical:
        """Displayed levels: as declared or sorted, quartile ranges of numbers, the unknown ones last."""
        column = self.images[f"subgroup.{name}"]
        if self.kinds[name] == "continuous":
            numbers = pd.to_numeric(column)
            cuts = sorted({float(f"{numbers.quantile(q):.3g}") for q in (0.25, 0.5, 0.75)})
            names = [
                f"below {cuts[0]:g}",
                *(f"{a:g} to below {b:g}" for a, b in pairwise(cuts)),
                f"{cuts[-1]:g} and over",
            ]
            text = pd.cut(numbers, [-np.inf, *cuts, np.inf], right=False, labels=names).astype(
                object
            )
        else:
            order = list(self._declared(name)["order"] or ())
            names, text = [*order, *sorted(set(column.dropna()) - set(order))], column
        names = [*names, UNKNOWN] if text.isna().any() else names
        return pd.Categorical(text.where(text.notna(), UNKNOWN), categories=names, ordered=True)

    def cells(self) -> Iterator[tuple[str, str, pd.Series]]:
        """Attribute, level and who is in it, everybody first."""
        yield from ((*key, inside) for key, inside in self.members_of.items())

    def members(self, attribute: str, level: str) -> pd.Series:
        return self.members_of[attribute, level]

    def by_cluster(self, values: pd.Series) -> pd.Series:
        """Mean of each cluster over the images that have a value."""
        known = values.dropna().astype(float)
        return known.groupby(self.cluster.reindex(known.index)).mean()

    # ── all of it ───────────────────────────────────────────────────────────────────────────────────────────────────

    def numbers(self, document: dict[str, Any]) -> Numbers:
        found: Numbers = {}
        with config_context(
            skip_parameter_validation=True, assume_finite=True
        ):  # half of scikit-learn's time
            for part in (
                self.facts, self.region_facts, self.attribute_facts, self.flow, self.exclusions, self.performance, self.mean_maps, self.gallery,
                self.findings, self.families, self.planned_cells, self.heat, self.drawings,
            ):  # fmt: skip
                found |= part(document)
        return found

    def facts(self, document: dict[str, Any]) -> Numbers:
        plan, run, images = self.plan, self.parts.run, self.parts.images
        heat = self.parts.maps[self.parts.maps["kind"] == "heat"].iloc[0]
        found: Numbers = {
            ("data", "n_images"): len(images), ("data", "n_clusters"): images["cluster"].nunique(), ("min_cell",): plan["privacy"]["min_cell"],
            ("model", "grid", 0): heat["height"], ("model", "grid", 1): heat["width"], ("method", "alpha"): plan["analysis"]["alpha"],
            ("method", "permutations"): plan["analysis"]["permutations"], ("method", "seed"): plan["run"]["seed"], ("run", "seed"): run["seed"],
            ("run", "seconds"): run["seconds"], ("criteria", "margin"): plan["criteria"]["margin"],
            ("criteria", "undefined_margin"): plan["criteria"]["undefined_margin"],
            ("criteria", "min_coverage"): plan["criteria"]["min_coverage"],
        }  # fmt: skip
        for family in ("confirmatory", "exploratory"):
            found["method", f"{family}_contrasts"] = sum(
                f["test"]["family"] == family for f in document["findings"]
            )
        found |= {
            ("run", "counts", f"images {name}"): n
            for name, n in images["status"].value_counts().items()
        }
        found |= dict(leaves(plan, ("plan",)))
        return found | dict(
            leaves({k: run["model"][k] for k in ("input_size", "preprocess")}, ("model",))
        )

    def region_facts(self, document: dict[str, Any]) -> Numbers:
        assert [r["name"] for r in document["regions"]] == self.regions
        found: Numbers = {}
        for i, name in enumerate(self.regions):
            annotated = self.readable & ~self.wide["reason"][name].isin(MASKLESS)
            present = self.readable & self.in_place[name]
            found[("regions", i, "n_annotated")] = annotated.sum()
            found[("regions", i, "n_present")] = present.sum()
            found[("regions", i, "mean_area_share")] = (
                self.wide["area_share"].loc[present, name].mean()
            )
        return found

    def attribute_facts(self, document: dict[str, Any]) -> Numbers:
        known = [
            (name, self.kinds[name], [x for x in self.levels[name].categories if x != UNKNOWN])
            for name in self.kinds
        ]
        assert [(a["name"], a["kind"], a["levels"]) for a in document["attributes"]] == known
        return {}

    def flow(self, document: dict[str, Any]) -> Numbers:
        cells = list(self.cells())
        assert [(r["attribute"], r["level"]) for r in document["flow"]] == [
            cell[:2] for cell in cells
        ]
        label = self.images["label"].where(self.images["label"].notna(), UNKNOWN)
        confidence = self.images["probability"]
        found: Numbers = {}
        for i, (_, _, inside) in enumerate(cells):
            steps = {
                "n_manifest": inside,
                "n_readable": self.readable,
                "n_mask_usable": self.masked,
                "n_heat_usable": self.heated,
            }
            steps["n_analysed"] = self.analysed
            found |= {("flow", i, name): (inside & step).sum() for name, step in steps.items()}
            found["flow", i, "n_clusters"] = self.cluster[inside & self.analysed].nunique()
            found["flow", i, "mean_confidence"] = _none(confidence[inside & self.readable].mean())
            base = label[inside & self.anchored]
            for name in (
                sorted(set(label) - {UNKNOWN}) + [UNKNOWN] * bool((label == UNKNOWN).any())
                if len(base)
                else ()
            ):
                found["flow", i, "label_prevalence", name] = (base == name).mean()
            for region in self.regions:
                found["flow", i, "area_share", region] = _none(
                    self.wide["area_share"].loc[inside & self.defined[region], region].mean()
                )
        return found

    def exclusions(self, document: dict[str, Any]) -> Numbers:
        whole = self.images["reason"].where(
            ~self.readable, self.status.map(COLD).where(self.readable & ~self.warm)
        )
        wanted = {("", reason): whole == reason for reason in whole.dropna().unique()}
        for region in self.regions:
            left = self.warm & ~self.defined[region]
            wanted |= {
                (region, why): left & (self.wide["reason"][region] == why)
                for why in self.wide["reason"].loc[left, region].unique()
            }
        assert {(e["region"], e["reason"]) for e in document["exclusions"]} == set(wanted)
        found: Numbers = {}
        for i, e in enumerate(document["exclusions"]):
            hit = wanted[e["region"], e["reason"]]
            assert all(hit[image] for image in e["examples"])
            found["exclusions", i, "count"] = hit.sum()
            for attribute, level, inside in self.cells():
                if attribute != ALL:
                    found["exclusions", i, "by_level", attribute, level] = (hit & inside).sum()
        return found

    # ── heat ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def heat(self, document: dict[str, Any]) -> Numbers:
        keys = [
            (attribute, level, region)
            for attribute, level, _ in self.cells()
            for region in self.regions
        ]
        assert [(h["attribute"], h["level"], h["region"]) for h in document["heat"]] == keys
        adjusted = self.adjusted_means(document)
        found: Numbers = {}
        for i, (attribute, level, region) in enumerate(keys):
            inside = self.members(attribute, level)
            used, eligible = (
                inside & self.defined[region],
                inside & self.readable & self.in_place[region],
            )
            means = self.by_cluster(self.wide["heat_share"].loc[used, region])
            row: Numbers = {
                ("n_images",): used.sum(),
                ("n_clusters",): len(means),
                ("mean",): _none(means.mean()),
                ("sd",): _none(means.std()),
            }
            low, high = _t_interval(means, self.alpha)
            row |= {
                ("ci_low",): low if low is None else max(0.0, low),
                ("ci_high",): high if high is None else min(1.0, high),
            }
            for k, q in enumerate((0.05, 0.25, 0.5, 0.75, 0.95)):
                row |= {("quantiles", k): means.quantile(q)} if len(means) else {}
            bins = np.minimum(np.floor(means * 20), 19).astype(int).value_counts()
            row |= {("histogram", k): bins.get(k, 0) for k in range(20)} if len(means) else {}
            row["mean_lift",] = _none(
                self.by_cluster(self.wide["mass_lift"].loc[used, region]).mean()
            )
            row["pointing_game",] = _none(
                self.by_cluster(self.wide["pointing_game"].loc[used, region]).mean()
            )
            for name in ("relevance_rank_accuracy", "auc"):
                if name in self.wide:
                    values = self.wide[name].loc[used, region]
                    row["others", name] = _none(self.by_cluster(values).mean())
            row["undefined_share",] = _none((~self.warm[eligible]).mean())
            row["adjusted_mean",] = adjusted.get((attribute, level, region))
            found |= {("heat", i, *name): value for name, value in row.items()}
        return found

    def adjusted_means(self, document: dict[str, Any]) -> dict[tuple[str, str, str], float]:
        """M + (1 - w) d, or where d is to one level M less the weighted d, and the same plus d: M and w over all patients.

        A patient that is alone in its level enters no model, and so neither M nor w, unless its level is withheld.
        """
        found: dict[tuple[str, str, str], float] = {}
        families: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
        for f in document["findings"]:
            if f["code"] == "GA101" and f["adjusted_for"]:
                families.setdefault((f["attribute"], f["region"], f["reference"]), []).append(f)
        for (attribute, region, reference), own in families.items():
            known = [
                f for f in own if f["adjusted"]["estimate"] is not None and not f["n_withheld"]
            ]
            if reference != REST and len(known) < len(own):
                continue  # the mean over all levels takes every level
            people = self.people(f"heat_share {region}", attribute)
            hidden = any(g["suppressed"] for g in own)
            if (alone := people.levels.alone) and reference == REST and not hidden:
                people = people.keep(~np.isin(people.group, alone))
            d = {f["group"]: self.answer_of(f).values["estimate"] for f in known}
            share = {level: float((people.group == level).mean()) for level in d}
            mean = people.y.mean()
            if reference != REST:
                mean = found[attribute, reference, region] = mean - sum(share[x] * d[x] for x in d)
            for level in d:
                found[attribute, level, region] = (
                    mean + (1 - share[level] if reference == REST else 1) * d[level]
                )
        return found

    def mean_maps(self, document: dict[str, Any]) -> Numbers:
        maps = self.parts.maps
        grid = lambda row, kind: (  # noqa: E731
            np.frombuffer(row.values, kind).reshape(row.height, row.width).astype(float)
        )
        heat = {m.image_id: grid(m, np.float32) for m in maps[maps["kind"] == "heat"].itertuples()}
        heat = {
            image: h / h.sum() for image, h in heat.items() if h.sum() > 0 and self.anchored[image]
        }
        cover = {
            r: {
                m.image_id: grid(m, np.uint8) / 255
                for m in maps[(maps["kind"] == "region") & (maps["name"] == r)].itertuples()
            }
            for r in self.regions
        }
        wanted = {
            (a, b): ids
            for a, b, inside in self.cells()
            if (ids := [image for image in heat if inside[image]])
        }
        told = [(m["attribute"], m["level"]) for m in document["mean_maps"]]
        assert told == [key for key in wanted if key in told]
        found: Numbers = {}
        for i, key in enumerate(told):
            ids = wanted[key]
            found["mean_maps", i, "n_images"] = len(ids)
            found |= _grid(
                np.mean([heat[image] for image in ids], axis=0), ("mean_maps", i, "heat")
            )
            for region, covers in cover.items():
                if own := [covers[image] for image in ids if image in covers]:
                    found |= _grid(np.mean(own, axis=0), ("mean_maps", i, "regions", region))
        return found

    def gallery(self, document: dict[str, Any]) -> Numbers:
        index = json.loads((self.parts.folder / "thumbs" / "index.json").read_text())
        heat = self.parts.maps[self.parts.maps["kind"] == "heat"].set_index("image_id")
        whole = [
            (r["attribute"], r["level"])
            for r in document["flow"]
            if r["suppressed"] and not r["area_share"]
        ]
        hidden = (
            sum(self.members(*cell) for cell in whole) > 0
            if whole
            else self.members(ALL, ALL) & False
        )
        found: Numbers = {}
        for i, item in enumerate(document["gallery"]):
            image, at = item["image_id"], ("gallery", i)
            found |= {(*at, side): index[image][side] for side in ("width", "height")}
            assert item["levels"] == {
                name: str(levels[self.images.index.get_loc(image)])
                for name, levels in self.levels.items()
            }
            found[*at, "probability"] = round(self.images.loc[image, "probability"], 4)
            for region in self.regions:
                share = self.wide["heat_share"].loc[image, region]
                found[*at, "values", region] = None if pd.isna(share) else round(share, 4)
            row = heat.loc[image]
            found |= _grid(
                np.frombuffer(row["values"], np.float32)
                .reshape(row["height"], row["width"])
                .astype(float),
                (*at, "heat"),
            )
            for label in item["picked"]:
                self._check_pick(image, label, ~hidden)
        return found

    def _check_pick(self, image: str, label: str, shown: pd.Series) -> None:
        kind, _, where = label.partition(": ")
        region, _, cell = where.rpartition(", ")
        attribute, _, level = cell.partition(" = ")
        if kind == "nearest":
            attribute, is_not, level = cell.partition(" not ")
            if not is_not:
                attribute, _, level = cell.partition(" = ")
            inside = self.members(attribute, level) & self.defined[region]
            assert shown[image]
            assert inside[image] != bool(is_not), label
            return
        inside = self.members(attribute, level) & self.readable & shown
        assert inside[image], label
        if kind != "random":
            shares = self.wide["heat_share"].loc[inside & self.warm, region]
            assert shares[image] == (shares.max() if kind == "highest" else shares.min()), label

    def drawings(self, document: dict[str, Any]) -> Numbers:
        """What figures are drawn from; ``recount_figures`` counts it."""
        found: Numbers = {}
        for part in recount_figures.PARTS:
            found |= part(self, document)
        return found

    # ── performance ─────────────────────────────────────────────────────────────────────────────────────────────────

    def performance(self, document: dict[str, Any]) -> Numbers:
        classes = [
            c.removeprefix("probability.") for c in self.images if c.startswith("probability.")
        ]
        labelled = (
            self.readable
            & self.images["label"].isin(classes)
            & self.images["predicted"].isin(classes)
        )
        narrowed = {
            (r["attribute"], r["level"])
            for r in document["performance"]
            if "over images with a heat share" in r["reason"]
        }
        data = self.images[labelled]
        groups = {
            (a, b): data.index[
                inside[labelled] & (self.anchored[labelled] | ((a, b) not in narrowed))
            ]
            for a, b, inside in self.cells()
        }
        wanted: list[tuple[str, str, str]] = []
        values: list[Figure] = []
        for (attribute, level), ids in groups.items():
            reference = self._declared(attribute)["reference"] if attribute != ALL else level
            others = (
                data.index[~self.members(attribute, level)[labelled]]
                if reference == REST
                else groups[attribute, reference]
            )
            mine, base = (
                self.figures(data.loc[ids], classes),
                None if level == reference else self.figures(data.loc[others], classes),
            )
            for metric in METRICS:
                own = mine[metric]
                wanted.append((attribute, level, metric))
                values.append(own)
                if base is not None:
                    known = own[0] is not None and base[metric][0] is not None
                    wanted.append((attribute, level, f"{metric}_difference"))
                    values.append((own[0] - base[metric][0] if known else None, *own[1:]))
        shown = [
            r["name"]
            for r in document["regions"]
            if self.plan["regions"].get(r["name"], {}).get("role", "neutral") != "neutral"
        ]
        right = self.images["correct"].astype("boolean")
        for attribute, level, inside in self.cells():
            for region in shown or self.regions:
                for metric, side in (
                    ("heat_right", right.fillna(False)),
                    ("heat_wrong", ~right.fillna(True)),
                ):
                    used = inside & self.defined[region] & side.astype(bool)
                    means = self.by_cluster(self.wide["heat_share"].loc[used, region])
                    wanted.append((attribute, level, f"{metric}:{region}"))
                    values.append((_none(means.mean()), used.sum(), len(means)))
        assert [
            (r["attribute"], r["level"], r["metric"]) for r in document["performance"]
        ] == wanted
        found: Numbers = {}
        for i, (estimate, images, clusters) in enumerate(values):
            found |= {
                ("performance", i, "estimate"): estimate,
                ("performance", i, "n_images"): images,
                ("performance", i, "n_clusters"): clusters,
            }
        return found

    def figures(self, data: pd.DataFrame, classes: list[str]) -> dict[str, Figure]:
        """Each figure from scikit-learn (the slope: a logistic regression of statsmodels), with the images and clusters that it is a share of."""
        positive, label, predicted = (
            self.plan["analysis"]["positive_class"],
            data["label"].to_numpy(str),
            data["predicted"].to_numpy(str),
        )
        chance, cluster = (
            data[[f"probability.{k}" for k in classes]].to_numpy(),
            data["cluster"].to_numpy(str),
        )
        if len(data) == 0:
            return dict.fromkeys(METRICS, NO_FIGURE)
        everyone = (len(data), len(set(cluster)))
        accuracy = sk.accuracy_score(label, predicted)
        if positive is None:
            table = pd.DataFrame(
                sk.confusion_matrix(label, predicted, labels=classes), classes, classes
            )
            labelled, called, right = (
                table.sum(axis=1),
                table.sum(),
                pd.Series(np.diag(table), classes),
            )
            both = labelled.between(1, len(data) - 1)
            values = {
                "accuracy": accuracy, "sensitivity": (right / labelled)[labelled > 0].mean(), "ppv": (right / called)[called > 0].mean(),
                "specificity": (1 - (called - right) / (len(data) - labelled))[both].mean() if both.any() else None,
                "auc": np.mean([sk.roc_auc_score(label == k, chance[:, n]) for n, k in enumerate(classes) if both[k]]) if both.any() else None,
                "brier": np.sum([np.mean((chance[:, n] - (label == k)) ** 2) for n, k in enumerate(classes)]), "calibration_slope": None,
            }  # fmt: skip
            return {
                metric: NO_FIGURE if value is None else (float(value), *everyone)
                for metric, value in values.items()
            }
        truth, called, p = (
            label == positive,
            predicted == positive,
            chance[:, classes.index(positive)],
        )
        (tn, fp), (fn, tp) = sk.confusion_matrix(truth, called, labels=[False, True])
        two = 0 < truth.sum() < len(data)
        own: dict[str, tuple[Any, Any]] = {
            "accuracy": (accuracy, truth | True), "sensitivity": (tp / max(tp + fn, 1), truth), "specificity": (tn / max(tn + fp, 1), ~truth),
            "ppv": (tp / max(tp + fp, 1), called), "auc": (sk.roc_auc_score(truth, p) if two else None, truth | True),
            "brier": (sk.brier_score_loss(truth, p), truth | True), "calibration_slope": (_slope_of_logit(truth, p) if two else None, truth | True),
        }  # fmt: skip
        return {
            metric: NO_FIGURE
            if value is None or not base.any()
            else (float(value), int(base.sum()), len(set(cluster[base])))
            for metric, (value, base) in own.items()
        }

    # ── findings ────────────────────────────────────────────────────────────────────────────────────────────────────

    def heat_share(self, region: str) -> pd.Series:
        return self.wide["heat_share"][region].where(self.defined[region])

    @cache  # noqa: B019
    def outcome(self, name: str) -> pd.Series:
        """One value per image of an outcome, "heat_share ruler" or "undefined": NaN where it is not defined."""
        kind, _, region = name.partition(" ")
        if kind == "undefined":
            return self.status.map({"ok": 0.0} | dict.fromkeys(COLD, 1.0))
        if kind == "absent":  # looked for: a mask with an area, or found empty
            area = self.wide["area_share"][region]
            empty = (area == 0) | self.wide["reason"][region].isin(
                ["empty_mask", "empty_after_crop"]
            )
            return empty.astype(float).where(area.notna() | empty)
        if kind == "heat_share_correct":
            return self.heat_share(region).where(
                self.images["correct"].astype("boolean").fillna(False).astype(bool)
            )
        return self.heat_share(region) if kind == "heat_share" else self.wide[kind][region]

    @property
    def site(self) -> str | None:
        return self.plan["analysis"]["site"]

    def column(self, name: str) -> pd.Series:
        """A covariate of the images, None where unknown; numbers where every value is one."""
        place = next(c for c in (f"meta.{name}", f"subgroup.{name}", name) if c in self.images)
        text = self.images[place].astype(object)
        text = text.where(text.notna(), None)
        numbers = pd.to_numeric(text, errors="coerce")
        unknown = text.isna() | (text == "")
        is_number = (numbers.notna() | unknown).all() and numbers.nunique() > 2
        return numbers if is_number else text

    def known_levels(self, attribute: str) -> list[str]:
        return [str(level) for level in self.levels[attribute].categories if level != UNKNOWN]

    @cache  # noqa: B019
    def reference(self, attribute: str) -> str:
        """As declared; of two levels the one with more clusters, all rows of the manifest counted."""
        declared = self._declared(attribute)["reference"] if attribute in self.kinds else REST
        if declared != REST or " × " in attribute or self.kinds[attribute] == "continuous":
            return str(declared)
        levels = self.known_levels(attribute)
        if len(levels) != 2:
            return REST
        sizes = [self.cluster[self.members(attribute, level)].nunique() for level in levels]
        return sorted(levels)[int(np.argmax([sizes[levels.index(x)] for x in sorted(levels)]))]

    @cache  # noqa: B019
    def groups(self, attribute: str) -> tuple[pd.Series, list[str] | None]:
        """Level (or number) of each image, None where unknown, and the order of the levels; of two attributes: their cells."""
        if " × " in attribute:
            first, second = (self.groups(name)[0] for name in attribute.split(" × "))
            cell = (first + " × " + second).where(first.notna() & second.notna(), None)
            return cell, sorted(cell.dropna().unique())
        if self.kinds[attribute] == "continuous":
            return pd.to_numeric(self.images[f"subgroup.{attribute}"]), None
        text = pd.Series(self.levels[attribute].astype(object), index=self.images.index)
        return text.where(text != UNKNOWN, None), self.known_levels(attribute)

    def entering(self, outcome: str, attribute: str, ask: Ask = ASKED) -> Rows:
        """Image rows with a value, a level and every covariate; a cluster keeps the images of its most frequent level."""
        kind, _, region = outcome.partition(" ")
        group, order = (
            self.groups(attribute) if ask.sides is None else (ask.sides, ["group", "other"])
        )
        values = (self.outcome(outcome) if ask.values is None else ask.values).to_numpy(float)
        if ask.stratum:
            values = np.where(self.stratum(ask.stratum), values, np.nan)
        if order is not None:
            group = group.map({level: k for k, level in enumerate(order)})
        rows = pd.DataFrame({"y": values, "group": group.to_numpy(float), "cluster": self.patient})
        factors, numbers, attributes = [], [], attribute.split(" × ")
        if ask.adjust and region and kind != "absent":
            area = self.wide["area_share"][region] if ask.area is None else ask.area
            area = area.clip(1e-6, 1 - 1e-6).to_numpy()
            rows["size"] = np.log(area / (1 - area))
            rows[ask.klass] = self.codes("predicted" if ask.klass == "class" else "label")
            factors = [ask.klass]
        site = self.site if ask.adjust and self.site not in (None, *attributes) else None
        if site:
            rows[site] = self.codes(site)
            factors.append(site)
        for name in self.plan["analysis"]["covariates"] if ask.adjust else ():
            if name not in (*attributes, self.site):
                is_number = pd.api.types.is_float_dtype(self.column(name))
                rows[name] = self.column(name).to_numpy() if is_number else self.codes(name)
                (numbers if is_number else factors).append(name)
        rows, mixed = rows[rows.notna().all(axis=1)], 0
        if order is not None and len(rows):
            patient, level = rows["cluster"].to_numpy(), rows["group"].to_numpy(int)
            sizes = np.zeros((patient.max() + 1, len(order)))
            np.add.at(sizes, (patient, level), 1)
            mixed = int(((sizes > 0).sum(axis=1) > 1).sum())
            rows = rows[level == sizes.argmax(axis=1)[patient]]
        return Rows(rows, order, factors, numbers, site, mixed)

    @cached_property
    def patient(self) -> Any:
        return pd.factorize(self.cluster)[0]

    @cache  # noqa: B019
    def codes(self, name: str) -> Any:
        """Levels of a factor as places in the order of their names, -1 where unknown."""
        text = (
            self.images[name].astype(object)
            if name in ("label", "predicted")
            else self.column(name)
        )
        names = sorted(text.dropna().astype(str).unique())
        return np.array([names.index(str(x)) if x is not None and x == x else -1 for x in text])

    def stratum(self, name: str) -> pd.Series:
        """Images of a class ("class warm") or of a level of an attribute ("site arm")."""
        first, _, level = name.partition(" ")
        return self.images["label"] == level if first == "class" else self.members(first, level)

    @cache  # noqa: B019
    def people(
        self,
        outcome: str,
        attribute: str,
        adjust: bool = True,
        klass: str = "label",
        stratum: str = "",
    ) -> People:
        """One row per patient."""
        return People.of(self.entering(outcome, attribute, Ask(adjust, klass, stratum)))

    @cache  # noqa: B019
    def answer(
        self, outcome: str, attribute: str, kind: str, group: str = "", reference: str = "",
        adjust: bool = True, klass: str = "label", stratum: str = "",
    ) -> Answer:  # fmt: skip
        people = self.people(outcome, attribute, adjust, klass, stratum)
        if kind not in ("level", "pair", "additivity"):
            group = reference = ""
        return compare(people, kind, group, reference)

    def answer_of(self, f: dict[str, Any], adjust: bool = True, klass: str = "label") -> Answer:
        """The comparison of a finding."""
        name = f"{f['outcome']} {f['region']}".strip()
        group = f["group"].removesuffix(f", within {f['stratum']}")
        return self.answer(
            name,
            f["attribute"],
            self.kind_of(f),
            group,
            f["reference"],
            adjust,
            klass,
            f["stratum"],
        )

    # ── which findings there are ────────────────────────────────────────────────────────────────────────────────────

    def kind_of(self, f: dict[str, Any]) -> str:
        attribute, code = f["attribute"], f["code"]
        if code == "GA131":
            return "additivity" if f["reference"] == "additive prediction" else "level"
        if self.kinds[attribute] == "continuous":
            is_slope = code == "GA121" or f["anchor"].endswith("-slope")
            return "nonlinear" if code == "GA104" else "continuous" if is_slope else "curve"
        if code in ("GA102", "GA104", "GA105"):
            return {"GA102": "trend", "GA104": "departure", "GA105": "pair"}[code]
        if f["reference"] == self.reference(attribute):
            return "level"
        return "trend" if self.kinds[attribute] == "ordered" else "pair"

    @property
    def decisive(self) -> list[str]:
        """Declared as such; else every region with a role."""
        declared, roles = self.plan["analysis"]["regions"], self.plan["regions"]
        if declared:
            return [r for r in self.regions if r in declared]
        return [r for r in self.regions if roles.get(r, {}).get("role", "neutral") != "neutral"]

    def is_decisive(self, f: dict[str, Any]) -> bool:
        """Whether a finding answers a planned cell."""
        if f["code"] == "GA111":
            return True
        named = (
            f["code"] in ("GA101", "GA102", "GA103", "GA105") and self.kind_of(f) != "continuous"
        )
        return named and f["region"] in self.decisive

    def contrasts(
        self, outcome: str, attribute: str, pairwise: bool, stratum: str = ""
    ) -> list[tuple[str, str, str]]:
        """Kind, group and reference of every comparison of one attribute."""
        people = self.people(outcome, attribute, stratum=stratum)
        if people.order is None:
            if len(people) == 0 or np.ptp(people.place) == 0:
                return []
            lower, upper = _names_of_points(people.place, np.array([10, 90]))
            return [
                ("continuous", upper, lower),
                ("nonlinear", upper, lower),
                self._curve(outcome, attribute, stratum),
            ]
        reference = self.reference(attribute)
        present = [level for level in people.order if (people.group == level).any()]
        against = [level for level in present if level != reference] if len(present) > 1 else []
        out = [("level", level, reference) for level in against]
        if people.order == sorted(people.order) and self.kinds.get(attribute) == "ordered":
            assert list(self._declared(attribute)["order"]) == people.order
        if self.kinds.get(attribute) == "ordered":
            if len(present) > 2:
                out += [(kind, present[-1], present[0]) for kind in ("trend", "departure")]
        elif pairwise and len(people.order) > 2:
            out += [("pair", a, b) for a, b in combinations(present, 2) if reference not in (a, b)]
        return out

    def _curve(self, outcome: str, attribute: str, stratum: str) -> tuple[str, str, str]:
        """The curve, by the names of the two points that differ most; of one without a number the outermost."""
        names = _names_of_points(
            self.people(outcome, attribute, stratum=stratum).place, np.linspace(5, 95, 13)
        )
        answer = self.answer(outcome, attribute, "curve", stratum=stratum)
        upper, lower = answer.pairs[answer.values["place"]] if answer.has_number else (-1, 0)
        return "curve", names[upper], names[lower]

    def questions(self) -> set[tuple[str, ...]]:
        """Code, attribute, region, outcome, kind, group, reference and stratum of every finding that the definitions ask for."""
        found: set[tuple[str, ...]] = set()
        for attribute in self.kinds:
            for region in self.regions:
                found |= set(self._of_heat(attribute, region))
                absent = self.outcome(f"absent {region}").dropna()
                if 0 < absent.sum() < len(absent):
                    own = self._every("absent", region, attribute, pairwise=False)
                    found |= {("GA112", *rest) for _, *rest in own if rest[3] == "level"}
            own = self._every("undefined", "", attribute, pairwise=True)
            found |= {("GA111", *rest) for _, *rest in own if rest[3] in PLANNED}
            for region, outcome in [
                (r, o) for r in self.decisive for o in (*SECONDARY, "heat_share_correct")
            ]:
                own = self._every(outcome, region, attribute, pairwise=False)
                kinds = ("level", "trend", "continuous")
                found |= {("GA121", *rest) for ok, *rest in own if ok and rest[3] in kinds}
        for region in self.decisive:
            found |= set(self._of_cells(region)) | set(self._within_strata(region))
        return found

    def _every(
        self, outcome: str, region: str, attribute: str, *, pairwise: bool
    ) -> Iterator[tuple[Any, ...]]:
        """Whether it has a number, then attribute, region, outcome, kind, group, reference and no stratum."""
        name = f"{outcome} {region}".strip()
        own = self.contrasts(name, attribute, pairwise)
        for kind, group, reference in own:
            ok = self.answer(name, attribute, kind, group, reference).has_number
            yield (ok, attribute, region, outcome, kind, group, reference, "")
        if self.kinds.get(attribute) != "continuous":
            told = {level for _, *ends in own for level in ends}
            for level in self.people(name, attribute).order or ():
                if level not in told:
                    yield (
                        False,
                        attribute,
                        region,
                        outcome,
                        "level",
                        level,
                        self.reference(attribute),
                        "",
                    )

    def _of_heat(self, attribute: str, region: str) -> Iterator[tuple[str, ...]]:
        codes = {
            "level": "GA101",
            "trend": "GA102",
            "curve": "GA103",
            "continuous": "GA103",
            "pair": "GA105",
        }
        for ok, *rest in self._every(
            "heat_share", region, attribute, pairwise=region in self.decisive
        ):
            if rest[3] in codes:
                yield (codes[rest[3]], *rest)
            elif ok:
                yield ("GA104", *rest)

    def _of_cells(self, region: str) -> Iterator[tuple[str, ...]]:
        named = [name for name, kind in self.kinds.items() if kind != "continuous"]
        outcome = f"heat_share {region}"
        for first, second in combinations(named, 2):
            cells = f"{first} × {second}"
            people = self.people(outcome, cells)
            model = people.levels
            for cell in people.order or ():
                place = ("GA131", cells, region, "heat_share")
                if self.answer(outcome, cells, "level", cell, REST).has_number:
                    yield (*place, "level", cell, REST, "")
                if (
                    len(model.large) > 2
                    and cell in model.large
                    and np.abs(model.additivity(cell)).max() > 1e-9
                    and self.answer(outcome, cells, "additivity", cell).has_number
                ):
                    yield (*place, "additivity", cell, "additive prediction", "")

    def strata_of(self, attribute: str, region: str) -> list[str]:
        """The classes, and the levels of every other attribute, in which its groups are compared."""
        seen = self.heat_share(region).notna() & self.groups(attribute)[0].notna()
        found = []
        for name in (
            "class",
            *(a for a, kind in self.kinds.items() if kind != "continuous" and a != attribute),
        ):
            levels = self.images["label"] if name == "class" else self.groups(name)[0]
            own = sorted(levels[seen].dropna().unique())
            found += [f"{name} {level}" for level in own] if len(own) > 1 else []
        return found

    def _within_strata(self, region: str) -> Iterator[tuple[str, ...]]:
        for attribute in self.kinds:
            for stratum in self.strata_of(attribute, region):
                for kind, group, reference in self.contrasts_of_part(attribute, region, stratum):
                    answer = self.answer(
                        f"heat_share {region}", attribute, kind, group, reference, stratum=stratum
                    )
                    if kind in ("level", "curve") and answer.has_number:
                        yield (
                            "GA132",
                            attribute,
                            region,
                            "heat_share",
                            kind,
                            f"{group}, within {stratum}",
                            reference,
                            stratum,
                        )

    def contrasts_of_part(
        self, attribute: str, region: str, stratum: str
    ) -> list[tuple[str, str, str]]:
        """What is compared among a part of the images, but for what stands beside."""
        own = self.contrasts(f"heat_share {region}", attribute, pairwise=False, stratum=stratum)
        return [c for c in own if c[0] in PLANNED]

    # ── the numbers of a finding ────────────────────────────────────────────────────────────────────────────────────

    def findings(self, document: dict[str, Any]) -> Numbers:
        told = []
        for f in document["findings"]:
            place = f["code"], f["attribute"], f["region"], f["outcome"], self.kind_of(f)
            told.append((*place, f["group"], f["reference"], f["stratum"]))
        wanted = self.questions()
        assert len(set(told)) == len(told)
        differ = sorted(set(told) - wanted), sorted(wanted - set(told))
        assert set(told) == wanted, differ
        found: Numbers = {}
        for i, f in enumerate(document["findings"]):
            counted = self.finding(f, document) | (
                dict.fromkeys(COUNTS, 0) if f["n_withheld"] else {}
            )
            found |= {("findings", i, *place): value for place, value in counted.items()}
        return found

    def margin(self, f: dict[str, Any]) -> float | None:
        if f["code"] != "GA132" and not self.is_decisive(f):
            return None
        return float(
            self.plan["criteria"]["undefined_margin" if f["code"] == "GA111" else "margin"]
        )

    def finding(self, f: dict[str, Any], document: dict[str, Any]) -> Numbers:
        kind = self.kind_of(f)
        found: Numbers = {("margin",): self.margin(f)}
        if f["reason"] == "no usable image" or f["suppressed"]:
            return found | dict.fromkeys(COUNTS, 0)
        answer = self.answer_of(f)
        assert bool(f["reason"]) != answer.has_number, (f["anchor"], f["reason"], answer.guard)
        found |= self._counts_and_means(f, kind)
        found |= self._raw_and_beside(f, kind, answer)
        if not answer.has_number:
            return found
        level = self.alpha / len(document["cells"]) if self.is_decisive(f) else self.alpha
        n, shown = answer.values, self._best(f)
        found |= {("test", "statistic"): n["statistic"], ("test", "df"): n["df"]}
        if kind not in ("departure", "nonlinear"):
            found |= {(shown, "estimate"): n["estimate"], ("se",): n["se"]}
            found["mde80",] = _detectable(n["se"], n["df"], level)
            found |= self._effects(f, answer, f[shown])
        if kind == "curve":
            found |= _curve_points(answer, self.alpha)
        if self.by_student(f):
            found |= self._by_student(f, document, answer)
        if (margin := self.margin(f)) is not None and f["thin"]["low"] is not None:
            found["beyond_up_to",] = max(f["thin"]["low"], -f["thin"]["high"], 0.0)
            found["within_from",] = max(-f["thick"]["low"], f["thick"]["high"], 0.0)
            if abs(n["estimate"]) <= margin:
                found["test", "p_beyond"] = 1.0
        return found

    def _best(self, f: dict[str, Any]) -> str:
        """Which interval decides; and that what is held equal is what the finding says."""
        people = self.people(
            f"{f['outcome']} {f['region']}".strip(), f["attribute"], stratum=f["stratum"]
        )
        assert f["adjusted_for"] == people.adjusted_for, f["anchor"]
        return "adjusted" if people.adjusted_for else "raw"

    def _counts_and_means(self, f: dict[str, Any], kind: str) -> Numbers:
        people = self.people(
            f"{f['outcome']} {f['region']}".strip(), f["attribute"], stratum=f["stratum"]
        )
        own, other = people.sides(
            f["group"].removesuffix(f", within {f['stratum']}"), f["reference"]
        )
        if kind not in ("level", "pair"):
            # a slope belongs to everybody, and a prediction has no images of its own
            own, other = (own if kind == "additivity" else own | True), other & False
        found: Numbers = {}
        for suffix, side in (("", own), ("_reference", other)):
            found[f"n_images{suffix}",] = people.frame["images"].to_numpy()[side].sum()
            found[f"n_clusters{suffix}",] = side.sum()
            if kind in ("level", "pair", "additivity") and side.any():
                means = pd.Series(people.y[side])
                ends = zip(
                    ("estimate", "low", "high"),
                    (means.mean(), *_t_interval(means, self.alpha)),
                    strict=True,
                )
                found |= {(f"mean{suffix}", end): value for end, value in ends}
        return found

    def _raw_and_beside(self, f: dict[str, Any], kind: str, answer: Answer) -> Numbers:
        """The plain difference, and the one at equal predicted class; of a curve where the same two points differ most."""
        found: Numbers = {}
        name = f"{f['outcome']} {f['region']}".strip()
        if f["adjusted_for"] and f["code"] not in ("GA104", "GA131", "GA132"):
            # also where region sizes overlap too little to compare at equal size
            plain = self.answer_of(f, adjust=False)
            if plain.has_number and self._is_of_the_same_points(name, f, kind, adjust=False):
                found["raw", "estimate"] = plain.values["estimate"]
        heat = f["code"] in ("GA101", "GA102", "GA103", "GA105") and f["region"] in self.decisive
        if heat and answer.has_number:
            beside = self.answer_of(f, klass="class")
            if beside.has_number and self._is_of_the_same_points(name, f, kind, klass="class"):
                n = beside.values
                half = stats.t.ppf(1 - self.alpha / 2, n["df"]) * n["se"]
                ends = {"estimate": n["estimate"]}
                if kind != "curve":
                    ends |= {"low": n["estimate"] - half, "high": n["estimate"] + half}
                found |= {("adjusted_predicted", end): value for end, value in ends.items()}
        return found

    def _is_of_the_same_points(self, name: str, f: dict[str, Any], kind: str, **ask: Any) -> bool:
        if kind not in ("curve", "continuous"):
            return True
        people, percents = self.people(name, f["attribute"], **ask), np.array([10, 90])
        if kind == "continuous":
            return _names_of_points(people.place, percents) == [f["reference"], f["group"]]
        answer = self.answer(name, f["attribute"], "curve", **ask)
        names = _names_of_points(people.place, np.linspace(5, 95, 13))
        upper, lower = answer.pairs[answer.values["place"]]
        return (names[upper], names[lower]) == (f["group"], f["reference"])

    def _effects(self, f: dict[str, Any], answer: Answer, shown: dict[str, Any]) -> Numbers:
        if answer.kind not in ("level", "pair", "curve"):
            return {}
        effects = answer.effects
        found: Numbers = {("effect", "standardised_difference"): effects["standardised_difference"]}
        if answer.kind == "curve":
            return found
        found["effect", "cliffs_delta"] = effects["cliffs_delta"]
        known = shown["low"] is not None
        q = (shown["high"] - shown["low"]) / 2 / answer.values["se"] if known else None
        ratio = zip(("estimate", "low", "high"), _ratio(effects, q), strict=True)
        return found | {("effect", "ratio", end): value for end, value in ratio}

    # ── by Student's t ──────────────────────────────────────────────────────────────────────────────────────────────

    def family_of_part(self, f: dict[str, Any]) -> list[Answer]:
        """Everything that is compared among the part of the images that a finding is about."""
        out = []
        for kind, group, reference in self.contrasts_of_part(
            f["attribute"], f["region"], f["stratum"]
        ):
            out.append(
                self.answer(
                    f"heat_share {f['region']}",
                    f["attribute"],
                    kind,
                    group,
                    reference,
                    stratum=f["stratum"],
                )
            )
        return out

    def by_student(self, f: dict[str, Any]) -> bool:
        """Whether it is no permutation: sites are its unit, or nothing among a part of the images is beyond the limit."""
        answer = self.answer_of(f)
        if not answer.has_number or answer.by_site:
            return answer.has_number
        if f["code"] != "GA132":
            return False
        if answer.kind == "curve":  # the largest of its t is drawn at random in either way
            assert f["test"]["permutations"] is None or abs(answer.values["estimate"]) > f["margin"]
            assert f["test"]["permutations"] is not None or f["test"]["p_beyond"] == 1
            return f["test"]["permutations"] is None
        family = [a.values for a in self.family_of_part(f) if a.has_number]
        return all(student_p_beyond(n, f["margin"]) == 1 for n in family)

    def _by_student(self, f: dict[str, Any], document: dict[str, Any], answer: Answer) -> Numbers:
        """p, interval and whiskers from Student's t; of a curve the largest of many t is drawn at random."""
        kind, n = answer.kind, answer.values
        if kind == "curve":
            return {}
        if kind == "departure":
            return {
                ("test", "p"): stats.f.sf(
                    n["statistic"], 1, answer.squares.numbers(answer.rows[0], True)["df"]
                )
            }  # type: ignore[union-attr]
        half = stats.t.ppf(1 - self.alpha / 2, n["df"]) * n["se"]
        shown, estimate = self._best(f), n["estimate"]
        found: Numbers = {("test", "p"): 2 * stats.t.sf(abs(n["statistic"]), n["df"])}
        found |= {(shown, "low"): estimate - half, (shown, "high"): estimate + half}
        if (margin := self.margin(f)) is None:
            return found
        found["test", "p_within"] = student_p_within(n, margin)
        found["test", "p_beyond"] = student_p_beyond(n, margin)
        family = len(document["cells"])
        beyond = sum(cell["state"] == "beyond" for cell in document["cells"])
        if f["code"] == "GA132":
            own = self.family_of_part(f)
            if any(a.has_number and student_p_beyond(a.values, margin) < 1 for a in own):
                return found  # Holm among them
            family, beyond = len(own), 0
        level = self.alpha / 2 / (family if f["state"] == "beyond" else family - beyond)
        thin, thick = student_whisker(n, level), student_whisker(n, self.alpha)
        if f["state"] == "beyond":
            thin = (
                (max(thin[0], margin), thin[1])
                if estimate > 0
                else (thin[0], min(thin[1], -margin))
            )
        found |= {("thin", end): x for end, x in zip(("low", "high"), thin, strict=True)}
        return found | {("thick", end): x for end, x in zip(("low", "high"), thick, strict=True)}

    # ── families and planned cells ──────────────────────────────────────────────────────────────────────────────────

    def families(self, document: dict[str, Any]) -> Numbers:
        """p adjusted: Holm among the decisive findings, Benjamini-Hochberg among the others, among parts, and among performance."""
        found: Numbers = {}
        rows = list(enumerate(document["findings"]))
        for family, method in (("confirmatory", "holm"), ("exploratory", "fdr_bh")):
            own = [(i, f) for i, f in rows if f["test"]["family"] == family and not f["stratum"]]
            found |= _adjusted("findings", "p", [(i, f["test"]["p"]) for i, f in own], method)
        parts = [
            (i, f["test"]["p_beyond"]) for i, f in rows if f["stratum"] and not f["suppressed"]
        ]
        found |= _adjusted("findings", "p", parts, "fdr_bh")
        found |= _adjusted("findings", "p_beyond", parts, "fdr_bh")
        found |= self._holm_of_cells(document)
        tests = [(i, r["test"]["p"]) for i, r in enumerate(document["performance"])]
        if not any(r["suppressed"] for r in document["performance"]):
            found |= _adjusted("performance", "p", tests, "fdr_bh")
        return found

    def _holm_of_cells(self, document: dict[str, Any]) -> Numbers:
        """Over all planned cells; one without a number counts with p = 1."""
        places = self.findings_of_cells(document)
        tests = [None if i is None else document["findings"][i]["test"]["p_beyond"] for i in places]
        adjusted = multipletests([1.0 if p is None else p for p in tests], method="holm")[1]
        found: Numbers = {}
        for i, p, own in zip(places, tests, adjusted, strict=True):
            if p is not None:
                found["findings", i, "test", "p_beyond_adjusted"] = own
        return found

    def planned(self) -> list[tuple[str, str, str, str, str, str]]:
        """Attribute, kind, group, reference, region and outcome of every planned cell, from plan and manifest alone."""
        places = [(region, "heat_share") for region in self.decisive] + [("", "undefined")]
        out = []
        for attribute, kind in self.kinds.items():
            levels, reference = self.known_levels(attribute), self.reference(attribute)
            own = [("curve", "", "")]
            if kind != "continuous":
                own = [("level", level, reference) for level in levels if level != reference]
                if len(levels) > 2 and kind == "ordered":
                    own.append(("trend", "", ""))
                elif len(levels) > 2:
                    own += [
                        ("pair", a, b)
                        for a, b in combinations(levels, 2)
                        if reference not in (a, b)
                    ]
            out += [(attribute, *c, *place) for c in own for place in places]
        return out

    def findings_of_cells(self, document: dict[str, Any]) -> list[int | None]:
        """Place of the finding that answers each planned cell."""
        found = {}
        for i, f in enumerate(document["findings"]):
            if self.is_decisive(f):
                kind = self.kind_of(f)
                ends = (f["group"], f["reference"]) if kind in ("level", "pair") else ("", "")
                found[f["attribute"], kind, *ends, f["region"], f["outcome"]] = i
        return [found.get(key) for key in self.planned()]

    def planned_cells(self, document: dict[str, Any]) -> Numbers:
        names = ("attribute", "comparison", "group", "reference", "region", "outcome")
        assert [tuple(c[name] for name in names) for c in document["cells"]] == self.planned()
        found: Numbers = {}
        for i, (key, place) in enumerate(
            zip(self.planned(), self.findings_of_cells(document), strict=True)
        ):
            margin = self.plan["criteria"][
                "undefined_margin" if key[-1] == "undefined" else "margin"
            ]
            found["cells", i, "margin"] = margin
            f = None if place is None else document["findings"][place]
            if f is None or f["suppressed"]:
                continue
            found["cells", i, "coverage"] = self.coverage(key, f)
            assert document["cells"][i]["finding"] == f["anchor"]
            if not f["reason"]:
                shown = f[self._best(f)]
                found["cells", i, "estimate"] = self.answer_of(f).values["estimate"]
                found |= {("cells", i, f"ci_{end}"): shown[end] for end in ("low", "high")}
        return found

    def could_be_seen(self, region: str) -> pd.Series:
        """Images in which the region is not known to be absent."""
        if not region:
            return self.members(ALL, ALL)
        absent = self.wide["reason"][region].isin(["empty_mask", "empty_after_crop"])
        return ~(absent | (self.wide["area_share"][region] == 0))

    def sides_of(self, key: tuple[str, ...]) -> tuple[pd.Series, pd.Series, list[pd.Series]]:
        """Images of the group and of the reference, or of the halves of a line; and the parts that must each be seen."""
        attribute, kind, group, reference = key[:4]
        values, order = self.groups(attribute)
        if kind in ("level", "pair"):
            own = values == group
            other = values.notna() & ~own if reference == REST else values == reference
            return own, other, [own, other]
        place = (
            values.astype(float)
            if order is None
            else values.map({x: k for k, x in enumerate(order)}).astype(float)
        )
        middle = (place.min() + place.max()) / 2
        parts = [place.notna()]
        if kind == "curve":
            first, second = place.quantile(1 / 3), place.quantile(2 / 3)
            parts = [place <= first, (place > first) & (place <= second), place > second]
        return place > middle, place <= middle, parts

    def seen(self, key: tuple[str, ...]) -> pd.Series:
        region, outcome = key[4:]
        return (
            self.outcome("undefined") if outcome == "undefined" else self.heat_share(region)
        ).notna()

    def coverage(self, key: tuple[str, ...], f: dict[str, Any]) -> float | None:
        """Smallest mean over a part's patients of the share of their images that was seen, times who entered of those counted."""
        population, seen = self.could_be_seen(key[4]), self.seen(key)
        shares = []
        for part in self.sides_of(key)[2]:
            inside = part & population
            if inside.any():
                shares.append(seen[inside].groupby(self.cluster[inside]).mean().mean())
        if not shares:
            return None
        if f["reason"] == "no usable image" or f["suppressed"]:
            return float(min(shares))
        counted = self._counts_and_means(f, self.kind_of(f))
        sizes = counted["n_clusters",], counted["n_clusters_reference",]
        own, other, _ = self.sides_of(key)
        members = (own, other) if key[1] in ("level", "pair") else (own | other,)
        for n, side in zip(
            sizes, members, strict=False
        ):  # who lacks a covariate, or counts elsewhere
            if n:
                shares.append(n / self.cluster[side & population].nunique())
        factor = 1.0
        if (entered := self.entered(f)) is not None:
            factor = min(n / of for n, of in zip(entered, sizes, strict=True) if of)
        return float(min(shares) * factor)

    def entered(self, f: dict[str, Any]) -> tuple[int, int] | None:
        return self.answer_of(f).entered

    # ── words that follow from numbers ──────────────────────────────────────────────────────────────────────────────

    def words(self, document: dict[str, Any]) -> dict[Place, Any]:
        """States, and what is yes or no, from the numbers: place -> what stands there."""
        found: dict[Place, Any] = {}
        for i, f in enumerate(document["findings"]):
            found["findings", i, "state"] = self._state(f)
            if f["suppressed"]:
                continue
            limit = NOT_EVERYWHERE_Q if f["stratum"] else self.alpha
            p, usable = f["test"]["p_adjusted"], f["reason"] != "no usable image"
            found["findings", i, "shown"] = p is not None and p <= limit
            found["findings", i, "provisional"] = usable and self.answer_of(f).guard.provisional
        found |= self._folds(document)
        judged = []
        for i, (key, place) in enumerate(
            zip(self.planned(), self.findings_of_cells(document), strict=True)
        ):
            f = document["findings"][place] if place is not None else None
            assert f is not None, key
            state = self._state(f)
            few = bool(
                not f["suppressed"]
                and f["reason"] != "no usable image"
                and self.answer_of(f).guard.provisional
            )
            reserved = state == "within" and bool(self.reservations(key, f))
            found["cells", i, "state"], found["cells", i, "provisional"] = state, few
            found["cells", i, "settled"] = state == "within" and not few and not reserved
            judged.append((state, found["cells", i, "settled"]))
        met = all(settled for _, settled in judged)
        beyond = any(state == "beyond" for state, _ in judged)
        found["verdict", "state"] = "not_met" if beyond else "met" if met else "insufficient"
        return found

    def _folds(self, document: dict[str, Any]) -> dict[Place, Any]:
        """Under which larger difference of a level each is told that follows from it, if all other levels were equal."""
        rows = list(enumerate(document["findings"]))
        found: dict[Place, Any] = {("findings", i, "folded_under"): "" for i, _ in rows}
        for place in {(f["attribute"], f["region"], f["outcome"]) for _, f in rows}:
            told = []
            for i, f in rows:
                same = (f["attribute"], f["region"], f["outcome"]) == place and not f["suppressed"]
                if same and self.is_decisive(f) and self.kind_of(f) in ("level", "pair"):
                    told += [(i, f)] if f["state"] == "beyond" or f["shown"] else []
            heads: list[int] = []
            for i, head in sorted(
                told, key=lambda item: -abs(self._difference(item[1])["estimate"] or 0)
            ):
                if self.kind_of(head) != "level" or found["findings", i, "folded_under"]:
                    continue
                heads.append(i)
                for j, other in told:
                    if (
                        j not in heads
                        and not found["findings", j, "folded_under"]
                        and self._follows(head, other)
                    ):
                        found["findings", j, "folded_under"] = head["anchor"]
        return found

    def _difference(self, f: dict[str, Any]) -> dict[str, Any]:
        return dict(f[self._best(f)])

    def _follows(self, head: dict[str, Any], other: dict[str, Any]) -> bool:
        d, seen = self._difference(head)["estimate"], self._difference(other)
        if self.kind_of(other) == "pair":
            sign = {other["group"]: 1, other["reference"]: -1}.get(head["group"], 0)
            expected = sign * d
        else:
            both_rest = (
                head["reference"] == other["reference"] == REST and head["group"] != other["group"]
            )
            sizes = (
                self._counts_and_means(head, "level")["n_clusters",],
                self._counts_and_means(other, "level")["n_clusters_reference",],
            )
            expected = -d * sizes[0] / sizes[1] if both_rest else 0.0
        near = abs(seen["estimate"] - expected) < head["margin"]
        return bool(expected * seen["estimate"] > 0 and near)

    def _state(self, f: dict[str, Any]) -> str:
        if f["suppressed"]:
            return "withheld"
        if f["reason"]:
            return "not_assessed"
        if not self.is_decisive(f):
            return "not_judged"
        if f["test"]["p_beyond_adjusted"] <= self.alpha:
            return "beyond"
        return "within" if f["test"]["p_within"] <= self.alpha else "open"

    def reservations(self, key: tuple[str, ...], f: dict[str, Any]) -> list[list[float]]:
        """What is said against a comparison within its margin, as the numbers that are said."""
        needed = self.plan["criteria"]["min_coverage"]
        known = float(self.groups(key[0])[0].notna().groupby(self.cluster).mean().mean())
        out = [[100 * known, 100 * needed]] if known < needed else []
        share = self.coverage(key, f) or 0.0
        if share < needed:
            return [*out, [100 * share, 100 * needed]]
        return out if self.stays_within(key, f) else [*out, [10, 90]]

    def stays_within(self, key: tuple[str, ...], f: dict[str, Any]) -> bool:
        """Whether it stays so where a side's unseen patients lie at the 10 or 90 % point of its seen ones."""
        attribute, kind, group, reference, region, outcome = key
        name = f"{outcome} {region}".strip()
        own, other, _ = self.sides_of(key)
        unseen = self.could_be_seen(region) & ~self.seen(key) & (own | other)
        if not unseen.any():
            return True
        area = None
        if region:
            area = self.wide["area_share"][region].copy()
            for side in (own, other):
                area[side & area.isna()] = area[side].median()
        for low, high in ((0.1, 0.9), (0.9, 0.1)):
            values = self.outcome(name).copy()
            for side, point in ((own, low), (other, high)):
                values[unseen & side] = self.by_cluster(
                    self.outcome(name)[side & self.seen(key)]
                ).quantile(point)
            people = People.of(self.entering(name, attribute, Ask(values=values, area=area)))
            answer = compare(people, kind, group, reference)
            if not answer.has_number or not _is_inside(answer, self.alpha, f["margin"]):
                return False
        return True

    # ── what is drawn at random ─────────────────────────────────────────────────────────────────────────────────────

    def permuted(
        self, f: dict[str, Any], cells: Sequence[dict[str, Any]]
    ) -> Iterator[tuple[str, float, float, float]]:
        """What, the level that it is said to have, the level that it has in permutations of one's own, and how far these may differ.

        Five standard errors of both numbers of permutations, and one statistic of either.
        """
        answer, shown, test = self.answer_of(f), f[self._best(f)], f["test"]
        count, theirs = PERMUTED if self.is_decisive(f) else FEWER_PERMUTED, test["permutations"]
        assert theirs >= min(199, FEWER_PERMUTED)

        def told(what: str, level: float, reached: Any) -> tuple[str, float, float, float]:
            own = (1 + np.count_nonzero(reached)) / (count + 1)
            p = min(max(level, own), 0.5)
            error = 5 * np.sqrt(p * (1 - p) * (1 / theirs + 1 / count)) + 1 / count + 1 / theirs
            return what, level, own, error

        t = answer.drawn(count)
        if answer.kind in ("departure", "nonlinear"):
            yield told("p", test["p"], t >= test["statistic"] * (1 - 1e-9))
            return
        se, d, margin = f["se"], shown["estimate"], self.margin(f)
        if d is None or se is None:
            return  # rates are withheld
        size = np.abs(t) if answer.kind != "curve" else np.abs(t).max(axis=1)
        yield told("p", test["p"], size >= abs(test["statistic"]) * (1 - 1e-9))
        q = max(d - shown["low"], shown["high"] - d) / se
        yield told("interval", self.alpha, size >= q * (1 - 1e-9))
        if margin is None:
            return
        many = answer.values["all"] if answer.kind == "curve" else np.array([d])
        errors = answer.values["errors"] if answer.kind == "curve" else np.array([se])
        t = t if answer.kind == "curve" else t[:, None]
        if np.abs(many).max() > margin:
            far = np.max((np.abs(many) - margin) / errors)
            if answer.kind == "curve":
                yield told("p of beyond", test["p_beyond"], size >= far * (1 - 1e-9))
            elif test["p_beyond"] < 1:
                yield told("p of beyond", test["p_beyond"] / 2, t * np.sign(d) >= far * (1 - 1e-9))
        if np.abs(many).max() < margin:
            below = (-t >= (margin - many) / errors * (1 - 1e-9)).sum(axis=0)
            above = (t >= (margin + many) / errors * (1 - 1e-9)).sum(axis=0)
            yield told("p of within", test["p_within"], np.ones(max(below.max(), above.max())))
        if answer.kind != "curve":
            yield from self._whiskers(f, d, t[:, 0], cells, told)

    def _whiskers(
        self,
        f: dict[str, Any],
        d: float,
        t: Any,
        cells: Sequence[dict[str, Any]],
        told: Callable[..., Any],
    ) -> Iterator[tuple[str, float, float, float]]:
        beyond = sum(cell["state"] == "beyond" for cell in cells)
        left = len(cells) if f["state"] == "beyond" else len(cells) - beyond
        levels = {"thick": self.alpha} | (
            {"thin": self.alpha / 2 / left} if self.is_decisive(f) else {}
        )
        for name, level in levels.items():
            for sign, end in ((1, f[name]["low"]), (-1, f[name]["high"])):
                if abs(abs(end) - f["margin"]) > 1e-9:  # else it ties with the margin
                    yield told(name, level, sign * t >= sign * (d - end) / f["se"] * (1 - 1e-9))

    def tips(self, f: dict[str, Any]) -> bool:
        """Whether larger masks of one level can change a state: it is one of the model of all levels, and beyond or within."""
        if (
            f["suppressed"]
            or f["state"] not in ("beyond", "within")
            or not f["region"]
            or not self.is_decisive(f)
        ):
            return False
        return self.kind_of(f) == "level" and self.answer_of(f).span is None

    def room(self, f: dict[str, Any], shift: float) -> float:
        """How far the difference is from another state, the group's masks drawn larger by ``shift`` of the logit of their area."""
        rows = self.entering(f"heat_share {f['region']}", f["attribute"])
        assert rows.order is not None
        own = rows.frame["group"] == rows.order.index(f["group"])
        moved = rows.frame.assign(size=rows.frame["size"] + shift * own)
        model = LevelModel(People.of(replace(rows, frame=moved)))
        squares, _ = model.fitted()
        assert squares is not None
        lead = model.unit(f["group"]) - model.base(f["group"], f["reference"])
        # as the package: the error of patients, also where sites are the unit of the test
        n, margin, seen = (
            squares.numbers(squares.full(lead), self.answer_of(f).by_site),
            f["margin"],
            self.answer_of(f).values,
        )
        whisker = f["thick"] if f["state"] == "within" else f["thin"]
        low = n["estimate"] - (seen["estimate"] - whisker["low"]) / seen["se"] * n["se"]
        high = n["estimate"] + (whisker["high"] - seen["estimate"]) / seen["se"] * n["se"]
        if f["state"] == "within":
            return float(min(low + margin, margin - high))
        return float(low - margin if seen["estimate"] > 0 else -high - margin)

    # ── numbers inside sentences ────────────────────────────────────────────────────────────────────────────────────

    def texts(
        self, document: dict[str, Any], numbers: Numbers
    ) -> Iterator[tuple[str, str, list[float]]]:
        """Where, text and the numbers that it has to say, in their order: reasons and notes, planned cells, details of checks."""
        for f in document["findings"]:
            if f["reason"] not in ("", "small_cell", "no usable image"):
                told = [] if f["n_withheld"] else list(self.answer_of(f).guard.told)
                yield f["anchor"], f["reason"], told
            for note in f["notes"]:
                yield f["anchor"], note, self._note(document, f, note)
        for cell, key, place in zip(
            document["cells"], self.planned(), self.findings_of_cells(document), strict=True
        ):
            f = document["findings"][place]
            hidden = f["suppressed"] or f["n_withheld"]
            told = [] if hidden else self._of_cell(cell, key, f)
            yield f"cell {cell['finding']}", cell["reason"], told
            yield (
                f"reservation {cell['finding']}",
                f["reservation"],
                told if cell["state"] == "within" else [],
            )
            yield (
                f"settle {cell['finding']}",
                cell["settle"],
                self.settling(document, cell, f) if cell["settle"] else [],
            )
        in_the_way = [cell for cell in document["cells"] if not cell["settled"]]
        reasons = document["verdict"]["reasons"]
        assert len(reasons) == len(in_the_way)
        assert all(any(cell["reason"] in text for text in reasons) for cell in in_the_way)
        yield self._second(document)
        wanted = self.check_details(document, numbers)
        for check in document["checks"]:
            yield (
                check["code"],
                check["detail"],
                wanted[check["code"]] if check["state"] != "not_applicable" else [],
            )

    def settling(
        self, document: dict[str, Any], cell: dict[str, Any], f: dict[str, Any]
    ) -> list[float]:
        """How many patients settle an open comparison: smallest size of the group, or of both sides, with a chance of 80 %."""
        answer, found = self.answer_of(f), self._counts_and_means(f, self.kind_of(f))
        n, m = answer.entered or (found["n_clusters",], found["n_clusters_reference",])
        if answer.kind == "trend":
            own, other, m = 1.0, 0.0, 0
        else:
            # as they are told, the means are of all that are counted, and the sizes of those that entered
            half = [f[name]["high"] - f[name]["low"] for name in ("mean", "mean_reference")]
            scale = [2 * stats.t.ppf(1 - self.alpha / 2, k - 1) for k in (n, m)]
            own, other = ((h / s) ** 2 for h, s in zip(half, scale, strict=True))
        own, other = own / (own + other), other / (own + other)
        se, df, d, margin = (
            answer.values["se"],
            answer.values["df"],
            answer.values["estimate"],
            f["margin"],
        )
        level = self.alpha / 2 / len(document["cells"])

        def welch(a: float, b: float) -> float:
            x, y = own * n / a, other * m / b if m else 0.0
            return (x + y) ** 2 / (x**2 / (a - 1) + (y**2 / (b - 1) if m else 0.0))

        def chance(difference: float, a: float, b: float) -> float:
            now = se * np.sqrt(own * n / a + (other * m / b if m else 0.0))
            free = max(1.0, df / welch(n, m) * welch(a, b))
            below = lambda t: float(special.stdtr(free, t))  # noqa: E731
            if abs(difference) >= margin:
                return below((abs(difference) - margin) / now + special.stdtrit(free, level))
            q = -special.stdtrit(free, self.alpha)
            upper, lower = (
                (margin - abs(difference)) / now - q,
                q - (margin + abs(difference)) / now,
            )
            return max(0.0, below(upper) - below(lower))

        def smallest(difference: float, together: bool) -> int:
            sizes = lambda a: (a, a * m / n if together and m else m)  # noqa: E731
            if chance(difference, *sizes(10**6)) < 0.8 and chance(difference, *sizes(n)) < 0.8:
                return 0
            low, high = n - 1, 10**6
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (
                    (low, middle) if chance(difference, *sizes(middle)) >= 0.8 else (middle, high)
                )
            return int(high)

        told: list[float] = []
        for difference in (0.0, d):
            told += [abs(100 * difference)] if difference else []
            alone, both = smallest(difference, False), smallest(difference, True)
            if alone:
                told += [_up(alone), n]
            elif both and m:
                told += [m, _up(both), _up(both * m / n), n, m]
        return [*told, 80]

    def _second(self, document: dict[str, Any]) -> tuple[str, str, list[float]]:
        """Parts of the patients in which a difference is beyond, where that of everybody is not beyond on the same side."""
        whole = {}
        for f in document["findings"]:
            if f["code"] in ("GA101", "GA103") and self.is_decisive(f):
                ends = () if f["code"] == "GA103" else (f["group"], f["reference"])
                whole[f["attribute"], f["region"], *ends] = f
        parts = []
        for f in document["findings"]:
            if f["code"] != "GA132" or f["suppressed"] or not f["shown"]:
                continue
            ends = (
                ()
                if self.kind_of(f) == "curve"
                else (f["group"].removesuffix(f", within {f['stratum']}"), f["reference"])
            )
            all_of_them = whole[f["attribute"], f["region"], *ends]
            d, of_all = (g[self._best(g)]["estimate"] for g in (f, all_of_them))
            if all_of_them["state"] != "beyond" or (ends and d * of_all < 0):
                parts.append((d, f["group"]))
        text = document["verdict"]["second"]
        assert bool(text) == bool(parts)
        parts.sort(key=lambda part: -abs(part[0]))
        for _, group in parts:
            text = text.replace(group, "")
        more = [len(parts) - 4] if len(parts) > 4 else []
        return "second", text, [*(100 * d for d, _ in parts[:4]), *more]

    def _of_cell(
        self, cell: dict[str, Any], key: tuple[str, ...], f: dict[str, Any]
    ) -> list[float]:
        if f["reason"]:
            return [] if f["reason"] == "no usable image" else list(self.answer_of(f).guard.told)
        if cell["state"] != "within":
            return []
        few = [20.0] if self.answer_of(f).guard.provisional else []
        return [*few, *(x for told in self.reservations(key, f) for x in told)]

    def _note(self, document: dict[str, Any], f: dict[str, Any], note: str) -> list[float]:
        name = f"{f['outcome']} {f['region']}".strip()
        if "carry several levels" in note:
            return [self.people(name, f["attribute"]).mixed]
        if "clusters whose region takes" in note:
            answer = self.answer_of(f)
            assert answer.span is not None
            return [*answer.common, *(100 / (1 + np.exp(-edge)) for edge in answer.span)]
        if "in opposite directions leaves" in note:
            return [0, 1, *self.bounds(f)]
        if "in these" in note:
            return [self.answer_of(f).sites]
        if "shrunken" in note:
            cells = {
                g: self.answer(name, f["attribute"], "level", g, REST)
                for g in self.people(name, f["attribute"]).order or ()
            }
            solved = {g: a.values for g, a in cells.items() if a.has_number}
            pulled = _shrunken(
                [n["estimate"] for n in solved.values()], [n["se"] for n in solved.values()]
            )
            return [100 * dict(zip(solved, pulled, strict=True))[f["group"]]]
        return []

    def bounds(self, f: dict[str, Any]) -> list[float]:
        """The adjusted difference in points with undefined heat counted as 0 in the group and 1 in the other, and the reverse."""
        group, _ = self.groups(f["attribute"])
        mine, theirs = group == f["group"], group.notna() & (group != f["group"])
        if f["reference"] != REST:
            theirs = group == f["reference"]
        sides = pd.Series(
            np.select([mine, theirs], ["group", "other"], default=""),
            index=group.index,
            dtype=object,
        ).replace("", None)
        share, gone = (
            self.heat_share(f["region"]),
            self.readable & ~self.warm & self.in_place[f["region"]],
        )
        out = []
        for low in (mine, ~mine):
            values = share.where(~gone, (~low).astype(float))
            rows = self.entering(
                f"heat_share {f['region']}", f["attribute"], Ask(values=values, sides=sides)
            )
            out.append(100 * compare(People.of(rows), "level", "group", "other").values["estimate"])
        return out

    def check_details(self, document: dict[str, Any], numbers: Numbers) -> dict[str, list[float]]:
        images, n = self.images, len(self.images)
        failed, unknown = (~self.readable).sum(), images["label"].isna().sum()
        found: dict[str, list[float]] = {
            "GA401": [failed, n, 100 * failed / n] if failed else [n], "GA402": [images["path"].notna().sum()],
            "GA403": [n, self.cluster.nunique()], "GA407": [unknown, n] if unknown else [],
        }  # fmt: skip
        mixed = {}
        for name, kind in self.kinds.items():
            several = images[f"subgroup.{name}"].groupby(self.cluster).nunique()
            share = 100 * (several > 1).sum() / (several > 0).sum()
            mixed |= {name: share} if kind != "continuous" and share > 1 else {}
        found["GA404"] = list(mixed.values())
        sizes: dict[tuple[str, str], int] = {}
        for i, h in enumerate(document["heat"]):
            if h["attribute"] != ALL and h["level"] != UNKNOWN and h["n_clusters"] is not None:
                key = h["attribute"], h["level"]
                sizes[key] = max(sizes.get(key, 0), numbers["heat", i, "n_clusters"])
        few = [m for m in sizes.values() if m < 20]
        found["GA405"] = [
            *few[:5],
            *([len(few) - 5] if len(few) > 5 else []),
            *([10] if few else []),
            20,
        ]
        hidden = {
            r["attribute"] for r in document["flow"] if r["level"] == UNKNOWN and r["suppressed"]
        }
        gaps = {
            name: 100 * images[f"subgroup.{name}"].isna().mean()
            for name in self.kinds
            if name not in hidden
        }
        found["GA406"] = [share for share in gaps.values() if share > 5] or [5]
        levels = [
            (i, r)
            for i, r in enumerate(document["flow"])
            if r["attribute"] != ALL and r["level"] != UNKNOWN
        ]
        flow = [
            (i, r) for i, r in levels if not r["suppressed"] or r["area_share"]
        ]  # all but those that are withheld whole
        kept = [
            (r["attribute"], 100 * numbers["flow", i, "n_analysed"] / numbers["flow", i, "n_manifest"])
            for i, r in flow if r["n_manifest"] and r["n_analysed"] is not None
        ]  # fmt: skip
        found["GA408"] = list(_widest(kept) or ())
        ratios = []
        for region in self.regions:
            areas = [
                (r["attribute"], numbers["flow", i, "area_share", region])
                for i, r in flow
                if r["area_share"].get(region) is not None
            ]
            if (ends := _widest(areas, lambda low, high: high / low)) is not None:
                ratios.append((ends[1] / ends[0], 100 * ends[1], 100 * ends[0]))
        far = [ends for ratio, *ends in sorted(ratios, reverse=True) if ratio > 1.25]
        found["GA409"] = [x for ends in far[:4] for x in ends] or list(max(ratios, default=())[1:])
        spreads = []
        for label in dict.fromkeys(label for _, r in flow for label in r["label_prevalence"]):
            shares = [
                (r["attribute"], numbers["flow", i, "label_prevalence", label])
                for i, r in flow
                if label in r["label_prevalence"]
            ]
            if (spread := _widest(shares)) is not None:
                spreads.append(spread)
        found["GA410"] = [
            100 * end for end in max(spreads, key=lambda s: s[1] - s[0], default=())[::-1]
        ]
        cold = [(h, numbers["heat", i, "undefined_share"]) for i, h in enumerate(document["heat"])]
        cold = [
            (h, share)
            for h, share in cold
            if h["attribute"] != ALL and h["level"] != UNKNOWN and h["undefined_share"] is not None
        ]
        spreads = [
            _widest([(h["attribute"], share) for h, share in cold if h["region"] == region])
            for region in self.regions
        ]
        widest = max((s for s in spreads if s is not None), key=lambda s: s[1] - s[0], default=())
        found["GA411"] = [100 * end for end in widest[::-1]]
        heat = self.parts.maps[self.parts.maps["kind"] == "heat"].iloc[0]
        with_area = self.rows[self.rows["area_share"] > 0]
        below = (with_area["area_share"] < 1 / (heat["height"] * heat["width"])) | (
            with_area["reason"] == "mask_below_cell"
        )
        coarse = [
            100 * share for share in below.groupby(with_area["region"]).mean() if share > 0.05
        ]
        found["GA412"] = [heat["height"], heat["width"], *(coarse or [95])]
        accuracy = [
            (r["attribute"], 100 * numbers["performance", i, "estimate"])
            for i, r in enumerate(document["performance"])
            if r["metric"] == "accuracy"
            and r["attribute"] != ALL
            and r["level"] != UNKNOWN
            and r["estimate"] is not None
        ]
        found["GA413"] = list(_widest(accuracy) or ())
        found["GA414"] = self._undeclared_site(document)
        return found

    def _undeclared_site(self, document: dict[str, Any]) -> list[float]:
        """The p that it names, where heat differs between levels of a column that could be one of sites."""
        state = next(c["state"] for c in document["checks"] if c["code"] == "GA414")
        looked_at = dict.fromkeys(
            [
                *self.plan["analysis"]["covariates"],
                *(c.removeprefix("meta.") for c in self.images if c.startswith("meta.")),
            ]
        )
        apart, could = [], []
        for name in looked_at:
            raw = self.images[f"meta.{name}"]
            if (raw.groupby(self.cluster).nunique() > 1).any():
                continue
            level = raw.groupby(self.cluster).first().dropna()
            if not 3 <= level.nunique() <= len(level) // 5:
                continue
            could.append(name)
            p = []
            for region in self.decisive:
                ok = self.status == "ok"
                heat = self.by_cluster(self.wide["heat_share"][region][ok])
                parts = [own for _, own in heat.groupby(level.reindex(heat.index)) if len(own) > 1]
                p.append(len(self.decisive) * stats.f_oneway(*parts).pvalue)
            apart += [name] if min(p) <= 0.01 else []
        if self.site is not None:
            assert state == "passed"
            return []
        assert state == ("issue" if apart else "passed" if could else "not_applicable"), (
            apart,
            could,
        )
        return [0.01] if apart else []

    def names(self) -> list[str]:
        """Every name that a text may hold, the longest first: their digits are no numbers."""
        levels = [
            f"{name} = {level}" for name, own in self.levels.items() for level in own.categories
        ]
        own = [str(level) for levels in self.levels.values() for level in levels.categories]
        return sorted({*levels, *own, *self.regions, *self.kinds}, key=len, reverse=True)


# ── single numbers ──────────────────────────────────────────────────────────────────────────────────────────────────


def _none(value: Any) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def _up(n: float) -> float:
    """Upwards, to two digits."""
    step = 10 ** max(0, len(str(int(n))) - 2)
    return float(np.ceil(n / step - 1e-9) * step)


def _adjusted(part: str, p: str, tests: list[tuple[int, float | None]], method: str) -> Numbers:
    """Places of the adjusted p -> itself, over those that have a p."""
    known = [(i, value) for i, value in tests if value is not None]
    if not known:
        return {}
    adjusted = multipletests([value for _, value in known], method=method)[1]
    return {
        (part, i, "test", f"{p}_adjusted"): own for (i, _), own in zip(known, adjusted, strict=True)
    }


def _names_of_points(x: Any, percents: Any) -> list[str]:
    """Names such as "P90 (72.4)" of percentage points: three digits, more where these move one by a twentieth of the range."""
    points, first = np.unique(np.quantile(x, percents / 100), return_index=True)
    digits = 3
    while max(abs(float(f"{x:.{digits}g}") - x) for x in points) > (points[-1] - points[0]) / 20:
        digits += 1
    return [f"P{p:g} ({v:.{digits}g})" for p, v in zip(percents[first], points, strict=True)]


def _curve_points(answer: Answer, alpha: float) -> Numbers:
    """Number, estimate at mean covariates, and interval of each point alone."""
    found: Numbers = {}
    assert answer.squares is not None
    for i, (x, c) in enumerate(zip(answer.points, answer.at_points, strict=True)):
        n = answer.squares.numbers(c)
        half = special.stdtrit(n["df"], 1 - alpha / 2) * n["se"]
        row = x, n["estimate"], n["estimate"] - half, n["estimate"] + half
        found |= {("curve", i, k): value for k, value in enumerate(row)}
    return found


def _is_inside(answer: Answer, alpha: float, margin: float) -> bool:
    """Whether the whiskers of Student's t, of a curve those of all differences, lie inside the margin."""
    assert answer.squares is not None
    several = answer.differences if answer.kind == "curve" else answer.rows
    whiskers = [student_whisker(answer.squares.numbers(c, answer.by_site), alpha) for c in several]
    return all(-margin < low and high < margin for low, high in whiskers)


def _t_interval(values: pd.Series, alpha: float) -> tuple[float | None, float | None]:
    if len(values) < 2:
        return None, None
    half = stats.t.ppf(1 - alpha / 2, len(values) - 1) * values.std() / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def _detectable(se: float, df: float, alpha: float) -> float:
    return float((stats.t.ppf(1 - alpha / 2, max(df, 1)) + stats.t.ppf(0.8, max(df, 1))) * se)


def _ratio(
    solved: dict[str, Any], q: float | None
) -> tuple[float | None, float | None, float | None]:
    """Ratio of the two adjusted means, with the interval of its logarithm by the delta method."""
    (a, b), covariance = solved["means"], solved["covariance"]
    if a <= 0 or b <= 0 or q is None:
        return None, None, None
    half = q * np.sqrt(
        covariance[0, 0] / a**2 + covariance[1, 1] / b**2 - 2 * covariance[0, 1] / (a * b)
    )
    return (
        (a / b, None, None) if half > 50 else (a / b, a / b * np.exp(-half), a / b * np.exp(half))
    )


def _shrunken(estimates: list[float], errors: list[float]) -> list[float]:
    """Pulled to the common mean by the variance between cells (DerSimonian & Laird 1986); unchanged for fewer than three."""
    d, w = np.array(estimates), 1 / np.array(errors) ** 2
    if len(d) < 3:
        return estimates
    m = np.average(d, weights=w)
    between = max(0.0, ((w * (d - m) ** 2).sum() - len(d) + 1) / (w.sum() - (w**2).sum() / w.sum()))
    return list(m + (d - m) * between / (between + 1 / w))


def _slope_of_logit(truth: Any, chance: Any) -> float | None:
    p = chance.clip(1e-7, 1 - 1e-7)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error"
            )  # statsmodels warns where the probabilities separate the classes
            return float(
                Logit(truth.astype(float), np.column_stack([np.ones(len(p)), np.log(p / (1 - p))]))
                .fit(disp=0, maxiter=100)
                .params[1]
            )
    except (Warning, np.linalg.LinAlgError):
        return None


def _widest(
    rows: list[tuple[str, float]],
    gap: Callable[[float, float], float] = lambda low, high: high - low,
) -> tuple[float, float] | None:
    """Lowest and highest value of the attribute in which they lie farthest apart."""
    ends = []
    for name in dict.fromkeys(name for name, _ in rows):
        own = [value for other, value in rows if other == name]
        ends += [(min(own), max(own))] if len(own) > 1 else []
    return max(ends, key=lambda pair: gap(*pair)) if ends else None


def _grid(values: Any, place: Place) -> Numbers:
    return {(*place, i, j): float(f"{value:.4g}") for (i, j), value in np.ndenumerate(values)}


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, float]]:
    """Every number inside a JSON value, with its path; true and false are no numbers."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*place, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield place, value
