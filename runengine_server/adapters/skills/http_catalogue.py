"""Knows which skills one HTTP runner offers: asks every 30 s, and more often while it is away."""

import logging
from collections.abc import Mapping
from typing import Final

import anyio

from runengine_client.pb.runengine.v1 import skill_runner_pb2
from runengine_server.adapters.skills.artifact_reader import ProtocolError
from runengine_server.adapters.skills.http_answers import UnacceptableOutputError, off_loop, parse_message, read_object
from runengine_server.adapters.skills.http_transport import (
    AnswerTooLargeError,
    BrokenOffError,
    HttpTransport,
    NotConnectedError,
)
from runengine_server.adapters.skills.runner_catalogue import SKILLS_MAX, usable_skills
from runengine_server.domain.ids import SkillId
from runengine_server.domain.json_value import JsonValue
from runengine_server.ports.skill_runner import SkillAvailability, SkillInfo

_LIST_WITHIN_S: Final = 5.0
_ABSENT_S: Final = 0.5
_TIMEOUT_MS_MAX: Final = 7 * 24 * 3600 * 1000
_UNREADABLE: Final = (NotConnectedError, BrokenOffError, AnswerTooLargeError, ProtocolError, UnacceptableOutputError)
# What a service answers that does not list its skills.
_NO_LIST: Final = frozenset({404, 405, 501})

_log = logging.getLogger(__name__)


class HttpCatalogue:
    """The last list a runner gave. One without a list is taken to offer whatever it is asked for, in one version."""

    def __init__(self, transport: HttpTransport, *, refresh_interval_s: float) -> None:
        """Start with nothing known."""
        self.skills: Mapping[str, SkillInfo] = {}
        self.is_known = False
        self.is_assumed = False
        self.asked = anyio.Event()
        self._transport = transport
        self._refresh_interval_s = refresh_interval_s

    def availability(self, skill_id: SkillId) -> SkillAvailability:
        """What is known of a skill, at once."""
        info = self.skills.get(skill_id)
        if self.is_assumed:
            info = SkillInfo(skill_id=skill_id, version="", cache_version="")
        return SkillAvailability(has_target=True, is_catalogue_known=self.is_known, info=info)

    async def keep_fresh(self) -> None:
        """Refresh for ever."""
        while True:
            is_fresh = await self.refresh()
            await anyio.sleep(self._refresh_interval_s if is_fresh else min(_ABSENT_S, self._refresh_interval_s))

    async def refresh(self) -> bool:
        """The list is what the runner says now; false, and the old list, when it cannot be read."""
        try:
            return await self._read()
        except (*_UNREADABLE, TimeoutError) as problem:
            level = logging.WARNING if isinstance(problem, ProtocolError) else logging.DEBUG
            _log.log(level, "Skill catalogue cannot be read: %s", str(problem) or type(problem).__name__)
            return False
        finally:
            self.asked.set()

    async def _read(self) -> bool:
        with anyio.fail_after(_LIST_WITHIN_S):
            answer = await self._transport.send("GET", "/skills")
        if answer.status in _NO_LIST:
            self.is_known = self.is_assumed = True
            return True
        if answer.status != 200:
            return False
        skills = await off_loop(answer.body, lambda: dict(usable_skills(_listed(answer.body))))
        # What stayed as it was stays the same object: whoever compiled a schema knows it again.
        known = self.skills
        self.skills = {key: known[key] if known.get(key) == info else info for key, info in skills.items()}
        self.is_known, self.is_assumed = True, False
        return True


def _listed(body: bytes) -> list[skill_runner_pb2.Skill]:
    """The skills of a list, as the gRPC contract's messages.

    Raises:
        ProtocolError: it is no list of skills.
    """
    listed = read_object(body).get("skills")
    if not isinstance(listed, list):
        raise ProtocolError("The runner's list has no `skills`")
    return [_skill(skill) for skill in listed[:SKILLS_MAX]]


def _skill(document: JsonValue) -> skill_runner_pb2.Skill:
    skill = skill_runner_pb2.Skill()
    parse_message(document, skill, "a skill")
    timeout_ms = document.get("defaultTimeoutMs") if isinstance(document, dict) else None
    if isinstance(timeout_ms, int) and 0 < timeout_ms <= _TIMEOUT_MS_MAX:
        skill.default_timeout.FromMilliseconds(timeout_ms)
    return skill
