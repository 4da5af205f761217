"""Turns a function into a skill: the decorator and what it makes."""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runengine_client.skills.context import AsyncSkillContext, SkillContext

JsonObject = dict[str, Any]
SkillFunction = (
    Callable[[JsonObject, SkillContext], Mapping[str, Any]]
    | Callable[[JsonObject, AsyncSkillContext], Awaitable[Mapping[str, Any]]]
)

_SKILL_ID = re.compile(r"[a-z][a-z0-9_.]{0,127}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """A function that can be served; calling it calls the function, which is what its own tests want."""

    skill_id: str
    version: str
    cache_version: str
    function: Callable[..., Any]
    is_async: bool
    default_timeout_s: float | None = None
    max_concurrency: int = 0
    description: str = ""
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None

    def __call__(self, input: JsonObject, context: Any) -> Any:  # noqa: A002 - the contract's own word
        """What the function returns: the output, or an awaitable of it."""
        return self.function(input, context)


def skill(
    skill_id: str,
    *,
    version: str = "1.0.0",
    cache_version: str | None = None,
    default_timeout_s: float | None = 120.0,
    max_concurrency: int = 2,
    description: str = "",
    input_schema: Mapping[str, Any] | None = None,
    output_schema: Mapping[str, Any] | None = None,
) -> Callable[[SkillFunction], Skill]:
    """The decorated function `f(input, context) -> JSON object` becomes a `Skill`.

    A plain function runs in a worker thread and gets a `SkillContext`; an `async def` runs on the event loop and gets
    an `AsyncSkillContext`.

    Args:
        skill_id: `[a-z][a-z0-9_.]{0,127}`, such as `image.generate_intro`.
        version: any text; a new one alone invalidates no cache entry if cache_version is given.
        cache_version: outputs are compatible as long as it stays equal; None means version.
        default_timeout_s: seconds, for steps that name no timeout; None leaves it to the engine (60 s).
        max_concurrency: calls at a time that one server runs; 0 is no limit but the server's.
        description: what it does, for a person; empty takes the docstring's first line.
        input_schema: JSON Schema of the input; the engine checks it before it calls.
        output_schema: JSON Schema of the output; the engine refuses an output that departs from it.

    Raises:
        ValueError: the id, the timeout or the concurrency is out of range.
    """
    if not _SKILL_ID.match(skill_id):
        raise ValueError(f"a skill id is [a-z][a-z0-9_.]{{0,127}}: {skill_id!r}")
    if default_timeout_s is not None and not default_timeout_s > 0:
        raise ValueError("default_timeout_s must be above zero")
    if max_concurrency < 0:
        raise ValueError("max_concurrency must be 0 or more")

    def decorate(function: SkillFunction) -> Skill:
        docstring = (inspect.getdoc(function) or "").partition("\n")[0]
        return Skill(
            skill_id=skill_id,
            version=version,
            cache_version=cache_version or version,
            function=function,
            is_async=inspect.iscoroutinefunction(function),
            default_timeout_s=default_timeout_s,
            max_concurrency=max_concurrency,
            description=description or docstring,
            input_schema=input_schema,
            output_schema=output_schema,
        )

    return decorate
