// The drawer beside the graph: everything there is to know of one step.
import { useEffect, useRef } from "preact/hooks";
import { explainStep, getStep } from "../../../api/runs";
import type { Step } from "../../../api/types";
import { duration, moment } from "../../../format";
import type { RunModel } from "../../../live/run_model";
import { usePolled } from "../../../live/poll";
import { Empty, ErrorBox } from "../../../parts/feedback";
import { Icon } from "../../../parts/icons";
import { StatusPill } from "../../../parts/status";
import { Copy, JsonView, RunLink } from "../../../parts/text";
import { hrefWith } from "../../../router";
import { SourceBadge, stepMs } from "../step_look";
import { CacheCard } from "./cache_card";
import { Attempts, FailureBox } from "./failures";
import { Why } from "./why";

interface Props {
  readonly model: RunModel;
  readonly stepId: string;
  readonly onClose: () => void;
}

export function StepDrawer({ model, stepId, onClose }: Props) {
  const live = model.step(stepId)?.value;
  const drawer = useRef<HTMLElement>(null);
  useEffect(() => {
    drawer.current!.scrollTop = 0;
  }, [stepId]);
  return (
    <aside class="drawer" ref={drawer} aria-label={`Step ${stepId}`}>
      <header>
        <div>
          <h2>{stepId}</h2>
          <Copy text={stepId} what="the step's id" />
        </div>
        <button class="icon-button" type="button" aria-label="Close the step" title="Close (Escape)" onClick={onClose}>
          <Icon name="close" />
        </button>
      </header>
      {live === undefined ? <Empty title="The run has no such step" /> : <Contents step={live} />}
    </aside>
  );
}

/** What the stream tells is shown at once, the rest is read again whenever the step's state changes. */
function Contents({ step }: { step: Step }) {
  const key = `${step.runId} ${step.stepId} ${step.status} ${step.attempt}`;
  const full = usePolled(`step ${key}`, 0, (abort) => getStep(step.runId, step.stepId, abort));
  const explained = usePolled(`why ${key}`, 0, (abort) => explainStep(step.runId, step.stepId, abort));
  const detail = full.value.value;
  const cache = detail?.cache ?? step.cache;
  return (
    <>
      <div class="drawer-state">
        <StatusPill status={step.status} />
        <SourceBadge source={step.outputSource} />
        {step.status === "running" && step.progress?.message && <span class="quiet">{step.progress.message}</span>}
      </div>
      {step.error && <FailureBox failure={step.error} nextAttemptAt={step.nextAttemptAt} />}
      <Facts step={step} />
      <section>
        <h3>Why</h3>
        <Why text={explained.value.value?.text} error={explained.value.error} />
        {cache && <CacheCard cache={cache} step={step} />}
      </section>
      {full.value.error && <ErrorBox error={full.value.error} again={full.again} />}
      {detail && (
        <>
          <section>
            <h3>Input</h3>
            <JsonView value={detail.input} label="input" />
          </section>
          <section>
            <h3>Output</h3>
            <JsonView value={detail.output} label="output" />
          </section>
          <Attempts attempts={detail.attempts ?? []} />
        </>
      )}
    </>
  );
}

function Facts({ step }: { step: Step }) {
  const ms = stepMs(step);
  const artifacts = step.outputArtifactIds?.length ?? 0;
  const rows: [string, preact.ComponentChildren][] = [
    ["Skill", <code>{step.skillId}</code>],
    ["Ran", ms === null || step.status === "skipped" ? "not in this run" : duration(ms)],
    ["Attempt", step.attempt > 0 && `${step.attempt} of ${step.maxAttempts}`],
    ["Result of", step.sourceRunId && step.sourceRunId !== step.runId && <RunLink id={step.sourceRunId} step={step.stepId} />],
    ["Started", step.startedAt && moment(step.startedAt)],
    ["Ended", step.endedAt && moment(step.endedAt)],
    ["Depends on", step.dependsOn && step.dependsOn.length > 0 && <StepLinks ids={step.dependsOn} />],
    ["Artifacts", artifacts > 0 && <a href={hrefWith({ tab: "artifacts", of: "step", artifact: null })}>{artifacts}</a>],
    ["Lease lost", step.leaseLosses > 0 && `${step.leaseLosses} times`],
  ];
  return (
    <dl class="facts">
      {rows
        .filter(([, value]) => value)
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

const LINKS_MAX = 12;

function StepLinks({ ids }: { ids: readonly string[] }) {
  return (
    <span class="step-links">
      {ids.slice(0, LINKS_MAX).map((id) => (
        <a key={id} href={hrefWith({ step: id })}>
          {id}
        </a>
      ))}
      {ids.length > LINKS_MAX && <span class="quiet">and {ids.length - LINKS_MAX} more</span>}
    </span>
  );
}
