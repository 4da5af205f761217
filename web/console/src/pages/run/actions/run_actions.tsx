// What can be done with a run as it is now: update, retry, cancel.
import { useState } from "preact/hooks";
import type { Run, RunStatus } from "../../../api/types";
import { useShortcuts } from "../../../keyboard";
import { Icon, type IconName } from "../../../parts/icons";
import { CancelDialog } from "./cancel_dialog";
import { RetryDialog } from "./retry_dialog";
import { UpdateDialog } from "./update_dialog";

const ACTIONS = {
  update: { name: "Update…", icon: "update", look: "primary", Dialog: UpdateDialog },
  retry: { name: "Retry…", icon: "retry", look: "primary", Dialog: RetryDialog },
  cancel: { name: "Cancel…", icon: "stop", look: "danger", Dialog: CancelDialog },
} as const satisfies Record<string, { name: string; icon: IconName; look: string; Dialog: unknown }>;

type Action = keyof typeof ACTIONS;

const POSSIBLE: Record<RunStatus, Action> = {
  queued: "cancel",
  running: "cancel",
  completed: "update",
  failed: "retry",
  cancelled: "retry",
};

export function RunActions({ run }: { run: Run }) {
  const [opened, open] = useState<Action | null>(null);
  const possible = POSSIBLE[run.status];
  const { name, icon, look } = ACTIONS[possible];
  useShortcuts([{ keys: "a", does: "Update, retry or cancel the run", run: () => open(possible) }]);
  const Opened = opened && ACTIONS[opened].Dialog;
  return (
    <div class="run-actions">
      <button class={`button ${look}`} type="button" onClick={() => open(possible)}>
        <Icon name={icon} />
        {name}
      </button>
      {Opened && <Opened run={run} onClose={() => open(null)} />}
    </div>
  );
}
