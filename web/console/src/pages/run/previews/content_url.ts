// The address of an artifact's content for media elements, with one more try when a token has run out.
import { useEffect, useState } from "preact/hooks";
import { contentProblem, contentUrl, forgetToken } from "../../../api/artifacts";
import type { Artifact } from "../../../api/types";

export interface ContentUrl {
  readonly url: string | null;
  readonly error: Error | null;
  /** For a media element that could not load the address. */
  readonly onError: () => void;
}

const TRIES_MAX = 2;

export function useContentUrl(artifact: Artifact): ContentUrl {
  const [url, setUrl] = useState<string | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const [tries, setTries] = useState(1);
  useEffect(() => {
    let isCurrent = true;
    contentUrl(artifact).then(
      (found) => isCurrent && setUrl(found),
      (problem: Error) => isCurrent && setError(problem),
    );
    return () => {
      isCurrent = false;
    };
  }, [artifact.id, tries]);
  const onError = async () => {
    const problem = await contentProblem(artifact);
    if (problem !== null) return setError(problem);
    if (tries >= TRIES_MAX) return setError(new Error("This browser cannot show this file."));
    forgetToken(artifact.runId);
    setTries(tries + 1);
  };
  return { url, error, onError: () => void onError() };
}
