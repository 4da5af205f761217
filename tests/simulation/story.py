"""One simulated history: clients, engines, skills and faults, all drawn from a seed; and what must hold after it."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import anyio
import orjson
from anyio.abc import TaskGroup

from runengine_server.adapters.memory.tables import Place, RunRecord
from runengine_server.domain.errors import ChangedError, PreconditionError, UnavailableError
from runengine_server.domain.ids import RunId, RunKey, StepNo
from runengine_server.domain.states import RunStatus, TriggerType
from runengine_server.service.cancel_run import cancel_run
from runengine_server.service.messages import RetryRunRequest, TriggerRequest, TriggerUpdateRequest
from runengine_server.service.retry_run import retry_run
from runengine_server.service.trigger_run import trigger_run
from runengine_server.service.trigger_update import trigger_update

from ..support.random_workflows import (
    random_change,
    random_mode,
    random_model,
    random_next_version,
    random_payload,
    random_steps,
)
from ..support.rebuild_oracle import Seen, SeenRun, SeenStep, problems
from ..support.workflow_model import WorkflowModel
from .engine import CALLER, Engine
from .invariants import violations
from .network import Network
from .skills import SkillFaults
from .world import ASKED, Asked, World

UseCase = Callable[..., Coroutine[Any, Any, Any]]

CALM_S = 900.0
"""Once faults have ended every run must end within this time, many times what its attempts and backoffs take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What may go wrong in a story, and how much happens."""

    engines: int
    clients: int
    requests: int
    faults: SkillFaults
    loss: float = 0.0
    delay_s: float = 0.05
    skill_s: float = 2.0
    chaos: int = 0
    redeployments: int = 0
    skew_s: float = 0.0


CALM = SkillFaults()
ROUGH = SkillFaults(retryable=0.08, final=0.02, hanging=0.02, invalid=0.01)


def random_setting(random: Random) -> Setting:
    """From one engine on a quiet day to three in a bad network."""
    is_rough = random.random() < 0.7
    return Setting(
        engines=random.randint(1, 3),
        clients=random.randint(1, 3),
        requests=random.randint(2, 5),
        faults=ROUGH if is_rough else CALM,
        loss=random.choice([0.0, 0.02, 0.1]) if is_rough else 0.0,
        delay_s=random.choice([0.0, 0.05, 0.5]),
        skill_s=random.choice([0.0, 1.0, 5.0]),
        chaos=random.randint(1, 6) if is_rough else 0,
        redeployments=random.choice([0, 0, 2]),
        skew_s=random.choice([0.0, 0.0, 3600.0]) if is_rough else 0.0,
    )


class Story:
    """A history as it is made."""

    def __init__(self, random: Random, versions: Sequence[WorkflowModel], setting: Setting) -> None:
        """Nothing has happened yet to these versions of a workflow. Needs a running loop."""
        self.random = random
        self.versions = {model.workflow.version: model for model in versions}
        self.setting = setting
        self.world = World(random, versions, setting.faults, skill_s=setting.skill_s)
        self.fleet: list[Engine] = []
        self.refused: list[str] = []
        self.differing: list[str] = []
        self.compared = 0
        self._ended: dict[RunId, object] = {}
        self._tasks: TaskGroup | None = None

    async def play(self) -> None:
        """Everything happens; returns when every run has ended and every engine has stopped."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            for _ in range(self.setting.engines):
                self.engine()
            async with anyio.create_task_group() as actors:
                for _ in range(self.setting.clients):
                    actors.start_soon(self._client)
                actors.start_soon(self._often, self.setting.chaos, self._fault)
                actors.start_soon(self._often, self.setting.redeployments, self._redeploy)
            await self._calm_down()
            for engine in list(self.fleet):
                engine.stop()

    def engine(self) -> Engine:
        """Another engine starts."""
        assert self._tasks is not None
        network = Network(self.random, loss=self.setting.loss, delay_s_max=self.setting.delay_s)
        skew_s = self.random.choice([-1, 0, 1]) * self.setting.skew_s
        engine = Engine(self.world, self.fleet, network, self.random, skew_s)
        self._tasks.start_soon(engine.run)
        return engine

    # -- clients

    async def _client(self) -> None:
        for _ in range(self.setting.requests):
            await anyio.sleep(self.random.random() * 5)
            chance, live = self.random.random(), self.world.live_runs()
            bases = self.world.ended_runs(RunStatus.COMPLETED)
            unfinished = self.world.ended_runs(RunStatus.FAILED, RunStatus.CANCELLED)
            if not self.fleet:
                continue
            engine = self.random.choice(self.fleet)
            if chance < 0.12 and live:
                run_id = self.world.tables.runs[self.random.choice(live)].new.id
                await self._asked(cancel_run(engine.cancel, CALLER, run_id, "enough"))
            elif chance < 0.25 and unfinished:
                await self.retry(engine, self.random.choice(unfinished))
            elif chance < 0.65 and bases:
                await self.update(engine, self.random.choice(bases))
            else:
                await self.trigger(engine)

    async def trigger(self, engine: Engine) -> None:
        """A client starts a run."""
        version, model = self.random.choice(list(self.versions.items()))
        request = TriggerRequest(
            workflow_name=model.workflow.name,
            workflow_version=version,
            trigger_payload=random_payload(self.random),
            request_id=self._request_id(),
            deadline_s=self.random.choice([None, None, None, 15.0]),
            priority=self.random.choice([0, 0, 5]),
            cache_mode=random_mode(self.random),
            force_step_ids=random_steps(self.random, model),
        )
        await self._twice(trigger_run, engine, request)

    async def update(self, engine: Engine, base: RunId) -> None:
        """A client wants something changed, sometimes with another version of the workflow."""
        self._remember(base)
        tables = self.world.tables
        model = self.world.models[tables.runs[tables.by_id[base]].new.workflow_digest]
        version = ""
        if self.random.random() < 0.3:
            version, model = self.random.choice(list(self.versions.items()))
        change = random_change(self.random, model)
        request = TriggerUpdateRequest(
            base_run_id=base,
            workflow_version=version,
            change_type=change.type,
            change_payload=dict(change.payload),
            cache_mode=change.mode,
            request_id=self._request_id(),
            force_step_ids=random_steps(self.random, model),
            strict_impact=self.random.random() < 0.1,
        )
        await self._twice(trigger_update, engine, request)

    async def retry(self, engine: Engine, retried: RunId) -> None:
        """A client wants a failed or cancelled run finished."""
        self._remember(retried)
        await self._twice(retry_run, engine, RetryRunRequest(run_id=retried, request_id=self._request_id()))

    async def _twice(self, use_case: UseCase, engine: Engine, request: Any) -> None:
        """First ask what would happen, sometimes; it must then happen, unless something else has meanwhile."""
        dry, state = None, self.world.state()
        if self.random.random() < 0.5:
            dry, _ = await self._ask(use_case, engine, replace(request, validate_only=True))
        if dry is not None and self.random.random() < 0.5:
            request = replace(request, expected_plan_digest=dry.plan.digest)
        made, refusal = await self._ask(use_case, engine, request)
        is_same_state = state == self.world.state()
        if is_same_state and refusal == "PLAN_CHANGED":
            self.differing.append(f"a plan changed without cause: {request}")
        if self.random.random() < 0.2:
            again, _ = await self._ask(use_case, engine, request)  # a client that did not hear the answer
            if made and again and request.request_id and (made.run_id != again.run_id or not again.deduplicated):
                self.differing.append(f"run {made.run_id} was started twice")
        if dry is None or made is None or made.plan is None or made.deduplicated or not is_same_state:
            return
        self.compared += 1
        if dry.plan.digest != made.plan.digest:
            self.differing.append(f"run {made.run_id} was planned otherwise than was said")

    async def _ask(self, use_case: UseCase, engine: Engine, request: Any) -> tuple[Any, str]:
        ASKED.set(Asked(request=request, since=self.world.now()))
        return await self._asked(use_case(engine.start, CALLER, request))

    async def _asked(self, request: Coroutine[Any, Any, Any]) -> tuple[Any, str]:
        """The answer, or why there was none."""
        try:
            with anyio.fail_after(30):
                return await request, ""
        except TimeoutError:
            refusal = "TIMEOUT"
        except (PreconditionError, UnavailableError, ChangedError) as error:
            refusal = error.reason
        self.refused.append(refusal)
        return None, refusal

    def _request_id(self) -> str:
        return f"request-{self.random.randrange(10**6)}" if self.random.random() < 0.8 else ""

    # -- faults

    async def _often(self, times: int, happen: Callable[[], None]) -> None:
        for _ in range(times):
            await anyio.sleep(self.random.random() * 8)
            happen()

    def _fault(self) -> None:
        kind = self.random.choice(["kill", "stop", "freeze", "cut", "flush"])
        self.world.trace.note("fault", kind)
        if kind == "flush" or not self.fleet:
            self.world.hot.clear()
            return
        engine = self.random.choice(self.fleet)
        match kind:
            case "kill":
                engine.kill()
                self.engine()
            case "stop":
                engine.stop()
                self.engine()
            case "freeze":
                engine.network.freeze(self.random.choice([1.0, 4.0, 20.0]))
            case _:
                engine.network.cut(is_cut=True)
                assert self._tasks is not None
                self._tasks.start_soon(self._mend, engine, self.random.choice([1.0, 6.0]))

    async def _mend(self, engine: Engine, after_s: float) -> None:
        await anyio.sleep(after_s)
        engine.network.cut(is_cut=False)

    def _redeploy(self) -> None:
        skill_id = self.random.choice(list(self.world.skills.versions))
        self.world.declare(skill_id, self.random.choice(["1", "2", None]))

    async def _calm_down(self) -> None:
        """No more faults, and a skill for every step; then everything comes to its end."""
        self.world.skills.faults = CALM
        for engine in self.fleet:
            engine.network.heal()
        if not self.fleet:
            self.engine().network.heal()
        with anyio.move_on_after(CALM_S):
            while self.world.live_runs():  # noqa: ASYNC110 - time that costs nothing
                await anyio.sleep(1.0)

    # -- judgement

    def _remember(self, base: RunId) -> None:
        """A run that is built on must not change any more."""
        self._ended.setdefault(base, self._facts(base))

    def _facts(self, run_id: RunId) -> object:
        tables = self.world.tables
        key = tables.by_id[run_id]
        run = tables.runs[key]
        return (
            run.status,
            list(run.events),
            {place: result for place, result in tables.results.items() if place[0] == key},
            {place: body for place, body in tables.outputs.items() if place[0] == key},
        )

    def verdict(self) -> list[str]:
        """Everything that is wrong."""
        world = self.world
        if live := world.live_runs():
            return [f"runs {live} never end", *world.failures]
        changed = [f"run {run_id} was built on and has changed" for run_id, was in self._ended.items()
                   if was != self._facts(run_id)]  # fmt: skip
        return [
            *world.failures,
            *self.differing,
            *changed,
            *violations(world.tables, dict(world.models), world.skills),
            *problems(self.seen()),
        ]

    def seen(self) -> Seen:
        """The runs as the oracle wants to see them."""
        world, tables = self.world, self.world.tables
        seen = Seen(filings=world.filings, versions=world.skills.versions)
        for key, run in tables.runs.items():
            seen.runs[run.new.id] = self._seen_run(key, run)
        for place, body in tables.outputs.items():
            at = self._name(place)
            seen.outputs[at] = body
            seen.artifacts[at] = [artifact.as_selector_value() for artifact in tables.artifacts[place]]
        return seen

    def _seen_run(self, key: RunKey, run: RunRecord) -> SeenRun:
        new, tables = run.new, self.world.tables
        model, asked = self.world.models[new.workflow_digest], self.world.asked[new.id]
        return SeenRun(
            run_id=new.id,
            model=model,
            payload=orjson.loads(new.payload),
            change={"type": new.change.type, "payload": new.change.payload} if new.change else None,
            mode=new.cache_mode,
            base=tables.runs[new.base_run].new.id if new.base_run is not None else None,
            is_retry=new.trigger_type is TriggerType.RETRY,
            seeds=model.seeds(new.change.type) if new.change else frozenset(),
            forced=frozenset(getattr(asked.request, "force_step_ids", ())),
            is_strict=getattr(asked.request, "strict_impact", False),
            plan={step.step_id: step for step in new.plan},
            status=run.status,
            planned_since=asked.since,
            created_at=run.created_at,
            steps={
                step.step_id: self._seen_step((key, StepNo(number)))
                for number, step in enumerate(new.plan)
                if (key, number) in tables.results
            },
        )

    def _seen_step(self, place: Place) -> SeenStep:
        result = self.world.tables.results[place]
        return SeenStep(
            status=result.status,
            source=result.source,
            producer=None if result.producer is None else self._name(result.producer),
            input_hash=result.input_hash,
            cache_version=result.cache_version,
            output_hash=result.output_hash,
            started_at=result.started_at,
            ended_at=result.ended_at,
        )

    def _name(self, place: Place) -> tuple[str, str]:
        run = self.world.tables.runs[place[0]]
        return run.new.id, run.new.plan[place[1]].step_id


async def random_story(random: Random) -> Story:
    """A history of a random workflow in a random setting."""
    versions = [random_model(random)]
    if random.random() < 0.5:
        versions.append(random_next_version(random, versions[0]))
    story = Story(random, versions, random_setting(random))
    await story.play()
    return story
