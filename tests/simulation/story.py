"""One simulated history: clients, engines, skills and faults, all drawn from a seed."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

import anyio
from anyio.abc import TaskGroup

from ..support.random_workflows import random_model, random_next_version
from ..support.workflow_model import WorkflowModel
from .clients import Clients
from .engine import Engine
from .network import Network
from .skills import CALM, ROUGH, SkillFaults
from .verdict import verdict
from .world import World

CALM_S = 900.0
"""Once faults have ended every run must end within this time, many times what its attempts and backoffs take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What may go wrong in a story, and how much happens; times in seconds, `loss` of each message."""

    engines: int = 1
    clients: int = 0
    requests: int = 0
    faults: SkillFaults = CALM
    loss: float = 0.0
    delay_s: float = 0.05
    skill_s: float = 2.0
    chaos: int = 0
    redeployments: int = 0
    lag_s: float = 0.0
    removals: int = 0
    skew_s: float = 0.0


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
        redeployments=random.choice([0, 0, 2, 10]),
        lag_s=random.choice([0.0, 3.0]),
        removals=random.choice([0, 0, 3]),
        skew_s=random.choice([0.0, 0.0, 3600.0]) if is_rough else 0.0,
    )


class Story:
    """A history as it is made: a fleet of engines, what clients ask of it and what happens to it."""

    def __init__(
        self, random: Random, versions: Sequence[WorkflowModel], setting: Setting, *, wishes: Random | None = None
    ) -> None:
        """Nothing has happened yet to these versions of a workflow. Needs a running loop.

        Args:
            random: decides everything.
            versions: of one workflow, the highest last.
            setting: what may happen.
            wishes: decides instead what clients ask for.
        """
        self._random = random
        self._setting = setting
        self.world = World(random, versions, setting.faults, skill_s=setting.skill_s)
        self.world.lag_s = setting.lag_s
        self.clients = Clients(wishes or random, self.world, {model.workflow.version: model for model in versions})
        self.fleet: list[Engine] = []
        self._tasks: TaskGroup | None = None

    async def play(self) -> None:
        """Everything happens; returns when every run has ended and every engine has stopped."""
        async with self.running(), anyio.create_task_group() as actors:
            for _ in range(self._setting.clients):
                actors.start_soon(self._client)
            actors.start_soon(self._often, self._setting.chaos, 8.0, self._fault)
            actors.start_soon(self._often, self._setting.redeployments, 4.0, self._redeploy)
            actors.start_soon(self._often, self._setting.removals, 8.0, self._invalidate)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Engines run; at the end faults cease, and what was begun is brought to its end."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            for _ in range(self._setting.engines):
                self._start_engine()
            yield
            self.world.skills.faults = CALM
            for engine in self.fleet:
                engine.network.heal()
            if not self.fleet:
                self._start_engine().network.heal()
            await self.quiet()
            for engine in list(self.fleet):
                engine.stop()

    async def ready(self) -> None:
        """As many engines run as the setting has."""
        while len(self.fleet) < self._setting.engines:  # noqa: ASYNC110 - time that costs nothing
            await anyio.sleep(0.1)

    async def quiet(self) -> None:
        """Every run has ended, or never will."""
        with anyio.move_on_after(CALM_S):
            while self.world.live_runs():  # noqa: ASYNC110 - time that costs nothing
                await anyio.sleep(1.0)

    def verdict(self) -> list[str]:
        """Everything that is wrong, once the story has ended."""
        setting = self._setting
        is_undisturbed = not (setting.chaos or setting.loss or setting.redeployments)
        crowded = sorted(self.world.skills.crowded) if is_undisturbed else []
        return [*verdict(self.world, self.clients), *(f"{skill} was called beyond its limit" for skill in crowded)]

    async def _client(self) -> None:
        for _ in range(self._setting.requests):
            await anyio.sleep(self._random.random() * 5)
            if self.fleet:
                await self.clients.something(self._random.choice(self.fleet))

    async def _often(self, times: int, pause_s_max: float, happen: Callable[[], None]) -> None:
        for _ in range(times):
            await anyio.sleep(self._random.random() * pause_s_max)
            happen()

    def _start_engine(self) -> Engine:
        assert self._tasks is not None
        network = Network(self._random, loss=self._setting.loss, delay_s_max=self._setting.delay_s)
        skew_s = self._random.choice([-1, 0, 1]) * self._setting.skew_s
        engine = Engine(self.world, self.fleet, network, self._random, skew_s)
        self._tasks.start_soon(engine.run)
        return engine

    def _fault(self) -> None:
        kind = self._random.choice(["kill", "stop", "freeze", "cut", "flush"])
        self.world.trace.note("fault", kind)
        if kind == "flush" or not self.fleet:
            self.world.hot.clear()
            return
        engine = self._random.choice(self.fleet)
        match kind:
            case "kill":
                engine.kill()
                self._start_engine()
            case "stop":
                engine.stop()
                self._start_engine()
            case "freeze":
                engine.network.freeze(self._random.choice([1.0, 4.0, 20.0]))
            case _:
                engine.network.cut(is_cut=True)
                assert self._tasks is not None
                self._tasks.start_soon(_mend, engine, self._random.choice([1.0, 6.0]))

    def _invalidate(self) -> None:
        steps = sorted({name for model in self.world.models.values() for name in model.steps})
        self.world.invalidate(self._random.choice(steps))

    def _redeploy(self) -> None:
        skill_id = self._random.choice(list(self.world.skills.versions))
        self.world.declare(skill_id, self._random.choice(["1", "2", None]))


async def random_story(random: Random) -> Story:
    """A history of a random workflow in a random setting."""
    versions = [random_model(random)]
    if random.random() < 0.5:
        versions.append(random_next_version(random, versions[0]))
    story = Story(random, versions, random_setting(random))
    await story.play()
    return story


async def _mend(engine: Engine, after_s: float) -> None:
    await anyio.sleep(after_s)
    engine.network.cut(is_cut=False)
