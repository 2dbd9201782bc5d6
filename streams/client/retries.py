"""When to send a request again: the decision as a value."""

from __future__ import annotations

from dataclasses import dataclass

from streams.client.errors import ApiError

_AGAIN = {408, 425, 429, 502, 503, 504}
_IN_FLIGHT = 409  # the first request with this Idempotency-Key has not been answered yet


@dataclass(frozen=True, slots=True)
class Retries:
    """How often, and how long to wait.

    Attributes:
        attempts: At most so many requests.
        first: Seconds before the second one; doubled each time, up to ``longest``.
        patience: Seconds a gateway may ask to wait; beyond that its refusal is raised.
    """

    attempts: int = 5
    first: float = 0.2
    longest: float = 5.0
    patience: float = 30.0

    def wait(self, attempt: int, error: Exception, *, repeatable: bool, drawn: float) -> float | None:
        """Seconds until the next attempt, None: raise the error.

        Args:
            attempt: That failed, from 1.
            error: An ``ApiError`` or ``UnreachableError``.
            repeatable: Whether sending it twice has one effect.
            drawn: A random number from 0 to 1.
        """
        if attempt >= self.attempts or not repeatable:
            return None
        backoff = min(self.first * 2.0 ** (attempt - 1), self.longest) * (0.5 + drawn / 2)
        if not isinstance(error, ApiError):
            return backoff
        again = error.status in _AGAIN or (error.status == _IN_FLIGHT and error.retry_after is not None)
        asked = error.retry_after or 0.0
        return max(backoff, asked) if again and asked <= self.patience else None
