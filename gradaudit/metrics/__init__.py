"""Family METRICS: how one image's heat relates to one region; the same code for numpy arrays and
torch tensors.

Every metric takes ``heat`` (N, H, W) >= 0 and ``masks`` (N, R, H, W) in [0, 1] (the fraction of a
pixel that the region covers) and returns (N, R), NaN where undefined; ``reasons`` says why.
Neither wing: torch is never imported here.
"""

from gradaudit.metrics import mass, ranking  # importing a module registers its members

__all__ = ["mass", "ranking"]
