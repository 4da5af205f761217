// A 3D model that can be turned.
import { useEffect, useRef, useState } from "preact/hooks";
import { readContent } from "../../../api/artifacts";
import type { Artifact } from "../../../api/types";
import { ErrorBox, Loading } from "../../../parts/feedback";
import { nameOf } from "../tabs/artifact_list";
import { showModel } from "./model_scene";

export function ModelPreview({ artifact }: { artifact: Artifact }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [state, setState] = useState<"loading" | "shown" | Error>("loading");
  useEffect(() => {
    const abort = new AbortController();
    readContent(artifact, abort.signal)
      .then((answer) => answer.arrayBuffer())
      .then((model) => showModel(canvas.current!, model, abort.signal))
      .then(
        () => setState("shown"),
        (error: Error) => abort.signal.aborted || setState(error),
      );
    return () => abort.abort();
  }, [artifact.id]);
  return (
    <div class="preview-model" data-state={state instanceof Error ? "failed" : state}>
      {state instanceof Error && <ErrorBox error={state} />}
      {state === "loading" && <Loading lines={3} />}
      <canvas
        ref={canvas}
        tabIndex={0}
        hidden={state !== "shown"}
        aria-label={`${nameOf(artifact)}; drag or use the arrow keys to turn it`}
      />
    </div>
  );
}
