"""Simulated skill servers: slow, failing, hanging, of changing versions; a call outlives the engine that made it."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

import anyio

from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.canonical_json import canonical_bytes
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import SkillId
from runengine_server.ports.skill_runner import (
    Failed,
    Outcome,
    ProgressListener,
    SkillAvailability,
    SkillCall,
    SkillInfo,
    Succeeded,
)

from ..support.workflow_model import SkillModel, digest
from .network import Network

HANG_S = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillFaults:
    """The chances that an attempt fails retryably, fails for good, hangs, or returns what is no output."""

    retryable: float = 0.0
    final: float = 0.0
    hanging: float = 0.0
    invalid: float = 0.0


CALM = SkillFaults()
ROUGH = SkillFaults(retryable=0.08, final=0.02, hanging=0.02, invalid=0.01)


@dataclass(slots=True)
class Execution:
    """A call that a skill server works on, or has ended; equal keys attach to it."""

    call: SkillCall
    ends_at: float
    outcome: Outcome


@dataclass(slots=True)
class SkillServers:
    """Every skill server there is.

    Attributes:
        ledger: each execution.
        outputs: what each key ever returned.
        crowded: the skills that were called more often at a time than they wanted to be.
    """

    random: Random
    models: Mapping[str, SkillModel]
    faults: SkillFaults
    duration_s_max: float
    versions: dict[str, list[tuple[float, str | None]]]
    note: Callable[..., None]
    look_at: Callable[[SkillCall], None]
    ledger: list[SkillCall] = field(default_factory=list)
    outputs: dict[str, set[bytes]] = field(default_factory=dict)
    crowded: set[str] = field(default_factory=set)
    _running: Counter[str] = field(default_factory=Counter)
    _executions: dict[str, Execution] = field(default_factory=dict)
    _made: int = 0

    def version(self, skill_id: str, at: float = math.inf) -> str | None:
        """What the skill's server declares now, or declared at some time."""
        told = self.versions[skill_id]
        return next((version for since, version in reversed(told) if since <= at), told[0][1])

    def begin(self, call: SkillCall, *, duration_s: float) -> Execution:
        """Attach to the execution of the call's key, replay its success, or execute it."""
        self.look_at(call)
        known = self._executions.get(call.idempotency_key)
        now = anyio.current_time()
        if known is not None and (now < known.ends_at or isinstance(known.outcome, Succeeded)):
            return known
        execution = Execution(call, now + duration_s, self._outcome(call))
        if duration_s and self.random.random() < self.faults.hanging:
            execution.ends_at = now + HANG_S
        self._executions[call.idempotency_key] = execution
        self.ledger.append(call)
        self.note("execute", call.step_id, call.attempt, call.fencing_token, type(execution.outcome).__name__)
        if isinstance(execution.outcome, Succeeded):
            self.outputs.setdefault(call.idempotency_key, set()).add(execution.outcome.output_json)
        return execution

    @contextmanager
    def called(self, call: SkillCall) -> Iterator[None]:
        """A call is under way."""
        self._running[call.skill_id] += 1
        if 0 < self.models[call.skill_id].limit < self._running[call.skill_id]:
            self.crowded.add(call.skill_id)
        try:
            yield
        finally:
            self._running[call.skill_id] -= 1

    def cancel(self, call: SkillCall) -> None:
        """Nobody wants the call any more."""
        known = self._executions.get(call.idempotency_key)
        if known is not None and anyio.current_time() < known.ends_at:
            del self._executions[call.idempotency_key]

    def _outcome(self, call: SkillCall) -> Outcome:
        chance, faults = self.random.random(), self.faults
        for code, share, is_retryable in (
            ("SKILL_UNAVAILABLE", faults.retryable, True),
            ("SKILL_FAILED", faults.final, False),
        ):
            if chance < share:
                return Failed(failure=Failure(code=code, message="simulated", retryable=is_retryable))
            chance -= share
        version = self.version(call.skill_id) or "1"
        if chance < faults.invalid:
            return Succeeded(output_json=b"[1]", cache_version=version, skill_version=version)
        model = self.models[call.skill_id]
        kind = self._kind(model, call, version)
        return Succeeded(
            output_json=canonical_bytes({"of": call.step_id, "kind": kind}),
            artifacts=(_artifact(call, kind),) if model.publishes else (),
            do_not_cache=not model.is_cacheable,
            skill_version=version,
            cache_version=version,
        )

    def _kind(self, model: SkillModel, call: SkillCall, version: str) -> int:
        if model.variety is None:
            self._made += 1
            return self._made
        return int(digest([call.input_hash, version])[:8], 16) % model.variety


class SkillLink:
    """SkillRunner of one engine: the servers, over the engine's network."""

    def __init__(self, servers: SkillServers, network: Network, heard_until: Callable[[], float]) -> None:
        """Reach `servers` over `network`; their catalogues are known as they were at `heard_until()`."""
        self._servers = servers
        self._network = network
        self._heard_until = heard_until

    async def execute(self, call: SkillCall, on_progress: ProgressListener) -> Outcome:
        """See the port; cancelling leaves the call to whoever asks next."""
        with self._servers.called(call):
            return await self._execute(call, on_progress)

    async def _execute(self, call: SkillCall, on_progress: ProgressListener) -> Outcome:
        servers = self._servers
        await self._network.stand_still()
        execution = servers.begin(call, duration_s=servers.random.random() * servers.duration_s_max)
        on_progress(0.5, "half", datetime.now(UTC))
        left_s = execution.ends_at - anyio.current_time()
        await anyio.sleep(max(0.0, min(left_s, call.timeout_s)))
        await self._network.stand_still()
        if left_s > call.timeout_s:
            servers.cancel(call)
            return Failed(failure=Failure(code="SKILL_TIMEOUT", message="simulated", retryable=True))
        return execution.outcome

    def execute_at_once(self, call: SkillCall) -> Outcome | None:
        """See the port."""
        if not self._servers.models[call.skill_id].is_inline:
            return None
        return self._servers.begin(call, duration_s=0.0).outcome

    async def abandon(self, call: SkillCall) -> None:
        """See the port."""
        await self._network.stand_still()
        self._servers.cancel(call)

    def availability(self, skill_id: SkillId) -> SkillAvailability:
        """See the port."""
        version = self._servers.version(skill_id, self._heard_until())
        info = None
        if version is not None:
            limit = self._servers.models[skill_id].limit
            info = SkillInfo(skill_id=skill_id, version=version, cache_version=version, max_concurrency=limit)
        return SkillAvailability(has_target=True, is_catalogue_known=version is not None, info=info)


def _artifact(call: SkillCall, kind: int) -> ProducedArtifact:
    return ProducedArtifact(
        media_type="text/plain",
        uri=f"file:///{call.step_id}/{kind}",
        content_hash=digest([call.step_id, kind]),
        size_bytes=kind,
    )
