"""Calls the skills of one gRPC target and knows what it offers."""

import asyncio
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

import anyio
import grpc
from anyio.abc import TaskGroup

from runengine_client.pb.runengine.v1 import skill_runner_pb2, skill_runner_pb2_grpc
from runengine_server.adapters.skills.call_reader import CallReader, ProtocolError
from runengine_server.adapters.skills.call_stream import CallStream, NotSentError, StreamSettings
from runengine_server.adapters.skills.execute_request import CallMetadata, write_request
from runengine_server.adapters.skills.runner_catalogue import RunnerCatalogue
from runengine_server.adapters.skills.silence import (
    ACCEPTED_WITHIN_S,
    SILENT_INTERVALS_MAX,
    fell_silent,
    not_accepted,
)
from runengine_server.adapters.skills.status_failures import failed_with, is_too_large, lost_with
from runengine_server.adapters.skills.targets import Endpoint, Transport
from runengine_server.adapters.skills.trace_metadata import trace_metadata
from runengine_server.domain.failure import OUTPUT_TOO_LARGE
from runengine_server.domain.ids import SkillId
from runengine_server.ports.skill_runner import (
    Failed,
    Outcome,
    ProgressListener,
    SkillAvailability,
    SkillCall,
    SkillInfo,
)

_log = logging.getLogger(__name__)

# How long a stream may take to close once its outcome is here.
_CLOSE_WITHIN_S: Final = 2.0
_FIRST_LIST_WITHIN_S: Final = 2.0
_ABANDON_WITHIN_S: Final = 2.0
# A call whose stream ends before it was sent goes to the next one; a runner that ends them all is not available.
_STREAMS_TRIED: Final = 2

# What runners that know it are told with: gRPC tells them of a cancelled RPC as it does of a lost engine.
CANCEL_METADATA: Final = "runengine-cancel"

# Pings only during calls: gRPC servers in other languages punish more, and heartbeats make these welcome. The ping
# timeout must be set beside the keepalive timeout, or a frozen runner holds its calls for a minute. The message limit
# is above the contract's 3 MiB, so that what is too large can be read and named. A runner that is away is dialled every
# second: within the time a call waits for it, also after a long absence.
_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", 8 << 20),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


class GrpcSkillRunner:
    """The `SkillRunner` port over one target and one channel; use it inside `async with`."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        token: str | None = None,
        heartbeat_interval_s: float = 5.0,
        accepted_within_s: float = ACCEPTED_WITHIN_S,
        refresh_interval_s: float = 30.0,
        root_certificates: bytes | None = None,
        call_metadata: CallMetadata = trace_metadata,
        shares_stream: bool = True,
    ) -> None:
        """Prepare the runner; nothing is dialled yet.

        Args:
            endpoint: where the runner is.
            token: a bearer token; refused for plaintext that leaves this machine.
            heartbeat_interval_s: what the runner is asked for; three silent ones end a call.
            accepted_within_s: how long `accepted` may take, the wait for a runner that is away included.
            refresh_interval_s: how often the list of skills is read.
            root_certificates: PEM of the authorities that TLS trusts; None means gRPC's own.
            call_metadata: further metadata of each call; by default its trace context.
            shares_stream: whether calls travel together on one stream where the runner offers it.

        Raises:
            ValueError: a token would travel in plaintext.
        """
        if token and endpoint.transport is Transport.PLAINTEXT and not endpoint.is_on_this_machine:
            raise ValueError("a token may not travel in plaintext; use grpcs://")
        self._endpoint = endpoint
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._heartbeat_interval_s = heartbeat_interval_s
        self._accepted_within_s = accepted_within_s
        self._refresh_interval_s = refresh_interval_s
        self._root_certificates = root_certificates
        self._call_metadata = call_metadata
        self._catalogue = RunnerCatalogue(metadata=self._metadata, refresh_interval_s=refresh_interval_s)
        self._understands_cancel = False
        self._must_be_alone = not shares_stream
        self._settings: StreamSettings | None = None
        self._stream: CallStream | None = None
        self._channel: grpc.aio.Channel | None = None
        self._stub: skill_runner_pb2_grpc.SkillRunnerServiceAsyncStub | None = None
        self._task_group: TaskGroup | None = None

    async def execute(self, call: SkillCall, on_progress: ProgressListener) -> Outcome:
        """Run one attempt to its end (see the port), on the shared stream where the runner offers it."""
        accept_by = asyncio.get_running_loop().time() + self._accepted_within_s
        ended_with: grpc.aio.AioRpcError | None = None
        for _ in range(_STREAMS_TRIED):
            stream = self._shared_stream()
            if stream is None:
                return await self._execute_alone(call, on_progress)
            try:
                return await stream.execute(call, on_progress, accept_by=accept_by)
            except NotSentError:
                ended_with = stream.ended_with
        return lost_with(ended_with, call, CallReader(on_progress))

    def execute_at_once(self, call: SkillCall) -> Outcome | None:
        """None: every call goes over the network."""
        return None

    async def abandon(self, call: SkillCall) -> None:
        """Cancel what a runner keeps for a lost engine; only where it is known to understand (see the port)."""
        if self._stream is not None and self._stream.is_open:
            self._stream.abandon(call)
            return
        if self._stub is None or not self._understands_cancel:
            return
        request = self._request(call, timeout_s=0.0)
        rpc = self._stub.Execute(
            request, timeout=_ABANDON_WITHIN_S, metadata=(*self._metadata, (CANCEL_METADATA, "requested"))
        )
        try:
            async for _ in rpc:
                pass
        except grpc.aio.AioRpcError:
            return  # the call ends with its grace period instead
        finally:
            rpc.cancel()

    def availability(self, skill_id: SkillId) -> SkillAvailability:
        """What is known of a skill, from the last list that could be read."""
        return SkillAvailability(
            has_target=True,
            is_catalogue_known=self._catalogue.is_known,
            info=self._catalogue.skills.get(skill_id),
        )

    def catalogue(self) -> Mapping[str, SkillInfo]:
        """What the runner last said it offers, by id."""
        return self._catalogue.skills

    async def wait_until_asked(self) -> None:
        """The runner has been asked for its list once, whether it answered or not; at most 2 s."""
        with anyio.move_on_after(_FIRST_LIST_WITHIN_S):
            await self._catalogue.asked.wait()

    async def refresh(self) -> bool:
        """The list of skills is what the runner says now; false when it cannot be read."""
        if self._stub is None:
            return False
        return await self._catalogue.refresh(self._stub)

    async def __aenter__(self) -> Self:
        """Open the channel and keep the list of skills fresh, in a task of its own."""
        self._channel = self._open_channel()
        self._stub = skill_runner_pb2_grpc.SkillRunnerServiceStub(self._channel)
        self._settings = StreamSettings(
            channel=self._channel,
            stub=self._stub,
            metadata=self._metadata,
            call_metadata=self._call_metadata,
            heartbeat_interval_s=self._heartbeat_interval_s,
            accepted_within_s=self._accepted_within_s,
            cancel_metadata=CANCEL_METADATA,
        )
        self._task_group = await anyio.create_task_group().__aenter__()
        self._task_group.start_soon(self._catalogue.keep_fresh, self._channel, self._stub)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Stop refreshing and close the channel; calls in flight are cancelled."""
        is_handled: bool | None = None
        if self._task_group is not None:
            self._task_group.cancel_scope.cancel()
            is_handled = await self._task_group.__aexit__(kind, problem, trace)
        if self._channel is not None:
            with anyio.CancelScope(shield=True):
                await self._channel.close()
        self._stub = self._stream = self._settings = None
        return is_handled

    def _shared_stream(self) -> CallStream | None:
        """The stream to call on, opened anew if it has ended; None where each call has to have its own."""
        stream = self._stream
        if stream is not None and stream.is_open:
            return stream
        if self._settings is None or self._task_group is None or not self._catalogue.supports_many:
            return None
        if self._must_be_alone:
            return None
        self._stream = CallStream(self._settings)
        self._task_group.start_soon(self._run_stream, self._stream)
        return self._stream

    async def _run_stream(self, stream: CallStream) -> None:
        try:
            await stream.run()
        except Exception:
            # The boundary of one stream: its calls have failed with it, others and the engine go on.
            _log.exception("Stream of skill calls broke")
        if stream.understands_cancel:
            self._understands_cancel = True
        if stream.ended_with is not None:
            self._catalogue.doubt(stream.ended_with.code())
            # A message that no stream can carry would end the next one too, with all its calls.
            is_unusable = stream.ended_with.code() is grpc.StatusCode.UNIMPLEMENTED or is_too_large(stream.ended_with)
            self._must_be_alone = self._must_be_alone or is_unusable

    async def _execute_alone(self, call: SkillCall, on_progress: ProgressListener) -> Outcome:
        """Run one attempt on a stream of its own; cancelling the task cancels the RPC."""
        if self._stub is None:
            raise RuntimeError("execute is called outside `async with`")
        reader = CallReader(on_progress)
        rpc = self._stub.Execute(
            self._request(call, timeout_s=call.timeout_s),
            timeout=call.timeout_s,
            metadata=(*self._metadata, *self._call_metadata(call)),
            wait_for_ready=True,  # a runner that restarts is waited for, as long as it may take to accept
        )
        try:
            return await self._watch(rpc, reader, call)
        except ProtocolError as problem:
            return reader.broken(problem)
        except grpc.aio.AioRpcError as problem:
            self._catalogue.doubt(problem.code())
            if problem.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not reader.is_accepted:
                return self._silent(reader, call)
            return reader.outcome or failed_with(problem, call, reader.worker_id)
        finally:
            rpc.cancel()

    async def _watch(
        self,
        rpc: "grpc.aio.UnaryStreamCall[skill_runner_pb2.ExecuteRequest, skill_runner_pb2.ExecuteResponse]",
        reader: CallReader,
        call: SkillCall,
    ) -> Outcome:
        """Read to the end, with one alarm clock: `accepted`, then silence, then closing; the deadline caps it."""
        now = anyio.current_time
        ends_at = now() + call.timeout_s
        silence_s = self._heartbeat_interval_s * SILENT_INTERVALS_MAX
        with anyio.CancelScope(deadline=min(ends_at, now() + self._accepted_within_s)) as alarm:
            async for message in rpc:
                reader.take(message)
                if not self._understands_cancel:
                    self._understands_cancel = CANCEL_METADATA in (await rpc.initial_metadata() or ())
                if _is_too_large(reader.outcome):
                    break
                alarm.deadline = min(ends_at, now() + silence_s)
                if reader.outcome is not None:
                    alarm.deadline = now() + _CLOSE_WITHIN_S
        if reader.outcome is not None:
            return reader.outcome
        if not alarm.cancelled_caught:
            raise ProtocolError("The runner ended the call without result or failure")
        return self._silent(reader, call, is_late=now() >= ends_at)

    def _silent(self, reader: CallReader, call: SkillCall, *, is_late: bool = False) -> Failed:
        if reader.is_accepted:
            return fell_silent(reader.worker_id, is_late=is_late)
        assert self._channel is not None, "a call is made on it"
        return not_accepted(self._channel, min(self._accepted_within_s, call.timeout_s))

    def _request(self, call: SkillCall, *, timeout_s: float) -> skill_runner_pb2.ExecuteRequest:
        request = skill_runner_pb2.ExecuteRequest()
        write_request(request, call, timeout_s=timeout_s, heartbeat_interval_s=self._heartbeat_interval_s)
        return request

    def _open_channel(self) -> grpc.aio.Channel:
        if self._endpoint.transport is Transport.TLS:
            credentials = grpc.ssl_channel_credentials(self._root_certificates)
            return grpc.aio.secure_channel(self._endpoint.address, credentials, options=_OPTIONS)
        return grpc.aio.insecure_channel(self._endpoint.address, options=_OPTIONS)


def _is_too_large(outcome: Outcome | None) -> bool:
    """Whether to stop reading at once: what follows is of no interest."""
    return isinstance(outcome, Failed) and outcome.failure.code == OUTPUT_TOO_LARGE
