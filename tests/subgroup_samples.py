"""Samples of images with groups and patients, and the numbers of their contrasts."""

import numpy as np
import pandas as pd
import worlds
from scipy.special import expit


def rows_of(name, seed=0):
    return worlds.draw(name, np.random.default_rng(seed))


def clustered(seed=0, groups=("a", "b", "c"), patients=90):
    rng = np.random.default_rng(seed)
    cl = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    group = np.array(groups)[rng.integers(0, len(groups), patients)][cl]
    area = expit(rng.normal(-2, 0.8, len(cl)))
    value = expit(
        -1
        + 0.5 * rng.normal(size=patients)[cl]
        + 0.5 * rng.normal(size=len(cl))
        + 0.3 * np.log(area)
    )
    return pd.DataFrame({"value": value, "group": group, "cluster": cl, "area": area})


def numbers(found):
    return found.table[
        ["estimate", "se", "ci_low", "ci_high", "p", "p_adjusted", "mde80"]
    ].to_numpy(dtype=float)
