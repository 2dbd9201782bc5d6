"""Finds the consumers of a package: one folder each, whose ``__init__.py`` holds the declarations.

A folder may declare ``JOB``, ``SUBSCRIPTION`` and ``PERIODIC`` (or a tuple of them under the plural) and ``ROUTES``.
Invariant: what is found fits together: every job has its queue, and no two things share a name.
"""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from streams.job import Catalogue, Job, Periodic, Queue, Subscription

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

T = TypeVar("T")


class BrokenConsumerError(Exception):
    """A consumer's folder cannot be used; the message names the folder and what is wrong with it."""


class _Folder(NamedTuple):
    path: str
    jobs: tuple[Job, ...]
    subscriptions: tuple[Subscription, ...]
    periodics: tuple[Periodic, ...]
    routes: tuple[Any, ...]


def gather(package: str, queues: tuple[Queue, ...], options: Mapping[str, Any]) -> Catalogue:
    """The catalogue of all folders of ``package``.

    Raises:
        BrokenConsumerError: A folder cannot be loaded, declares nothing, or contradicts another.
    """
    folders = [_load(package, name) for name in _names(package)]
    _refuse_unknown_queues(folders, queues)
    _refuse_twins(folders, queues)
    return Catalogue(
        queues=queues,
        jobs=tuple(job for folder in folders for job in folder.jobs),
        subscriptions=tuple(one for folder in folders for one in folder.subscriptions),
        periodics=tuple(one for folder in folders for one in folder.periodics),
        routes=tuple(route for folder in folders for route in folder.routes),
        options=options,
    )


def _names(package: str) -> list[str]:
    roots = importlib.import_module(package).__path__
    return sorted(path.parent.name for root in roots for path in Path(root).glob("[!_.]*/__init__.py"))


def _load(package: str, name: str) -> _Folder:
    path = f"{package}/{name}"
    try:
        module = importlib.import_module(f"{package}.{name}")
    except Exception as error:
        raise BrokenConsumerError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from error
    folder = _Folder(
        path,
        _declared(path, module, "JOB", Job),
        _declared(path, module, "SUBSCRIPTION", Subscription),
        _declared(path, module, "PERIODIC", Periodic),
        tuple(getattr(module, "ROUTES", ())),
    )
    if not any(folder[1:]):
        raise BrokenConsumerError(f"{path}: __init__.py declares none of JOB, SUBSCRIPTION, PERIODIC, ROUTES")
    return folder


def _declared(path: str, module: ModuleType, name: str, kind: type[T]) -> tuple[T, ...]:
    single = (getattr(module, name),) if hasattr(module, name) else ()
    found = (*single, *getattr(module, f"{name}S", ()))
    for thing in found:
        if not isinstance(thing, kind):
            raise BrokenConsumerError(f"{path}: {name} must be a {kind.__name__}, got {type(thing).__name__}")
    return found


def _refuse_unknown_queues(folders: Iterable[_Folder], queues: tuple[Queue, ...]) -> None:
    known = {queue.name for queue in queues}
    for folder in folders:
        for job in folder.jobs:
            if job.queue not in known:
                raise BrokenConsumerError(f"{folder.path}: job {job.type} names the unknown queue {job.queue!r}")


def _refuse_twins(folders: Iterable[_Folder], queues: tuple[Queue, ...]) -> None:
    taken = Counter(f"group {queue.name}" for queue in queues)
    for folder in folders:
        taken.update(f"job {job.type}" for job in folder.jobs)
        taken.update(f"group {one.name}" for one in folder.subscriptions)
        taken.update(f"periodic work {one.name}" for one in folder.periodics)
        twin = next((name for name, count in taken.items() if count > 1), None)
        if twin:
            raise BrokenConsumerError(f"{folder.path}: there is already a {twin}")
