"""Writes one attempt as the contract's request, for a stream of its own or a shared one."""

import time
from collections.abc import Callable, Sequence

from runengine_client.pb.runengine.v1 import skill_runner_pb2
from runengine_server.ports.skill_runner import SkillCall

CallMetadata = Callable[[SkillCall], Sequence[tuple[str, str]]]
"""Further metadata of a call, such as `traceparent`; names in lower case."""


def write_request(
    request: skill_runner_pb2.ExecuteRequest, call: SkillCall, *, timeout_s: float, heartbeat_interval_s: float
) -> None:
    """The empty request asks for the call; its deadline is so many seconds from now."""
    request.skill_id = call.skill_id
    request.idempotency_key = call.idempotency_key
    request.run_id = call.run_id
    request.step_id = call.step_id
    request.attempt = call.attempt
    request.fencing_token = call.fencing_token
    request.input_json = call.input_json
    request.input_hash = call.input_hash
    request.workflow_name = call.workflow_name
    request.tenant = call.tenant
    deadline = time.time() + timeout_s
    request.deadline.seconds = int(deadline)
    request.deadline.nanos = int(deadline % 1 * 1e9)
    request.heartbeat_interval.seconds = int(heartbeat_interval_s)
    request.heartbeat_interval.nanos = int(heartbeat_interval_s % 1 * 1e9)
