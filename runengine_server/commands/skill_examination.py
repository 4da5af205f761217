"""Whether every skill target is there, which skills it offers, and whether they are those that it is mapped for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from runengine_server.adapters.skills.targets import Endpoint, SkillTarget, parse_targets, parse_tokens
from runengine_server.commands.configured_files import routed
from runengine_server.commands.findings import Finding, failed, ok, warning
from runengine_server.commands.reachability import UnreachableError, require_reachable
from runengine_server.config import Settings
from runengine_server.domain.ids import SkillId
from runengine_server.ports.skill_runner import SkillInfo

_ANY_SKILL: Final = SkillId("runengine.doctor")
_Catalogue = Mapping[str, SkillInfo] | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What the targets offer together, by skill id; `is_complete` when all of them listed theirs."""

    findings: Sequence[Finding]
    skills: Mapping[str, SkillInfo]
    is_complete: bool


async def examine_skills(settings: Settings) -> Offered:
    """What there is to say about the targets of RUNENGINE_SKILLS, which must be well-formed."""
    targets = parse_targets(settings.skills)
    tokens = parse_tokens(settings.skill_tokens)
    by_endpoint: dict[Endpoint, list[SkillTarget]] = {}
    for target in targets:
        by_endpoint.setdefault(target.endpoint, []).append(target)
    catalogues: dict[Endpoint, _Catalogue] = {}

    async def ask(endpoint: Endpoint) -> None:
        catalogues[endpoint] = await _catalogue(endpoint, tokens.get(endpoint))

    async with anyio.create_task_group() as tasks:
        for endpoint in by_endpoint:
            tasks.start_soon(ask, endpoint)
    findings: list[Finding] = []
    skills: dict[str, SkillInfo] = {}
    for endpoint, mapped in by_endpoint.items():
        catalogue = catalogues[endpoint]
        if isinstance(catalogue, str):
            findings.append(failed(f"Skills: {_written(endpoint)}", catalogue, _advice(mapped)))
            continue
        if catalogue is None:
            findings.append(ok(f"Skills: {_written(endpoint)}", "answers; lists no skills, and is asked for any"))
            continue
        findings.extend(_offers(endpoint, mapped, catalogue))
        patterns = [each.pattern for each in mapped]
        skills |= {name: info for name, info in catalogue.items() if any(_matches(one, name) for one in patterns)}
    is_complete = all(isinstance(each, Mapping) for each in catalogues.values())
    return Offered(findings=findings, skills=skills, is_complete=is_complete)


async def _catalogue(endpoint: Endpoint, token: str | None) -> _Catalogue:
    """What a target offers, None where it takes whatever it is asked for, or why that cannot be said."""
    try:
        await require_reachable(endpoint.address)
    except UnreachableError as error:
        return str(error)
    everything = SkillTarget(pattern="*", endpoint=endpoint)
    async with routed([everything], {endpoint: token} if token else {}) as runner:
        known = runner.availability(_ANY_SKILL)
        if not known.is_catalogue_known:
            return "something listens there, but ListSkills gets no answer"
        return None if known.info is not None and not runner.catalogue() else runner.catalogue()


def _offers(endpoint: Endpoint, mapped: Sequence[SkillTarget], catalogue: Mapping[str, SkillInfo]) -> Iterator[Finding]:
    check = f"Skills: {_written(endpoint)}"
    if not catalogue:
        yield warning(check, "answers, and offers no skill", "register skills in that process")
        return
    yield ok(check, "; ".join(_described(catalogue[name]) for name in sorted(catalogue)))
    for target in mapped:
        if not any(_matches(target.pattern, name) for name in catalogue):
            found = f"{target.pattern} leads here, but no skill offered here is called so"
            yield warning(check, found, "correct the pattern in RUNENGINE_SKILLS, or start the skills here")


def _described(info: SkillInfo) -> str:
    limits = [f"at most {info.max_concurrency} at once"] if info.max_concurrency else []
    if info.default_timeout_s:
        limits.append(f"{info.default_timeout_s:g} s each")
    return f"{info.skill_id} {info.version}".rstrip() + (f" ({', '.join(limits)})" if limits else "")


def _matches(pattern: str, skill_id: str) -> bool:
    return skill_id.startswith(pattern[:-1]) if pattern.endswith("*") else skill_id == pattern


def _written(endpoint: Endpoint) -> str:
    scheme = endpoint.transport.value
    return endpoint.address if endpoint.address.startswith(f"{scheme}:") else f"{scheme}://{endpoint.address}"


def _advice(mapped: Sequence[SkillTarget]) -> str:
    patterns = ", ".join(each.pattern for each in mapped)
    return f"start the skill server of {patterns}, or correct RUNENGINE_SKILLS (grpcs:// where it has TLS)"
