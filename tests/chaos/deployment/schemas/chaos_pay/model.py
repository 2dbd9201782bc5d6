"""``chaos.pay``: write a number into the ledger, once."""

from __future__ import annotations

from schemas.contract import load
from schemas.fields import Int, Line, PayloadModel


class Pay(PayloadModel):
    """Write a number into the ledger, once."""

    entity: Line
    number: Int


CONTRACT = load(__file__, name="chaos.pay", kind="job", model=Pay)
