"""The bodies of ``POST /api/v1/jobs`` and ``/api/v1/events`` as one model each: a choice by type, with examples.

They describe; what is accepted is decided by ``models.py`` and the contracts, from which they are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model

from streams.gateway.models import CloudEvent, EventRequest
from streams.gateway.options import MOST_RECORDS, JobBatch, JobRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from schemas.contract import Contract


def job_bodies(contracts: Iterable[Contract], examples: Mapping[str, Mapping[str, Any]]) -> type[BaseModel]:
    """The body of ``POST /api/v1/jobs`` for these job types; ``examples`` are the catalogue's, by type."""
    return _choice("JobBody", JobRequest, "payload", contracts, examples)


def batch_of(model: type[BaseModel]) -> type[BaseModel]:
    """The body of ``POST /api/v1/jobs:batch``, where ``model`` is that of one job."""
    jobs: Any = (list[model], Field(max_length=MOST_RECORDS))  # type: ignore[valid-type]  # made at run time
    return create_model("JobBatchBody", __base__=JobBatch, __doc__=JobBatch.__doc__, jobs=jobs)


def event_bodies(contracts: Iterable[Contract], examples: Mapping[str, Mapping[str, Any]]) -> type[BaseModel]:
    """The body of ``POST /api/v1/events`` for these event types; ``examples`` as before."""
    return _choice("EventBody", EventRequest, "data", contracts, examples)


def cloud_events(
    contracts: Iterable[Contract], examples: Mapping[str, Mapping[str, Any]]
) -> tuple[type[BaseModel], type[BaseModel]]:
    """A CloudEvent in structured mode, and a batch of them; ``examples`` as before."""
    shown = [_cloud_event(examples[each.name]) for each in contracts if each.name in examples]
    config = ConfigDict(extra="allow", json_schema_extra={"examples": list(shown)})
    described = type("CloudEventDocumented", (CloudEvent,), {"model_config": config})
    single: Any = create_model("CloudEvent", __base__=described, __doc__=CloudEvent.__doc__)
    of_many: Any = Field(max_length=MOST_RECORDS, examples=[shown])
    many = create_model("CloudEventBatch", __base__=RootModel[list[single]], root=(list[single], of_many))
    return single, many


def _cloud_event(example: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"{example['type']}-1",
        "source": "/example",
        "type": example["type"],
        "tenant": example["tenant"],
        "subject": example["entity"],
        "data": example["data"],
    }


def _choice(
    name: str,
    base: type[BaseModel],
    field: str,
    contracts: Iterable[Contract],
    examples: Mapping[str, Mapping[str, Any]],
) -> type[BaseModel]:
    models = [_body(base, field, contract, examples.get(contract.name)) for contract in contracts]
    if len(models) > 1:
        # Made at run time, out of as many models as there are types.
        chosen: Any = Union[tuple(models)]  # noqa: UP007 - the operator takes no tuple
        return create_model(name, __base__=RootModel[chosen], root=(chosen, Field(discriminator="type")))
    return models[0] if models else base


def _body(base: type[BaseModel], field: str, contract: Contract, example: Mapping[str, Any] | None) -> type[BaseModel]:
    config = ConfigDict()
    if example is not None:
        config["json_schema_extra"] = {"examples": [_example(example, field)]}
    fields: dict[str, Any] = {"type": (Literal[contract.name], ...), field: (contract.model, ...)}
    described = type(f"{base.__name__}Documented", (base,), {"model_config": config})
    name = "".join(part.title() for part in contract.name.replace("_", ".").split(".")) + base.__name__
    return create_model(name, __base__=described, __doc__=f"{base.__name__} of type {contract.name}.", **fields)


def _example(example: Mapping[str, Any], field: str) -> dict[str, Any]:
    return {
        "type": example["type"],
        "tenant": example["tenant"],
        "key": example["entity"],
        field: example["data"],
    }
