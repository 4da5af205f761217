"""Runs skills as Python functions in this process, for development, tests and embedding.

There is no attach and no replay here: a call dies with its engine, because they are one process.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Final

import anyio
import orjson

from runengine_client.skills.artifact_folder import Artifact, ArtifactFolder
from runengine_client.skills.context import AsyncSkillContext, SkillContext
from runengine_client.skills.definition import Skill, skill
from runengine_client.skills.errors import SkillCancelledError, SkillError
from runengine_client.skills.invocation import encode_output, failure_of
from runengine_server.domain.artifact import ProducedArtifact
from runengine_server.domain.failure import SKILL_TIMEOUT, SKILL_UNAVAILABLE, Failure
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

_WORKER_ID: Final = "local"
_NOT_OFFERED = SkillAvailability(has_target=True, is_catalogue_known=True, info=None)
_TIMED_OUT: Final = Failed(
    failure=Failure(code=SKILL_TIMEOUT, message="The skill did not finish in time", retryable=True),
    worker_id=_WORKER_ID,
)


class _LocalCall:
    """One attempt; the `CallHandle` of its context."""

    __slots__ = ("_folder_of", "_on_progress", "artifacts", "facts", "is_cached", "is_cancelled", "started_at")

    def __init__(self, call: SkillCall, on_progress: ProgressListener, folder_of: Callable[[], ArtifactFolder]) -> None:
        self.facts = call
        self.is_cancelled = False
        self.is_cached = True
        self.artifacts: list[Artifact] = []
        self.started_at = monotonic()
        self._on_progress = on_progress
        self._folder_of = folder_of

    @property
    def deadline(self) -> datetime:
        remaining_s = self.started_at + self.facts.timeout_s - monotonic()
        return datetime.now(UTC) + timedelta(seconds=remaining_s)

    @property
    def artifact_store(self) -> ArtifactFolder:
        return self._folder_of()

    @property
    def traceparent(self) -> str:
        return "" if self.facts.trace is None else self.facts.trace.traceparent

    def add_artifact(self, artifact: Artifact) -> None:
        self.artifacts.append(artifact)

    def report_progress(self, fraction: float, message: str, reported_at: datetime) -> None:
        if not self.is_cancelled:
            self._on_progress(fraction, message, reported_at)

    def do_not_cache(self) -> None:
        self.is_cached = False


class LocalSkillRunner:
    """The `SkillRunner` port over functions in this process."""

    def __init__(
        self,
        skills: Iterable[Skill] | Mapping[str, Callable[..., Any]],
        *,
        artifact_dir: Path | None = None,
        is_inline: bool = False,
        threads_max: int = 32,
    ) -> None:
        """Offer the skills.

        Args:
            skills: decorated ones, or plain functions `f(input, context)` by skill id (version "1", no limit).
            artifact_dir: where artifacts go; None means that skills cannot publish or read.
            is_inline: run plain functions on the event loop instead of in a thread: fast, but they must not block.
            threads_max: worker threads for plain functions.
        """
        offered = skills.items() if isinstance(skills, Mapping) else ((each.skill_id, each) for each in skills)
        self._skills = {key: _as_skill(key, each) for key, each in offered}
        self._infos = {key: _info(each) for key, each in self._skills.items()}
        self._availability = {
            SkillId(key): SkillAvailability(has_target=True, is_catalogue_known=True, info=info)
            for key, info in self._infos.items()
        }
        self._folder = None if artifact_dir is None else ArtifactFolder(artifact_dir)
        self._is_inline = is_inline
        self._threads = ThreadPoolExecutor(threads_max, thread_name_prefix="skill")
        self._slots: dict[str, anyio.Semaphore] = {
            key: anyio.Semaphore(each.max_concurrency, fast_acquire=True)
            for key, each in self._skills.items()
            if each.max_concurrency
        }

    async def execute(self, call: SkillCall, on_progress: ProgressListener) -> Outcome:
        """Run one attempt to its end (see the port)."""
        chosen = self._skills.get(call.skill_id)
        if chosen is None:
            return Failed(failure=Failure(code=SKILL_UNAVAILABLE, message=f"There is no skill {call.skill_id} here"))
        loop = asyncio.get_running_loop()

        def tell(fraction: float, message: str, reported_at: datetime) -> None:
            loop.call_soon_threadsafe(on_progress, fraction, message, reported_at)  # skills have threads of their own

        handle = _LocalCall(call, tell, self._artifact_store)
        # Not anyio's cancel scope: with it a call of a function that does nothing took 12.2 µs, with this 10.3 µs.
        alarm = asyncio.timeout(call.timeout_s)
        try:
            if self._is_inline and not chosen.is_async:
                # Nothing can interrupt it, so there is no alarm to set.
                return _succeeded(chosen, handle, _call_function(chosen, orjson.loads(call.input_json), handle))
            async with alarm:
                output_json = await self._run(chosen, call, handle)
            return _succeeded(chosen, handle, output_json)
        except (Exception, SkillCancelledError, SystemExit) as problem:
            return _TIMED_OUT if alarm.expired() else _failed(problem, call)
        finally:
            handle.is_cancelled = True

    def execute_at_once(self, call: SkillCall) -> Outcome | None:
        """Run an inline plain function; None for those that wait, or that have a limit."""
        chosen = self._skills.get(call.skill_id) if self._is_inline else None
        if chosen is None or chosen.is_async or chosen.max_concurrency:
            return None
        handle = _LocalCall(call, _no_progress, self._artifact_store)
        try:
            return _succeeded(chosen, handle, _call_function(chosen, orjson.loads(call.input_json), handle))
        except (Exception, SkillCancelledError, SystemExit) as problem:
            return _failed(problem, call)

    async def abandon(self, call: SkillCall) -> None:
        """Nothing is left to stop: a call here ends with its task."""

    def availability(self, skill_id: SkillId) -> SkillAvailability:
        """What is known of a skill, at once; the list of functions is always known."""
        return self._availability.get(skill_id, _NOT_OFFERED)

    def catalogue(self) -> Mapping[str, SkillInfo]:
        """The functions offered, by id."""
        return self._infos

    def close(self) -> None:
        """No more calls; threads end with the functions they run."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, chosen: Skill, call: SkillCall, handle: _LocalCall) -> bytes:
        value = orjson.loads(call.input_json)
        slot = self._slots.get(chosen.skill_id)
        if chosen.is_async:
            if slot is None:
                return encode_output(await chosen.function(value, AsyncSkillContext(handle)))
            async with slot:
                return encode_output(await chosen.function(value, AsyncSkillContext(handle)))
        function = partial(_call_function, chosen, value, handle)
        return await self._in_thread(function, slot)

    async def _in_thread(self, function: Callable[[], bytes], slot: anyio.Semaphore | None) -> bytes:
        """Give up on cancellation, but free the slot only when the thread is done."""
        if slot is not None:
            await slot.acquire()
        future = self._threads.submit(function)
        if slot is not None:
            future.add_done_callback(partial(_release, asyncio.get_running_loop(), slot))
        return await asyncio.wrap_future(future)

    def _artifact_store(self) -> ArtifactFolder:
        if self._folder is None:
            raise SkillError("ARTIFACTS_NOT_CONFIGURED", "This runner has no artifact folder")
        return self._folder


def _no_progress(fraction: float, message: str, reported_at: datetime) -> None:
    """Nobody sees progress of what is done before anyone could look."""


def _call_function(chosen: Skill, value: dict[str, Any], handle: _LocalCall) -> bytes:
    return encode_output(chosen.function(value, SkillContext(handle)))


def _release(loop: asyncio.AbstractEventLoop, slot: anyio.Semaphore, future: Future[bytes]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(slot.release)


def _succeeded(chosen: Skill, handle: _LocalCall, output_json: bytes) -> Succeeded:
    return Succeeded(
        output_json=output_json,
        artifacts=tuple(_produced(artifact) for artifact in handle.artifacts) if handle.artifacts else (),
        do_not_cache=not handle.is_cached,
        skill_version=chosen.version,
        cache_version=chosen.cache_version,
        worker_id=_WORKER_ID,
    )


def _failed(problem: BaseException, call: SkillCall) -> Failed:
    failed = failure_of(problem, call)
    failure = Failure(
        code=failed.code,
        message=failed.message,
        retryable=failed.retryable,
        details=None if failed.details is None else dict(failed.details),
    )
    return Failed(failure=failure, retry_after_s=failed.retry_after_s, worker_id=_WORKER_ID)


def _produced(artifact: Artifact) -> ProducedArtifact:
    return ProducedArtifact(
        media_type=artifact.media_type,
        uri=artifact.uri,
        content_hash=artifact.content_hash,
        size_bytes=artifact.size_bytes,
        filename=artifact.filename,
        metadata=dict(artifact.metadata),
        made_from=artifact.made_from,
    )


def _as_skill(skill_id: str, function: Skill | Callable[..., Any]) -> Skill:
    if isinstance(function, Skill):
        return function
    return skill(skill_id, version="1", default_timeout_s=None, max_concurrency=0)(function)


def _info(each: Skill) -> SkillInfo:
    return SkillInfo(
        skill_id=SkillId(each.skill_id),
        version=each.version,
        cache_version=each.cache_version,
        description=each.description,
        max_concurrency=each.max_concurrency,
        default_timeout_s=each.default_timeout_s,
        input_schema=None if each.input_schema is None else dict(each.input_schema),
        output_schema=None if each.output_schema is None else dict(each.output_schema),
    )
