"""What this deployment runs: every folder here declares jobs, event subscriptions, periodic work or routes.

A new job or event handler is one new folder; nothing else names it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from consumers.discovery import gather
from consumers.queues import QUEUES
from consumers.samples import sample_load

if TYPE_CHECKING:
    from streams.job import Catalogue
    from streams.settings import Settings


def discover(settings: Settings) -> Catalogue:
    """All that the folders declare.

    Raises:
        BrokenConsumerError: A folder cannot be loaded; the message names it.
    """
    found = gather("consumers", QUEUES, {"signin_mails_per_hour": settings.signin_mails_per_hour})
    return replace(found, sample_load=sample_load)
