// How this run's steps differ from those of another one, by default of its base.
import { useState } from "preact/hooks";
import { compareRuns } from "../../../api/runs";
import type { Step, StepDiff } from "../../../api/types";
import { count, plural } from "../../../format";
import { usePolled } from "../../../live/poll";
import { Empty, ErrorBox, Loading } from "../../../parts/feedback";
import { StatusPill } from "../../../parts/status";
import { RunLink } from "../../../parts/text";
import { VirtualList } from "../../../parts/virtual_list";
import { place, setQuery } from "../../../router";
import { SourceBadge } from "../step_look";
import type { TabProps } from "./tab";

const ROW = 44;
const POINTERS_MAX = 3;

export function CompareTab({ model, step, select }: TabProps) {
  const run = model.run.value!;
  const other = place.value.query.get("with") ?? run.baseRunId ?? null;
  return (
    <div class="compare-tab">
      <OtherRun key={other} other={other} />
      {other === null ? (
        <Empty title="This run has no base">
          <p>Enter the id of another run of the same workflow.</p>
        </Empty>
      ) : (
        <Differences runId={run.id} other={other} revision={run.status} step={step} select={select} />
      )}
    </div>
  );
}

function OtherRun({ other }: { other: string | null }) {
  const [text, setText] = useState(other ?? "");
  const submit = (event: Event) => {
    event.preventDefault();
    setQuery({ with: text.trim() || null });
  };
  return (
    <form class="filters" onSubmit={submit}>
      <label class="inline-field">
        Compare with
        <input class="mono run-input" value={text} spellcheck={false} placeholder="run id" onInput={(event) => setText(event.currentTarget.value)} />
      </label>
      <button class="button" type="submit">
        Compare
      </button>
      {other && (
        <span class="inline-field quiet">
          <RunLink id={other} />
        </span>
      )}
    </form>
  );
}

interface DifferencesProps {
  readonly runId: string;
  readonly other: string;
  readonly revision: string;
  readonly step: string | null;
  readonly select: (stepId: string | null) => void;
}

function Differences({ runId, other, revision, step, select }: DifferencesProps) {
  const isAll = place.value.query.get("all") === "1";
  const found = usePolled(`${runId} ${other} ${revision}`, 0, (abort) => compareRuns(runId, other, abort));
  const { value, error } = found.value;
  if (error) return <ErrorBox error={error} again={found.again} />;
  if (value === null) return <Loading />;
  const causes = new Set(value.rootCauseStepIds);
  const differing = value.steps.filter(differs);
  const rows = isAll ? value.steps : differing;
  return (
    <>
      <p class="compare-sum">
        {differing.length === 0 ? "No step differs." : `${plural(differing.length, "step")} of ${count(value.steps.length)} differ.`}
        {causes.size > 0 && " It begins with "}
        {[...causes].slice(0, 5).map((cause) => (
          <button key={cause} type="button" class="chip cause" onClick={() => select(cause)}>
            {cause}
          </button>
        ))}
        <label class="check">
          <input type="checkbox" checked={isAll} onChange={() => setQuery({ all: isAll ? null : "1" })} />
          show equal steps, too
        </label>
      </p>
      <VirtualList
        count={rows.length}
        rowHeight={ROW}
        label="Differences"
        head={
          <div class="diff-row diff-head">
            <span>Step</span>
            <span>This run</span>
            <span>The other</span>
            <span>What differs</span>
          </div>
        }
        renderRow={(index) => {
          const diff = rows[index]!;
          return (
            <DiffRow
              key={diff.stepId}
              diff={diff}
              isCause={causes.has(diff.stepId)}
              isSelected={diff.stepId === step}
              onSelect={() => select(diff.stepId)}
            />
          );
        }}
      />
    </>
  );
}

interface RowProps {
  readonly diff: StepDiff;
  readonly isCause: boolean;
  readonly isSelected: boolean;
  readonly onSelect: () => void;
}

function DiffRow({ diff, isCause, isSelected, onSelect }: RowProps) {
  const pointers = diff.inputPointers ?? [];
  return (
    <button
      type="button"
      class={`diff-row ${isSelected ? "selected" : ""}`}
      style={{ height: `${ROW}px` }}
      data-step={diff.stepId}
      onClick={onSelect}
    >
      <span class="step-name">
        {diff.stepId} {isCause && <span class="chip cause">root cause</span>}
      </span>
      <Side step={diff.left} />
      <Side step={diff.right} />
      <span class="diff-what">
        {diff.outputChanged && <span class="chip changed">output</span>}
        {pointers.slice(0, POINTERS_MAX).map((pointer) => (
          <code key={pointer} class="chip">
            {pointer}
          </code>
        ))}
        {pointers.length > POINTERS_MAX && <span class="quiet">+{pointers.length - POINTERS_MAX}</span>}
      </span>
    </button>
  );
}

function Side({ step }: { step: Step | undefined }) {
  if (step === undefined) return <span class="quiet">not there</span>;
  return (
    <span class="diff-side">
      <StatusPill status={step.status} />
      <SourceBadge source={step.outputSource} />
    </span>
  );
}

function differs(diff: StepDiff): boolean {
  return diff.outputChanged || (diff.inputPointers ?? []).length > 0 || !diff.left || !diff.right;
}
