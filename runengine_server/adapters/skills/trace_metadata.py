"""The trace context of a skill call as headers, whichever protocol carries them."""

from collections.abc import Sequence

from runengine_server.ports.skill_runner import SkillCall


def trace_metadata(call: SkillCall) -> Sequence[tuple[str, str]]:
    """`traceparent`, and `tracestate` where there is one; nothing for a call that is not traced."""
    trace = call.trace
    if trace is None:
        return ()
    if not trace.tracestate:
        return (("traceparent", trace.traceparent),)
    return (("traceparent", trace.traceparent), ("tracestate", trace.tracestate))
