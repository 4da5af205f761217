"""Knows which skills one gRPC runner offers: asks every 30 s, and as soon as the runner is back."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import anyio
import grpc

from runengine_client.pb.runengine.v1 import skill_runner_pb2, skill_runner_pb2_grpc
from runengine_server.adapters.skills.struct_values import object_of, seconds_of
from runengine_server.domain.ids import SkillId
from runengine_server.ports.skill_runner import SkillInfo

SKILLS_MAX: Final = 10_000
TEXT_CHARACTERS_MAX: Final = 128
_LIST_WITHIN_S: Final = 5.0
# How often to try a runner that did not answer, and to look whether the connection is still there.
_ABSENT_S: Final = 0.5

_log = logging.getLogger(__name__)


class RunnerCatalogue:
    """The last list a runner gave; it stays when the runner cannot be reached."""

    def __init__(self, *, metadata: Sequence[tuple[str, str]], refresh_interval_s: float) -> None:
        """Start with nothing known.

        Args:
            metadata: what every request carries.
            refresh_interval_s: seconds between requests while all is well.
        """
        self.skills: Mapping[str, SkillInfo] = {}
        self.is_known = False
        self.supports_many = False
        self.asked = anyio.Event()
        self._metadata = tuple(metadata)
        self._refresh_interval_s = refresh_interval_s
        self._is_in_doubt = False

    def doubt(self, status: grpc.StatusCode) -> None:
        """A call ended with this status: if the runner went away or lacks the skill, its list is read again soon."""
        if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND):
            self._is_in_doubt = True

    async def refresh(self, stub: "skill_runner_pb2_grpc.SkillRunnerServiceAsyncStub") -> bool:
        """The list is what the runner says now; false, and the old list, when it cannot be read."""
        try:
            answer = await stub.ListSkills(
                skill_runner_pb2.ListSkillsRequest(), timeout=_LIST_WITHIN_S, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as problem:
            _log.debug("Skill catalogue cannot be read: %s", problem.code().name)
            return False
        finally:
            self.asked.set()
        # What stayed as it was stays the same object: whoever compiled a schema knows it again.
        known = self.skills
        self.skills = {
            skill_id: known[skill_id] if known.get(skill_id) == info else info
            for skill_id, info in usable_skills(answer.skills[:SKILLS_MAX])
        }
        self.supports_many = answer.supports_many
        self.is_known = True
        return True

    async def keep_fresh(
        self, channel: grpc.aio.Channel, stub: "skill_runner_pb2_grpc.SkillRunnerServiceAsyncStub"
    ) -> None:
        """Refresh for ever.

        The connection's state is polled: waiting for a change of state cannot be cancelled in grpc.aio without leaving
        a watch behind on the channel.
        """
        while True:
            self._is_in_doubt = False
            is_fresh = await self.refresh(stub)
            refresh_at = anyio.current_time() + self._refresh_interval_s
            while True:
                await anyio.sleep(min(_ABSENT_S, self._refresh_interval_s))
                is_connected = channel.get_state() is grpc.ChannelConnectivity.READY
                if not (is_fresh and is_connected) or self._is_in_doubt or anyio.current_time() >= refresh_at:
                    break


def usable_skills(skills: Iterable[skill_runner_pb2.Skill]) -> Iterator[tuple[str, SkillInfo]]:
    """Those with an id, versions that can be stored and schemas that are JSON; the others are logged and left out."""
    for skill in skills:
        texts = (skill.skill_id, skill.version, skill.cache_version)
        is_storable = all("\0" not in text and len(text) <= TEXT_CHARACTERS_MAX for text in texts)
        try:
            if not skill.skill_id or not is_storable:
                raise ValueError(f"id and versions must be text of at most {TEXT_CHARACTERS_MAX} characters")
            yield skill.skill_id, _info_of(skill)
        except ValueError as problem:
            _log.warning("Skill is left out of its runner's list: skillId=%.128r: %s", skill.skill_id, problem)


def _info_of(skill: skill_runner_pb2.Skill) -> SkillInfo:
    default_timeout_s = seconds_of(skill.default_timeout) if skill.HasField("default_timeout") else 0.0
    return SkillInfo(
        skill_id=SkillId(skill.skill_id),
        version=skill.version,
        cache_version=skill.cache_version or skill.version,
        description=skill.description,
        max_concurrency=max(0, skill.max_concurrency),
        default_timeout_s=default_timeout_s if default_timeout_s > 0 else None,
        input_schema=object_of(skill.input_schema) if skill.HasField("input_schema") else None,
        output_schema=object_of(skill.output_schema) if skill.HasField("output_schema") else None,
    )
