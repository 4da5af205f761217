"""How JSON and outputs lie in bytea columns: failures, cache decisions, artifact facts, output bodies, plans."""

import zlib
from typing import cast

import orjson

from runengine_server.domain.cache import CacheDecision
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import RunId, StepId
from runengine_server.domain.json_value import JsonObject, JsonValue
from runengine_server.domain.states import CacheOutcome, CacheTier, MissReason, PlanAction, PlanReason

# Below it a compressed output saves no page and costs the time anyway.
_COMPRESS_ABOVE_BYTES = 2048
_COMPRESS_LEVEL = 1

# A plan has up to 10,000 of them: looked up, for making the members again costs ten times that.
_PLANNED = {action * 16 + reason: (action, reason) for action in PlanAction for reason in PlanReason}
_PLANNED_BYTES = {planned: byte for byte, planned in _PLANNED.items()}


def encode_json(value: JsonValue) -> bytes:
    """The bytes of a value, for `artifacts.metadata` (an object) and `artifacts.made_from` (a list of ids)."""
    return orjson.dumps(value)


def decode_json(data: bytes) -> JsonValue:
    """The value that `encode_json` wrote."""
    return cast(JsonValue, orjson.loads(data))


def encode_failure(failure: Failure) -> bytes:
    """The bytes of a failure; members that say nothing are left out.

    Text that is no Unicode (a lone surrogate in an exception's message) is written with replacement characters, and
    details that no JSON can hold are dropped: a failure must be recordable whatever it says.
    """
    fields: dict[str, JsonValue] = {"code": failure.code, "message": failure.message}
    if failure.retryable:
        fields["retryable"] = True
    if failure.details is not None:
        fields["details"] = failure.details
    if failure.step_id:
        fields["stepId"] = failure.step_id
    if failure.attempt:
        fields["attempt"] = failure.attempt
    try:
        return orjson.dumps(fields)
    except TypeError:
        fields.pop("details", None)
        return orjson.dumps({key: _writable(value) for key, value in fields.items()})


def decode_failure(data: bytes) -> Failure:
    """The failure that `encode_failure` (or SQL, code and message only) wrote."""
    fields = orjson.loads(data)
    return Failure(
        code=fields["code"],
        message=fields["message"],
        retryable=fields.get("retryable", False),
        details=cast("JsonObject | None", fields.get("details")),
        step_id=fields.get("stepId", ""),
        attempt=fields.get("attempt", 0),
    )


def encode_decision(decision: CacheDecision) -> bytes:
    """The bytes of a cache decision without its key, which follows from workflow, step and input hash."""
    if (
        decision.tier is None
        and decision.source_run_id is None
        and decision.nearest_run_id is None
        and decision.source_step_id is None
        and decision.age_s is None
        and not decision.changed_pointers
    ):
        plain = _PLAIN_BYTES.get((decision.outcome, decision.miss_reason))
        if plain is not None:
            return plain
    fields: dict[str, JsonValue] = {"o": int(decision.outcome)}
    if decision.tier is not None:
        fields["t"] = int(decision.tier)
    if decision.source_run_id is not None:
        fields["r"] = decision.source_run_id
    if decision.source_step_id is not None:
        fields["s"] = decision.source_step_id
    if decision.age_s is not None:
        fields["a"] = round(decision.age_s, 3)
    if decision.miss_reason is not None:
        fields["m"] = int(decision.miss_reason)
    if decision.changed_pointers:
        fields["p"] = list(decision.changed_pointers)
    if decision.nearest_run_id is not None:
        fields["n"] = decision.nearest_run_id
    return orjson.dumps(fields)


def decode_decision(data: bytes, key: str) -> CacheDecision:
    """The decision that `encode_decision` wrote, with the key it was about (empty when the step had no input yet)."""
    plain = _PLAIN_DECISIONS.get(data)
    if plain is not None:
        return CacheDecision(outcome=plain[0], miss_reason=plain[1], key=key)
    fields = orjson.loads(data)
    source_run, source_step, nearest = fields.get("r"), fields.get("s"), fields.get("n")
    return CacheDecision(
        outcome=CacheOutcome(fields["o"]),
        tier=CacheTier(fields["t"]) if "t" in fields else None,
        key=key,
        source_run_id=None if source_run is None else RunId(source_run),
        source_step_id=None if source_step is None else StepId(source_step),
        age_s=fields.get("a"),
        miss_reason=MissReason(fields["m"]) if "m" in fields else None,
        changed_pointers=tuple(fields.get("p", ())),
        nearest_run_id=None if nearest is None else RunId(nearest),
    )


def encode_body(body: bytes) -> tuple[bytes, bool]:
    """What goes into `outputs.body` and whether it is compressed (zlib, when that makes it smaller)."""
    if len(body) > _COMPRESS_ABOVE_BYTES:
        compressed = zlib.compress(body, _COMPRESS_LEVEL)
        if len(compressed) < len(body):
            return compressed, True
    return body, False


def decode_body(stored: bytes, is_compressed: bool) -> bytes:
    """The canonical output bytes that `encode_body` was given."""
    return zlib.decompress(stored) if is_compressed else stored


def encode_planned(action: PlanAction, reason: PlanReason) -> int:
    """One byte of `runs.plan`."""
    return _PLANNED_BYTES[action, reason]


def decode_planned(byte: int) -> tuple[PlanAction, PlanReason]:
    """The inverse of `encode_planned`."""
    return _PLANNED[byte]


def _plain(outcome: CacheOutcome, reason: MissReason | None) -> bytes:
    return orjson.dumps({"o": int(outcome)} if reason is None else {"o": int(outcome), "m": int(reason)})


def _writable(value: JsonValue) -> JsonValue:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


# Nearly every decision is an outcome with at most a reason: written and read without building JSON.
_PLAIN_BYTES = {
    (outcome, reason): _plain(outcome, reason) for outcome in CacheOutcome for reason in (None, *MissReason)
}
_PLAIN_DECISIONS = {data: pair for pair, data in _PLAIN_BYTES.items()}
