"""What a run tells its processes, as a file in its data folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PUBLISHED = "published.jsonl"
FILE = "chaos.json"


@dataclass(frozen=True, slots=True)
class Config:
    """One run: its queue, its ledger."""

    queue: str
    partitions: int
    ledger_port: int
    tiers: tuple[float, ...] = (0.5, 1.0)
    concurrency: int = 100
    delay: float = 0.0

    def write(self, folder: Path) -> None:
        """Leave it for the processes of the run."""
        (folder / FILE).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Config:
        """What :meth:`write` left."""
        found = json.loads((folder / FILE).read_text())
        return cls(**found | {"tiers": tuple(found["tiers"])})
