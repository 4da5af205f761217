// The head of the run page: what it is, how far it is, what it cost and saved, what can be done.
import type { RunModel } from "../../live/run_model";
import type { Run, StepsSummary } from "../../api/types";
import { count, duration, plural, shortId } from "../../format";
import { ProgressBar, StatusPill, statusWord } from "../../parts/status";
import { Copy, When } from "../../parts/text";
import { hrefWith } from "../../router";
import { runMs, Trigger } from "../runs/run_row";
import { RunActions } from "./actions/run_actions";

export function RunHead({ model }: { model: RunModel }) {
  const run = model.run.value!;
  const { stepsSummary: steps } = run;
  return (
    <header class="run-head">
      <div class="run-title">
        <nav class="crumbs" aria-label="Where you are">
          <a href="/runs">Runs</a>
          <span aria-hidden="true">/</span>
          <a href={`/runs?workflow=${encodeURIComponent(run.workflowName)}`}>{run.workflowName}</a>
        </nav>
        <div class="run-name">
          <h1>
            Run <span class="mono">{shortId(run.id)}</span>
          </h1>
          <Copy text={run.id} what="the run's id" />
          <StatusPill status={run.status} />
          <Trigger run={run} />
        </div>
      </div>
      <RunActions run={run} />
      <div class="run-figures">
        <div class="run-progress">
          <ProgressBar summary={steps} />
          <span class="number">{progressText(steps)}</span>
        </div>
        <Figure name="Created">
          <When at={run.createdAt} />
        </Figure>
        <Figure name="Duration">{run.startedAt ? duration(runMs(run)) : "–"}</Figure>
        <Figure name="Saved">{savedText(run)}</Figure>
      </div>
      {run.error && (
        <div class="run-error" role="alert">
          <code class="reason">{run.error.code}</code>
          <span>{run.error.message}</span>
          {run.error.stepId && <a href={hrefWith({ step: run.error.stepId })}>{run.error.stepId}</a>}
        </div>
      )}
      {run.cancelReason && (
        <p class="quiet">
          Cancelled: <q>{run.cancelReason}</q>
        </p>
      )}
    </header>
  );
}

function Figure({ name, children }: { name: string; children: preact.ComponentChildren }) {
  return (
    <div class="figure">
      <span>{name}</span>
      <strong class="number">{children}</strong>
    </div>
  );
}

const TOLD = ["completed", "skipped", "running", "failed", "cancelled", "pending"] as const;

function progressText(steps: StepsSummary): string {
  const parts = TOLD.filter((name) => steps[name] > 0).map((name) => `${count(steps[name])} ${statusWord(name)}`);
  return `${plural(steps.total, "step")}: ${parts.join(", ") || "none begun"}`;
}

function savedText(run: Run): string {
  const saved = run.savings;
  if (saved === undefined || saved.skippedSteps === 0) return "–";
  return saved.secondsSaved > 0 ? duration(saved.secondsSaved * 1000) : plural(saved.skippedSteps, "step");
}
