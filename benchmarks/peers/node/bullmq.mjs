// BullMQ's flows: FlowProducer and Worker in one process, on a Valkey that syncs its log at every write.
// A flow is a tree, where each job has one parent, and the campaign is none: `plan` is a job of its own that adds the tree
// of the rest when it runs. Edges that the tree implies are left out.
import { FlowProducer, Queue, Worker } from 'bullmq';
import Redis from 'ioredis';
import { GRAPHS, LAST, Runs, burst, measure, output, versionOf } from './peer.mjs';

const connection = () => new Redis(process.env.PEER_REDIS_URL, { maxRetriesPerRequest: null });
const queue = new Queue('bench', { connection: connection() });
const flows = new FlowProducer({ connection: connection() });
const runs = new Runs();
const KEEP = { removeOnComplete: false };

const job = (tag, name, ...children) => ({ name, queueName: 'bench', data: { tag }, opts: KEEP, children });
function tree(tag, kind) {
  const node = (name, ...children) => job(tag, name, ...children);
  if (kind === 'fan') return node('sink', ...GRAPHS.fan.sink.map((name) => node(name)));
  if (kind === 'chain') return Object.keys(GRAPHS.chain).reduce((child, name) => node(name, ...(child ? [child] : [])), null);
  return node(
    'assemble_manifest',
    node('generate_intro_video_loop', node('segment_start_button', node('generate_intro_image'))),
    node('optimize_3d_asset', node('generate_3d_asset')),
    node('mix_audio_for_game', node('generate_bgm_track'), node('generate_sfx_pack')),
    node('generate_outcome_video_win'), node('generate_outcome_video_lose'), node('game_config_from_template'),
  );
}
const HEAD = { plan: 'campaign', src: 'fan' };
const FIRST = { campaign: 'plan', fan: 'src', one: 'only' };
const ENDS = new Set(Object.values(LAST));

const worker = new Worker('bench', async ({ name, data }) => {
  if (HEAD[name]) await flows.add(tree(data.tag, HEAD[name]));
  return output(name);
}, { connection: connection(), concurrency: 50 });
worker.on('completed', ({ name, data }) => { if (ENDS.has(name)) runs.ended(data.tag); });
worker.on('failed', (_, error) => { throw error; });
await worker.waitUntilReady();

await measure(`BullMQ ${versionOf('bullmq')}`, (kind, n, callers) => burst(n, callers, async () => {
  const tag = runs.tag(kind), end = runs.end(tag);
  if (kind === 'chain') await flows.add(tree(tag, kind));
  else await queue.add(FIRST[kind], { tag }, KEEP);
  return { end };
}));
