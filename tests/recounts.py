"""A second count of result.json: every number again from the run's parquet parts, without gradaudit.

Counts and means are pandas' ``groupby``; figures of merit are scikit-learn's, adjusted differences statsmodels' least squares with
HC2 errors.  Definitions are those of the docstrings in ``records``, ``census``, ``flow``, ``distributions``, ``performance``,
``merits``, ``analysed_rows``, ``contrasts`` and ``stats``; nothing of the package is imported, so that no mistake is made twice.

``Recount(parts, plan).numbers(document)`` -> path of a number in the document -> the number that belongs there.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import config_context
from sklearn import metrics as sk
from statsmodels.discrete.discrete_model import Logit
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests

ALL, UNKNOWN, REST = "(all)", "(unknown)", "rest"
COLD = {"no_positive_evidence": "zero_heat", "flat": "flat", "non_finite": "non_finite"}
MASKLESS = ("not_annotated", "missing_mask", "unreadable_mask", "mask_size")
METRICS = ("accuracy", "sensitivity", "specificity", "ppv", "auc", "brier", "calibration_slope")
SECONDARY = ("mass_lift", "relevance_rank_accuracy", "pointing_game", "auc")
FEWEST, FEWEST_OFF_MODE, PER_COLUMN = 10, 5.0, 20
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


@dataclass(frozen=True)
class Rows:
    """Images, or patients, that enter a comparison: y, group, cluster and covariates; ``order`` of the levels (None: numbers).

    ``covariates``: names of factors (of images) or of the covariate columns (of patients).
    ``mixed``: clusters that carry several levels, before each keeps its most frequent one.
    """

    frame: pd.DataFrame
    order: list[str] | None
    covariates: list[str]
    mixed: int = 0

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def y(self) -> Any:
        return self.frame["y"].to_numpy()

    @cached_property
    def group(self) -> Any:
        return self.frame["group"].to_numpy()

    def sides(self, group: str, reference: str) -> tuple[Any, Any]:
        """Who is in a level, and in the level (or the rest) that it is compared with."""
        own = self.group == group
        return own, ~own if reference == REST else self.group == reference

    def keep(self, inside: Any) -> Rows:
        return replace(self, frame=self.frame[inside])


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
                self.findings, self.families, self.heat,
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
        """Fitted values at the mean covariates; M + (1 - w) d where a level was compared among patients of common region size alone."""
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
            model = self.level_model(f"heat_share {region}", attribute)
            for f in known:
                level, w = f["group"], model.share(f["group"])
                restricted = any("compared among" in note for note in f["notes"])
                alone = sum(model.counts[model.counts < FEWEST]) == 1
                restricted |= alone and any(g["suppressed"] for g in own)  # M is over everybody
                mean = (
                    model.patients.y.mean() + (1 - w) * f["adjusted"]["estimate"]
                    if restricted
                    else model.at_mean(level)
                )
                found[attribute, level, region] = float(mean)
            if reference != REST:
                found[attribute, reference, region] = float(model.at_mean(reference))
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
        inside = self.members(attribute, level) & self.readable & shown
        assert inside[image], label
        if kind != "random":
            shares = self.wide["heat_share"].loc[inside & self.warm, region]
            assert shares[image] == (shares.max() if kind == "highest" else shares.min()), label

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

    def groups(self, attribute: str) -> tuple[pd.Series, list[str] | None]:
        """Level (or number) of each image, None where unknown, and the order of the levels; of two attributes: their cells."""
        if " × " in attribute:
            first, second = (self.groups(name)[0] for name in attribute.split(" × "))
            cell = (first + " × " + second).where(first.notna() & second.notna(), None)
            return cell, sorted(cell.dropna().unique())
        if self.kinds[attribute] == "continuous":
            return pd.to_numeric(self.images[f"subgroup.{attribute}"]), None
        levels = self.levels[attribute]
        text = pd.Series(levels.astype(object), index=self.images.index)
        return text.where(text != UNKNOWN, None), [
            level for level in levels.categories if level != UNKNOWN
        ]

    def entering(
        self,
        outcome: str,
        attribute: str,
        adjust: bool = True,
        values: pd.Series | None = None,
        sides: pd.Series | None = None,
    ) -> Rows:
        """Image rows with a value, a level and every covariate; a cluster keeps the images of its most frequent level."""
        group, order = self.groups(attribute) if sides is None else (sides, ["group", "other"])
        region = (
            outcome.partition(" ")[2]
            if outcome.split(" ")[0] not in ("undefined", "absent")
            else ""
        )
        rows = pd.DataFrame(
            {
                "y": self.outcome(outcome) if values is None else values,
                "group": group,
                "cluster": self.cluster,
            }
        )
        factors, known, mixed = [], ["y", "group"], 0
        if adjust and region:
            area = self.wide["area_share"][region].clip(1e-6, 1 - 1e-6)
            rows["size"], rows["class"] = np.log(area / (1 - area)), self.klass
            known, factors = [*known, "size"], ["class"]
        for name in self.plan["analysis"]["covariates"] if adjust else ():
            if name not in attribute.split(" × "):
                rows[name] = self.images[f"meta.{name}"]
                factors.append(name)
        rows = rows.dropna(subset=known)
        if order is not None:
            sizes = (
                rows.groupby(["cluster", "group"])
                .size()
                .unstack(fill_value=0)
                .reindex(columns=order, fill_value=0)
            )
            mixed = int(((sizes > 0).sum(axis=1) > 1).sum())
            rows = rows[rows["group"] == rows["cluster"].map(sizes.idxmax(axis=1))]
        return Rows(rows, order, factors, mixed)

    def patients(self, rows: Rows) -> Rows:
        """One row per cluster: means of value, size, number and covariate columns; its level; how many images."""
        columns = _covariate_columns(rows)
        names = [
            "y",
            "cluster",
            *(["size"] if "size" in rows.frame else []),
            *([] if rows.order else ["group"]),
        ]
        grouped = pd.concat([rows.frame[names], columns], axis=1).groupby("cluster")
        out = grouped.mean().assign(images=grouped.size())
        if rows.order:
            out["group"] = rows.frame.groupby("cluster")["group"].first()
        return Rows(out, rows.order, list(columns), rows.mixed)

    def level_model(self, outcome: str, attribute: str, adjust: bool = True) -> Model:
        key = (outcome, attribute, adjust)
        if key not in self.models:
            self.models[key] = Model(self.patients(self.entering(outcome, attribute, adjust)))
        return self.models[key]

    def findings(self, document: dict[str, Any]) -> Numbers:
        self.models: dict[tuple[str, str, bool], Model] = {}
        told = [
            (
                f["code"],
                f["attribute"],
                f["region"],
                f["outcome"],
                self.kind_of(f),
                f["group"],
                f["reference"],
            )
            for f in document["findings"]
        ]
        wanted = self.questions(document)
        withheld = {
            key for key, f in zip(told, document["findings"], strict=True) if f["suppressed"]
        }
        assert len(set(told)) == len(told)
        assert set(told) == wanted | withheld, (
            sorted(set(told) - wanted - withheld),
            sorted(wanted - set(told)),
        )
        found: Numbers = {}
        for i, f in enumerate(document["findings"]):
            counted = self.finding(f) | (dict.fromkeys(COUNTS, 0) if f["n_withheld"] else {})
            found |= {("findings", i, *place): value for place, value in counted.items()}
        return found

    def kind_of(self, f: dict[str, Any]) -> str:
        attribute = f["attribute"]
        if f["code"] == "GA131":
            return "additivity" if f["reference"] == "additive prediction" else "level"
        if self.kinds[attribute] == "continuous":
            return "nonlinear" if f["code"] == "GA104" else "continuous"
        if f["code"] in ("GA102", "GA104"):
            return "trend" if f["code"] == "GA102" else "departure"
        order = [level for level in self.levels[attribute].categories if level != UNKNOWN]
        slope = (
            not f["n_clusters_reference"]
            and f["reference"] in order
            and not f["reason"].startswith("no usable")
            and not f["n_withheld"]
        )
        return "trend" if slope else "level"

    def is_decisive(self, region: str) -> bool:
        """Declared as such; else every region with a role."""
        declared = self.plan["analysis"]["regions"]
        return (
            region in declared
            if declared
            else self.plan["regions"].get(region, {}).get("role", "neutral") != "neutral"
        )

    def questions(self, document: dict[str, Any]) -> set[tuple[str, ...]]:
        """Code, attribute, region, outcome, kind, group and reference of every finding that the definitions ask for."""
        decisive = [r for r in self.regions if self.is_decisive(r)]
        found: set[tuple[str, ...]] = set()
        for attribute, kind in self.kinds.items():
            for region in self.regions:
                found |= {
                    (code, attribute, region, *rest)
                    for code, *rest in self._contrasts("heat_share", region, attribute, every=True)
                }
                absent = self.outcome(f"absent {region}").dropna()
                if 0 < absent.sum() < len(absent) and kind != "continuous":
                    own = self._contrasts("absent", region, attribute, every=True)
                    found |= {
                        ("GA112", attribute, region, *rest)
                        for _, *rest in own
                        if rest[1] == "level"
                    }
            found |= {
                ("GA111", attribute, "", *rest)
                for code, *rest in self._contrasts("undefined", "", attribute, every=True)
                if code != "GA104"
            }
            for region, outcome in [
                (r, o) for r in decisive for o in (*SECONDARY, "heat_share_correct")
            ]:
                found |= {
                    ("GA121", attribute, region, *rest)
                    for code, *rest in self._contrasts(outcome, region, attribute)
                    if code != "GA104"
                }
        named = [name for name, kind in self.kinds.items() if kind != "continuous"]
        for (first, second), region in [
            (pair, region) for pair in combinations(named, 2) for region in decisive
        ]:
            cells = f"{first} × {second}"
            own = self._contrasts("heat_share", region, cells)
            found |= {
                ("GA131", cells, region, "heat_share", "level", group, REST)
                for _, _, kind, group, _ in own
            }
            model = self.level_model(f"heat_share {region}", cells)
            large = [g for g in model.counts.index if model.counts[g] >= FEWEST]
            if len(large) > 2:
                found |= {
                    ("GA131", cells, region, "heat_share", "additivity", g, "additive prediction")
                    for g in large if not self.guard(model.patients, g, REST) and np.abs(model.additivity(g)).max() > 1e-9
                }  # fmt: skip
        return found

    def _contrasts(
        self, outcome: str, region: str, attribute: str, every: bool = False
    ) -> list[tuple[str, str, str, str, str]]:
        """Code, outcome, kind, group, reference; ``every``: also those that a guard withholds, and levels of which no image entered."""
        name = f"{outcome} {region}".strip()
        patients = self.level_model(name, attribute).patients
        withheld = bool(self.slope_guard(patients))
        if self.kinds.get(attribute) == "continuous":
            low, high = np.quantile(patients.group, [0.1, 0.9])
            ends = (f"P90 ({high:.3g})", f"P10 ({low:.3g})")
            out = [("GA103", outcome, "continuous", *ends)] if every or not withheld else []
            return out if withheld else [*out, ("GA104", outcome, "nonlinear", *ends)]
        reference = self._declared(attribute)["reference"] if attribute in self.kinds else REST
        present = [level for level in patients.order if (patients.group == level).any()]
        assert len(present) > 2, "with two levels the larger one is the reference: not written here"
        out = [
            ("GA101", outcome, "level", level, reference) for level in present if level != reference
        ]
        if every:
            out += [
                ("GA101", outcome, "level", level, reference)
                for level in patients.order
                if level not in present
            ]
        else:
            out = [c for c in out if not self.guard(patients, c[3], reference)]
        if self.kinds.get(attribute) == "ordered":
            out += (
                [("GA102", outcome, "trend", present[-1], present[0])]
                if every or not withheld
                else []
            )
            out += (
                [("GA104", outcome, "departure", present[-1], present[0])] if not withheld else []
            )
        return out

    def guard(self, patients: Rows, group: str, reference: str) -> list[float]:
        """The numbers of the reason why a level is not compared; empty where it is."""
        own, other = patients.sides(group, reference)
        return self._guard(patients.y[own | other], min(own.sum(), other.sum()))

    def slope_guard(self, patients: Rows) -> list[float]:
        """The same of a slope: its sides are halves, or what holds either end of the line over ordered levels (Kish's number)."""
        smaller = float(len(patients) // 2)
        if patients.order is not None:
            place = np.array([patients.order.index(level) for level in patients.group])
            away = place - place.mean()
            smaller = min(
                np.floor(side.sum() ** 2 / (side**2).sum() + 1e-9)
                for side in (away[away < 0], away[away > 0])
            )
        return self._guard(patients.y, smaller)

    @staticmethod
    def _guard(y: Any, smaller: float) -> list[float]:
        if smaller < FEWEST:
            return [FEWEST, smaller]
        _, counts = np.unique(y.round(12), return_counts=True)
        away = round(smaller * (1 - counts.max() / len(y)), 9)
        told = np.floor(10 * away) / 10  # 4.96 is not called 5.0, of which it falls short
        return [told, FEWEST_OFF_MODE] if away < FEWEST_OFF_MODE else []

    def finding(self, f: dict[str, Any]) -> Numbers:
        kind, code, attribute = self.kind_of(f), f["code"], f["attribute"]
        name = f"{f['outcome']} {f['region']}".strip()
        decisive = code == "GA111" or (
            code in ("GA101", "GA102", "GA103") and self.is_decisive(f["region"])
        )
        margin = (
            self.plan["criteria"]["undefined_margin" if code == "GA111" else "margin"]
            if decisive
            else None
        )
        found: Numbers = {("margin",): margin}
        if f["reason"] == "no usable image" or f["suppressed"]:
            return found | dict.fromkeys(COUNTS, 0)
        model = self.level_model(name, attribute)
        people = model.patients
        own, other = people.sides(f["group"], f["reference"])
        if (
            kind != "level"
        ):  # a slope belongs to everybody, and a prediction has no images of its own
            own, other = (own if kind == "additivity" else own | True), other & False
        for suffix, side in (("", own), ("_reference", other)):
            found |= {
                (f"n_images{suffix}",): people.frame["images"].to_numpy()[side].sum(),
                (f"n_clusters{suffix}",): side.sum(),
            }
            if kind in ("level", "additivity") and side.any():
                means = pd.Series(people.y[side])
                low, high = _t_interval(means, self.alpha)
                found |= {
                    (f"mean{suffix}", end): value
                    for end, value in (("estimate", means.mean()), ("low", low), ("high", high))
                }
        if f["adjusted_for"] and code not in (
            "GA104",
            "GA131",
        ):  # also where region sizes overlap too little to compare at equal size
            plain = self.level_model(name, attribute, adjust=False)
            if not (
                self.guard(plain.patients, f["group"], f["reference"])
                if kind == "level"
                else self.slope_guard(plain.patients)
            ):
                found["raw", "estimate"] = self.solve(plain, kind, f)["estimate"]
        if f["reason"]:
            return found
        adjusted = "adjusted" if f["adjusted_for"] else "raw"
        solved = self.solve(model, kind, f)
        if kind not in ("departure", "nonlinear"):
            found |= {(adjusted, "estimate"): solved["estimate"], ("se",): solved["se"]}
            mde = _detectable(solved["se"], solved["df"], self.alpha)
            needed = None if margin is None else int(np.ceil(own.sum() * (mde / margin) ** 2))
            found |= {("mde80",): mde, ("clusters_needed",): needed}
        found |= {("test", "statistic"): solved["statistic"], ("test", "df"): solved["df"]}
        if kind == "level":
            low, high = f[adjusted]["low"], f[adjusted]["high"]
            ratio = _ratio(solved, (high - low) / 2 / solved["se"] if low is not None else None)
            found |= {
                ("effect", "ratio", end): value
                for end, value in zip(("estimate", "low", "high"), ratio, strict=True)
            }
            found |= {
                ("effect", name): solved[name]
                for name in ("standardised_difference", "cliffs_delta")
            }
        return found

    def solve(self, model: Model, kind: str, f: dict[str, Any]) -> dict[str, Any]:
        people = model.patients
        if kind == "level":
            return model.compared(f["group"], f["reference"])[0].level(f["group"], f["reference"])
        if kind == "additivity":
            return model.contrast(model.additivity(f["group"]))
        if kind == "departure":
            return model.departure()
        x = (
            np.array([people.order.index(level) for level in people.group])
            if kind == "trend"
            else people.group
        )
        low, high = np.quantile(x, [0.1, 0.9]) if kind != "trend" else (x.min(), x.max())
        if kind == "nonlinear":
            return LeastSquares(people, [np.ones(len(x)), *_spline(x).T]).joint(np.eye(4)[2:])
        return LeastSquares(people, [np.ones(len(x)), x]).contrast(np.array([0.0, high - low]))

    def families(self, document: dict[str, Any]) -> Numbers:
        """p adjusted: Holm among the decisive findings, Benjamini-Hochberg among the others, and among differences of performance."""
        found: Numbers = {}
        for family, method in (("confirmatory", "holm"), ("exploratory", "fdr_bh")):
            for kind in ("p", "p_equivalence"):
                tests = {
                    i: f["test"][kind]
                    for i, f in enumerate(document["findings"])
                    if f["test"]["family"] == family
                }
                known = [i for i, p in tests.items() if p is not None]
                adjusted = (
                    multipletests([tests[i] for i in known], method=method)[1] if known else []
                )
                found |= {
                    ("findings", i, "test", f"{kind}_adjusted"): p
                    for i, p in zip(known, adjusted, strict=True)
                }
        tests = {
            i: r["test"]["p"]
            for i, r in enumerate(document["performance"])
            if r["test"]["p"] is not None
        }
        if not any(r["suppressed"] for r in document["performance"]):
            adjusted = multipletests(list(tests.values()), method="fdr_bh")[1] if tests else []
            found |= {
                ("performance", i, "test", "p_adjusted"): p
                for i, p in zip(tests, adjusted, strict=True)
            }
        return found

    # ── numbers inside sentences ────────────────────────────────────────────────────────────────────────────────────

    def texts(
        self, document: dict[str, Any], numbers: Numbers
    ) -> Iterator[tuple[str, str, list[float]]]:
        """Where, text and the numbers that it has to say, in their order: reasons and notes of findings, details of checks."""
        for f in document["findings"]:
            if re.match("fewer than|nearly every", f["reason"]):
                people = self.level_model(
                    f"{f['outcome']} {f['region']}".strip(), f["attribute"]
                ).patients
                level = self.kind_of(f) == "level"
                yield (
                    f["anchor"],
                    f["reason"],
                    self.guard(people, f["group"], f["reference"])
                    if level
                    else self.slope_guard(people),
                )
            for note in f["notes"]:
                yield f["anchor"], note, self._note(document, f, note)
        wanted = self.check_details(document, numbers)
        for check in document["checks"]:
            yield (
                check["code"],
                check["detail"],
                wanted[check["code"]] if check["state"] != "not_applicable" else [],
            )

    def _note(self, document: dict[str, Any], f: dict[str, Any], note: str) -> list[float]:
        if "carry several levels" in note:
            return [
                self.level_model(
                    f"{f['outcome']} {f['region']}".strip(), f["attribute"]
                ).patients.mixed
            ]
        if "clusters whose region takes" in note:
            model, span = self.level_model(
                f"{f['outcome']} {f['region']}", f["attribute"]
            ).compared(f["group"], f["reference"])
            assert span is not None
            own, other = model.patients.sides(f["group"], f["reference"])
            return [own.sum(), other.sum(), *(100 / (1 + np.exp(-edge)) for edge in span)]
        if "leaves the difference between" in note:
            return [0, 1, *self.bounds(f)]
        if "shrunken" in note:
            model = self.level_model(f"{f['outcome']} {f['region']}", f["attribute"])
            cells = {
                g: model.compared(g, REST)[0]
                for g in model.patients.order
                if not self.guard(model.patients, g, REST)
            }
            solved = {
                g: own.level(g, REST)
                for g, own in cells.items()
                if not self.guard(own.patients, g, REST)
            }
            pulled = _shrunken(
                [s["estimate"] for s in solved.values()], [s["se"] for s in solved.values()]
            )
            return [100 * dict(zip(solved, pulled, strict=True))[f["group"]]]
        return [0, 1] if "undefined heat counted as" in note else []

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
            people = self.patients(
                self.entering(
                    f"heat_share {f['region']}", f["attribute"], values=values, sides=sides
                )
            )
            out.append(
                100
                * Model(people).compared("group", "other")[0].level("group", "other")["estimate"]
            )
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
        return found

    def names(self) -> list[str]:
        """Every name that a text may hold, the longest first: their digits are no numbers."""
        levels = [
            f"{name} = {level}" for name, own in self.levels.items() for level in own.categories
        ]
        own = [str(level) for levels in self.levels.values() for level in levels.categories]
        return sorted({*levels, *own, *self.regions, *self.kinds}, key=len, reverse=True)


# ── least squares on patients ───────────────────────────────────────────────────────────────────────────────────────


class LeastSquares:
    """y on columns of one's own and the covariate columns, by statsmodels with HC2 errors; Bell-McCaffrey df by brute force."""

    def __init__(self, people: Rows, lead: list[Any]) -> None:
        self.people, self.lead = people, len(lead)
        self.x = np.column_stack([*lead, people.frame[people.covariates].to_numpy(float)])
        self.fit = OLS(people.y.astype(float), self.x).fit(cov_type="HC2")
        self.hat = self.x @ np.linalg.pinv(self.x)

    def full(self, lead: Any, z: Any = 0.0) -> Any:
        return np.r_[lead, np.broadcast_to(z, self.x.shape[1] - self.lead)]

    @property
    def centre(self) -> Any:
        return self.x[:, self.lead :].mean(axis=0)

    def contrast(self, lead: Any) -> dict[str, Any]:
        c = self.full(lead)
        tested = self.fit.t_test(c)
        estimate, se = float(np.squeeze(tested.effect)), float(np.squeeze(tested.sd))
        weights = np.linalg.pinv(self.x).T @ c
        m = np.eye(len(self.x)) - self.hat
        md = m * (weights**2 / np.diag(m))
        df = np.trace(md) ** 2 / np.trace(md @ md)
        return {"estimate": estimate, "se": se, "df": df, "statistic": estimate / se}

    def joint(self, lead: Any) -> dict[str, Any]:
        r = np.array([self.full(row) for row in lead])
        tested = self.fit.wald_test(r, use_f=False, scalar=True)
        return {"statistic": float(tested.statistic), "df": len(r)}


class Model:
    """Levels of patients side by side: an indicator each, one for all levels under ten patients (one such patient is left out)."""

    def __init__(self, patients: Rows) -> None:
        self.patients = patients
        order = patients.order
        if order is None:
            return
        self.counts = pd.Series([int((patients.group == level).sum()) for level in order], order)
        few = self.counts[(self.counts > 0) & (self.counts < FEWEST)]
        self.names = [level for level in order if self.counts[level] >= FEWEST] + ["(few)"] * int(
            few.sum() > 1
        )
        place = np.where(np.isin(patients.group, list(few.index)), "(few)", patients.group)
        inside = np.isin(place, self.names)
        self.place = place[inside]
        self.squares = LeastSquares(
            patients.keep(inside), [self.place == name for name in self.names]
        )

    def share(self, level: str) -> float:
        return float(self.counts[level] / self.counts.sum())

    def _unit(self, level: str) -> Any:
        return np.array([name == level for name in self.names], dtype=float)

    def at_mean(self, level: str) -> float:
        return float(
            self.squares.full(self._unit(level), self.squares.centre) @ self.squares.fit.params
        )

    def compared(self, group: str, reference: str) -> tuple[Model, tuple[float, float] | None]:
        """The model in which two levels are compared: this one, or among patients whose region has a size that both sides reach."""
        span = _common_sizes(self.patients, group, reference)
        return (
            (self, None)
            if span is None
            else (Model(self.patients.keep(self.patients.frame["size"].between(*span))), span)
        )

    def level(self, group: str, reference: str) -> dict[str, Any]:
        others = np.array([(self.place == name).sum() for name in self.names]) * (
            1 - self._unit(group)
        )
        base = others / others.sum() if reference == REST else self._unit(reference)
        found = self.squares.contrast(self._unit(group) - base)
        fit, people = self.squares.fit, self.squares.people
        ends = np.array(
            [self.squares.full(side, self.squares.centre) for side in (self._unit(group), base)]
        )
        found |= {"means": ends @ fit.params, "covariance": ends @ fit.cov_params() @ ends.T}
        found["standardised_difference"] = found["estimate"] / np.sqrt(fit.ssr / fit.df_resid)
        moved = (
            people.y
            - (self.squares.x[:, self.squares.lead :] - self.squares.centre)
            @ fit.params[self.squares.lead :]
        )
        own, other = people.sides(group, reference)
        moved = moved.round(12)  # equal by construction, but for the last digits
        return found | {"cliffs_delta": np.sign(moved[own][:, None] - moved[other][None]).mean()}

    def contrast(self, lead: Any) -> dict[str, Any]:
        return self.squares.contrast(lead)

    def additivity(self, cell: str) -> Any:
        """Coefficients of a cell minus its prediction: weighted least squares of the large cells on their two levels, weights patients."""
        large = [name for name in self.names if name != "(few)"]
        parts = pd.DataFrame([name.split(" × ") for name in large])
        columns = pd.get_dummies(parts).to_numpy(float)
        weights = np.diag(self.counts[large].to_numpy(float))
        hat = columns @ np.linalg.pinv(columns.T @ weights @ columns) @ columns.T @ weights
        on = np.eye(len(large))[large.index(cell)] - hat[large.index(cell)]
        return np.r_[on, np.zeros(len(self.names) - len(large))]

    def departure(self) -> dict[str, Any]:
        """Wald statistic of the level effects beside a straight line through the large levels."""
        order = self.patients.order
        position = [order.index(name) for name in self.names if name != "(few)"]
        line = np.column_stack([np.ones(len(position)), position])
        beside = np.linalg.svd(line.T)[2][2:]
        return self.squares.joint(
            [np.r_[row, np.zeros(len(self.names) - len(position))] for row in beside]
        )


def _spline(x: Any) -> Any:
    """Natural cubic spline with knots at the 5, 35, 65 and 95 % points (Harrell 2015, eq. 2.25); x alone where they are fewer than three."""
    t = np.unique(np.quantile(x, [0.05, 0.35, 0.65, 0.95]))
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


def _covariate_columns(rows: Rows) -> pd.DataFrame:
    """Spline of region size, factors against their most frequent level, and class x size where 20 patients stand behind each column."""
    clusters = rows.frame["cluster"].nunique()
    columns: dict[str, Any] = {}
    if "size" in rows.frame and rows.frame["size"].nunique() > 1:
        columns |= {
            f"size {k}": column for k, column in enumerate(_spline(rows.frame["size"].to_numpy()).T)
        }
    sizes = list(columns)
    for factor in rows.covariates:
        text = rows.frame[factor].astype(object).where(rows.frame[factor].notna(), "nan")
        patients = rows.frame["cluster"].groupby(text).nunique()
        ranked = sorted(patients.index, key=lambda level: (-patients[level], level))
        own = [level for level in ranked if patients[level] >= PER_COLUMN][
            : max(1, clusters // PER_COLUMN)
        ] or ranked[:1]
        indicators = {f"{factor} {level}": (text == level).to_numpy(float) for level in own[1:]}
        if set(ranked) - set(own):
            indicators[f"{factor} others"] = (~text.isin(own)).to_numpy(float)
        columns |= indicators
        if factor == "class" and clusters >= PER_COLUMN * (
            (1 + len(indicators)) * (1 + len(sizes)) - 1
        ):
            columns |= {f"{a} x {b}": columns[a] * columns[b] for a in sizes for b in indicators}
    return pd.DataFrame(columns, index=rows.frame.index)


def _common_sizes(people: Rows, group: str, reference: str) -> tuple[float, float] | None:
    """Interval of logit region size that both sides reach, where under 80 % of the smaller side lie in the larger side's 1-99 % range."""
    if "size" not in people.frame:
        return None
    size = people.frame["size"].to_numpy()
    small, large = sorted((size[side] for side in people.sides(group, reference)), key=len)
    (low, high), (own_low, own_high) = (
        np.quantile(large, [0.01, 0.99]),
        np.quantile(small, [0.01, 0.99]),
    )
    if np.mean((small >= low) & (small <= high)) >= 0.8:
        return None
    return max(low, own_low), min(high, own_high)


# ── single numbers ──────────────────────────────────────────────────────────────────────────────────────────────────


def _none(value: Any) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


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
