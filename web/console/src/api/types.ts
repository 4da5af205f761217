// The JSON of the REST surface, as far as the console reads it. The contract is /api/v1/openapi.json.

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

export type RunStatus = "queued" | "running" | "completed" | "failed" | "cancelled";
export type StepStatus = "pending" | "ready" | "running" | "completed" | "skipped" | "failed" | "cancelled";
export type TriggerType = "initial" | "update" | "retry";
export type OutputSource = "executed" | "base_run" | "cache_hot" | "cache_cold" | "joined";

export interface StepsSummary {
  readonly total: number;
  readonly pending: number;
  readonly running: number;
  readonly completed: number;
  readonly skipped: number;
  readonly failed: number;
  readonly cancelled: number;
}

export interface Failure {
  readonly code: string;
  readonly message?: string;
  readonly retryable: boolean;
  readonly details?: JsonObject;
  readonly stepId?: string;
  readonly attempt: number;
}

export interface Run {
  readonly id: string;
  readonly workflowName: string;
  readonly workflowVersion: string;
  readonly status: RunStatus;
  readonly triggerType: TriggerType;
  readonly stepsSummary: StepsSummary;
  readonly createdAt: string;
  readonly startedAt?: string;
  readonly completedAt?: string;
  readonly updatedAt: string;
  readonly error?: Failure;
  readonly baseRunId?: string;
  readonly rootRunId: string;
  readonly triggerPayload?: JsonObject;
  readonly changeRequest?: { readonly type: string; readonly payload: JsonObject };
  readonly labels?: Readonly<Record<string, string>>;
  readonly cancelReason?: string;
  readonly requestId?: string;
  readonly principal?: string;
  readonly deadline?: string;
  readonly priority: number;
  readonly failedStep?: string;
  readonly lastSequence: number;
  readonly savings?: { readonly skippedSteps: number; readonly secondsSaved: number };
}

export interface CacheDecision {
  readonly outcome: "disabled" | "hit" | "miss" | "joined" | "refreshed" | "bypassed" | "lookup_failed";
  readonly tier?: "hot" | "cold";
  readonly key?: string;
  readonly sourceRunId?: string;
  readonly sourceStepId?: string;
  readonly ageMs?: number;
  readonly missReason?: string;
  readonly changedPointers?: readonly string[];
  readonly nearestRunId?: string;
}

export interface StepProgress {
  readonly fraction: number;
  readonly message?: string;
  readonly reportedAt?: string;
}

export interface StepAttempt {
  readonly attempt: number;
  readonly startedAt?: string;
  readonly endedAt?: string;
  readonly error?: Failure;
  readonly workerId?: string;
}

export interface Step {
  readonly runId: string;
  readonly stepId: string;
  readonly skillId: string;
  readonly status: StepStatus;
  readonly dependsOn?: readonly string[];
  readonly level: number;
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly inputHash?: string;
  readonly outputSource?: OutputSource;
  readonly sourceRunId?: string;
  readonly progress?: StepProgress;
  readonly error?: Failure;
  readonly readyAt?: string;
  readonly startedAt?: string;
  readonly endedAt?: string;
  readonly nextAttemptAt?: string;
  readonly input?: JsonObject;
  readonly output?: JsonObject;
  readonly attempts?: readonly StepAttempt[];
  readonly cacheKey?: string;
  readonly cache?: CacheDecision;
  readonly durationMs: number;
  readonly outputArtifactIds?: readonly string[];
  readonly leaseLosses: number;
}

export interface Artifact {
  readonly id: string;
  readonly runId: string;
  readonly stepId: string;
  readonly type: string;
  readonly uri: string;
  readonly contentHash?: string;
  readonly sizeBytes: number;
  readonly filename?: string;
  readonly metadata?: JsonObject;
  readonly createdAt: string;
  readonly source?: OutputSource;
  readonly sourceRunId?: string;
  readonly skillId?: string;
  readonly skillVersion?: string;
}

export interface RunEvent {
  readonly sequence: number;
  readonly occurredAt: string;
  readonly type: "run_status" | "step_status" | "step_progress" | "artifact";
  readonly stepId?: string;
  readonly attempt: number;
  readonly run?: {
    readonly fromStatus?: RunStatus;
    readonly toStatus: RunStatus;
    readonly stepsSummary?: StepsSummary;
    readonly error?: Failure;
  };
  readonly step?: {
    readonly fromStatus?: StepStatus;
    readonly toStatus: StepStatus;
    readonly outputSource?: OutputSource;
    readonly error?: Failure;
    readonly nextAttemptAt?: string;
    readonly stepsSummary?: StepsSummary;
    readonly cache?: CacheDecision;
    readonly durationMs: number;
  };
  readonly progress?: StepProgress;
  readonly artifact?: Artifact;
}

export interface RunSnapshot {
  readonly run?: Run;
  readonly steps?: readonly Step[];
  readonly reason: "initial" | "history_compacted" | "slow_consumer";
  readonly more: boolean;
}

export interface StepDiff {
  readonly stepId: string;
  readonly left?: Step;
  readonly right?: Step;
  readonly inputPointers?: readonly string[];
  readonly outputChanged: boolean;
}

export interface PlannedStep {
  readonly stepId: string;
  readonly action: "execute" | "reuse" | "unknown";
  readonly reason: string;
  readonly causedBy?: readonly string[];
  readonly changedPointers?: readonly string[];
  readonly unknownUntil?: readonly string[];
  readonly estimateMs?: number;
}

export interface RebuildPlan {
  readonly steps: readonly PlannedStep[];
  readonly executeCount: number;
  readonly reuseCount: number;
  readonly unknownCount: number;
  readonly seedStepIds?: readonly string[];
  readonly digest: string;
  readonly baseRunId?: string;
  readonly estimateMs?: number;
}

export interface Started {
  readonly runId?: string;
  readonly status?: RunStatus;
  readonly message?: string;
  readonly plan?: RebuildPlan;
}

export interface StepDefinition {
  readonly stepId: string;
  readonly skillId: string;
  readonly description?: string;
  readonly dependsOn?: readonly string[];
  readonly inputSelector?: JsonObject;
  readonly cachePolicy?: { readonly enabled: boolean; readonly scope?: string; readonly hotTtl?: string };
  readonly retryPolicy?: { readonly maxAttempts: number; readonly backoffMs: number; readonly maxBackoffMs?: number };
  readonly timeout?: string;
}

export interface ChangeRequestRule {
  readonly seedStepIds: readonly string[];
  readonly cacheMode?: string;
  readonly description?: string;
}

export interface Workflow {
  readonly workflowName: string;
  readonly version: string;
  readonly description?: string;
  readonly digest?: string;
  readonly createdAt?: string;
  readonly steps: readonly StepDefinition[];
  readonly changeRequests?: Readonly<Record<string, ChangeRequestRule>>;
  readonly failurePolicy?: string;
  readonly triggerSchema?: JsonObject;
  readonly labels?: Readonly<Record<string, string>>;
}

export interface Page {
  readonly nextPageToken?: string;
}
