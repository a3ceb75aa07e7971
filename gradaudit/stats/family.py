"""Family STATISTICS: what a finding can carry, and the array types of this package."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradaudit.registry import Family

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

STATISTICS: Family = Family("statistic")  # type: ignore[type-arg]
"""Every estimate, error, test, correction and effect size of a finding, with formula and source."""
