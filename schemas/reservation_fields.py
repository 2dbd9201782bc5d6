"""What every reservation event says about the reservation."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from schemas.fields import Count, Email, Instant, Line, PayloadModel


class ReservationFields(PayloadModel):
    """A reservation of ``quantity`` units of a resource; the tenant is in the record key.

    Attributes:
        ends_at: Not before ``starts_at``.
    """

    reservation_id: Line
    resource_id: Line
    customer_email: Email
    customer_name: Line
    starts_at: Instant
    ends_at: Instant
    quantity: Count

    @model_validator(mode="after")
    def _ends_after_start(self) -> Self:
        if self.ends_at < self.starts_at:
            raise ValueError("ends_at must not be before starts_at")
        return self
