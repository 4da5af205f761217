// The same client in Node: starts a run and prints each of its events when it happens.
//   RUNENGINE_URL=… TOKEN=… npm run follow -- campaign.build.v1 '{"brief":{"title":"Summer Sale Campaign","style":"energetic"}}' [connect|grpc-web]

import type { JsonObject } from "@bufbuild/protobuf";
import { ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { RunEngine } from "./gen/runengine/v1/run_engine_pb";
import { RunStatus, StepStatus } from "./gen/runengine/v1/run_pb";
import { watchRun } from "./watch";

const [workflowName = "campaign.build.v1", payload = "{}", protocol = "connect"] = process.argv.slice(2);
const token: Interceptor = (next) => (request) => {
  request.header.set("authorization", `Bearer ${process.env["TOKEN"] ?? ""}`);
  return next(request);
};
const options = { baseUrl: process.env["RUNENGINE_URL"] ?? "http://127.0.0.1:3001", interceptors: [token] };
const client = createClient(
  RunEngine,
  protocol === "grpc-web" ? createGrpcWebTransport(options) : createConnectTransport(options),
);

try {
  const { runId } = await client.trigger({
    workflowName,
    triggerPayload: JSON.parse(payload) as JsonObject,
    requestId: crypto.randomUUID(),
  });
  console.log(`run ${runId}`);
  for await (const { kind } of watchRun(client, runId, { afterSequence: 0n })) {
    if (kind.case === "events") {
      for (const { sequence, stepId, detail } of kind.value.events) {
        if (detail.case === "run") {
          console.log(`${sequence} run is ${RunStatus[detail.value.toStatus].toLowerCase()}`);
        } else if (detail.case === "step") {
          console.log(`${sequence} ${stepId} is ${StepStatus[detail.value.toStatus].toLowerCase()}`);
        }
      }
    }
  }
} catch (thrown) {
  const refused = ConnectError.from(thrown);
  console.error(refused.message);
  process.exitCode = 1;
}
