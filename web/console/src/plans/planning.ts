// Asks for a plan while somebody edits, and starts exactly what was planned.
import { useEffect, useMemo, useState } from "preact/hooks";
import { ApiError } from "../api/client";
import type { JsonObject, RebuildPlan, Started } from "../api/types";
import { navigate } from "../router";

const PAUSE_MS = 350;

type Ask = (request: JsonObject, abort?: AbortSignal) => Promise<Started>;

interface Planned {
  readonly plan: RebuildPlan | null;
  readonly error: Error | null;
}

export interface Planning extends Planned {
  readonly isBusy: boolean;
  readonly isChanged: boolean;
  /** For the form around it. */
  readonly submit: (event: Event) => void;
}

/**
 * The plan of a request, null while there is none; asked anew shortly after the request changes.
 *
 * `submit` asks for the run with the plan's digest, so that nothing else than what was shown is executed. Its request id
 * stays while the plan stays: when the answer is lost, a second click finds the run that the first one started.
 */
export function usePlanning(request: JsonObject | null, ask: Ask): Planning {
  const [planned, setPlanned] = useState<Planned>({ plan: null, error: null });
  const [isBusy, setBusy] = useState(false);
  const [isChanged, setChanged] = useState(false);
  const [round, setRound] = useState(0);
  const key = JSON.stringify(request);
  const digest = planned.plan?.digest ?? "";
  const requestId = useMemo(() => randomId(), [key, digest]);

  useEffect(() => setChanged(false), [key]);
  useEffect(() => {
    setPlanned((before) => ({ ...before, error: null }));
    if (request === null) return setPlanned({ plan: null, error: null });
    const abort = new AbortController();
    const timer = setTimeout(async () => {
      setBusy(true);
      const next = await read(() => ask({ ...request, validateOnly: true }, abort.signal));
      if (abort.signal.aborted) return;
      setPlanned(next);
      setBusy(false);
    }, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [key, round]);

  const start = async () => {
    setBusy(true);
    try {
      const { runId } = await ask({ ...request!, requestId, expectedPlanDigest: digest });
      navigate(`/runs/${runId}`);
    } catch (error) {
      if (error instanceof ApiError && error.code === "PLAN_CHANGED") {
        setChanged(true);
        setRound(round + 1);
      } else {
        setPlanned({ ...planned, error: error as Error });
      }
    }
    setBusy(false);
  };
  const submit = (event: Event) => {
    event.preventDefault();
    void start();
  };
  return { ...planned, isBusy, isChanged, submit };
}

async function read(ask: () => Promise<Started>): Promise<Planned> {
  try {
    return { plan: (await ask()).plan ?? null, error: null };
  } catch (error) {
    return { plan: null, error: error as Error };
  }
}

/** Random enough for a request id; `crypto.randomUUID` is there on encrypted and local pages only. */
function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
