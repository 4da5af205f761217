// Text and JSON, as far as a page can show it.
import type { Artifact, Json } from "../../../api/types";
import { readContent } from "../../../api/artifacts";
import { bytes } from "../../../format";
import { usePolled } from "../../../live/poll";
import { ErrorBox, Loading } from "../../../parts/feedback";
import { JsonView } from "../../../parts/text";

const BYTES_MAX = 1_000_000;

export function TextPreview({ artifact }: { artifact: Artifact }) {
  if (artifact.sizeBytes > BYTES_MAX) {
    return <p class="quiet">{bytes(artifact.sizeBytes)} of text are more than a page shows well; download it instead.</p>;
  }
  return <Read artifact={artifact} />;
}

function Read({ artifact }: { artifact: Artifact }) {
  const found = usePolled(`content ${artifact.id}`, 0, async (abort) => (await readContent(artifact, abort)).text());
  const { value, error } = found.value;
  if (error) return <ErrorBox error={error} again={found.again} />;
  if (value === null) return <Loading />;
  const json = artifact.type.endsWith("json") ? parsed(value) : undefined;
  if (json !== undefined) return <JsonView value={json} label="content" />;
  return (
    <div class="json">
      <pre tabIndex={0} aria-label="content">
        {value}
      </pre>
    </div>
  );
}

function parsed(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}
