"""What the analysis costs: seconds and peak memory of the protocol on large tables, beside a bootstrap that people use.

    python benchmarks/analysis.py                 every row, each in a process of its own
    python benchmarks/analysis.py permuted        one row: permuted | analytic | audit | fairlearn

Bounds: 1e5 rows x 6 groups with B = 9999 under 30 s; 1e7 rows (3 M patients, analytic) under 30 s and under 4 GB; a whole
audit of 20,000 images x 24 cells in seconds.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.special import expit

import gradaudit as ga
from gradaudit.plan import build_plan
from gradaudit.runs.measurements import Measurements

BOUNDS = {
    "permuted": (30.0, None),
    "analytic": (30.0, 4.0),
    "audit": (60.0, None),
    "fairlearn": (None, None),
}


def permuted() -> dict[str, object]:
    """1e5 single-image patients in six groups, one of them of 15, so that the permutation is needed."""
    rng = np.random.default_rng(0)
    n = 100_000
    group = np.r_[np.zeros(15, dtype=int), rng.integers(1, 6, n - 15)]
    area = expit(rng.normal(-2, 1, n))
    value = np.where(rng.random(n) < 0.3, 0.0, rng.beta(2, 6, n))
    started, busy = time.perf_counter(), time.process_time()
    found = ga.disparity(value, group, area_share=area, klass=rng.integers(0, 2, n), margin=0.05)
    methods = {c.group: c.method for c in found.contrasts}
    assert methods["0"] == "permutation"
    return {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - busy,
        "rows": n,
        "methods": methods,
    }


def analytic() -> dict[str, object]:
    """1e7 images of 3 million patients, six groups, region size and class adjusted."""
    rng = np.random.default_rng(0)
    n, patients = 10_000_000, 3_000_000
    cluster = rng.integers(0, patients, n)
    cluster[:patients] = np.arange(patients)
    group = rng.integers(0, 6, patients)[cluster]
    area, value = expit(rng.normal(-2, 1, n)), rng.random(n)
    klass = rng.integers(0, 2, n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    started, busy = time.perf_counter(), time.process_time()
    found = ga.disparity(value, group, area_share=area, klass=klass, clusters=cluster, margin=0.05)
    assert {c.method for c in found.contrasts} == {"t"}
    return {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - busy,
        "rows": n,
        "input_gb": before,
    }


def _audit_data() -> Measurements:
    """20,000 images of 8,000 patients; attributes of 6, 4, 2 and 12 levels (24 cells), three regions, all metrics."""
    rng = np.random.default_rng(0)
    n, patients = 20_000, 8_000
    cluster = np.sort(np.r_[np.arange(patients), rng.integers(0, patients, n - patients)])
    images = pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(n)],
            "predicted": rng.choice(["a", "b"], n),
            "correct": rng.random(n) < 0.8,
        }
    )
    images = images.assign(
        path="", label="a", probability=0.9, cluster=cluster.astype(str), status="ok", reason=""
    )
    for name, levels in {"tone": 6, "age_group": 4, "sex": 2, "site": 12}.items():
        images[f"subgroup.{name}"] = [
            f"{name} {k:02d}" for k in rng.integers(0, levels, patients)[cluster]
        ]
    effect, tables = rng.normal(size=patients)[cluster], []
    for region, role in (("lesion", "attend"), ("ruler", "avoid"), ("skin", "neutral")):
        area = expit(rng.normal(-2, 1, n))
        share = expit(-1.5 + 0.5 * effect + 0.5 * rng.normal(size=n) + 0.3 * np.log(area))
        table = pd.DataFrame(
            {
                "image_id": images["image_id"],
                "region": region,
                "role": role,
                "heat_share": share,
                "area_share": area,
            }
        )
        metrics = {
            "mass_lift": share / area,
            "relevance_rank_accuracy": share,
            "pointing_game": (rng.random(n) < share) / 1.0,
            "auc": share,
        }
        tables.append(
            table.assign(method="gradcam", target="predicted", status="ok", reason="", **metrics)
        )
    return Measurements(pd.concat(tables, ignore_index=True), images)


def audit() -> dict[str, object]:
    """Every question on every attribute and region, 24 cells, confirmatory and exploratory."""
    meas = _audit_data()
    plan = build_plan(
        {
            "regions": {"lesion": {"role": "attend"}, "ruler": {"role": "avoid"}},
            "criteria": {"margin": 0.05},
        }
    )
    started, busy = time.perf_counter(), time.process_time()
    findings = ga.analyze(meas, plan)
    return {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - busy,
        "rows": len(meas.table),
        "findings": len(findings),
    }


def fairlearn() -> dict[str, object]:
    """fairlearn's MetricFrame with its bootstrap (100 resamples), one metric in the same 24 cells: no clusters, no test."""
    from fairlearn.metrics import MetricFrame

    meas = _audit_data()
    values = meas.table.loc[meas.table["region"] == "ruler", "heat_share"].to_numpy()
    features = meas.images[[c for c in meas.images if str(c).startswith("subgroup.")]]

    def mean_heat(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        return float(np.mean(y_pred))

    started, busy = time.perf_counter(), time.process_time()
    for column in features:
        frame = MetricFrame(
            metrics=mean_heat, y_true=values, y_pred=values, sensitive_features=features[column],
            n_boot=100, ci_quantiles=[0.025, 0.975], random_state=0,
        )  # fmt: skip
        assert len(frame.by_group_ci) == 2
    return {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - busy,
        "rows": len(values),
        "resamples": 100,
    }


ROWS: dict[str, Callable[[], dict[str, object]]] = {
    "permuted": permuted,
    "analytic": analytic,
    "audit": audit,
    "fairlearn": fairlearn,
}


def main() -> None:
    if len(sys.argv) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = ROWS[sys.argv[1]]()
        print(
            json.dumps(
                {**result, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
            )
        )
        return
    for name, row in ROWS.items():
        out = json.loads(
            subprocess.run(
                [sys.executable, __file__, name], check=True, capture_output=True, text=True
            ).stdout
        )
        seconds, memory = BOUNDS[name]
        kept = (seconds is None or out["seconds"] < seconds) and (
            memory is None or out["peak_gb"] < memory
        )
        other = ", ".join(
            f"{k} {v}" for k, v in out.items() if k not in ("seconds", "peak_gb", "cpu")
        )
        bound = (
            f"bound {seconds:g} s" + (f", {memory:g} GB" if memory else "")
            if seconds
            else "for comparison"
        )
        figures = (
            f"{out['seconds']:7.1f} s wall  {out['cpu']:7.1f} s CPU  {out['peak_gb']:5.2f} GB peak"
        )
        print(
            f"{'ok  ' if kept else 'MISS'} {name:10s} {figures}  ({bound}; {other}; {(row.__doc__ or '').strip()})",
            flush=True,
        )


if __name__ == "__main__":
    main()
