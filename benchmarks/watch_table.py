"""Watchers on one busy run: how soon they hear of a commit, what each costs in memory, what reaches them in all."""

import argparse
import asyncio
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.bench import Bench
from benchmarks.crowd import attached
from benchmarks.databases import Databases
from benchmarks.engine import NOOP
from benchmarks.figures import Figures, Say
from benchmarks.measurement import percentile
from benchmarks.process_memory import peak_of, resident_bytes
from benchmarks.result import Result
from benchmarks.stage import LOCAL, measure_figures, opened_bench, run_async
from benchmarks.workload import DIGEST_SKILL
from runengine_client.pb.runengine.v1 import workflow_pb2
from runengine_client.skills import AsyncSkillContext, skill
from runengine_client.workflow import WorkflowBuilder, expression
from runengine_server.domain.ids import RunId
from runengine_server.service.messages import TriggerRequest

_WORKFLOW: Final = "bench.watched"
_GATE_SKILL: Final = "bench.gate"
# Side by side, so that a commit has some steps, but the run has many commits.
_LANES: Final = 10
# More of them take a minute: once is enough.
_REPEATED_MAX: Final = 1000
_LIMITS: Final = {"RUNENGINE_WATCHES_MAX": "20000", "RUNENGINE_WATCHES_PER_TENANT_MAX": "20000"}


def measure(databases: Databases, options: argparse.Namespace, say: Say) -> Result:
    """The run has been watched by each number of watchers, after a warm-up with one."""
    figures = Figures(say)
    return run_async(measure_figures(databases, figures, _measure(databases, options, figures)))


@dataclass(slots=True)
class _Gate:
    """Holds the run back until every watcher has attached, and remembers when its steps were committed."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    committed_at: dict[str, float] = field(default_factory=dict)

    def on_step(self, run_id: RunId, step_id: str, at: float) -> None:
        self.committed_at[step_id] = at

    def renew(self) -> None:
        self.opened.clear()
        self.committed_at.clear()


async def _measure(databases: Databases, options: argparse.Namespace, figures: Figures) -> None:
    gate = _Gate()

    @skill(_GATE_SKILL, version="1", max_concurrency=0, default_timeout_s=600)
    async def wait_at_gate(given: dict[str, Any], context: AsyncSkillContext) -> dict[str, Any]:
        """Returns when the gate is open."""
        await gate.opened.wait()
        return {"made": 0}

    skills: dict[str, Callable[..., Any]] = {**NOOP, _GATE_SKILL: wait_at_gate}
    with TemporaryDirectory(prefix="runengine-bench-") as folder:
        async with opened_bench(
            databases, [_workflow(options.steps)], settings={**LOCAL, **_LIMITS}, skills=skills, on_step=gate.on_step
        ) as bench:
            await _watched(bench, gate, 1, Path(folder), before=0)
            # What earlier watchers used, later ones may use again: all are compared with a process that had none.
            before = resident_bytes(os.getpid())
            for watchers in options.watchers:
                repeats = options.reps if watchers <= _REPEATED_MAX else 1
                for _ in range(repeats):
                    gate.renew()
                    found = await _watched(bench, gate, watchers, Path(folder), before=before)
                    for (what, unit), value in found.items():
                        figures.add(_counted(watchers), what, unit, value)


async def _watched(
    bench: Bench, gate: _Gate, watchers: int, folder: Path, *, before: int
) -> dict[tuple[str, str], float]:
    request = TriggerRequest(workflow_name=_WORKFLOW, trigger_payload={"run": os.urandom(8).hex()})
    run_id = (await bench.engine.services.trigger_run(bench.caller, request)).run_id
    assert run_id is not None, "it was started"
    pid = os.getpid()
    with ExitStack() as resources:
        crowd = await attached(resources, folder, bench.target, watchers, [run_id])
        waiting = resident_bytes(pid)
        async with peak_of(pid) as peak:
            gate.opened.set()
            seen = await crowd.seen()
    await bench.ends.of([run_id])
    first = min(gate.committed_at.values())
    latencies = [seen.heard_at[step] - at for step, at in gate.committed_at.items()]
    found = {
        ("commit to client, p50", "ms"): percentile(latencies, 50) * 1e3,
        ("commit to client, p99", "ms"): percentile(latencies, 99) * 1e3,
        ("events delivered", "events/s"): seen.events / (seen.ended_at - first),
        ("events in a message", "events"): seen.events / seen.messages,
        ("ended as stalled, resumed by the client", "watches"): seen.resumed,
        ("engine with the watchers, at most", "MB"): peak.value / 1e6,
    }
    if watchers > 1:  # one is lost in what the process itself allocates and frees
        found |= {
            ("memory of a waiting watcher", "KB"): (waiting - before) / watchers / 1e3,
            ("growth while events are delivered, a watcher", "KB"): (peak.value - waiting) / watchers / 1e3,
        }
    return found


def _counted(watchers: int) -> str:
    return f"{watchers:,} watcher{'' if watchers == 1 else 's'}"


def _workflow(steps: int) -> workflow_pb2.Workflow:
    builder = WorkflowBuilder(_WORKFLOW, version="1.0.0")
    builder.step("gate", skill=_GATE_SKILL, input={"run": expression("trigger.run")})
    for number in range(steps):
        need = f"s{number - _LANES}" if number >= _LANES else "gate"
        read = {"run": expression("trigger.run"), "from": expression(f"steps.{need}.output.made")}
        builder.step(f"s{number}", skill=DIGEST_SKILL, needs=[need], input=read)
    return builder.build()
