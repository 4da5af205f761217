// The payload of a new run and its plan; what is shown is what is started, in exactly this version of the workflow.
import { useState } from "preact/hooks";
import { lastRun, triggerRun } from "../api/runs";
import type { JsonObject, Workflow } from "../api/types";
import { usePolled } from "../live/poll";
import { RunLink, When } from "../parts/text";
import { CACHE_MODES, CacheModeField } from "../plans/cache_mode_field";
import { example, PayloadEditor, readObject } from "../plans/payload_editor";
import { PlanActions, PlanArea } from "../plans/plan_area";
import { usePlanning } from "../plans/planning";
import { readLabels } from "./labels";

/** What `example` writes where somebody has to fill in something. */
const BLANK = /: (""|null)/;

const MODES = [["", "use what is cached"], ...CACHE_MODES] as const;

interface Props {
  readonly workflow: Workflow;
  /** To begin with; without it the members that the schema demands. */
  readonly payload: JsonObject | undefined;
  readonly onClose: () => void;
}

export function TriggerForm({ workflow, payload: given, onClose }: Props) {
  const [begun] = useState(() => written(given ?? example({ type: "object", ...workflow.triggerSchema })));
  const [text, setText] = useState(begun);
  const [labelText, setLabelText] = useState("");
  const [cacheMode, setCacheMode] = useState("");
  const payload = readObject(text);
  const labels = readLabels(labelText);
  const isUnwritten = text === begun && BLANK.test(begun);
  const request: JsonObject | null =
    isUnwritten || payload instanceof Error || labels instanceof Error
      ? null
      : {
          workflowName: workflow.workflowName,
          workflowVersion: workflow.version,
          triggerPayload: payload,
          ...(labelText.trim() && { labels }),
          ...(cacheMode && { cacheMode }),
        };
  const planning = usePlanning(request, triggerRun);
  return (
    <form class="plan-form trigger-form" onSubmit={planning.submit}>
      <div class="plan-request">
        <PayloadEditor text={text} onText={setText} schema={workflow.triggerSchema} />
        <LastPayload name={workflow.workflowName} onTake={(taken) => setText(written(taken))} />
        <label class="field">
          Labels
          <input
            value={labelText}
            placeholder="key=value …"
            spellcheck={false}
            aria-invalid={labels instanceof Error}
            onInput={(event) => setLabelText(event.currentTarget.value)}
          />
        </label>
        {labels instanceof Error && (
          <p class="wrong-text" role="alert">
            {labels.message}
          </p>
        )}
        <CacheModeField value={cacheMode} onValue={setCacheMode} modes={MODES} />
      </div>
      {isUnwritten ? (
        <p class="plan-area quiet">Fill in the payload, and the plan appears here.</p>
      ) : (
        <PlanArea planning={planning} isAsked={request !== null} />
      )}
      <PlanActions planning={planning} does="Start the run" onClose={onClose} />
    </form>
  );
}

/** Most runs are like one before. */
function LastPayload({ name, onTake }: { name: string; onTake: (payload: JsonObject) => void }) {
  const found = usePolled(`last run ${name}`, 0, (abort) => lastRun(name, abort));
  const run = found.value.value;
  if (!run?.triggerPayload) return null;
  return (
    <p class="last-payload">
      <button class="link" type="button" onClick={() => onTake(run.triggerPayload!)}>
        Take the payload of the last run
      </button>
      <span class="quiet">
        <RunLink id={run.id} />, <When at={run.createdAt} />
      </span>
    </p>
  );
}

function written(value: unknown): string {
  return JSON.stringify(value, null, 2);
}
