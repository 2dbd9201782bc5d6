"""Loads the deployment's declarations by name, since ``streams`` knows no job or event itself.

catalogue = load_catalogue(settings)        # settings.catalogue is "consumers:discover"
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from streams.groups import CatalogueError
from streams.job import Catalogue

if TYPE_CHECKING:
    from streams.settings import Settings


def load_catalogue(settings: Settings) -> Catalogue:
    """What ``<module>:<function>`` returns when it is called with the settings.

    Raises:
        CatalogueError: There is no such function, it failed, or it returned something else.
    """
    module, _, function = settings.catalogue.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)(settings)
    except Exception as error:  # whatever the deployment's own code raises is its operator's to read
        raise CatalogueError(f"KEYLANE_CATALOGUE: {settings.catalogue}: {type(error).__name__}: {error}") from error
    if not isinstance(found, Catalogue):
        raise CatalogueError(f"KEYLANE_CATALOGUE: {settings.catalogue} returned no Catalogue")
    return found
