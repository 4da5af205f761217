"""Random requests of clients: runs, updates and retries of random workflows, with every option there is."""

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import TypeVar
from uuid import uuid4

from runengine_server.service.messages import RetryRunRequest, TriggerRequest, TriggerUpdateRequest

from .random_workflows import random_change, random_mode, random_payload, random_steps
from .workflow_model import WorkflowModel

Request = TypeVar("Request", TriggerRequest, TriggerUpdateRequest, RetryRunRequest)


def random_trigger(random: Random, versions: Mapping[str, WorkflowModel]) -> TriggerRequest:
    """A run of one of the versions."""
    version, model = random.choice(list(versions.items()))
    return TriggerRequest(
        workflow_name=model.workflow.name,
        workflow_version=version,
        trigger_payload=random_payload(random),
        request_id=_request_id(random),
        deadline_s=random.choice([None, None, None, 15.0]),
        priority=random.choice([0, 0, 5]),
        cache_mode=random_mode(random),
        force_step_ids=random_steps(random, model),
    )


def random_update(
    random: Random, versions: Mapping[str, WorkflowModel], base: str, model: WorkflowModel
) -> TriggerUpdateRequest:
    """A change of the run `base` of the version `model`, sometimes onto another version."""
    version = ""
    if random.random() < 0.3:
        version, model = random.choice(list(versions.items()))
    change = random_change(random, model)
    return TriggerUpdateRequest(
        base_run_id=base,
        workflow_version=version,
        change_type=change.type,
        change_payload=dict(change.payload),
        cache_mode=change.mode,
        request_id=_request_id(random),
        force_step_ids=random_steps(random, model),
        strict_impact=random.random() < 0.2,
    )


def repeated(request: Request) -> Request:
    """The same wish of somebody else."""
    return replace(request, request_id=str(uuid4()))


def random_retry(random: Random, retried: str) -> RetryRunRequest:
    """A retry of a run."""
    return RetryRunRequest(run_id=retried, request_id=_request_id(random))


def _request_id(random: Random) -> str:
    return str(uuid4()) if random.random() < 0.8 else ""
