"""Examines what a configuration leads to: databases, skills, files and addresses, all at once; changes nothing."""

from collections.abc import Awaitable, Callable, Sequence

import anyio

from runengine_server.commands.addresses import addresses_of
from runengine_server.commands.cache_examination import examine_cache
from runengine_server.commands.configuration import Configuration
from runengine_server.commands.database_examination import examine_database
from runengine_server.commands.file_examination import (
    examine_roots,
    examine_store,
    examine_tokens,
    examine_workflows,
)
from runengine_server.commands.findings import Finding, Level
from runengine_server.commands.key_examination import examine_keys
from runengine_server.commands.port_examination import examine_address
from runengine_server.commands.skill_examination import examine_skills

_Examination = Callable[[], Awaitable[Sequence[Finding]]]


async def examine_surroundings(configuration: Configuration) -> list[Finding]:
    """Findings on everything that the configuration says, in the order in which an engine needs it.

    What the configuration says wrongly is left out: its own findings say what is wrong there.
    """
    examinations = _examinations(configuration)
    found: list[Sequence[Finding]] = [() for _ in examinations]

    async def examine(place: int, examination: _Examination) -> None:
        found[place] = await examination()

    async with anyio.create_task_group() as tasks:
        for place, examination in enumerate(examinations):
            tasks.start_soon(examine, place, examination)
    return [finding for findings in found for finding in findings]


def _examinations(configuration: Configuration) -> list[_Examination]:
    settings = configuration.settings
    broken = {finding.check for finding in configuration.findings if finding.level is Level.FAILED}

    async def skills_and_workflows() -> Sequence[Finding]:
        findings: list[Finding] = []
        offered = None
        if not broken & {"RUNENGINE_SKILLS", "RUNENGINE_SKILL_TOKENS"}:
            answer = await examine_skills(settings)
            findings.extend(answer.findings)
            offered = answer.skills.keys() if answer.is_complete else None
        if settings.workflow_dir is not None and "RUNENGINE_WORKFLOW_DIR" not in broken:
            findings.extend(examine_workflows(settings.workflow_dir, offered))
        return findings

    async def tokens() -> Sequence[Finding]:
        if settings.tokens_file is None or "RUNENGINE_TOKENS_FILE" in broken:
            return ()
        return list(examine_tokens(settings.tokens_file))

    async def addresses() -> Sequence[Finding]:
        listening = addresses_of(settings, without=configuration.unusable)
        return [await examine_address(each, has_tls=settings.tls_cert is not None) for each in listening]

    chosen: list[_Examination] = []
    if "DATABASE_URL" not in broken:
        chosen.append(lambda: examine_database(settings))
    if settings.listen_database_url is not None and "RUNENGINE_LISTEN_DATABASE_URL" not in broken:
        chosen.append(lambda: examine_database(settings, "RUNENGINE_LISTEN_DATABASE_URL"))
    redis_url = settings.redis_url
    if redis_url is not None and "REDIS_URL" not in broken:
        chosen.append(lambda: examine_cache(redis_url))
    chosen += [skills_and_workflows, tokens]
    jwks_url = settings.jwt_jwks_url
    if jwks_url is not None and "RUNENGINE_JWT_JWKS_URL" not in broken:
        chosen.append(lambda: examine_keys(jwks_url))
    if "RUNENGINE_ARTIFACT_ROOTS" not in broken:
        chosen.append(lambda: examine_roots(settings.artifact_roots))
    if settings.artifact_store and "RUNENGINE_ARTIFACT_STORE" not in broken:
        chosen.append(lambda: examine_store(settings.artifact_store))
    return [*chosen, addresses]
