// The operations of the workflow registry.
import { get, segment } from "./client";
import type { Page, Workflow } from "./types";

export const listWorkflows = (query: { pageSize?: number; pageToken?: string } = {}, abort?: AbortSignal) =>
  get<Page & { workflows: Workflow[] }>("/workflows", query, abort);

export const getWorkflow = (name: string, version?: string, abort?: AbortSignal) =>
  get<Workflow>(`/workflows/${segment(name)}`, { version }, abort);
