"""Settings of a comparison, the same whichever audit comes first."""

from __future__ import annotations

from dataclasses import dataclass

from gradaudit.plan import Plan


@dataclass(frozen=True)
class ChangeSettings:
    """How changes are tested.

    draws_per_cell : permutations per planned comparison, so that Holm can reach alpha: at the level
        alpha / m two of 40 m statistics lie beyond at 5 %
    """

    alpha: float
    permutations: int
    seed: int
    min_cell: int
    draws_per_cell: int = 40

    def draws(self, cells: int) -> int:
        """Permutations of one comparison among so many planned ones."""
        return max(self.permutations, self.draws_per_cell * cells)

    @classmethod
    def of(cls, before: Plan, after: Plan) -> ChangeSettings:
        """The stricter setting of either plan."""
        plans = before, after
        return cls(
            alpha=min(p.analysis.alpha for p in plans),
            permutations=max(p.analysis.permutations for p in plans),
            seed=min(p.run.seed for p in plans),
            min_cell=max(p.privacy.min_cell for p in plans),
        )
