"""Does the spline in logit(area share) fit the heat of real maps?  Share against region size, run by run.

    python benchmarks/spline_fit.py RUN [RUN ...]

Per region of each run folder, on cluster means: R² of a straight line, of the protocol's four knots and of seven knots;
the p of what seven knots add (HC2 Wald); and the largest distance between the two curves over the middle 90 % of sizes,
in points of heat.  A distance far below the margin means that four knots leave nothing to confound with.
"""

from __future__ import annotations

import sys

import numpy as np
from scipy import special

from gradaudit import stats
from gradaudit.storage import read_run

SEVEN = (0.025, 0.1833, 0.3417, 0.5, 0.6583, 0.8167, 0.975)  # Harrell 2015, table 2.3


def fitted(y: np.ndarray, columns: np.ndarray) -> tuple[float, np.ndarray, stats.Design]:
    """R², and the fit of one curve (n, k) with intercept."""
    fit = stats.design(np.zeros(len(y), dtype=np.int64), columns)
    residual = fit.residuals(y)
    return 1 - float(residual @ residual) / float(np.sum((y - y.mean()) ** 2)), y - residual, fit


def region_row(share: np.ndarray, area: np.ndarray, cluster: np.ndarray) -> dict[str, float]:
    size = stats.logit(area)
    four, seven = stats.spline_basis(size), stats.spline_basis(size, np.unique(np.quantile(size, SEVEN)))
    codes = np.unique(cluster, return_inverse=True)[1]
    n = int(codes.max()) + 1
    y, mean_size = stats.cluster_means(share, codes, n), stats.cluster_means(size, codes, n)
    line, few, many = (stats.cluster_means(c, codes, n) for c in (size[:, None], four, np.hstack([four, seven[:, 1:]])))
    (r_line, *_), (r_four, curve, _), (r_seven, wavy, fit) = fitted(y, line), fitted(y, few), fitted(y, many)
    extra = len(fit.kept) - min(len(fit.kept), few.shape[1])
    p = float("nan")
    if extra:
        on = np.eye(len(fit.kept))[-extra:]
        weights = np.column_stack([fit.row_weights(np.zeros(1), row) for row in on])
        value = stats.wald((weights.T @ y)[None], stats.hc2(fit, fit.residuals(y), weights)[None])[0]
        p = float(special.fdtrc(extra, n - len(fit.kept) - 1, value / extra))
    low, high = np.quantile(mean_size, [0.05, 0.95])
    middle = (mean_size >= low) & (mean_size <= high)
    return {"clusters": n, "line": r_line, "four": r_four, "seven": r_seven, "p": p, "points": 100 * float(np.abs(curve - wavy)[middle].max())}


def main() -> None:
    print("| run | region | clusters | R² line | R² four knots | R² seven knots | p of seven | largest distance |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for folder in sys.argv[1:]:
        meas = read_run(folder).measurements()
        table = meas.table.merge(meas.images[["image_id", "cluster"]], on="image_id")
        for region, rows in table[table["heat_share"].notna() & table["area_share"].notna()].groupby("region"):
            if rows["area_share"].nunique() < 20:
                continue
            r = region_row(rows["heat_share"].to_numpy(float), rows["area_share"].to_numpy(float), rows["cluster"].to_numpy())
            figures = f"{r['line']:.3f} | {r['four']:.3f} | {r['seven']:.3f} | {r['p']:.3f} | {r['points']:.1f} points"
            print(f"| {meas.run['data']['name']} | {region} | {r['clusters']} | {figures} |")


if __name__ == "__main__":
    main()
