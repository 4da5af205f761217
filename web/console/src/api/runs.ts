// The operations of runs.
import { get, post, segment, type Query } from "./client";
import type { Artifact, JsonObject, Page, Run, Started, Step, StepDiff } from "./types";

const STEPS_PAGE = 500;

export const listRuns = (query: Query, abort?: AbortSignal) =>
  get<Page & { runs: Run[] }>("/runs", query, abort);

export const getRun = (id: string, abort?: AbortSignal) =>
  get<Run>(`/runs/${segment(id)}`, { view: "full" }, abort);

/** The newest run of a workflow, null while there is none. */
export const lastRun = async (workflowName: string, abort?: AbortSignal): Promise<Run | null> => {
  const [newest] = (await listRuns({ workflowName, pageSize: 1 }, abort)).runs;
  return newest ? getRun(newest.id, abort) : null;
};

export const getStep = async (id: string, stepId: string, abort?: AbortSignal): Promise<Step | undefined> => {
  const page = await get<{ steps: Step[] }>(`/runs/${segment(id)}/steps`, { view: "full", stepId }, abort);
  return page.steps[0];
};

export const listSteps = (id: string, query: Query = {}, abort?: AbortSignal) =>
  get<Page & { steps: Step[] }>(`/runs/${segment(id)}/steps`, { pageSize: STEPS_PAGE, ...query }, abort);

export const explainStep = (id: string, stepId: string, abort?: AbortSignal) =>
  get<{ step: Step; text: string[] }>(`/runs/${segment(id)}/steps/${segment(stepId)}/explain`, {}, abort);

export const listArtifacts = (id: string, query: Query = {}, abort?: AbortSignal) =>
  get<Page & { artifacts: Artifact[] }>(`/runs/${segment(id)}/artifacts`, query, abort);

export const compareRuns = (id: string, other: string, abort?: AbortSignal) =>
  get<{ steps: StepDiff[]; rootCauseStepIds: string[] }>(`/runs/${segment(id)}/compare`, { with: other }, abort);

export const triggerRun = (request: JsonObject, abort?: AbortSignal) => post<Started>("/runs", request, abort);

export const cancelRun = (id: string, reason: string) =>
  post<Started>(`/runs/${segment(id)}/cancel`, reason ? { reason } : {});

export const retryRun = (id: string, options: JsonObject, abort?: AbortSignal) =>
  post<Started>(`/runs/${segment(id)}/retry`, options, abort);

export const updateRun = (id: string, request: JsonObject, abort?: AbortSignal) =>
  post<Started>(`/runs/${segment(id)}/update`, request, abort);
