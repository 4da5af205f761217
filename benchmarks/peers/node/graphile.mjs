// graphile-worker: a queue of plain jobs in PostgreSQL. The graph is kept by hand (chain.sql), and a step's output and the
// jobs that it makes ready are written in one transaction.
import fs from 'node:fs';
import { Logger, makeWorkerUtils, run } from 'graphile-worker';
import pg from 'pg';
import { GRAPHS, LAST, Runs, burst, measure, output, versionOf } from './peer.mjs';

const CONCURRENCY = 10;
const pool = new pg.Pool({ connectionString: process.env.PEER_DATABASE_URL, max: CONCURRENCY + 6 });
const logger = new Logger(() => () => {});
const utils = await makeWorkerUtils({ pgPool: pool, logger });
await utils.migrate();
await pool.query(fs.readFileSync(new URL('chain.sql', import.meta.url), 'utf8'));
for (const [kind, graph] of Object.entries(GRAPHS)) {
  const dependents = Object.fromEntries(Object.keys(graph).map((step) => [step, []]));
  for (const [step, needs] of Object.entries(graph)) for (const need of needs) dependents[need].push(step);
  for (const [step, needs] of Object.entries(graph)) {
    await pool.query('INSERT INTO chain.graph VALUES ($1, $2, $3, $4)', [kind, step, needs.length, dependents[step]]);
  }
}

const runs = new Runs();
const ENDS = new Set(Object.values(LAST));
const early = new Set();
const step = async ({ run: id, step: name }) => {
  await pool.query({ name: 'finish', text: 'SELECT chain.finish($1, $2, $3)', values: [id, name, JSON.stringify(output(name))] });
  if (ENDS.has(name)) { early.add(String(id)); runs.ended(String(id)); }
};
await run({
  pgPool: pool, taskList: { step }, noHandleSignals: true, logger,
  preset: { worker: { concurrentJobs: CONCURRENCY, pollInterval: 500 } },
});

await measure(`graphile-worker ${versionOf('graphile-worker')}`, (kind, n, callers) => burst(n, Math.min(callers, 8), async () => {
  const { rows } = await pool.query({ name: 'start', text: 'SELECT chain.start($1) AS id', values: [kind] });
  const id = String(rows[0].id), end = runs.end(id);
  if (early.has(id)) runs.ended(id); // it ended before its start call had returned
  return { end };
}));
