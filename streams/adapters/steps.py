"""The steps of a job's attempts as PostgreSQL keeps them: a JSON object, by sequence.

Invariant: merging in SQL gives what ``streams.history.merged_steps`` gives.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from streams.history import MOST_STEPS, Step

if TYPE_CHECKING:
    from collections.abc import Iterable

# Of a step that was told twice the first report stands. Mostly one side has no steps: that costs next to nothing.
MERGED = """
CASE WHEN jobs.steps = '{}' THEN excluded.steps WHEN excluded.steps = '{}' THEN jobs.steps ELSE (
    SELECT jsonb_object_agg(kept.key, kept.value) FROM (
        SELECT DISTINCT ON (CAST(told.key AS bigint)) told.key, told.value FROM (
            SELECT * FROM jsonb_each(jobs.steps) UNION ALL SELECT * FROM jsonb_each(excluded.steps)
        ) AS told ORDER BY CAST(told.key AS bigint) DESC, CAST(told.value ->> 0 AS bigint) LIMIT MOST
    ) AS kept) END
""".replace("MOST", str(MOST_STEPS))


def from_text(text: str) -> tuple[Step, ...]:
    """The steps, the latest first."""
    found = {int(number): facts for number, facts in json.loads(text).items()}
    return tuple(Step(number, *found[number]) for number in sorted(found, reverse=True))


def to_text(steps: Iterable[Step]) -> str:
    """The JSON object."""
    return json.dumps({step.sequence: step[1:] for step in steps}, ensure_ascii=False)
