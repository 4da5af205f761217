"""Puts a scheduler together from ports."""

from random import Random

from runengine_server.planner.compiled import CompiledWorkflows
from runengine_server.ports.clock import Clock
from runengine_server.ports.observer import Observer
from runengine_server.ports.output_cache import OutputCache
from runengine_server.ports.progress import ProgressBoard
from runengine_server.ports.run_store import RunStore
from runengine_server.ports.skill_permits import SkillPermits
from runengine_server.ports.skill_runner import SkillRunner
from runengine_server.ports.step_queue import EngineRegistry, StepQueue
from runengine_server.ports.tracer import UNTRACED, Tracer
from runengine_server.scheduler.attempt import AttemptRunner
from runengine_server.scheduler.lookout import Lookout
from runengine_server.scheduler.preparation import Preparation
from runengine_server.scheduler.reporting import Reporting
from runengine_server.scheduler.run_contexts import RunContexts
from runengine_server.scheduler.scheduler import Scheduler
from runengine_server.scheduler.settings import SchedulerSettings
from runengine_server.scheduler.skill_gates import SkillGates
from runengine_server.scheduler.taken_over import TakenOver
from runengine_server.scheduler.timeouts import AttemptTimeouts
from runengine_server.scheduler.values import StepValues


def assemble_scheduler(
    *,
    queue: StepQueue,
    registry: EngineRegistry,
    store: RunStore,
    workflows: CompiledWorkflows,
    cache: OutputCache,
    skills: SkillRunner,
    permits: SkillPermits,
    observer: Observer,
    progress: ProgressBoard,
    clock: Clock,
    random: Random,
    settings: SchedulerSettings,
    description: str = "",
    tracer: Tracer = UNTRACED,
) -> Scheduler:
    """A scheduler over these ports; `run` starts it."""
    contexts = RunContexts(store, workflows, clock, settings.contexts_max, tracer)
    values = StepValues(store, settings.values_bytes_max)
    timeouts = AttemptTimeouts(skills, clock)
    reporting = Reporting(observer, tracer)
    return Scheduler(
        queue=queue,
        registry=registry,
        contexts=contexts,
        values=values,
        preparation=Preparation(contexts, values, cache, skills, clock, tracer),
        attempts=AttemptRunner(skills, clock, random, timeouts),
        gates=SkillGates(
            skills=skills,
            permits=permits,
            queue=queue,
            clock=clock,
            reporting=reporting,
            permits_s=settings.permits_s,
        ),
        cache=cache,
        reporting=reporting,
        taken_over=TakenOver(store, reporting),
        progress=progress,
        lookout=Lookout(settings.poll_s, clock.monotonic),
        settings=settings,
        description=description,
    )
