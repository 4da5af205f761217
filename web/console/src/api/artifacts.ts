// The content of artifacts: by request, or by an address that an <img> or <video> can take.
import { post, segment, send, BASE } from "./client";
import type { Artifact } from "./types";

/** Renewed before it ends, so that an address made now works for a while. */
const MARGIN_MS = 120_000;

interface WatchToken {
  readonly token: string;
  readonly expiresAt: string;
}

const tokens = new Map<string, Promise<WatchToken>>();

/**
 * An address of the content that carries its own permission: media elements send no header, and with an address the
 * browser reads only the part of a film that it plays. The token in it lives minutes and opens this one run.
 */
export async function contentUrl(artifact: Artifact): Promise<string> {
  const { token } = await watchToken(artifact.runId);
  return `${BASE}${path(artifact)}?access_token=${encodeURIComponent(token)}`;
}

export const readContent = (artifact: Artifact, abort?: AbortSignal): Promise<Response> =>
  send(path(artifact), {}, abort);

/** Why the content cannot be had; null when it can. */
export async function contentProblem(artifact: Artifact): Promise<Error | null> {
  try {
    const answer = await send(path(artifact), { headers: { range: "bytes=0-0" } });
    await answer.body?.cancel();
    return null;
  } catch (error) {
    return error as Error;
  }
}

/** The next address gets a fresh token. */
export function forgetToken(runId: string): void {
  tokens.delete(runId);
}

function watchToken(runId: string): Promise<WatchToken> {
  const known = tokens.get(runId);
  if (known !== undefined) return known;
  const made = post<WatchToken>(`/runs/${segment(runId)}/watch-token`);
  tokens.set(runId, made);
  made.then(
    ({ expiresAt }) => setTimeout(() => tokens.delete(runId), Date.parse(expiresAt) - Date.now() - MARGIN_MS),
    () => tokens.delete(runId),
  );
  return made;
}

const path = (artifact: Artifact): string => `/artifacts/${segment(artifact.id)}/content`;
