"""Writes one attempt as the JSON that is posted to a runner over HTTP."""

from datetime import UTC, datetime, timedelta

import orjson

from runengine_server.ports.skill_runner import SkillCall


def request_body(
    call: SkillCall, *, timeout_s: float, heartbeat_interval_s: float, callback_url: str, callback_token: str
) -> bytes:
    """The body of `POST /execute`; the input is in it byte for byte.

    Args:
        call: the attempt.
        timeout_s: what is left of its time.
        heartbeat_interval_s: how often a runner that calls back has to be heard.
        callback_url: where this call, and no other, is answered.
        callback_token: what the runner shows there.
    """
    deadline = datetime.now(UTC) + timedelta(seconds=timeout_s)
    return orjson.dumps(
        {
            "skillId": call.skill_id,
            "idempotencyKey": call.idempotency_key,
            "runId": call.run_id,
            "stepId": call.step_id,
            "attempt": call.attempt,
            "fencingToken": call.fencing_token,
            "input": orjson.Fragment(call.input_json),
            "inputHash": call.input_hash,
            "deadline": deadline.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "timeoutMs": round(timeout_s * 1000),
            "heartbeatIntervalMs": round(heartbeat_interval_s * 1000),
            "workflowName": call.workflow_name,
            "tenant": call.tenant,
            "callback": {"url": callback_url, "token": callback_token},
        }
    )
