"""Family STATISTICS: every estimate, error, test, correction and effect size that a finding can
carry.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradaudit.registry import Family

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STATISTICS: Family = Family("statistic")  # type: ignore[type-arg]
"""Every estimate, standard error, test, correction and effect size that a finding can carry, with
formula and source.
"""
