// Finishes a failed or cancelled run in a new one, after showing what that would execute.
import { retryRun } from "../../../api/runs";
import type { Run } from "../../../api/types";
import { shortId } from "../../../format";
import { Dialog } from "../../../parts/dialog";
import { PlanActions, PlanArea } from "../../../plans/plan_area";
import { usePlanning } from "../../../plans/planning";

export function RetryDialog({ run, onClose }: { run: Run; onClose: () => void }) {
  const planning = usePlanning({}, (request, abort) => retryRun(run.id, request, abort));
  return (
    <Dialog title={`Retry run ${shortId(run.id)}`} wide onClose={onClose}>
      <form onSubmit={planning.submit}>
        <p class="quiet">A new run takes over what has succeeded and executes the rest.</p>
        <PlanArea planning={planning} />
        <PlanActions planning={planning} does="Start the retry" onClose={onClose} />
      </form>
    </Dialog>
  );
}
