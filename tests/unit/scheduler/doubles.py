"""What stands in for skills, observer, queue and cache: a test holds them, and they ring at everything that happens."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from runengine_server.adapters.memory.output_cache import MemoryOutputCache
from runengine_server.adapters.memory.step_queue import MemoryStepQueue
from runengine_server.domain.cache import CacheAnswer, CacheEntry, CacheFlight, CacheQuery, FlightId
from runengine_server.domain.canonical_json import canonical_bytes, parse_json
from runengine_server.domain.failure import Failure
from runengine_server.domain.ids import EngineNo, Place, SkillId
from runengine_server.domain.json_value import JsonObject
from runengine_server.ports.skill_runner import (
    Failed,
    Outcome,
    ProgressListener,
    SkillAvailability,
    SkillCall,
    SkillInfo,
    Succeeded,
)
from runengine_server.ports.step_queue import (
    CacheQuestion,
    Completion,
    Followed,
    Following,
    Holdings,
    Lease,
    Recorded,
    TakenBack,
    Turn,
)

PATIENCE_S = 10.0


class Bell:
    """Wakes whoever waits for a condition, at every change."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        self._rung.set()
        self._rung = anyio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once the condition holds; it is looked at whenever something happened."""
        with anyio.fail_after(PATIENCE_S):
            while not condition():
                await self._rung.wait()


class HeldSkills:
    """SkillRunner: echoes its input, unless a test says otherwise for a step."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self.calls: list[SkillCall] = []
        self.cancelled: list[SkillCall] = []
        self.abandoned: list[SkillCall] = []
        self.running = 0
        self.running_max = 0
        self.behaviour: dict[str, Callable[[SkillCall], Outcome | Awaitable[Outcome]]] = {}
        self.gates: dict[str, anyio.Event] = {}
        self.cache_version: str | None = "1"
        self.max_concurrency = 0
        self.input_schema: JsonObject | None = None
        self.output_schema: JsonObject | None = None

    def hold(self, step_id: str) -> anyio.Event:
        """Attempts of the step wait until the event is set."""
        self.gates[step_id] = anyio.Event()
        return self.gates[step_id]

    def called(self, step_id: str) -> list[SkillCall]:
        return [call for call in self.calls if call.step_id == step_id]

    async def execute(self, call: SkillCall, on_progress: ProgressListener) -> Outcome:
        self.calls.append(call)
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        self._bell.ring()
        try:
            if (gate := self.gates.get(call.step_id)) is not None:
                await gate.wait()
            if (behave := self.behaviour.get(call.step_id)) is None:
                return succeeded(call)
            outcome = behave(call)
            return await outcome if isinstance(outcome, Awaitable) else outcome
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(call)
            raise
        finally:
            self.running -= 1
            self._bell.ring()

    def execute_at_once(self, call: SkillCall) -> Outcome | None:
        return None

    async def abandon(self, call: SkillCall) -> None:
        self.abandoned.append(call)
        self._bell.ring()

    def availability(self, skill_id: SkillId) -> SkillAvailability:
        version = self.cache_version
        info = None
        if version:
            info = SkillInfo(
                skill_id=skill_id,
                version=version,
                cache_version=version,
                max_concurrency=self.max_concurrency,
                input_schema=self.input_schema,
                output_schema=self.output_schema,
            )
        return SkillAvailability(has_target=True, is_catalogue_known=True, info=info)


def succeeded(call: SkillCall, output: JsonObject | None = None, **facts: Any) -> Succeeded:
    """The skill's output, by default its input, made by version 1."""
    body = canonical_bytes({"of": call.step_id, "in": parse_json(call.input_json)} if output is None else output)
    return Succeeded(output_json=body, **{"skill_version": "1", "cache_version": "1", **facts})


def failed(code: str = "SKILL_FAILED", *, retryable: bool = False, retry_after_s: float | None = None) -> Failed:
    """The attempt failed."""
    return Failed(failure=Failure(code=code, message="no", retryable=retryable), retry_after_s=retry_after_s)


class Recorder:
    """Observer: keeps every fact as (name, step or code) and rings."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self.facts: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        def note(*arguments: Any) -> None:
            self.facts.append((name, arguments))
            self._bell.ring()

        return note

    def names(self) -> list[str]:
        return [name for name, _ in self.facts]

    def of(self, name: str) -> list[Any]:
        return [arguments for fact, arguments in self.facts if fact == name]


@dataclass(slots=True)
class ScriptedQueue:
    """StepQueue that a test can make fail or wait before or after the turn is committed."""

    inner: MemoryStepQueue
    bell: Bell
    before: Callable[[Sequence[Completion]], Awaitable[None] | None] | None = None
    after: Callable[[Turn], Awaitable[None] | None] | None = None
    ticks: int = 0
    held: list[Lease] = field(default_factory=list)
    ending_flights: int = 0  # so many times a flight has ended before anybody could wait for it

    async def tick(
        self,
        engine: EngineNo,
        completions: Sequence[Completion],
        capacity: int,
        questions: Sequence[CacheQuestion] = (),
        known: Sequence[Place] | None = None,
    ) -> Turn:
        self.ticks += 1
        if self.before is not None and (wait := self.before(completions)) is not None:
            await wait
        turn = await self.inner.tick(engine, completions, capacity, questions, known)
        self.bell.ring()
        if self.after is not None and (wait := self.after(turn)) is not None:
            await wait
        return turn

    async def hold(self, engine: EngineNo, lease: Lease) -> None:
        await self.inner.hold(engine, lease)
        self.held.append(lease)
        self.bell.ring()

    async def begin(self, engine: EngineNo, lease: Lease, timeout_ms: int) -> bool:
        return await self.inner.begin(engine, lease, timeout_ms)

    async def owned(self, engine: EngineNo) -> Holdings:
        return await self.inner.owned(engine)

    async def hand_back(self, leases: Sequence[Lease]) -> TakenBack:
        taken = await self.inner.hand_back(leases)
        self.bell.ring()
        return taken

    async def recorded(self, engine: EngineNo, leases: Sequence[Lease]) -> Recorded:
        return await self.inner.recorded(engine, leases)

    async def follow(self, engine: EngineNo, waits: Sequence[tuple[Lease, FlightId]]) -> Followed:
        if self.ending_flights:
            self.ending_flights -= 1
            self.bell.ring()
            return Followed(outcomes=[Following.FLIGHT_ENDED] * len(waits), ended=[])
        return await self.inner.follow(engine, waits)


@dataclass(slots=True)
class ScriptedCache:
    """OutputCache that a test can make fail or wait."""

    inner: MemoryOutputCache
    before: Callable[[], Awaitable[None] | None] | None = None
    lookups: int = 0
    flights: int = 0  # so many look-ups say that another step executes the same

    async def lookup(self, queries: Sequence[CacheQuery]) -> Sequence[CacheAnswer]:
        self.lookups += 1
        if self.before is not None and (wait := self.before()) is not None:
            await wait
        if self.flights:
            self.flights -= 1
            return [CacheFlight(flight=query.flight) for query in queries]
        return await self.inner.lookup(queries)

    async def store(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        await self.inner.store(entries)
