// Requests to the engine: the token goes along, answers are JSON, refusals are ApiErrors.
import { askForToken, token } from "../session";
import type { JsonObject } from "./types";

export const BASE = "/api/v1";

/** A refusal as every surface of the engine words it; `code` is the stable reason. */
export class ApiError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly status: number,
    readonly details: JsonObject = {},
  ) {
    super(message);
  }
}

export type Query = Record<string, string | number | boolean | readonly string[] | null | undefined>;

export async function get<T>(path: string, query: Query = {}, abort?: AbortSignal): Promise<T> {
  return (await (await send(path + queryText(query), {}, abort)).json()) as T;
}

export async function post<T>(path: string, body: JsonObject = {}, abort?: AbortSignal): Promise<T> {
  const init = { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  return (await (await send(path, init, abort)).json()) as T;
}

/** The answer to a request that succeeded; for bodies that are no JSON, too. */
export async function send(path: string, init: RequestInit, abort?: AbortSignal): Promise<Response> {
  const headers = new Headers(init.headers);
  if (token.value) headers.set("authorization", `Bearer ${token.value}`);
  let answer: Response;
  try {
    answer = await fetch(BASE + path, { ...init, headers, cache: "no-store", ...(abort && { signal: abort }) });
  } catch (error) {
    if (abort?.aborted) throw error;
    throw new ApiError("UNREACHABLE", "The engine does not answer. Is it running, and is this machine online?", 0);
  }
  if (answer.ok) return answer;
  const refusal = await refusalOf(answer);
  if (refusal.status === 401) {
    askForToken(refusal.code === "TOKEN_MISSING" ? "This engine asks for a token." : refusal.message);
  }
  throw refusal;
}

/** For other hands, such as `runs/{id}` with an id that came from an address. */
export function segment(text: string): string {
  return encodeURIComponent(text);
}

function queryText(query: Query): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (Array.isArray(value)) for (const each of value) parameters.append(name, each);
    else if (value !== null && value !== undefined && value !== "") parameters.append(name, String(value));
  }
  const text = parameters.toString();
  return text && `?${text}`;
}

async function refusalOf(answer: Response): Promise<ApiError> {
  try {
    const { error } = (await answer.json()) as {
      error: { code: string; message: string; status: number; details?: JsonObject };
    };
    return new ApiError(error.code, error.message, error.status, error.details);
  } catch {
    return new ApiError("UNREADABLE", `The engine answered ${answer.status} ${answer.statusText}.`, answer.status);
  }
}
