"""The RunEngine service."""

# ruff: noqa: N802 - the contract names the methods

from typing import Any

import anyio.to_thread
import grpc

from runengine_client.pb.runengine.v1 import queue_pb2, run_engine_pb2_grpc, run_pb2
from runengine_client.pb.runengine.v1 import run_engine_pb2 as pb
from runengine_server.domain.errors import RunEngineError
from runengine_server.rpc.caller import current_caller
from runengine_server.rpc.conversion.comparison import comparison_to_proto
from runengine_server.rpc.conversion.event import encode_watch_message
from runengine_server.rpc.conversion.lineage import lineage_to_proto
from runengine_server.rpc.conversion.plan import plan_to_proto
from runengine_server.rpc.conversion.problems import Problems
from runengine_server.rpc.conversion.queue import queue_to_proto
from runengine_server.rpc.conversion.request import (
    read_is_full,
    read_list_artifacts,
    read_list_runs,
    read_list_steps,
    read_retry_run,
    read_trigger,
    read_trigger_update,
    read_watch,
)
from runengine_server.rpc.conversion.run import artifact_to_proto, run_to_proto, step_to_proto
from runengine_server.rpc.conversion.scalar import read_duration_s, timestamp_of
from runengine_server.rpc.errors import abort_with
from runengine_server.rpc.off_loop import read_off_loop
from runengine_server.rpc.serialized import Serialized
from runengine_server.rpc.watches import Watch, WatchRegistry
from runengine_server.service.messages import RunPage, StepPage, TriggerAnswer, WatchMessage
from runengine_server.service.services import Services

Context = grpc.aio.ServicerContext[Any, Any]

_PLANNED_ON_LOOP_MAX = 500
"""A planned step converts in 4 µs."""


class RunEngineServicer(run_engine_pb2_grpc.RunEngineServicer):
    """Runs over gRPC."""

    def __init__(self, services: Services, watches: WatchRegistry) -> None:
        """Serve these use cases and count watches there."""
        self._services = services
        self._watches = watches

    async def Trigger(self, request: pb.TriggerRequest, context: Context) -> pb.TriggerResponse:
        """Start an initial run."""
        parsed = await read_off_loop(read_trigger, request)
        answer = await self._services.trigger_run(current_caller(), parsed)
        return pb.TriggerResponse(
            run_id=answer.run_id or "",
            status=_status(answer),
            message=answer.message,
            deduplicated=answer.deduplicated,
            plan=await _plan(answer),
        )

    async def TriggerUpdate(self, request: pb.TriggerUpdateRequest, context: Context) -> pb.TriggerUpdateResponse:
        """Start a partial rebuild of a completed run."""
        parsed = await read_off_loop(read_trigger_update, request)
        answer = await self._services.trigger_update(current_caller(), parsed)
        return pb.TriggerUpdateResponse(
            run_id=answer.run_id or "",
            status=_status(answer),
            message=answer.message,
            deduplicated=answer.deduplicated,
            plan=await _plan(answer),
        )

    async def RetryRun(self, request: pb.RetryRunRequest, context: Context) -> pb.RetryRunResponse:
        """Start a run that finishes a failed or cancelled one."""
        answer = await self._services.retry_run(current_caller(), read_retry_run(request))
        return pb.RetryRunResponse(
            run_id=answer.run_id or "",
            status=_status(answer),
            message=answer.message,
            deduplicated=answer.deduplicated,
            plan=await _plan(answer),
        )

    async def Cancel(self, request: pb.CancelRequest, context: Context) -> pb.CancelResponse:
        """Cancel a run."""
        answer = await self._services.cancel_run(current_caller(), request.run_id, request.reason)
        return pb.CancelResponse(run=run_to_proto(answer.run), message=answer.message)

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:
        """Read one run."""
        problems = Problems()
        is_full = read_is_full(request.view, problems)
        problems.raise_if_any()
        run = await self._services.get_run(current_caller(), request.run_id, is_full=is_full)
        if is_full:  # a payload of up to 1 MiB
            return pb.GetRunResponse(run=await anyio.to_thread.run_sync(run_to_proto, run))
        return pb.GetRunResponse(run=run_to_proto(run))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        """List runs, newest first."""
        page = await self._services.list_runs(current_caller(), read_list_runs(request))
        return _runs_response(page)

    async def ListSteps(self, request: pb.ListStepsRequest, context: Context) -> pb.ListStepsResponse:
        """List a run's steps in definition order."""
        parsed = read_list_steps(request)
        page = await self._services.list_steps(current_caller(), parsed)
        if parsed.is_full:  # inputs and outputs of up to 3 MiB
            return await anyio.to_thread.run_sync(_steps_response, page)
        return _steps_response(page)

    async def ListArtifacts(self, request: pb.ListArtifactsRequest, context: Context) -> pb.ListArtifactsResponse:
        """List a run's artifacts."""
        page = await self._services.list_artifacts(current_caller(), read_list_artifacts(request))
        return pb.ListArtifactsResponse(
            artifacts=[artifact_to_proto(artifact) for artifact in page.artifacts],
            next_page_token=page.next_page_token,
        )

    async def ExplainStep(self, request: pb.ExplainStepRequest, context: Context) -> pb.ExplainStepResponse:
        """Say why a step is as it is."""
        explanation = await self._services.explain_step(current_caller(), request.run_id, request.step_id)
        return pb.ExplainStepResponse(step=step_to_proto(explanation.step), text=explanation.text)

    async def CompareRuns(self, request: pb.CompareRunsRequest, context: Context) -> pb.CompareRunsResponse:
        """Compare two runs of a workflow."""
        comparison = await self._services.compare_runs(current_caller(), request.left_run_id, request.right_run_id)
        # thousands of steps
        return await anyio.to_thread.run_sync(comparison_to_proto, comparison)

    async def GetLineage(self, request: pb.GetLineageRequest, context: Context) -> pb.GetLineageResponse:
        """Say what an artifact was made from."""
        lineage = await self._services.get_lineage(current_caller(), request.artifact_id, request.depth)
        return lineage_to_proto(lineage)

    async def GetQueue(self, request: queue_pb2.GetQueueRequest, context: Context) -> queue_pb2.GetQueueResponse:
        """Say how deep the tenant's queue is."""
        return queue_to_proto(await self._services.get_queue(current_caller()))

    async def CreateWatchToken(
        self, request: pb.CreateWatchTokenRequest, context: Context
    ) -> pb.CreateWatchTokenResponse:
        """Make a token that reads one run."""
        problems = Problems()
        ttl_s = read_duration_s(request, "ttl", "ttl", problems)
        problems.raise_if_any()
        made = await self._services.create_watch_token(current_caller(), request.run_id, ttl_s)
        return pb.CreateWatchTokenResponse(token=made.token, expires_at=timestamp_of(made.expires_at))

    def WatchRun(  # type: ignore[override]
        self, request: pb.WatchRunRequest, context: Context
    ) -> Watch[Serialized]:
        """Follow a run to its end."""
        caller, wanted = current_caller(), read_watch(request)
        messages = self._services.watch_run(caller, wanted)
        return self._watches.follow(caller, wanted.after_sequence, messages, abort=_Abort(context), told=_serialized)


class _Abort:
    """Ends a call; a partial function of the same takes 0.15 KB more of each watch."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(self, error: RunEngineError) -> None:
        await abort_with(self._context, error)


def _serialized(message: WatchMessage) -> Serialized:
    return Serialized(message.encoded(encode_watch_message))


def _status(answer: TriggerAnswer) -> "run_pb2.RunStatus.ValueType":
    return run_pb2.RunStatus.ValueType(answer.status or 0)


async def _plan(answer: TriggerAnswer) -> run_pb2.RebuildPlan | None:
    if answer.plan is None:
        return None
    if len(answer.plan.steps) <= _PLANNED_ON_LOOP_MAX:
        return plan_to_proto(answer.plan)
    return await anyio.to_thread.run_sync(plan_to_proto, answer.plan)


def _runs_response(page: RunPage) -> pb.ListRunsResponse:
    return pb.ListRunsResponse(runs=[run_to_proto(run) for run in page.runs], next_page_token=page.next_page_token)


def _steps_response(page: StepPage) -> pb.ListStepsResponse:
    return pb.ListStepsResponse(
        steps=[step_to_proto(step) for step in page.steps],
        next_page_token=page.next_page_token,
        as_of_sequence=page.as_of_sequence,
    )
