// What an artifact looks or sounds like.
import type { Artifact } from "../../../api/types";

export function ArtifactPreview({ artifact }: { artifact: Artifact }) {
  return <p class="quiet">No preview of {artifact.type} yet.</p>;
}
