// One workflow: its graph, which steps each change begins with, and each step's definition.
import { useEffect, useMemo } from "preact/hooks";
import { getWorkflow } from "../../api/workflows";
import type { Workflow } from "../../api/types";
import { plural } from "../../format";
import { GraphView } from "../../graph/graph_view";
import { fold, UNFOLDED_MAX } from "../../graph/folding";
import { useShortcuts } from "../../keyboard";
import { usePolledHealth } from "../../live/connection";
import { usePolled } from "../../live/poll";
import { ErrorBox, Loading } from "../../parts/feedback";
import { Icon } from "../../parts/icons";
import { place, setQuery } from "../../router";
import { StartRun } from "../../trigger/start_run";
import { ChangeRules } from "./change_rules";
import { definitionLevels } from "./definition_levels";
import { reached } from "./reached";
import { StepDefinitionDrawer } from "./step_definition_drawer";

export function WorkflowPage({ name = "" }: { name?: string }) {
  const version = place.value.query.get("version") ?? undefined;
  const found = usePolled(`${name} ${version}`, 0, (abort) => getWorkflow(name, version, abort));
  usePolledHealth(found);
  useEffect(() => {
    document.title = `${name} · RunEngine`;
  }, [name]);
  const { value, error } = found.value;
  if (error) return <div class="page"><ErrorBox error={error} again={found.again} /></div>;
  if (value === null) return <div class="page"><Loading /></div>;
  return <Shown workflow={value} />;
}

function Shown({ workflow }: { workflow: Workflow }) {
  const query = place.value.query;
  const [step, change] = [query.get("step"), query.get("change")];
  const reach = useMemo(() => reached(workflow, change), [workflow, change]);
  const select = (stepId: string | null) => setQuery({ step: stepId });
  const move = (by: number) => {
    const at = workflow.steps.findIndex((each) => each.stepId === step);
    const to = workflow.steps[Math.max(0, Math.min(workflow.steps.length - 1, at + by))];
    if (to !== undefined) select(to.stepId);
  };
  useShortcuts([
    { keys: "j", does: "Next step", run: () => move(1) },
    { keys: "k", does: "Previous step", run: () => move(-1) },
    { keys: "Escape", does: "Close the step", run: () => select(null) },
  ]);
  const definition = workflow.steps.find((each) => each.stepId === step);
  return (
    <div class="run-page workflow-page">
      <header class="run-head">
        <div class="run-title">
          <nav class="crumbs" aria-label="Where you are">
            <a href="/workflows">Workflows</a>
          </nav>
          <div class="run-name">
            <h1>{workflow.workflowName}</h1>
            <span class="chip">{workflow.version}</span>
            <span class="quiet">{plural(workflow.steps.length, "step")}</span>
          </div>
          <p class="workflow-words">{workflow.description}</p>
        </div>
        <div class="run-actions">
          <a class="button" href={`/runs?workflow=${encodeURIComponent(workflow.workflowName)}`}>
            Its runs
          </a>
          <StartRun workflowName={workflow.workflowName} version={query.get("version") ?? undefined} />
        </div>
      </header>
      <div class="run-body">
        <ChangeRules workflow={workflow} chosen={change} reach={reach} />
        <section class="run-tab" aria-label="Graph">
          <WorkflowGraph workflow={workflow} step={step} reach={reach} select={select} />
        </section>
        {definition && <StepDefinitionDrawer key={step} definition={definition} onClose={() => select(null)} />}
      </div>
    </div>
  );
}

interface GraphProps {
  readonly workflow: Workflow;
  readonly step: string | null;
  readonly reach: ReadonlyMap<string, "seed" | "downstream">;
  readonly select: (stepId: string | null) => void;
}

function WorkflowGraph({ workflow, step, reach, select }: GraphProps) {
  const steps = useMemo(() => definitionLevels(workflow.steps), [workflow]);
  const groups = useMemo(() => (steps.length > UNFOLDED_MAX ? fold(steps) : null), [steps]);
  const skills = useMemo(() => new Map(steps.map((each) => [each.id, each.skillId])), [steps]);
  const titles = useMemo(() => new Map(groups?.map((group) => [group.id, group])), [groups]);
  return (
    <GraphView
      nodes={groups ?? steps}
      label="Graph of the workflow's steps"
      selected={step}
      renderNode={(id) => {
        const group = titles.get(id);
        if (group !== undefined) return <Folded title={group.title} members={group.members.length} />;
        return (
          <button
            type="button"
            class={`node r-${reach.get(id) ?? "none"} ${id === step ? "selected" : ""}`}
            aria-pressed={id === step}
            data-step={id}
            data-reach={reach.get(id) ?? "none"}
            onClick={() => select(id)}
          >
            <span class="node-icon">
              <Icon name={reach.get(id) === "seed" ? "update" : "pending"} />
            </span>
            <span class="node-text">
              <span class="node-title">{id}</span>
              <span class="node-line">
                <span class="node-skill">{skills.get(id)}</span>
                {reach.has(id) && <span class="node-note">{reach.get(id) === "seed" ? "changes" : "follows"}</span>}
              </span>
            </span>
          </button>
        );
      }}
      edgeClass={(edge) => (reach.has(edge.from) && reach.has(edge.to) ? "near" : "")}
    />
  );
}

function Folded({ title, members }: { title: string; members: number }) {
  return (
    <div class="node group s-pending">
      <span class="node-text">
        <span class="node-title">
          {title}
          <span class="node-count number">× {members}</span>
        </span>
      </span>
    </div>
  );
}
