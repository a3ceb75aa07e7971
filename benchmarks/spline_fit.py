"""Does the spline in logit(area share) fit the heat of real maps?  Share against region size, run by run.

    python benchmarks/spline_fit.py [RUN ...]      default: the four runs of `make reports`

Per region of each run folder, on cluster means: R² of a straight line, of the protocol's four knots and of seven knots;
the p of what seven knots add (HC2 Wald); and the root mean square distance between the two curves, in points of heat.  A
distance far below the margin means that four knots leave nothing to confound with.

Writes reports/spline_fit.json, which `python benchmarks/validity.py --report` prints, and reports/spline_fit.svg.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib
import numpy as np
from scipy import special

from gradaudit.runs.folder import read_run
from gradaudit.stats import linear_model, permutation, standard_errors

ROOT = Path(__file__).resolve().parents[1]
RUNS = ("dermoscopy-shortcut", "dermoscopy-clean", "objects", "digits")
SEVEN = (0.025, 0.1833, 0.3417, 0.5, 0.6583, 0.8167, 0.975)  # Harrell 2015, table 2.3


def fitted(y: np.ndarray, columns: np.ndarray) -> tuple[float, np.ndarray, linear_model.Design]:
    """R², and the fit of one curve (n, k) with intercept."""
    fit = linear_model.design(np.zeros(len(y), dtype=np.int64), columns)
    residual = fit.residuals(y)
    return 1 - float(residual @ residual) / float(np.sum((y - y.mean()) ** 2)), y - residual, fit


def region_row(
    share: np.ndarray, area: np.ndarray, cluster: np.ndarray
) -> tuple[dict[str, float], np.ndarray]:
    """Figures of one region; and per cluster (n, 4): logit(area share), heat share, curve of four knots, of seven."""
    size = linear_model.logit(area)
    four, seven = (
        linear_model.spline_basis(size),
        linear_model.spline_basis(size, np.unique(np.quantile(size, SEVEN))),
    )
    codes = np.unique(cluster, return_inverse=True)[1]
    n = int(codes.max()) + 1
    y, mean_size = (
        linear_model.cluster_means(share, codes, n),
        linear_model.cluster_means(size, codes, n),
    )
    line, few, many = (
        linear_model.cluster_means(c, codes, n)
        for c in (size[:, None], four, np.hstack([four, seven[:, 1:]]))
    )
    (r_line, *_), (r_four, curve, _), (r_seven, wavy, fit) = (
        fitted(y, line),
        fitted(y, few),
        fitted(y, many),
    )
    extra = len(fit.kept) - min(len(fit.kept), few.shape[1])
    p = float("nan")
    if extra:
        on = np.eye(len(fit.kept))[-extra:]
        weights = np.column_stack([fit.row_weights(np.zeros(1), row) for row in on])
        value = permutation.wald(
            (weights.T @ y)[None], standard_errors.hc2(fit, fit.residuals(y), weights)[None]
        )[0]
        p = float(special.fdtrc(extra, n - len(fit.kept) - 1, value / extra))
    found = {
        "clusters": n,
        "line": r_line,
        "four": r_four,
        "seven": r_seven,
        "p": p,
        "points": 100 * float(np.sqrt(np.mean((curve - wavy) ** 2))),
    }
    return found, np.column_stack([mean_size, y, curve, wavy])


def drawn(panels: list[tuple[str, np.ndarray]], path: Path) -> None:
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "gradaudit"
    figure, axes = plt.subplots(
        -(-len(panels) // 4),
        4,
        figsize=(12, 3 * -(-len(panels) // 4)),
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (title, points) in zip(axes.flat, panels, strict=False):
        seen = points[np.random.default_rng(0).permutation(len(points))[:400]]
        seen = seen[np.argsort(seen[:, 0])]
        axis.plot(seen[:, 0], seen[:, 1], ".", color="0.7", markersize=3)
        axis.plot(seen[:, 0], seen[:, 2], color="#0b5cad", label="four knots")
        axis.plot(seen[:, 0], seen[:, 3], color="#b34700", linewidth=0.8, label="seven knots")
        axis.set_title(title, fontsize=9)
    axes[0, 0].legend(fontsize=7)
    figure.supxlabel("logit of the area share, mean of each cluster", fontsize=9)
    figure.supylabel("heat share, mean of each cluster", fontsize=9)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    rows, panels = [], []
    for folder in map(Path, sys.argv[1:] or [ROOT / "runs" / name for name in RUNS]):
        meas = read_run(folder).measurements()
        table = meas.table.merge(meas.images[["image_id", "cluster"]], on="image_id")
        for region, part in table[
            table["heat_share"].notna() & table["area_share"].notna()
        ].groupby("region"):
            if part["area_share"].nunique() < 20:
                continue
            found, points = region_row(
                part["heat_share"].to_numpy(float),
                part["area_share"].to_numpy(float),
                part["cluster"].to_numpy(),
            )
            rows.append({"run": folder.name, "region": str(region), **found})
            panels.append((f"{folder.name}: {region}", points))
            print(rows[-1])
    (ROOT / "reports" / "spline_fit.json").write_text(json.dumps(rows, indent=0) + "\n")
    drawn(panels, ROOT / "reports" / "spline_fit.svg")


if __name__ == "__main__":
    main()
