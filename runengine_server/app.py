"""The composition root: the only place that knows every part."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields
from functools import partial
from random import Random

import anyio

from runengine_server.adapters.artifacts import Artifacts
from runengine_server.adapters.cache.observed import ObservedOutputCache
from runengine_server.adapters.cache.shared import SharedOutputCache
from runengine_server.adapters.cache.verified import VerifiedOutputCache
from runengine_server.adapters.clock import SystemClock
from runengine_server.adapters.postgres.cache_admin import PostgresCacheAdmin
from runengine_server.adapters.postgres.cold_cache import PostgresOutputCache
from runengine_server.adapters.postgres.event_hints import PostgresHints
from runengine_server.adapters.postgres.event_hub import EventHub
from runengine_server.adapters.postgres.event_log import PostgresEventLog
from runengine_server.adapters.postgres.lineage_reader import PostgresLineageReader
from runengine_server.adapters.postgres.progress_hints import SharedProgressBoard, show
from runengine_server.adapters.postgres.queue_reader import PostgresQueueReader
from runengine_server.adapters.postgres.readiness import DatabaseReadiness
from runengine_server.adapters.postgres.run_reader import PostgresRunReader
from runengine_server.adapters.postgres.run_store import PostgresRunStore
from runengine_server.adapters.postgres.signing_keys import PostgresSigningKeys
from runengine_server.adapters.postgres.skill_calls import PostgresSkillCalls
from runengine_server.adapters.postgres.skill_permits import PostgresSkillPermits
from runengine_server.adapters.postgres.step_history import PostgresStepHistory
from runengine_server.adapters.postgres.step_queue import PostgresEngineRegistry, PostgresStepQueue
from runengine_server.adapters.postgres.step_times import PostgresStepTimes
from runengine_server.adapters.postgres.workflow_store import PostgresWorkflowStore
from runengine_server.adapters.skills.http_callbacks import HttpCallbacks
from runengine_server.adapters.skills.local_runner import LocalSkillRunner
from runengine_server.adapters.telemetry.log_observer import LogObserver
from runengine_server.adapters.telemetry.metered_queue import MeteredEngineRegistry, MeteredStepQueue
from runengine_server.adapters.telemetry.metrics import Metrics
from runengine_server.adapters.telemetry.observer_group import ObserverGroup
from runengine_server.adapters.tokens.watch_tokens import SignedWatchTokens
from runengine_server.artifact_cleaning import artifact_cleaner
from runengine_server.config import Settings
from runengine_server.configured import (
    Databases,
    artifacts_of,
    authenticator_of,
    cache_cleanup_of,
    http_settings_of,
    open_cache_tiers,
    open_databases,
    open_skill_runner,
    retention_of,
    rpc_settings_of,
)
from runengine_server.domain.errors import UnavailableError
from runengine_server.http.app import http_app
from runengine_server.http.metered import MeteredRequests
from runengine_server.http.server import HttpServer
from runengine_server.http.skill_callbacks import skill_callback_endpoint
from runengine_server.operations import Operations
from runengine_server.ports.authenticator import Authenticator
from runengine_server.ports.observer import Observer
from runengine_server.ports.output_cache import OutputCache
from runengine_server.ports.skill_runner import SkillRunner
from runengine_server.rpc.bind import check_bind
from runengine_server.rpc.readiness import Readiness
from runengine_server.rpc.server import RpcServer
from runengine_server.scheduler.assembly import assemble_scheduler
from runengine_server.scheduler.scheduler import Scheduler
from runengine_server.service.cache_keys import ManageCache
from runengine_server.service.cancel_run import CancelRuns
from runengine_server.service.clean_artifacts import keep_clean
from runengine_server.service.event_poller import EventPoller
from runengine_server.service.get_artifact import OpenArtifacts
from runengine_server.service.progress_board import InMemoryProgressBoard
from runengine_server.service.queue_overview import QueueOverviews
from runengine_server.service.register_workflow import Registry
from runengine_server.service.run_lookup import ReadRuns
from runengine_server.service.start_run import StartRuns
from runengine_server.service.use_cases import UseCases
from runengine_server.service.watch_run import WatchRuns
from runengine_server.service.watch_tokens import AdmitWatchers
from runengine_server.service.watched_runs import WatchedRuns
from runengine_server.service.workflow_catalogue import WorkflowCatalogue
from runengine_server.signals import Signals, WatcherObserver
from runengine_server.tracing import Tracing, tracing
from runengine_server.workflow_directory import register_workflow_dir

PARTITIONS_S = 60.0
FLUSH_S = 0.5
HTTP_STOP_S = 1.0
"""What was being answered has been by then: draining is one for all surfaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A running server: its use cases, its scheduler and, once it serves, its ports."""

    services: UseCases
    scheduler: Scheduler
    rpc: RpcServer
    http: HttpServer
    ops: HttpServer


@asynccontextmanager
async def run_engine(
    settings: Settings,
    *,
    log: LogObserver,
    authenticator: Authenticator | None = None,
    local_skills: LocalSkillRunner | None = None,
) -> AsyncIterator[Engine]:
    """A server that serves, schedules and, at the end of the context, drains.

    Args:
        settings: the configuration.
        log: writes the engine's lines.
        authenticator: knows the callers; by default what the settings say.
        local_skills: functions of this process that the target map calls `local:`.

    Raises:
        ConfigurationError: the configuration cannot be used.
        UnavailableError: PostgreSQL cannot be reached.
    """
    async with AsyncExitStack() as stack:
        databases = await open_databases(stack, settings)
        traced = await stack.enter_async_context(tracing(PostgresStepTimes(databases.general)))
        log.find_traces_by(traced.trace_id_of)
        callbacks = HttpCallbacks(PostgresSkillCalls(databases.general), base_url=settings.callback_url.rstrip("/"))
        skills = await stack.enter_async_context(open_skill_runner(settings, local_skills, callbacks))
        hub, progress = EventHub(), InMemoryProgressBoard()
        signals = Signals(_hints(settings, hub, progress, lambda: signals))
        operations = Operations()
        observer: Observer = ObserverGroup([log, operations.observer, WatcherObserver(signals.hints)])
        cold = PostgresOutputCache(databases.general)
        tiers = await stack.enter_async_context(open_cache_tiers(settings, databases.general, cold))
        artifacts = artifacts_of(settings)
        cleaner = await artifact_cleaner(
            artifacts, databases.general, SystemClock(), age_days=settings.artifact_unreferenced_days
        )
        cache = VerifiedOutputCache(tiers or cold, artifacts.probe)
        shared = _Shared(
            store=PostgresRunStore(databases.general),
            workflows=PostgresWorkflowStore(databases.general),
            events=PostgresEventLog(databases.general),
            registry=PostgresEngineRegistry(databases.heartbeats, databases.general),
            progress=SharedProgressBoard(progress, signals.hints.announce_progress),
            cache=cache,
            artifacts=artifacts,
            planning_cache=SharedOutputCache(cache, None if tiers is None else tiers.known),
            skills=skills,
            observer=observer,
            traced=traced,
        )
        catalogue = WorkflowCatalogue(shared.workflows)
        metrics = operations.metrics
        scheduler = signals.scheduler = _scheduler(settings, databases, shared, catalogue, signals, metrics)
        queue = QueueOverviews(
            PostgresQueueReader(databases.operations),
            catalogue,
            SystemClock(),
            has_capacity=lambda: not scheduler.is_busy,
        )
        services = _use_cases(settings, databases, shared, catalogue, hub, signals, queue)
        if settings.workflow_dir is not None:
            await register_workflow_dir(settings.workflow_dir, services.registry)
        rpc = RpcServer(
            services=services,
            authenticator=authenticator or authenticator_of(settings),
            settings=rpc_settings_of(settings),
            meter=operations.meter,
            interceptors=traced.interceptors,
        )
        readiness = Readiness(
            DatabaseReadiness(databases.operations).problems,
            lambda is_ready: rpc.set_serving(is_serving=is_ready),
            SystemClock(),
        )
        http_settings = http_settings_of(settings)
        check_bind(
            http_settings.address,
            has_auth=http_settings.has_auth,
            has_tls=http_settings.tls is not None,
            insecure_plaintext=http_settings.insecure_plaintext,
        )
        further = [skill_callback_endpoint(callbacks, rpc.admission, http_settings.body_bytes_max)]
        app = MeteredRequests(http_app(services, rpc, http_settings, further), operations.meter)
        http = HttpServer(traced.http(app), http_settings.address, tls=http_settings.tls)
        callbacks.base_url = callbacks.base_url or http.url
        ops_app = operations.app(
            console_url=http.url,
            queue=queue,
            readiness=readiness,
            scheduler=scheduler,
            attempts_max=settings.attempts_max,
            rpc=rpc,
            databases={each.name: getattr(databases, each.name) for each in fields(databases)},
        )
        ops = HttpServer(ops_app, settings.ops_address)
        await stack.enter_async_context(
            _running(
                shared.store.creations.run,
                shared.planning_cache.lookups.run,
                shared.planning_cache.hints.run,
                signals.hints.run,
                EventPoller(shared.events, hub).run,
                partial(_keep_partitions, shared),
                cache_cleanup_of(settings, databases.general, observer).run,
                retention_of(settings, databases.general, observer).run,
                callbacks.run,
                readiness.run,
                *([tiers.run] if tiers is not None else []),
                *([partial(keep_clean, cleaner)] if cleaner is not None else []),
                *traced.work,
            )
        )
        # Inside the rest: its last words, at the end, still reach other engines and the hot cache.
        await stack.enter_async_context(_scheduling(scheduler, signals.hints))
        await rpc.start()
        await http.start()
        await ops.start()
        await readiness.begin()
        try:
            yield Engine(services=services, scheduler=scheduler, rpc=rpc, http=http, ops=ops)
        finally:
            with anyio.CancelScope(shield=True):
                readiness.drain()
                await scheduler.drain()
                await rpc.drain(settings.drain_s)
                await http.stop(HTTP_STOP_S)
                await ops.stop(HTTP_STOP_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What use cases and scheduler both work with."""

    store: PostgresRunStore
    workflows: PostgresWorkflowStore
    events: PostgresEventLog
    registry: PostgresEngineRegistry
    progress: SharedProgressBoard
    cache: OutputCache
    artifacts: Artifacts
    planning_cache: SharedOutputCache
    skills: SkillRunner
    observer: Observer
    traced: Tracing


def _scheduler(
    settings: Settings,
    databases: Databases,
    shared: _Shared,
    catalogue: WorkflowCatalogue,
    signals: Signals,
    metrics: Metrics,
) -> Scheduler:
    return assemble_scheduler(
        queue=MeteredStepQueue(PostgresStepQueue(databases.ticks), metrics),
        registry=MeteredEngineRegistry(shared.registry, metrics),
        store=shared.store,
        workflows=catalogue,
        cache=ObservedOutputCache(shared.cache, shared.observer),
        skills=shared.traced.skills(shared.skills),
        permits=PostgresSkillPermits(databases.general, on_freed=signals.hints.announce_permits),
        observer=shared.observer,
        progress=shared.progress,
        clock=SystemClock(),
        random=Random(),
        settings=settings.scheduler_settings(),
        tracer=shared.traced.tracer,
    )


def _use_cases(
    settings: Settings,
    databases: Databases,
    shared: _Shared,
    catalogue: WorkflowCatalogue,
    hub: EventHub,
    signals: Signals,
    queue: QueueOverviews,
) -> UseCases:
    read = ReadRuns(
        reader=PostgresRunReader(databases.general),
        workflows=catalogue,
        store=shared.store,
        progress=shared.progress,
        history=PostgresStepHistory(databases.general),
        lineage=PostgresLineageReader(databases.general),
    )
    return UseCases(
        start=StartRuns(
            tracer=shared.traced.tracer,
            catalogue=catalogue,
            workflows=shared.workflows,
            store=shared.store,
            cache=shared.planning_cache,  # unobserved: a plan's look-ups are no reads of a step
            skills=shared.skills,
            signal=signals,
        ),
        read=read,
        artifacts=OpenArtifacts(read=read, reader=shared.artifacts.reader),
        watchers=AdmitWatchers(
            read=read,
            tokens=SignedWatchTokens(PostgresSigningKeys(databases.general), SystemClock()),
            clock=SystemClock(),
        ),
        watch=WatchRuns(read=read, runs=WatchedRuns(read, shared.events), hints=hub, clock=SystemClock()),
        cancel=CancelRuns(
            read=read,
            store=shared.store,
            signal=signals,
            observer=shared.observer,
            tracer=shared.traced.tracer,
        ),
        registry=Registry(store=shared.workflows, skills=shared.skills, has_artifact_roots=shared.artifacts.has_roots),
        cache=ManageCache(admin=PostgresCacheAdmin(databases.general), workflows=catalogue),
        queue=queue,
    )


@asynccontextmanager
async def _running(*work: Callable[[], Coroutine[object, object, None]]) -> AsyncIterator[None]:
    """The work runs while the context is open."""
    async with anyio.create_task_group() as tasks:
        for each in work:
            tasks.start_soon(each)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def _scheduling(scheduler: Scheduler, hints: PostgresHints) -> AsyncIterator[None]:
    """Steps are run while the context is open; at its end other engines hear that there is work for them."""
    try:
        async with _running(scheduler.run):
            yield
    finally:
        hints.announce_ready(is_local=False)
        with anyio.CancelScope(shield=True):
            await hints.flush(FLUSH_S)


def _hints(
    settings: Settings, hub: EventHub, progress: InMemoryProgressBoard, signals: Callable[[], Signals]
) -> PostgresHints:
    return PostgresHints(
        settings.listen_database_url or settings.database_url,
        hub,
        on_ready=lambda: signals().wake(),
        on_cancelled=lambda runs: signals().cancel_attempts(runs),
        on_permits=lambda: signals().permits_freed(),
        on_progress=partial(show, progress),
    )


async def _keep_partitions(shared: _Shared) -> None:
    while True:
        await anyio.sleep(PARTITIONS_S)
        try:
            await shared.registry.ensure_partitions()
        except UnavailableError as error:
            shared.observer.database_unavailable(str(error.__cause__ or error))
