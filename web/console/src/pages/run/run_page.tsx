// One run, live.
import { useEffect, useMemo } from "preact/hooks";
import { RunModel } from "../../live/run_model";
import { useStreamHealth } from "../../live/connection";
import { ErrorBox, Loading } from "../../parts/feedback";
import { shortId } from "../../format";

export function RunPage({ id = "" }: { id?: string }) {
  const model = useMemo(() => new RunModel(id), [id]);
  useEffect(() => model.follow(), [model]);
  useStreamHealth(model.health);
  useEffect(() => {
    document.title = `Run ${shortId(id)} · RunEngine`;
  }, [id]);
  const run = model.run.value;
  const { error } = model.health.value;
  if (run === null) return <div class="page">{error ? <ErrorBox error={error} /> : <Loading />}</div>;
  return <div class="page">{run.status}</div>;
}
