"""What a client raises."""

from __future__ import annotations

import json
from typing import Any


class ApiError(Exception):
    """The gateway refused a request; the attributes are those of its RFC 9457 problem.

    Attributes:
        status: Of the answer.
        kind: The end of the problem's type, for example ``invalid-request``; ``""`` where the answer is no problem.
        errors: The places at fault in the body, each with ``detail`` and a JSON ``pointer``.
        request_id: Leads to the gateway's log.
        retry_after: Seconds, where the gateway names them.
        members: All there is.
    """

    def __init__(self, status: int, members: dict[str, Any], retry_after: float | None) -> None:
        self.status = status
        self.members = members
        self.retry_after = retry_after
        self.kind = str(members.get("type", "")).rpartition("/problems/")[2]
        self.errors: list[dict[str, str]] = members.get("errors", [])
        self.request_id: str | None = members.get("request_id")
        places = "".join(f"; {each.get('pointer')}: {each.get('detail')}" for each in self.errors)
        super().__init__(f"{status} {members.get('detail') or members.get('title') or 'no explanation'}{places}")


class UnreachableError(Exception):
    """The gateway did not answer; the request may or may not have been carried out."""


def refusal(status: int, headers: dict[str, str], body: bytes) -> ApiError:
    """The error of an answer that is no success; the names of ``headers`` are in small letters."""
    try:
        members = json.loads(body)
    except ValueError:  # a proxy's own page
        members = {"title": body[:200].decode(errors="replace")}
    if not isinstance(members, dict):
        members = {"title": str(members)[:200]}
    wait = headers.get("retry-after", "")
    return ApiError(status, members, float(wait) if wait.isdigit() else None)
