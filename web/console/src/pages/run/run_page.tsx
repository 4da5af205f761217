// One run, live: its head, a tab, and the drawer of the step that is selected.
import { useEffect, useMemo } from "preact/hooks";
import { ApiError } from "../../api/client";
import { shortId } from "../../format";
import { useShortcuts } from "../../keyboard";
import { useStreamHealth } from "../../live/connection";
import { RunModel } from "../../live/run_model";
import { Empty, ErrorBox, Loading } from "../../parts/feedback";
import { Tabs } from "../../parts/tabs";
import { place, setQuery } from "../../router";
import { StepDrawer } from "./drawer/step_drawer";
import { RunHead } from "./run_head";
import { ArtifactsTab } from "./tabs/artifacts_tab";
import { CompareTab } from "./tabs/compare_tab";
import { DetailsTab } from "./tabs/details_tab";
import { EventsTab } from "./tabs/events_tab";
import { GraphTab } from "./tabs/graph_tab";
import { StepsTab } from "./tabs/steps_tab";
import { TimelineTab } from "./tabs/timeline_tab";

const TABS = {
  graph: { name: "Graph", Shown: GraphTab },
  timeline: { name: "Timeline", Shown: TimelineTab },
  steps: { name: "Steps", Shown: StepsTab },
  events: { name: "Events", Shown: EventsTab },
  artifacts: { name: "Artifacts", Shown: ArtifactsTab },
  compare: { name: "Compare", Shown: CompareTab },
  details: { name: "Details", Shown: DetailsTab },
} as const;

type TabKey = keyof typeof TABS;
const KEYS = Object.keys(TABS) as TabKey[];

export function RunPage({ id = "" }: { id?: string }) {
  const model = useMemo(() => new RunModel(id), [id]);
  useEffect(() => model.follow(), [model]);
  useStreamHealth(model.health);
  const run = model.run.value;
  const { error } = model.health.value;
  useEffect(() => {
    document.title = `${run?.workflowName ?? "Run"} ${shortId(id)} · RunEngine`;
  }, [id, run?.workflowName]);
  if (run !== null) return <Loaded model={model} />;
  if (error instanceof ApiError && error.status === 404) return <Missing id={id} />;
  return <div class="page">{error ? <ErrorBox error={error} /> : <Loading />}</div>;
}

/** Never there, removed after its retention, or not the reader's to see. */
function Missing({ id }: { id: string }) {
  return (
    <Empty title="There is no such run">
      <p>
        The engine knows no run <code>{id}</code>. <a href="/runs">All runs</a>
      </p>
    </Empty>
  );
}

function Loaded({ model }: { model: RunModel }) {
  const address = place.value.query;
  const step = address.get("step");
  const tab = KEYS.find((key) => key === address.get("tab")) ?? "graph";
  const { Shown } = TABS[tab];
  const select = (stepId: string | null) => setQuery({ step: stepId });
  const move = (by: number) => {
    const steps = model.steps.peek();
    const at = steps.findIndex((each) => each.peek().stepId === step);
    const to = steps[Math.max(0, Math.min(steps.length - 1, at + by))];
    if (to !== undefined) select(to.peek().stepId);
  };
  useShortcuts([
    { keys: "j", does: "Next step", run: () => move(1) },
    { keys: "k", does: "Previous step", run: () => move(-1) },
    { keys: "Escape", does: "Close the step", run: () => select(null) },
    ...KEYS.map((key, index) => ({
      keys: String(index + 1),
      does: TABS[key].name,
      run: () => setQuery({ tab: key === "graph" ? null : key }),
    })),
  ]);
  return (
    <div class="run-page">
      <RunHead model={model} />
      <Tabs label="Views of the run" current={tab} tabs={KEYS.map((key) => [key, TABS[key].name])} first="graph" />
      <div class="run-body">
        <section class="run-tab" aria-label={TABS[tab].name}>
          <Shown model={model} step={step} select={select} />
        </section>
        {step !== null && <StepDrawer key={step} model={model} stepId={step} onClose={() => select(null)} />}
      </div>
    </div>
  );
}
