"""What can be wrong with a step by itself: ids, policies, times."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from runengine_server.domain.errors import FieldViolation
from runengine_server.domain.ids import SkillId, StepId, StepNo
from runengine_server.domain.workflow import CachePolicy, RetryPolicy, StepDefinition

ATTEMPTS_MAX: Final = 20
BACKOFF_MS_MAX: Final = 24 * 3_600_000
HOT_TTL_S_MIN: Final = 24 * 3600
HOT_TTL_S_MAX: Final = 48 * 3600
TIMEOUT_S_MIN: Final = 0.001
TIMEOUT_S_MAX: Final = 7 * 24 * 3600.0
CODES_MAX: Final = 64

_STEP_ID = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SKILL_ID = re.compile(r"[a-z][a-z0-9_.]{0,127}")
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def step_violations(
    steps: Sequence[StepDefinition], step_no: Mapping[StepId, StepNo], offers: Callable[[SkillId], bool]
) -> Iterator[FieldViolation]:
    """Yield what is wrong with the steps one by one, in definition order.

    Args:
        steps: in definition order.
        step_no: the first step of each id.
        offers: whether a configured target pattern matches a skill id; asked once for each.
    """
    offered: dict[SkillId, bool] = {}
    for number, step in enumerate(steps):
        path = f"steps[{number}]"
        if not _STEP_ID.fullmatch(step.step_id):
            yield FieldViolation(field=f"{path}.stepId", description=f"must match {_STEP_ID.pattern}")
        if step_no[step.step_id] != number:
            description = f"'{step.step_id}' is already the id of steps[{step_no[step.step_id]}]"
            yield FieldViolation(field=f"{path}.stepId", description=description)
        if not _SKILL_ID.fullmatch(step.skill_id):
            yield FieldViolation(field=f"{path}.skillId", description=f"must match {_SKILL_ID.pattern}")
        else:
            if step.skill_id not in offered:
                offered[step.skill_id] = offers(step.skill_id)
            if not offered[step.skill_id]:
                yield FieldViolation(field=f"{path}.skillId", description=_unmatched(step.skill_id))
        if not is_unicode(step.description):
            yield FieldViolation(field=f"{path}.description", description="contains a lone surrogate")
        if step.timeout_s is not None and not TIMEOUT_S_MIN <= step.timeout_s <= TIMEOUT_S_MAX:
            description = f"must be above zero and at most {TIMEOUT_S_MAX:.0f} s (7 days); it is {step.timeout_s:g} s"
            yield FieldViolation(field=f"{path}.timeout", description=description)
        yield from _cache_violations(f"{path}.cachePolicy", step.cache_policy)
        yield from _retry_violations(f"{path}.retryPolicy", step.retry_policy)


def is_unicode(text: str) -> bool:
    """Tell whether a text has a UTF-8 form, that is, no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_plain_text(text: str, chars_max: int) -> bool:
    """Tell whether a text is short enough and has neither control characters nor lone surrogates."""
    return len(text) <= chars_max and is_unicode(text) and not any(ord(char) < 32 or ord(char) == 127 for char in text)


def _unmatched(skill_id: SkillId) -> str:
    return (
        f"SKILL_UNREGISTERED: no skill target pattern matches '{skill_id}'; "
        "correct the id or have the operator configure a target for it"
    )


def _cache_violations(path: str, policy: CachePolicy) -> Iterator[FieldViolation]:
    if not HOT_TTL_S_MIN <= policy.hot_ttl_s <= HOT_TTL_S_MAX:
        description = f"must be 24 h to 48 h ({HOT_TTL_S_MIN} to {HOT_TTL_S_MAX} s); it is {policy.hot_ttl_s} s"
        yield FieldViolation(field=f"{path}.hotTtl", description=description)


def _retry_violations(path: str, policy: RetryPolicy) -> Iterator[FieldViolation]:
    if not 1 <= policy.max_attempts <= ATTEMPTS_MAX:
        description = f"must be 1 to {ATTEMPTS_MAX}; it is {policy.max_attempts}"
        yield FieldViolation(field=f"{path}.maxAttempts", description=description)
    if not 1 <= policy.backoff_ms <= BACKOFF_MS_MAX:
        description = f"must be 1 to {BACKOFF_MS_MAX} ms (24 h); it is {policy.backoff_ms}"
        yield FieldViolation(field=f"{path}.backoffMs", description=description)
    if not policy.backoff_ms <= policy.max_backoff_ms <= BACKOFF_MS_MAX:
        description = (
            f"must be backoffMs ({policy.backoff_ms}) to {BACKOFF_MS_MAX} ms (24 h); it is {policy.max_backoff_ms}"
        )
        yield FieldViolation(field=f"{path}.maxBackoffMs", description=description)
    if len(policy.non_retryable_codes) > CODES_MAX:
        yield FieldViolation(field=f"{path}.nonRetryableCodes", description=f"must be at most {CODES_MAX}")
    for index, code in enumerate(policy.non_retryable_codes[:CODES_MAX]):
        if not _CODE.fullmatch(code):
            description = f"must be upper snake case ({_CODE.pattern}), as in CONTENT_REFUSED"
            yield FieldViolation(field=f"{path}.nonRetryableCodes[{index}]", description=description)
