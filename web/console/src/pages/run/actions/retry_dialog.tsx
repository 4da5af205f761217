// Finishes a failed or cancelled run in a new one, after showing what that would execute.
import { retryRun } from "../../../api/runs";
import type { Run } from "../../../api/types";
import { shortId } from "../../../format";
import { Dialog } from "../../../parts/dialog";
import { ErrorBox, Loading } from "../../../parts/feedback";
import { PlanView } from "./plan_view";
import { usePlanning } from "./planning";

export function RetryDialog({ run, onClose }: { run: Run; onClose: () => void }) {
  const planning = usePlanning({}, (request, abort) => retryRun(run.id, request, abort));
  const submit = (event: Event) => {
    event.preventDefault();
    void planning.start();
  };
  return (
    <Dialog title={`Retry run ${shortId(run.id)}`} wide onClose={onClose}>
      <form onSubmit={submit}>
        <p class="quiet">A new run takes over what has succeeded and executes the rest.</p>
        {planning.error && <ErrorBox error={planning.error} />}
        {planning.plan && <PlanView plan={planning.plan} isChanged={planning.isChanged} />}
        {!planning.plan && !planning.error && <Loading lines={4} />}
        <div class="dialog-actions">
          <button class="button" type="button" onClick={onClose}>
            Close
          </button>
          <button class="button primary" type="submit" disabled={planning.plan === null || planning.isBusy}>
            Start the retry
          </button>
        </div>
      </form>
    </Dialog>
  );
}
