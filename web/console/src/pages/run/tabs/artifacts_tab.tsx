// What the run made or reused, with a preview of the one that is opened.
import { useState } from "preact/hooks";
import { listArtifacts } from "../../../api/runs";
import type { Artifact } from "../../../api/types";
import { count } from "../../../format";
import { usePolled } from "../../../live/poll";
import { Empty, ErrorBox, Loading } from "../../../parts/feedback";
import { Icon } from "../../../parts/icons";
import { place, setQuery } from "../../../router";
import { ArtifactPreview } from "../previews/artifact_preview";
import { ArtifactRow, nameOf } from "./artifact_list";
import type { TabProps } from "./tab";

const PAGE_SIZE = 60;

export function ArtifactsTab({ model, step, select }: TabProps) {
  const [pages, setPages] = useState(1);
  const isOfStep = place.value.query.get("of") === "step" && step !== null;
  const key = `${model.artifactsChanged.value} ${isOfStep ? step : ""} ${pages}`;
  const found = usePolled(key, 0, (abort) => readPages(model.runId, isOfStep ? step : null, pages, abort));
  const { value, error } = found.value;
  const opened = place.value.query.get("artifact");
  if (error) return <ErrorBox error={error} again={found.again} />;
  if (value === null) return <Loading />;
  const { artifacts, hasMore } = value;
  if (artifacts.length === 0) return <Empty title="No artifacts yet" />;
  const shown = artifacts.find((artifact) => artifact.id === opened);
  return (
    <div class={shown ? "artifacts-tab with-preview" : "artifacts-tab"}>
      <div class="artifacts">
        <p class="quiet">
          {count(artifacts.length)}
          {hasMore && " or more"} artifacts
          {step !== null && (
            <label class="check">
              <input
                type="checkbox"
                checked={isOfStep}
                onChange={() => setQuery({ of: isOfStep ? null : "step" })}
              />
              only of {step}
            </label>
          )}
        </p>
        <ul class="artifact-list">
          {artifacts.map((artifact) => (
            <ArtifactRow key={artifact.id} artifact={artifact} isOpened={artifact.id === opened} />
          ))}
        </ul>
        {hasMore && (
          <button class="button" type="button" onClick={() => setPages(pages + 1)}>
            Show more
          </button>
        )}
      </div>
      {shown && (
        <section class="artifact-shown" aria-label={`Preview of ${nameOf(shown)}`}>
          <header>
            <h2>{nameOf(shown)}</h2>
            <button class="button" type="button" onClick={() => select(shown.stepId)}>
              {shown.stepId}
            </button>
            <button class="icon-button" type="button" aria-label="Close the preview" onClick={() => setQuery({ artifact: null })}>
              <Icon name="close" />
            </button>
          </header>
          <ArtifactPreview key={shown.id} artifact={shown} />
        </section>
      )}
    </div>
  );
}

async function readPages(runId: string, stepId: string | null, pages: number, abort: AbortSignal) {
  const artifacts: Artifact[] = [];
  let pageToken: string | undefined;
  for (let page = 0; page < pages; page++) {
    const read = await listArtifacts(runId, { pageSize: PAGE_SIZE, pageToken, stepId }, abort);
    artifacts.push(...read.artifacts);
    pageToken = read.nextPageToken;
    if (pageToken === undefined) break;
  }
  return { artifacts, hasMore: pageToken !== undefined };
}
