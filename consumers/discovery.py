"""Finds the consumers of a package: one folder each, with the declarations in ``__init__.py`` and a ``samples.json``.

A folder may declare ``JOB``, ``SUBSCRIPTION``, ``PERIODIC`` and ``ROUTE``, or tuples of them under the plural.
Invariant: a folder that cannot be used is named; whether the parts fit together is ``streams.groups``' to say.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from streams.door import RouteSpec
from streams.job import Catalogue, Job, Periodic, Queue, Subscription

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

T = TypeVar("T")


class BrokenConsumerError(Exception):
    """A consumer's folder cannot be used; the message names the folder and what is wrong with it."""


class _Folder(NamedTuple):
    jobs: tuple[Job, ...]
    subscriptions: tuple[Subscription, ...]
    periodics: tuple[Periodic, ...]
    routes: tuple[RouteSpec, ...]
    examples: tuple[Mapping[str, Any], ...]


def gather(package: str, queues: tuple[Queue, ...], options: Mapping[str, Any]) -> Catalogue:
    """The catalogue of all folders of ``package``.

    Raises:
        BrokenConsumerError: A folder cannot be loaded, or declares nothing or nonsense.
    """
    folders = [_load(package, name) for name in _names(package)]
    return Catalogue(
        queues=queues,
        jobs=tuple(job for folder in folders for job in folder.jobs),
        subscriptions=tuple(one for folder in folders for one in folder.subscriptions),
        periodics=tuple(one for folder in folders for one in folder.periodics),
        routes=tuple(route for folder in folders for route in folder.routes),
        options=options,
        examples=tuple(example for folder in folders for example in folder.examples),
    )


def _names(package: str) -> list[str]:
    roots = importlib.import_module(package).__path__
    return sorted(path.parent.name for root in roots for path in Path(root).glob("[!_.]*/__init__.py"))


def _load(package: str, name: str) -> _Folder:
    path = f"{package}/{name}"
    try:
        module = importlib.import_module(f"{package}.{name}")
        examples = json.loads((Path(str(module.__file__)).parent / "samples.json").read_text())
    except Exception as error:
        raise BrokenConsumerError(f"{path}: cannot be loaded: {type(error).__name__}: {error}") from error
    folder = _Folder(
        _declared(path, module, "JOB", Job),
        _declared(path, module, "SUBSCRIPTION", Subscription),
        _declared(path, module, "PERIODIC", Periodic),
        _declared(path, module, "ROUTE", RouteSpec),
        tuple(examples),
    )
    if not any(folder[:-1]):
        raise BrokenConsumerError(f"{path}: __init__.py declares no JOB, SUBSCRIPTION, PERIODIC or ROUTES")
    return folder


def _declared(path: str, module: ModuleType, name: str, kind: type[T]) -> tuple[T, ...]:
    single = (getattr(module, name),) if hasattr(module, name) else ()
    found = (*single, *getattr(module, f"{name}S", ()))
    for thing in found:
        if not isinstance(thing, kind):
            raise BrokenConsumerError(f"{path}: {name}(S) must be of {kind.__name__}, got {type(thing).__name__}")
    return found
