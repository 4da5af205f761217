// The queue: how deep it is, how old, by skill; which steps wait for another attempt, and which are stuck.
import { useEffect } from "preact/hooks";
import { getQueue, type Queue } from "../../api/queue";
import { count } from "../../format";
import { usePolledHealth } from "../../live/connection";
import { usePolled } from "../../live/poll";
import { Empty, ErrorBox, Loading } from "../../parts/feedback";
import { DepthCards } from "./depth_cards";
import { QueuedSteps } from "./queued_steps";
import { SkillTable } from "./skill_table";

const REFRESH_MS = 1_000; // the engine reads it anew once a second

export function QueuePage() {
  const queue = usePolled("queue", REFRESH_MS, getQueue);
  usePolledHealth(queue);
  useEffect(() => {
    document.title = "Queue · RunEngine";
  }, []);
  const { value, error } = queue.value;
  return (
    <div class="page">
      <div class="page-head">
        <h1>Queue</h1>
        {value && <Engines alive={value.enginesAlive} />}
      </div>
      {error && <ErrorBox error={error} again={queue.again} />}
      {!value && !error && <Loading />}
      {value && <Contents queue={value} />}
    </div>
  );
}

function Engines({ alive }: { alive: number }) {
  return (
    <div class="end">
      <span class={alive > 0 ? "chip" : "pill s-failed"}>
        {count(alive)} {alive === 1 ? "engine" : "engines"} alive
      </span>
    </div>
  );
}

function Contents({ queue }: { queue: Queue }) {
  const isEmpty = queue.skills.length === 0;
  return (
    <div class="queue">
      <DepthCards depths={queue.total} />
      {queue.stuck.length > 0 && <QueuedSteps title="Stuck" steps={queue.stuck} total={queue.total.stuck.steps} />}
      {isEmpty ? (
        <div class="panel">
          <Empty title="Nothing waits and nothing runs" />
        </div>
      ) : (
        <SkillTable skills={queue.skills} />
      )}
      {queue.delayed.length > 0 && (
        <QueuedSteps title="Waiting for another attempt" steps={queue.delayed} total={queue.total.delayed.steps} />
      )}
    </div>
  );
}
