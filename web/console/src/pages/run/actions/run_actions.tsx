// What can be done with a run.
import type { Run } from "../../../api/types";

export function RunActions(_: { run: Run }) {
  return null;
}
