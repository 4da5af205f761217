// The run's graph, coloured by what happens; of large runs, groups of steps.
import { useComputed, type Signal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import type { Step, StepStatus } from "../../../api/types";
import { count } from "../../../format";
import { fold, UNFOLDED_MAX, type Group } from "../../../graph/folding";
import { GraphView } from "../../../graph/graph_view";
import type { PlacedEdge } from "../../../graph/layout";
import type { RunModel } from "../../../live/run_model";
import { Icon } from "../../../parts/icons";
import { ProgressBar, statusWord } from "../../../parts/status";
import { hrefWith } from "../../../router";
import { SourceBadge, stepNote } from "../step_look";
import type { TabProps } from "./tab";

export function GraphTab({ model, step, select }: TabProps) {
  const steps = model.steps.value;
  const isFolded = steps.length > UNFOLDED_MAX;
  const nodes = useMemo(() => steps.map((each) => foldable(each.peek())), [steps]);
  const groups = useMemo(() => new Map(isFolded ? fold(nodes).map((group) => [group.id, group]) : []), [nodes]);
  const shown = useMemo(() => (isFolded ? [...groups.values()] : nodes), [groups, nodes]);
  return (
    <div class="graph-tab">
      {isFolded && (
        <p class="graph-note">
          {count(steps.length)} steps, shown as {count(groups.size)} groups by level and skill. A group opens its steps.
        </p>
      )}
      <GraphView
        nodes={shown}
        label="Graph of the run's steps"
        selected={step}
        renderNode={(id) =>
          isFolded ? (
            <GroupNode model={model} group={groups.get(id)!} />
          ) : (
            <StepNode step={model.step(id)!} isSelected={id === step} onSelect={() => select(id)} />
          )
        }
        {...(!isFolded && { edgeClass: (edge: PlacedEdge) => edgeClass(model, edge) })}
      />
      <Legend />
    </div>
  );
}

function foldable(step: Step) {
  return { id: step.stepId, dependsOn: step.dependsOn ?? [], level: step.level, skillId: step.skillId };
}

interface StepNodeProps {
  readonly step: Signal<Step>;
  readonly isSelected: boolean;
  readonly onSelect: () => void;
}

function StepNode({ step: signal, isSelected, onSelect }: StepNodeProps) {
  const step = signal.value;
  const fraction = step.status === "running" ? (step.progress?.fraction ?? 0) : 0;
  return (
    <button
      type="button"
      class={`node s-${step.status} ${isSelected ? "selected" : ""}`}
      aria-pressed={isSelected}
      data-step={step.stepId}
      data-status={step.status}
      title={`${step.stepId}: ${statusWord(step.status)}`}
      onClick={onSelect}
    >
      <span class="node-icon">
        <Icon name={step.status} />
      </span>
      <span class="node-text">
        <span class="node-title">{step.stepId}</span>
        <span class="node-line">
          <span class="visually-hidden">{statusWord(step.status)}</span>
          <span class="node-skill">{step.skillId}</span>
          <SourceBadge source={step.outputSource} />
          {step.attempt > 1 && <span class="node-attempt">attempt {step.attempt}</span>}
          <span class="node-note number">{stepNote(step)}</span>
        </span>
      </span>
      {step.status === "running" && <span class="node-progress" style={{ width: `${fraction * 100}%` }} />}
    </button>
  );
}

const STATES: readonly StepStatus[] = ["pending", "ready", "running", "completed", "skipped", "failed", "cancelled"];

function GroupNode({ model, group }: { model: RunModel; group: Group }) {
  const summary = useComputed(() => {
    model.revision.value;
    const found = Object.fromEntries(STATES.map((status) => [status, 0])) as Record<StepStatus, number>;
    for (const id of group.members) found[model.step(id)!.peek().status]++;
    const { ready, ...others } = found;
    return { ...others, pending: others.pending + ready, total: group.members.length };
  }).value;
  const [first, last] = group.levels;
  return (
    <a
      class={`node group s-${stateOf(summary)}`}
      data-group={group.id}
      href={hrefWith({ tab: "steps", levels: `${first}-${last}`, find: group.skillId })}
      title={`${group.title}: ${count(group.members.length)} steps`}
    >
      <span class="node-text">
        <span class="node-title">
          {group.title}
          <span class="node-count number">× {count(group.members.length)}</span>
        </span>
        <ProgressBar summary={summary} />
      </span>
    </a>
  );
}

function stateOf(summary: Record<Exclude<StepStatus, "ready">, number> & { total: number }): StepStatus {
  if (summary.failed > 0) return "failed";
  if (summary.running > 0) return "running";
  if (summary.skipped === summary.total) return "skipped";
  return summary.completed + summary.skipped === summary.total ? "completed" : "pending";
}

/** A line into what runs moves, a line out of what was reused is faint. */
function edgeClass(model: RunModel, edge: PlacedEdge): string {
  const [from, to] = [model.step(edge.from)?.value, model.step(edge.to)?.value];
  if (to?.status === "running") return "active";
  return from?.status === "skipped" || to?.status === "skipped" ? "faint" : "";
}

function Legend() {
  return (
    <ul class="legend" aria-label="Legend">
      {STATES.filter((status) => status !== "ready").map((status) => (
        <li key={status} class={`s-${status}`}>
          <span class="swatch" />
          {statusWord(status)}
        </li>
      ))}
      <li>
        <span class="source-badge">
          <Icon name="cache" />
          cache
        </span>
        found in the cache
      </li>
    </ul>
  );
}
