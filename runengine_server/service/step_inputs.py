"""Derives the input a step had from payload, definition and producers' outputs, checked by its hash."""

from typing import cast

from runengine_server.domain.canonical_json import parse_json
from runengine_server.domain.ids import Place, RunKey, StepId, StepNo
from runengine_server.domain.json_value import JsonObject
from runengine_server.domain.run import Step
from runengine_server.planner.compiled import CompiledWorkflow
from runengine_server.planner.input_changes import TracedInput
from runengine_server.planner.step_input import (
    RunScope,
    StepInput,
    StepValue,
    change_value,
    resolve_input,
    stored_value,
)
from runengine_server.ports.run_reader import RunIdentity
from runengine_server.ports.run_store import RunFacts
from runengine_server.ports.step_history import StepOutcome
from runengine_server.service.run_lookup import ReadRuns

VALUES_BYTES_MAX = 32 * 2**20
"""Beyond it what was loaded is forgotten before the next input is derived."""


class StepInputs:
    """Inputs of one run's steps, for one request: what several steps read is loaded once."""

    def __init__(self, read: ReadRuns, run: RunIdentity, compiled: CompiledWorkflow) -> None:
        """Load nothing yet."""
        self._read = read
        self._run = run
        self._compiled = compiled
        self._facts: dict[RunKey, RunFacts | None] = {}
        self._values: dict[Place, StepValue] = {}
        self._values_bytes = 0

    async def traced(self, number: StepNo, step: Step | StepOutcome) -> TracedInput | None:
        """The input whose hash the step carries, with what it was resolved from; None when it cannot be derived.

        A reused step's input is its producer's, which a selector that reads `run` resolves differently here: then it
        is derived where it was executed. A step that carries no hash yet gets the input it would have now.
        """
        found = await self._derive(self._run.key, self._compiled, number, step.input_hash)
        if found is None and step.source_run_id not in (None, self._run.run_id):
            found = await self._derive_at_producer(self._compiled.workflow.steps[number].step_id, step)
        return found

    async def _derive_at_producer(self, step_id: StepId, step: Step | StepOutcome) -> TracedInput | None:
        assert step.source_run_id is not None
        producer = await self._read.reader.find(self._run.tenant, step.source_run_id)
        if producer is None:
            return None
        compiled = await self._read.workflows.compiled(producer.workflow_digest)
        number = compiled.step_no.get(step_id)
        if number is None:
            return None
        return await self._derive(producer.key, compiled, number, step.input_hash)

    async def _derive(
        self, run: RunKey, compiled: CompiledWorkflow, number: StepNo, input_hash: str
    ) -> TracedInput | None:
        facts = await self._load_facts(run)
        if facts is None:
            return None
        places = {
            step_id: (run, compiled.step_no[StepId(step_id)]) for step_id in compiled.selectors[number].reads.step_ids
        }
        await self._load_values(list(places.values()))
        if any(place not in self._values for place in places.values()):
            return None
        values = {step_id: self._values[place] for step_id, place in places.items()}
        scope = RunScope(
            trigger=facts.payload,
            change=change_value(facts.change),
            run={"id": facts.run_id, "workflowName": facts.workflow_name},
            value_of=values.__getitem__,
        )
        resolved = resolve_input(compiled, number, scope)
        if not isinstance(resolved, StepInput) or resolved.hash != (input_hash or resolved.hash):
            return None
        return TracedInput(
            value=cast(JsonObject, parse_json(resolved.body)),
            size_bytes=len(resolved.body),
            selector=compiled.selectors[number],
            scope=scope,
            values=values,
        )

    async def _load_facts(self, run: RunKey) -> RunFacts | None:
        if run not in self._facts:
            self._facts[run] = (await self._read.store.facts([run])).get(run)
        return self._facts[run]

    async def _load_values(self, places: list[Place]) -> None:
        if self._values_bytes > VALUES_BYTES_MAX:
            self._values.clear()
            self._values_bytes = 0
        missing = [place for place in places if place not in self._values]
        if missing:
            stored = await self._read.store.outputs(missing)
            self._values.update(
                (place, stored_value(output.body, output.artifacts)) for place, output in stored.items()
            )
            self._values_bytes += sum(len(output.body) for output in stored.values())
