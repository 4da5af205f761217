"""Knows the HTTP calls this engine waits for, and takes callbacks, also those of calls that other engines wait for.

A call is registered before its runner is asked. An answer that comes by callback is stored before it is acknowledged:
the engine that waits finds it there, and after its death the one that takes the step over. What arrives at this engine
is heard at once; what others were told is read at an interval.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID, uuid5

import anyio
import orjson

from runengine_server.adapters.skills.artifact_reader import ProtocolError
from runengine_server.adapters.skills.http_answers import (
    UnacceptableOutputError,
    off_loop,
    outcome_of,
    read_answer,
    read_object,
)
from runengine_server.adapters.skills.http_open_call import OpenCall
from runengine_server.domain.errors import FieldViolation, InvalidError, UnavailableError
from runengine_server.domain.failure import SKILL_PROTOCOL_ERROR, Failure
from runengine_server.domain.json_value import JsonObject
from runengine_server.ports.skill_calls import CallbackKind, SkillCalls, Verdict
from runengine_server.ports.skill_runner import Failed, Outcome, ProgressListener, SkillCall, Succeeded

CALLBACK_PATH: Final = "/api/v1/skill-calls"
READ_S: Final = 0.25
_SWEEP_S: Final = 600.0
_TRY_AGAIN_S: Final = 0.5
_KEPT_S: Final = 3600.0
"""Beyond an attempt's time, and longer while the run has unfinished steps: a success may come late."""

_RELEASED_MAX: Final = 10_000
_MESSAGE_CHARACTERS_MAX: Final = 500
_SECRET_BYTES: Final = 32
_NAMESPACE: Final = UUID("2f6d3c52-7d0b-4c39-9a51-6f0c8a4b7e10")


class HttpCallbacks:
    """SkillCallbacks, and the calls of this engine; `run()` must be running to hear what other engines are told."""

    def __init__(self, calls: SkillCalls, *, base_url: str = "", read_s: float = READ_S) -> None:
        """Share calls with other engines.

        Args:
            calls: where they are kept.
            base_url: where runners reach this or any other engine, without a trailing slash; set before the first call.
            read_s: how often to look for what other engines were told, while calls are open; in seconds.
        """
        self.base_url = base_url
        self._calls = calls
        self._read_s = read_s
        self._open: dict[UUID, OpenCall] = {}
        self._released: dict[UUID, int] = {}

    @asynccontextmanager
    async def open(self, call: SkillCall, on_progress: ProgressListener) -> AsyncIterator[OpenCall | None]:
        """The call, waited for within the context, ended already where an earlier attempt missed its success.

        None when a later attempt has begun: this one has lost its lease.
        """
        call_id = uuid5(_NAMESPACE, f"{call.tenant}/{call.idempotency_key}")
        self._released.pop(call_id, None)
        while True:
            try:
                opened = await self._calls.register(
                    call_id,
                    call.run_id,
                    fencing_token=call.fencing_token,
                    secret=secrets.token_urlsafe(_SECRET_BYTES),
                    kept_s=call.timeout_s + _KEPT_S,
                )
                break
            except UnavailableError:
                await anyio.sleep(_TRY_AGAIN_S)  # nothing can be committed meanwhile; the lease bounds it
        if opened is None:
            yield None
            return
        waiting = OpenCall(call, call_id, opened.secret, on_progress)
        self._open[call_id] = waiting
        try:
            if opened.answer is not None:
                waiting.settle(await _kept(opened.answer))
            yield waiting
        finally:
            if self._open.get(call_id) is waiting:
                del self._open[call_id]

    def url(self, opened: OpenCall) -> str:
        """Where the call is answered; `/complete`, `/fail`, `/heartbeat` or `/progress` is appended."""
        return f"{self.base_url}{CALLBACK_PATH}/{opened.call_id}"

    def release(self, call: SkillCall) -> None:
        """Nobody will answer this attempt by callback, or nobody wants its answer: what is kept of it may go."""
        if len(self._released) < _RELEASED_MAX:  # beyond it they are swept
            self._released[uuid5(_NAMESPACE, f"{call.tenant}/{call.idempotency_key}")] = call.fencing_token

    async def take(self, kind: CallbackKind, call_id: UUID, secret: str, body: bytes) -> Verdict:
        """See the port."""
        try:
            document = await off_loop(body, lambda: read_object(body))
            fencing_token = _fencing_token(document)
        except UnacceptableOutputError as problem:
            raise _invalid("output", problem.failure.message) from None
        except ProtocolError as problem:
            raise _invalid("body", str(problem)) from None
        if kind in (CallbackKind.COMPLETE, CallbackKind.FAIL):
            return await self._take_answer(kind, call_id, secret, fencing_token, document)
        progress = _progress(document) if kind is CallbackKind.PROGRESS else None
        waiting = self._open.get(call_id)
        if waiting is None or not waiting.is_of(fencing_token, secret):
            return await self._calls.hear(call_id, secret, fencing_token=fencing_token, progress=progress, answer=None)
        waiting.hear(progress)
        return Verdict.TAKEN if waiting.outcome is None else Verdict.ENDED

    async def run(self) -> None:
        """Look for what other engines were told, and forget what is over, until cancelled."""
        sweep_at = anyio.current_time() + _SWEEP_S
        while True:
            await anyio.sleep(self._read_s)
            try:
                await self._read_news()
                if self._released:
                    released, self._released = self._released, {}
                    await self._calls.release(list(released.items()))
                if anyio.current_time() >= sweep_at:
                    sweep_at = anyio.current_time() + _SWEEP_S
                    await self._calls.sweep()
            except UnavailableError:
                continue  # others tell of it; what was not released is swept

    async def _take_answer(
        self, kind: CallbackKind, call_id: UUID, secret: str, fencing_token: int, document: JsonObject
    ) -> Verdict:
        """Store what ends a call, then tell who waits for it here; a broken contract ends it too."""
        waiting = self._open.get(call_id)
        problem: str | None = None
        try:
            outcome = outcome_of(document, waiting.worker_id if waiting is not None else "")
            if kind is CallbackKind.FAIL and isinstance(outcome, Succeeded):
                raise ProtocolError("The runner failed a call without `error`")
        except ProtocolError as error:
            problem = str(error)
            outcome = broken(problem)
            document = {"error": {"code": SKILL_PROTOCOL_ERROR, "message": problem, "retryable": True}}
        verdict = await self._calls.hear(
            call_id, secret, fencing_token=fencing_token, progress=None, answer=orjson.dumps(document),
            is_success=isinstance(outcome, Succeeded),
        )  # fmt: skip
        if verdict is Verdict.TAKEN:
            waiting = self._open.get(call_id)
            if waiting is not None and waiting.is_of(fencing_token, secret):
                waiting.settle(outcome)
            if problem is not None:
                raise _invalid("body", problem)
        return verdict

    async def _read_news(self) -> None:
        for news in await self._calls.read(list(self._open)) if self._open else ():
            waiting = self._open.get(news.call_id)
            if waiting is None or waiting.outcome is not None or waiting.call.fencing_token != news.fencing_token:
                continue
            if news.answer is not None:
                waiting.settle(await _kept(news.answer, waiting.worker_id))
            else:
                waiting.hear_elsewhere(news.progress, news.silent_s)


def broken(problem: str, worker_id: str = "") -> Failed:
    """What a broken contract means for the attempt."""
    return Failed(failure=Failure(code=SKILL_PROTOCOL_ERROR, message=problem, retryable=True), worker_id=worker_id)


async def _kept(answer: bytes, worker_id: str = "") -> Outcome:
    """The outcome of an answer that was stored, perhaps by an engine that understands more than this one."""
    try:
        return await read_answer(answer, worker_id)
    except ProtocolError as problem:
        return broken(str(problem), worker_id)


def _fencing_token(document: JsonObject) -> int:
    token = document.get("fencingToken")
    if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < 2**53:
        raise _invalid("fencingToken", "must be the fencing token of the request, a whole number")
    return token


def _progress(document: JsonObject) -> bytes:
    """How far it is, as it is kept: a fraction from 0 to 1 and a few words."""
    fraction, message = document.get("fraction", 0.0), document.get("message", "")
    if not isinstance(fraction, int | float) or isinstance(fraction, bool):
        raise _invalid("fraction", "must be a number from 0 to 1")
    if not isinstance(message, str):
        raise _invalid("message", "must be text")
    kept = {"fraction": min(1.0, max(0.0, fraction)), "message": message[:_MESSAGE_CHARACTERS_MAX]}
    return orjson.dumps(kept)


def _invalid(field: str, description: str) -> InvalidError:
    violation = FieldViolation(field=field, description=description)
    return InvalidError("VALIDATION_FAILED", f"{field}: {description}", violations=[violation])
