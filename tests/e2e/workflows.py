"""Small workflows over the scripted skills."""

from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.workflow import WorkflowBuilder, expression

DEMO = "demo"


def demo() -> workflow_pb2.Workflow:
    """A plan, music and an intro made from it, and a mix of the music; the music can be changed."""
    return (
        WorkflowBuilder(DEMO, version="1.0.0", trigger_schema={"type": "object", "required": ["brief"]})
        .step("plan", skill="t.echo", input={"brief": expression("trigger.brief")})
        .step(
            "music",
            skill="t.echo",
            needs=["plan"],
            input={"plan": expression("steps.plan.output"), "style": expression('trigger.?style.orValue("calm")')},
        )
        .step("intro", skill="t.echo", needs=["plan"], input={"plan": expression("steps.plan.output")})
        .step("mix", skill="t.echo", needs=["music"], input={"music": expression("steps.music.output")})
        .change("music.update", seeds=["music"])
        .change("everything", seeds=["*"], cache_mode="refresh")
        .build()
    )


def gated(name: str = "gated", *, timeout: str = "60s") -> workflow_pb2.Workflow:
    """A step that waits for the gate `trigger.gate`, and one after it."""
    return (
        WorkflowBuilder(name, version="1.0.0")
        .step("wait", skill="t.gated", input={"gate": expression("trigger.gate")}, timeout=timeout)
        .step("after", skill="t.echo", needs=["wait"], input={"gate": expression("steps.wait.output.gate")})
        .build()
    )


def single(name: str, *, skill: str, **options: object) -> workflow_pb2.Workflow:
    """One step `only` that hands the trigger's `given` to a skill."""
    options.setdefault("input", {"given": expression("trigger.given")})
    return WorkflowBuilder(name, version="1.0.0").step("only", skill=skill, **options).build()  # type: ignore[arg-type]
