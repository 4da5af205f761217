"""A failure as data: what a step or run carries when it did not work."""

from dataclasses import dataclass

from runengine_server.domain.json_value import JsonObject

SKILL_TIMEOUT = "SKILL_TIMEOUT"
SKILL_FAILED = "SKILL_FAILED"
SKILL_UNAVAILABLE = "SKILL_UNAVAILABLE"
SKILL_PROTOCOL_ERROR = "SKILL_PROTOCOL_ERROR"
HEARTBEAT_TIMEOUT = "HEARTBEAT_TIMEOUT"
OUTPUT_INVALID = "OUTPUT_INVALID"
OUTPUT_TOO_LARGE = "OUTPUT_TOO_LARGE"
INPUT_INVALID = "INPUT_INVALID"
INPUT_SELECTOR_FAILED = "INPUT_SELECTOR_FAILED"
UPSTREAM_FAILED = "UPSTREAM_FAILED"
RUN_CANCELLED = "RUN_CANCELLED"
RUN_DEADLINE_EXCEEDED = "RUN_DEADLINE_EXCEEDED"
MAX_RETRIES_EXCEEDED = "MAX_RETRIES_EXCEEDED"
LEASE_LOST_REPEATEDLY = "LEASE_LOST_REPEATEDLY"
INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why something failed: a stable upper-snake code, a sentence, whether another attempt may help."""

    code: str
    message: str
    retryable: bool = False
    details: JsonObject | None = None
    step_id: str = ""
    attempt: int = 0
