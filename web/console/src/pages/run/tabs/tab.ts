// What every tab of the run page is given.
import type { RunModel } from "../../../live/run_model";

export interface TabProps {
  readonly model: RunModel;
  /** The selected step's id. */
  readonly step: string | null;
  readonly select: (stepId: string | null) => void;
}
