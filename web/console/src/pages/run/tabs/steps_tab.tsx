// All steps as a list that can be narrowed, for runs of any size.
import { useMemo, useRef } from "preact/hooks";
import type { Step, StepStatus } from "../../../api/types";
import { count, duration } from "../../../format";
import { useShortcuts } from "../../../keyboard";
import { Empty } from "../../../parts/feedback";
import { Icon } from "../../../parts/icons";
import { StatusPill, statusWord } from "../../../parts/status";
import { VirtualList } from "../../../parts/virtual_list";
import { place, setQuery } from "../../../router";
import { SourceBadge, stepMs } from "../step_look";
import type { TabProps } from "./tab";

const ROW = 38;
const STATES: readonly StepStatus[] = ["pending", "ready", "running", "completed", "skipped", "failed", "cancelled"];

export function StepsTab({ model, step, select }: TabProps) {
  const steps = model.steps.value;
  const revision = model.revision.value;
  const address = place.value.query;
  const rows = useMemo(
    () => steps.map((each) => each.peek()).filter(matching(address)),
    [steps, revision, address.toString()],
  );
  return (
    <div class="steps-tab">
      <Narrowing total={steps.length} shown={rows.length} />
      {rows.length === 0 && <Empty title="No step matches" />}
      <VirtualList
        count={rows.length}
        rowHeight={ROW}
        label="Steps"
        inSight={rows.findIndex((each) => each.stepId === step)}
        renderRow={(index) => {
          const row = rows[index]!;
          return <StepRow key={row.stepId} step={row} isSelected={row.stepId === step} onSelect={() => select(row.stepId)} />;
        }}
      />
    </div>
  );
}

function StepRow({ step, isSelected, onSelect }: { step: Step; isSelected: boolean; onSelect: () => void }) {
  const ms = stepMs(step);
  return (
    <button
      type="button"
      class={`step-row ${isSelected ? "selected" : ""}`}
      style={{ height: `${ROW}px` }}
      aria-pressed={isSelected}
      data-step={step.stepId}
      onClick={onSelect}
    >
      <StatusPill status={step.status} />
      <span class="step-name">{step.stepId}</span>
      <span class="mono quiet step-skill">{step.skillId}</span>
      <span>
        <SourceBadge source={step.outputSource} />
      </span>
      <span class="quiet number">level {step.level}</span>
      <span class="number right">{ms === null || step.status === "skipped" ? "" : duration(ms)}</span>
    </button>
  );
}

function Narrowing({ total, shown }: { total: number; shown: number }) {
  const address = place.value.query;
  const find = useRef<HTMLInputElement>(null);
  const levels = address.get("levels");
  useShortcuts([{ keys: "/", does: "Find a step", run: () => find.current?.focus() }]);
  return (
    <form class="filters" role="search" aria-label="Narrow the steps" onSubmit={(event) => event.preventDefault()}>
      <div class="search">
        <Icon name="search" />
        <input
          ref={find}
          aria-label="Find by step or skill"
          placeholder="step or skill"
          value={address.get("find") ?? ""}
          onInput={(event) => setQuery({ find: event.currentTarget.value || null })}
        />
      </div>
      <select
        aria-label="Status"
        value={address.get("in") ?? ""}
        onChange={(event) => setQuery({ in: event.currentTarget.value || null })}
      >
        <option value="">Any status</option>
        {STATES.map((status) => (
          <option key={status} value={status}>
            {statusWord(status)}
          </option>
        ))}
      </select>
      {levels && (
        <button class="button" type="button" onClick={() => setQuery({ levels: null })}>
          Levels {levels} <Icon name="close" />
        </button>
      )}
      <span class="quiet number narrowing-count" role="status">
        {shown === total ? count(total) : `${count(shown)} of ${count(total)}`}
      </span>
    </form>
  );
}

function matching(address: URLSearchParams): (step: Step) => boolean {
  const text = (address.get("find") ?? "").toLowerCase();
  const status = address.get("in");
  const [first = 0, last = Infinity] = (address.get("levels") ?? "").split("-").filter(Boolean).map(Number);
  return (step) =>
    (status === null || step.status === status) &&
    step.level >= first &&
    step.level <= last &&
    (text === "" || step.stepId.toLowerCase().includes(text) || step.skillId.toLowerCase().includes(text));
}
