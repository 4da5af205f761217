// What an artifact looks or sounds like, and what is known of it.
import type { ComponentType } from "preact";
import { lazyPart } from "../../../parts/lazy_part";
import type { Artifact } from "../../../api/types";
import { bytes, moment } from "../../../format";
import { ErrorBox } from "../../../parts/feedback";
import { Icon } from "../../../parts/icons";
import { Copy, JsonView, RunLink } from "../../../parts/text";
import { nameOf } from "../tabs/artifact_list";
import { useContentUrl } from "./content_url";
import { AudioPreview, ImagePreview, VideoPreview } from "./media";
import { TextPreview } from "./text_preview";

type Preview = ComponentType<{ artifact: Artifact }>;

/** Comes with the library that draws, when the first model is opened. */
const ModelPreview = lazyPart(() => import("./model_preview").then((part) => part.ModelPreview));

const PREVIEWS: readonly (readonly [RegExp, Preview])[] = [
  [/^image\//, ImagePreview],
  [/^audio\//, AudioPreview],
  [/^video\//, VideoPreview],
  [/^model\/gltf/, ModelPreview],
  [/^text\/|json$|xml$|yaml$|javascript$/, TextPreview],
];

export function ArtifactPreview({ artifact }: { artifact: Artifact }) {
  const Shown = PREVIEWS.find(([type]) => type.test(artifact.type))?.[1];
  return (
    <div class="preview">
      {Shown ? <Shown artifact={artifact} /> : <p class="quiet">There is no preview of {artifact.type}.</p>}
      <Known artifact={artifact} />
    </div>
  );
}

function Known({ artifact }: { artifact: Artifact }) {
  const { url, error } = useContentUrl(artifact);
  const rows: [string, preact.ComponentChildren][] = [
    ["Type", artifact.type],
    ["Size", bytes(artifact.sizeBytes)],
    ["Made by", artifact.skillId && `${artifact.skillId} ${artifact.skillVersion ?? ""}`],
    ["Made in", artifact.sourceRunId && <RunLink id={artifact.sourceRunId} step={artifact.stepId} />],
    ["Created", moment(artifact.createdAt)],
    ["SHA-256", artifact.contentHash && <Code text={artifact.contentHash} what="the hash" />],
    ["Stored at", <Code text={artifact.uri} what="the address" />],
  ];
  return (
    <>
      {error && <ErrorBox error={error} />}
      {url && (
        <p>
          <a class="button" href={url} download={nameOf(artifact)}>
            <Icon name="file" /> Download
          </a>
        </p>
      )}
      <dl class="facts">
        {rows
          .filter(([, value]) => value)
          .map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ))}
      </dl>
      {artifact.metadata && Object.keys(artifact.metadata).length > 0 && (
        <JsonView value={artifact.metadata} label="metadata" />
      )}
    </>
  );
}

function Code({ text, what }: { text: string; what: string }) {
  return (
    <span class="cache-key">
      <code title={text}>{text}</code>
      <Copy text={text} what={what} />
    </span>
  );
}
