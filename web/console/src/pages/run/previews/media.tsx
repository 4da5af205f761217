// Pictures, sounds and films, shown by the browser itself.
import type { Artifact } from "../../../api/types";
import { ErrorBox, Loading } from "../../../parts/feedback";
import { nameOf } from "../tabs/artifact_list";
import { useContentUrl } from "./content_url";

interface Props {
  readonly artifact: Artifact;
}

export function ImagePreview({ artifact }: Props) {
  const { url, error, onError } = useContentUrl(artifact);
  if (error) return <ErrorBox error={error} />;
  if (url === null) return <Loading />;
  return <img class="preview-image" src={url} alt={nameOf(artifact)} onError={onError} />;
}

export function AudioPreview({ artifact }: Props) {
  const { url, error, onError } = useContentUrl(artifact);
  if (error) return <ErrorBox error={error} />;
  if (url === null) return <Loading lines={2} />;
  return <audio controls preload="metadata" src={url} aria-label={nameOf(artifact)} onError={onError} />;
}

export function VideoPreview({ artifact }: Props) {
  const { url, error, onError } = useContentUrl(artifact);
  if (error) return <ErrorBox error={error} />;
  if (url === null) return <Loading />;
  return <video controls loop muted preload="metadata" src={url} aria-label={nameOf(artifact)} onError={onError} />;
}
