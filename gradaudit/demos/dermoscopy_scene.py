"""What one rendered picture shows: the lesion, and everything around it, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Layer = Literal["skin", "outline", "pigment", "ink", "hair", "edge", "ruler", "light"]


@dataclass(frozen=True)
class Lesion:
    """Features of one lesion, each 0 (typically benign) to 1 (typically malignant).

    Source: the ABCD rule, Nachbar et al. 1994, J Am Acad Dermatol 30(4), 551-559.
    """

    asymmetry: float
    border: float
    colours: float

    @property
    def score(self) -> float:
        """Weighted mean of the features, 0 to 1.

        The label is drawn from it alone, never from what surrounds the lesion.
        """
        return 0.35 * self.asymmetry + 0.25 * self.border + 0.40 * self.colours


@dataclass(frozen=True)
class Scene:
    """All numbers that decide one image; equal scenes give equal pixels.

    ``tone`` is a key of ``TONES``, ``ruler_size`` the width of the ruler as a share of the image
    side.
    """

    tone: str
    lesion: Lesion
    ruler: bool
    ink: bool
    hair: float
    circle: bool
    seed: int
    ruler_size: float = 0.13


def layer_stream(scene: Scene, layer: Layer) -> np.random.Generator:
    """The random numbers of one layer of a scene.

    They depend on the scene's seed and on nothing else that the scene shows: a layer that is left
    out, or drawn in another colour, moves no other.
    """
    return np.random.default_rng([scene.seed, get_args(Layer).index(layer)])
