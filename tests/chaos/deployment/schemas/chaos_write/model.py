"""``chaos.write``: write a number into the ledger."""

from __future__ import annotations

from schemas.contract import load
from schemas.fields import Int, Line, PayloadModel


class Write(PayloadModel):
    """Write a number into the ledger."""

    entity: Line
    number: Int


CONTRACT = load(__file__, name="chaos.write", kind="job", model=Write)
