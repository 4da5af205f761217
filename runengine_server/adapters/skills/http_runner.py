"""Calls the skills of one target over HTTP/JSON: answered at once, or accepted and answered by callback."""

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import anyio

from runengine_server.adapters.skills.artifact_reader import ProtocolError
from runengine_server.adapters.skills.call_reader import WORKER_ID_CHARACTERS_MAX
from runengine_server.adapters.skills.execute_request import CallMetadata
from runengine_server.adapters.skills.http_answers import (
    UnacceptableOutputError,
    read_answer,
    read_object,
    read_refusal,
    text_of,
)
from runengine_server.adapters.skills.http_callbacks import HttpCallbacks, broken
from runengine_server.adapters.skills.http_catalogue import HttpCatalogue
from runengine_server.adapters.skills.http_open_call import OpenCall
from runengine_server.adapters.skills.http_request import request_body
from runengine_server.adapters.skills.http_transport import (
    Answer,
    AnswerTooLargeError,
    BrokenOffError,
    HttpTransport,
    NotConnectedError,
)
from runengine_server.adapters.skills.silence import ACCEPTED_WITHIN_S, SILENT_INTERVALS_MAX, fell_silent
from runengine_server.adapters.skills.targets import Endpoint, Transport
from runengine_server.adapters.skills.trace_metadata import trace_metadata
from runengine_server.domain.failure import OUTPUT_TOO_LARGE, SKILL_UNAVAILABLE, Failure
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

FENCING_TOKEN: Final = "runengine-fencing-token"

_FIRST_LIST_WITHIN_S: Final = 2.0
_ABANDON_WITHIN_S: Final = 2.0
_DIAL_AGAIN_S: Final = 0.2

_TAKEN_OVER: Final = "A later attempt of the step has begun"

_log = logging.getLogger(__name__)


class HttpSkillRunner:
    """The `SkillRunner` port over one HTTP target; use it inside `async with`."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        callbacks: HttpCallbacks,
        token: str | None = None,
        heartbeat_interval_s: float = 5.0,
        connected_within_s: float = ACCEPTED_WITHIN_S,
        refresh_interval_s: float = 30.0,
        call_metadata: CallMetadata = trace_metadata,
    ) -> None:
        """Prepare the runner; nothing is dialled yet.

        Args:
            endpoint: where the runner is.
            callbacks: where calls are answered that the runner does not answer at once.
            token: a bearer token; refused for plaintext that leaves this machine.
            heartbeat_interval_s: how often a runner that calls back must be heard; three silent ones end a call.
            connected_within_s: how long a runner that is away is waited for.
            refresh_interval_s: how often the list of skills is read.
            call_metadata: further headers of each call; by default its trace context.

        Raises:
            ValueError: a token would travel in plaintext.
        """
        if token and endpoint.transport is Transport.HTTP and not endpoint.is_on_this_machine:
            raise ValueError("a token may not travel in plaintext; use https://")
        self._callbacks = callbacks
        self._transport = HttpTransport(endpoint.address, token=token)
        self._catalogue = HttpCatalogue(self._transport, refresh_interval_s=refresh_interval_s)
        self._heartbeat_interval_s = heartbeat_interval_s
        self._connected_within_s = connected_within_s
        self._call_metadata = call_metadata
        self._stack = AsyncExitStack()

    async def execute(self, call: SkillCall, on_progress: ProgressListener) -> Outcome:
        """Run one attempt to its end (see the port); cancelling the task leaves a call that was accepted."""
        ends_at = anyio.current_time() + call.timeout_s
        async with self._callbacks.open(call, on_progress) as opened:
            if opened is None:
                return Failed(failure=Failure(code=SKILL_UNAVAILABLE, message=_TAKEN_OVER, retryable=True))
            if opened.outcome is None:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._ask, call, opened, ends_at)
                    await self._wait(call, opened, ends_at)
                    tasks.cancel_scope.cancel()
            assert opened.outcome is not None, "waited for"
            return self._filed(opened.outcome)

    def execute_at_once(self, call: SkillCall) -> Outcome | None:
        """None: every call goes over the network."""
        return None

    async def abandon(self, call: SkillCall) -> None:
        """Tell the runner to stop, and refuse its callbacks from now on (see the port)."""
        self._callbacks.release(call)
        path = f"/calls/{quote(call.idempotency_key, safe='')}"
        with anyio.move_on_after(_ABANDON_WITHIN_S):
            try:
                await self._transport.send("DELETE", path, headers=[(FENCING_TOKEN, str(call.fencing_token))])
            except (NotConnectedError, BrokenOffError, AnswerTooLargeError):
                return  # it works for nothing, until its own deadline

    def availability(self, skill_id: SkillId) -> SkillAvailability:
        """What is known of a skill, from the last list that could be read."""
        return self._catalogue.availability(skill_id)

    def catalogue(self) -> Mapping[str, SkillInfo]:
        """What the runner last said it offers, by id; nothing where it gives no list."""
        return self._catalogue.skills

    async def wait_until_asked(self) -> None:
        """The runner has been asked for its list once, whether it answered or not; at most 2 s."""
        with anyio.move_on_after(_FIRST_LIST_WITHIN_S):
            await self._catalogue.asked.wait()

    async def __aenter__(self) -> Self:
        """Open the pool of connections and keep the list of skills fresh, in a task of its own."""
        await self._stack.enter_async_context(self._transport)
        tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.callback(tasks.cancel_scope.cancel)
        tasks.start_soon(self._catalogue.keep_fresh)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Stop refreshing and close the pool."""
        return await self._stack.__aexit__(kind, problem, trace)

    async def _ask(self, call: SkillCall, opened: OpenCall, ends_at: float) -> None:
        """The call is accepted, or settled with what the runner answered."""
        try:
            answer = await self._post(call, opened, ends_at)
            if answer.status == 202:
                _accept(opened, answer)
                return
            self._callbacks.release(call)
            if answer.status == 200:
                opened.settle(await read_answer(answer.body))
            elif answer.status < 400:
                opened.settle(broken(f"The runner answered with HTTP status {answer.status}"))
            else:
                opened.settle(read_refusal(answer.status, answer.headers, answer.body))
        except ProtocolError as problem:
            opened.settle(broken(str(problem)))
        except AnswerTooLargeError:
            failure = Failure(code=OUTPUT_TOO_LARGE, message="The skill sent an answer beyond 3 MiB")
            opened.settle(Failed(failure=failure))
        except (NotConnectedError, BrokenOffError) as problem:
            _log.warning(
                "Skill call ended with %s: skillId=%s, runId=%s, stepId=%s, attempt=%d: %s",
                type(problem).__name__, call.skill_id, call.run_id, call.step_id, call.attempt, problem,
            )  # fmt: skip
            is_sent = isinstance(problem, BrokenOffError)
            what = "ended the connection" if is_sent else f"could not be reached within {self._connected_within_s:g} s"
            failure = Failure(code=SKILL_UNAVAILABLE, message=f"The skill's runner {what}", retryable=True)
            opened.settle(Failed(failure=failure))

    async def _post(self, call: SkillCall, opened: OpenCall, ends_at: float) -> Answer:
        """The answer to the request; a runner that restarts is waited for."""
        give_up_at = min(ends_at, anyio.current_time() + self._connected_within_s)
        body = request_body(
            call,
            timeout_s=ends_at - anyio.current_time(),
            heartbeat_interval_s=self._heartbeat_interval_s,
            callback_url=self._callbacks.url(opened),
            callback_token=opened.secret,
        )
        headers = [("idempotency-key", call.idempotency_key), *self._call_metadata(call)]
        while True:
            try:
                return await self._transport.send("POST", "/execute", body=body, headers=headers)
            except NotConnectedError:
                if anyio.current_time() + _DIAL_AGAIN_S >= give_up_at:
                    raise
                await anyio.sleep(_DIAL_AGAIN_S)

    async def _wait(self, call: SkillCall, opened: OpenCall, ends_at: float) -> None:
        """The call is settled: by its answer, its deadline (the runner is told to stop) or its silence."""
        silence_s = self._heartbeat_interval_s * SILENT_INTERVALS_MAX
        while opened.outcome is None:
            silent_at = opened.heard_at + silence_s if opened.sends_heartbeats else ends_at
            with anyio.move_on_after(min(ends_at, silent_at) - anyio.current_time()):
                await opened.changed()
                continue
            now = anyio.current_time()
            if now >= ends_at:
                opened.settle(fell_silent(opened.worker_id, is_late=True))
                await self.abandon(call)
            elif opened.sends_heartbeats and now >= opened.heard_at + silence_s:
                opened.settle(fell_silent(opened.worker_id, is_late=False))

    def _filed(self, outcome: Outcome) -> Outcome:
        """Without a list nobody could ask the cache for the version that an answer names: all are one."""
        if isinstance(outcome, Succeeded) and self._catalogue.is_assumed:
            return replace(outcome, cache_version="")
        return outcome


def _accept(opened: OpenCall, answer: Answer) -> None:
    """The runner will call back.

    Raises:
        ProtocolError: its 202 has a body that cannot be read.
    """
    try:
        document = read_object(answer.body) if answer.body.strip() else {}
    except UnacceptableOutputError:
        document = {}
    worker_id = text_of(document, "workerId")
    if "\0" in worker_id:
        raise ProtocolError("The runner sent a workerId with U+0000")
    opened.accept(worker_id[:WORKER_ID_CHARACTERS_MAX], sends_heartbeats=document.get("heartbeats") is not False)
