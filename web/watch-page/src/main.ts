// The page: starts a run, then shows each of its events when it happens.

import { timestampDate, type Timestamp } from "@bufbuild/protobuf/wkt";
import type { JsonObject } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import type { RunEvent } from "./gen/runengine/v1/event_pb";
import { RunEngine, type WatchRunResponse } from "./gen/runengine/v1/run_engine_pb";
import { RunStatus, StepStatus } from "./gen/runengine/v1/run_pb";
import { watchRun } from "./watch";

const form = element("start", HTMLFormElement);
const state = element("state", HTMLElement);
const problem = element("problem", HTMLElement);
const list = element("events", HTMLOListElement);

const address = new URLSearchParams(location.search);
for (const name of ["url", "workflow", "payload"]) {
  const given = address.get(name);
  if (given !== null) {
    field(name).value = given;
  }
}

form.addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  void start().catch(show);
});

/** The run is started, and followed to its end. */
async function start(): Promise<void> {
  problem.textContent = "";
  list.replaceChildren();
  const client = createClient(RunEngine, transport());
  const triggerPayload = JSON.parse(field("payload").value) as JsonObject;
  // With a request id of its own the call may be repeated: it still starts one run.
  const requestId = crypto.randomUUID();
  const { runId } = await client.trigger({ workflowName: field("workflow").value, triggerPayload, requestId });
  list.dataset["runId"] = runId;
  say("connecting");
  const messages = watchRun(client, runId, {
    afterSequence: 0n,
    onConnected: () => say("live"),
    onInterrupted: (reason) => say("reconnecting", reason.rawMessage),
  });
  for await (const message of messages) {
    tell(message);
  }
}

function tell(message: WatchRunResponse): void {
  switch (message.kind.case) {
    case "events":
      list.append(...message.kind.value.events.map(item));
      break;
    case "snapshot": // history is gone, or we were too slow: the state in place of the events
      list.append(line(`snapshot: the run is ${word(RunStatus, message.kind.value.run?.status)}`, message.sequence));
      break;
    case "end":
      say("ended", word(RunStatus, message.kind.value.run?.status));
      break;
  }
}

function item(event: RunEvent): HTMLLIElement {
  const { detail, stepId } = event;
  switch (detail.case) {
    case "run":
      return line(`run is ${word(RunStatus, detail.value.toStatus)}`, event.sequence, event.occurredAt);
    case "step":
      return line(`${stepId} is ${word(StepStatus, detail.value.toStatus)}`, event.sequence, event.occurredAt);
    case "artifact":
      return line(`${stepId} published ${detail.value.filename}`, event.sequence, event.occurredAt);
    default:
      return line(`${stepId} goes on`, event.sequence, event.occurredAt);
  }
}

function line(text: string, sequence: bigint, at?: Timestamp): HTMLLIElement {
  const made = document.createElement("li");
  made.dataset["sequence"] = sequence.toString();
  made.dataset["seenAt"] = Date.now().toString();
  if (at !== undefined) {
    made.dataset["occurredAt"] = timestampDate(at).getTime().toString();
    const time = document.createElement("time");
    time.textContent = timestampDate(at).toLocaleTimeString();
    made.append(time, " ");
  }
  made.append(text);
  return made;
}

function transport(): Transport {
  const token: Interceptor = (next) => (request) => {
    request.header.set("authorization", `Bearer ${field("token").value}`);
    return next(request);
  };
  const options = { baseUrl: field("url").value, interceptors: [token] };
  return address.get("protocol") === "grpc-web" ? createGrpcWebTransport(options) : createConnectTransport(options);
}

function say(what: string, why = ""): void {
  state.textContent = why ? `${what}: ${why}` : what;
  state.dataset["state"] = what;
}

function show(error: unknown): void {
  const refused = ConnectError.from(error);
  // A browser keeps from the page why there was no answer.
  const isUnheard = refused.cause instanceof TypeError;
  problem.textContent = isUnheard
    ? `No answer. Does an engine run at ${field("url").value}, with ${location.origin} in its RUNENGINE_CORS_ORIGINS?`
    : `${Code[refused.code]}: ${refused.rawMessage}`;
}

/** The word of an enum's value, as people write it. */
function word(names: Record<number, string>, value = 0): string {
  return (names[value] ?? "unknown").toLowerCase();
}

function field(name: string): HTMLInputElement {
  return element(name, HTMLInputElement);
}

function element<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) {
    throw new Error(`the page has no ${kind.name} #${id}`);
  }
  return found;
}
