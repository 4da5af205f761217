// One artifact in a list: a small picture of it or its kind, its name, where it is from.
import type { Artifact } from "../../../api/types";
import { bytes } from "../../../format";
import { setQuery } from "../../../router";
import { useContentUrl } from "../previews/content_url";
import { SourceBadge } from "../step_look";

export function ArtifactRow({ artifact, isOpened }: { artifact: Artifact; isOpened: boolean }) {
  return (
    <li>
      <button
        type="button"
        class={`artifact-row ${isOpened ? "selected" : ""}`}
        aria-pressed={isOpened}
        onClick={() => setQuery({ artifact: artifact.id })}
      >
        {isThumbnail(artifact) ? <Thumbnail artifact={artifact} /> : <Kind type={artifact.type} />}
        <span class="artifact-name">
          <span>{nameOf(artifact)}</span>
          <span class="quiet">{artifact.stepId}</span>
        </span>
        <SourceBadge source={artifact.source} />
        <span class="quiet number">{bytes(artifact.sizeBytes)}</span>
      </button>
    </li>
  );
}

export const nameOf = (artifact: Artifact): string => artifact.filename ?? artifact.id;

const THUMBNAIL_BYTES_MAX = 3_000_000;

const isThumbnail = (artifact: Artifact): boolean =>
  artifact.type.startsWith("image/") && artifact.sizeBytes <= THUMBNAIL_BYTES_MAX;

function Thumbnail({ artifact }: { artifact: Artifact }) {
  const { url, error, onError } = useContentUrl(artifact);
  if (url === null || error) return <Kind type={artifact.type} />;
  return <img class="artifact-kind" src={url} alt="" loading="lazy" decoding="async" onError={onError} />;
}

function Kind({ type }: { type: string }) {
  return <span class="artifact-kind">{kindOf(type)}</span>;
}

/** `image/png` as PNG. */
function kindOf(type: string): string {
  const subtype = type.split("/")[1]?.split(/[;+]/)[0] ?? type;
  return { "gltf-binary": "GLB", "octet-stream": "BIN", mpeg: "MP3" }[subtype] ?? subtype.replace(/^x-/, "").slice(0, 5).toUpperCase();
}
