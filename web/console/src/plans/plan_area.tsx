// The plan of what is being edited or the reason why there is none, and the buttons below it.
import { ErrorBox, Loading } from "../parts/feedback";
import type { Planning } from "./planning";
import { PlanView } from "./plan_view";

/** While nothing can be asked for, there is nothing to wait for either. */
export function PlanArea({ planning, isAsked = true }: { planning: Planning; isAsked?: boolean }) {
  const { plan, error, isBusy, isChanged } = planning;
  return (
    <div class="plan-area" aria-live="polite" aria-busy={isBusy}>
      {error && <ErrorBox error={error} />}
      {plan && <PlanView plan={plan} isChanged={isChanged} />}
      {!plan && !error && isAsked && <Loading lines={4} />}
    </div>
  );
}

/** The form's submit button says what it starts, and can be pressed once there is a plan. */
export function PlanActions({ planning, does, onClose }: { planning: Planning; does: string; onClose: () => void }) {
  return (
    <div class="dialog-actions">
      <button class="button" type="button" onClick={onClose}>
        Close
      </button>
      <button class="button primary" type="submit" disabled={planning.plan === null || planning.isBusy}>
        {does}
      </button>
    </div>
  );
}
