// Cancels a run, for a reason.
import { useState } from "preact/hooks";
import { cancelRun } from "../../../api/runs";
import type { Run } from "../../../api/types";
import { plural, shortId } from "../../../format";
import { Dialog } from "../../../parts/dialog";
import { ErrorBox } from "../../../parts/feedback";

export function CancelDialog({ run, onClose }: { run: Run; onClose: () => void }) {
  const [reason, setReason] = useState("");
  const [error, setError] = useState<Error | null>(null);
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await cancelRun(run.id, reason.trim());
      onClose();
    } catch (refusal) {
      setError(refusal as Error);
      setBusy(false);
    }
  };
  return (
    <Dialog title={`Cancel run ${shortId(run.id)}?`} onClose={onClose}>
      <form onSubmit={submit}>
        <p>
          {plural(run.stepsSummary.running, "step")} that {run.stepsSummary.running === 1 ? "runs" : "run"} will be
          stopped. What has completed stays, and a retry goes on from there.
        </p>
        <label class="field">
          Reason
          <input
            value={reason}
            autofocus
            placeholder="for whoever looks at this run later"
            onInput={(event) => setReason(event.currentTarget.value)}
          />
        </label>
        {error && <ErrorBox error={error} />}
        <div class="dialog-actions">
          <button class="button" type="button" onClick={onClose}>
            Keep it
          </button>
          <button class="button danger" type="submit" disabled={isBusy}>
            Cancel the run
          </button>
        </div>
      </form>
    </Dialog>
  );
}
