// When each step waited and ran, one row a step, in the order of their beginnings.
import { useMemo } from "preact/hooks";
import type { Run, Step } from "../../../api/types";
import { duration, now } from "../../../format";
import { VirtualList } from "../../../parts/virtual_list";
import { statusWord } from "../../../parts/status";
import { SourceBadge, stepMs } from "../step_look";
import type { TabProps } from "./tab";

const ROW = 30;
const TICKS = 6;
const STEPS_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6, 3.6e6, 2.16e7, 8.64e7];

export function TimelineTab({ model, step, select }: TabProps) {
  const steps = model.steps.value;
  const revision = model.revision.value;
  const rows = useMemo(() => steps.map((each) => each.peek()).sort(byBeginning), [steps, revision]);
  const run = model.run.value!;
  const begin = Date.parse(run.startedAt ?? run.createdAt);
  const span = Math.max(1, endOf(run, rows) - begin);
  const at = (moment: string | number) =>
    ((typeof moment === "number" ? moment : Date.parse(moment)) - begin) / span;
  return (
    <VirtualList
      count={rows.length}
      rowHeight={ROW}
      label="Timeline of the run's steps"
      inSight={rows.findIndex((each) => each.stepId === step)}
      head={<Axis span={span} />}
      renderRow={(index) => (
        <Row
          key={rows[index]!.stepId}
          step={rows[index]!}
          at={at}
          isSelected={rows[index]!.stepId === step}
          onSelect={() => select(rows[index]!.stepId)}
        />
      )}
    />
  );
}

interface RowProps {
  readonly step: Step;
  readonly at: (moment: string | number) => number;
  readonly isSelected: boolean;
  readonly onSelect: () => void;
}

function Row({ step, at, isSelected, onSelect }: RowProps) {
  const ms = stepMs(step);
  const begun = step.startedAt;
  const isReused = step.status === "skipped";
  const end = step.status === "running" ? now.value : step.endedAt;
  return (
    <button
      type="button"
      class={`time-row s-${step.status} ${isSelected ? "selected" : ""}`}
      style={{ height: `${ROW}px` }}
      aria-pressed={isSelected}
      data-step={step.stepId}
      onClick={onSelect}
    >
      <span class="time-name">
        <span class="dot" />
        {step.stepId}
        <span class="visually-hidden">{statusWord(step.status)}</span>
      </span>
      <span class="time-track">
        {step.readyAt && begun && <Span class="time-wait" from={at(step.readyAt)} to={at(begun)} />}
        {begun && end && !isReused && <Span class="time-bar" from={at(begun)} to={at(end)} />}
        {isReused && step.endedAt && (
          <span class="time-reused" style={{ left: `${percent(at(step.endedAt))}%` }}>
            <SourceBadge source={step.outputSource} />
          </span>
        )}
      </span>
      <span class="time-ms number">{ms === null || isReused ? "" : duration(ms)}</span>
    </button>
  );
}

function Span({ class: name, from, to }: { class: string; from: number; to: number }) {
  const left = percent(from);
  return <span class={name} style={{ left: `${left}%`, width: `${Math.max(0, percent(to) - left)}%` }} />;
}

function Axis({ span }: { span: number }) {
  const step = STEPS_MS.find((each) => span / each <= TICKS) ?? span / TICKS;
  const ticks = Array.from({ length: Math.floor(span / step) + 1 }, (_, index) => index * step);
  return (
    <div class="time-axis" aria-hidden="true">
      <span class="time-name">Step</span>
      <span class="time-track">
        {ticks.map((ms) => (
          <span key={ms} class="tick" style={{ left: `${(ms / span) * 100}%` }}>
            {ms === 0 ? "0" : duration(ms)}
          </span>
        ))}
      </span>
      <span class="time-ms">Ran</span>
    </div>
  );
}

const percent = (fraction: number): number => Math.max(0, Math.min(100, fraction * 100));

function byBeginning(left: Step, right: Step): number {
  const [a, b] = [left.startedAt ?? left.endedAt ?? "~", right.startedAt ?? right.endedAt ?? "~"];
  return a < b ? -1 : a > b ? 1 : left.level - right.level;
}

function endOf(run: Run, steps: readonly Step[]): number {
  if (run.completedAt === undefined) return now.value;
  return steps.reduce((last, step) => (step.endedAt ? Math.max(last, Date.parse(step.endedAt)) : last), Date.parse(run.completedAt));
}
