"""A shard's receipt: what was written of it, by digest.  Its presence means "finished"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class PartReceipt:
    """One part of a shard as it was written: number of rows, sha256 (hex) of the file."""

    rows: int
    sha256: str


@dataclass(frozen=True)
class Receipt:
    """Rows ``start`` to ``stop`` (exclusive) of the manifest were measured under a plan."""

    plan_id: str
    start: int
    stop: int
    parts: Mapping[str, PartReceipt]

    def as_json(self) -> dict[str, Any]:
        """The content of ``receipts/<shard>.json``."""
        parts = {name: asdict(part) for name, part in self.parts.items()}
        return {"plan_id": self.plan_id, "range": [self.start, self.stop], "parts": parts}
