// Restate: its server is a process of its own, this one serves the steps to it over HTTP/2 with the TypeScript SDK.
import http from 'node:http';
import * as restate from '@restatedev/restate-sdk';
import { GRAPHS, Runs, burst, measure, output, versionOf } from './peer.mjs';

const runs = new Runs();
const LEVELS = Object.fromEntries(Object.entries(GRAPHS).map(([kind, graph]) => {
  const depth = {}, levels = [];
  for (const [step, needs] of Object.entries(graph)) {
    depth[step] = 1 + needs.reduce((deepest, need) => Math.max(deepest, depth[need]), -1);
    (levels[depth[step]] ??= []).push(step);
  }
  return [kind, levels];
}));

const service = restate.service({
  name: 'Bench',
  handlers: {
    run: async (context, { kind, tag }) => {
      for (const level of LEVELS[kind]) {
        await restate.RestatePromise.all(level.map((step) => context.run(step, async () => output(step))));
      }
      runs.ended(tag);
      return 'done';
    },
  },
});

const agent = new http.Agent({ keepAlive: true, maxSockets: 256 });
const post = (base, path, value) => new Promise((resolve, reject) => {
  const body = JSON.stringify(value);
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  const request = http.request(new URL(path, base), { method: 'POST', agent, headers }, (answer) => {
    let text = '';
    answer.on('data', (part) => { text += part; });
    answer.on('end', () => (answer.statusCode < 300 ? resolve(text) : reject(new Error(`${answer.statusCode} ${text}`))));
  });
  request.on('error', reject);
  request.end(body);
});

const { PEER_INGRESS, PEER_ADMIN, PEER_PORT } = process.env;
await restate.serve({ services: [service], port: Number(PEER_PORT) });
await post(PEER_ADMIN, '/deployments', { uri: `http://127.0.0.1:${PEER_PORT}`, force: true, breaking: true });

const version = `Restate ${versionOf('@restatedev/restate-server')}, SDK ${versionOf('@restatedev/restate-sdk')}`;
await measure(version, (kind, n, callers) => burst(n, callers, async () => {
  const tag = runs.tag(kind), end = runs.end(tag);
  await post(PEER_INGRESS, '/Bench/run/send', { kind, tag });
  return { end };
}));
