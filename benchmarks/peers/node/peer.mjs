// What every Node peer shares: the graphs, the output of a step, the rounds of work, and the lines that say what came out.
// A peer gives `burst(kind, n, callers)`: n runs of a graph are started, so many calls at a time, and have all ended.
import { parseArgs } from 'node:util';
import fs from 'node:fs';

export const CAMPAIGN = {
  plan: [],
  generate_intro_image: ['plan'], generate_bgm_track: ['plan'], generate_sfx_pack: ['plan'],
  generate_outcome_video_win: ['plan'], generate_outcome_video_lose: ['plan'],
  generate_3d_asset: ['plan'], game_config_from_template: ['plan'],
  segment_start_button: ['generate_intro_image'], optimize_3d_asset: ['generate_3d_asset'],
  mix_audio_for_game: ['generate_bgm_track', 'generate_sfx_pack'],
  generate_intro_video_loop: ['generate_intro_image', 'segment_start_button'],
};
CAMPAIGN.assemble_manifest = Object.keys(CAMPAIGN);

const numbered = (count, name) => Array.from({ length: count }, (_, number) => name(number));
const FAN = { src: [] };
for (const step of numbered(1000, (number) => `m${number}`)) FAN[step] = ['src'];
FAN.sink = Object.keys(FAN).slice(1);
const CHAIN = Object.fromEntries(numbered(200, (number) => [`c${number}`, number ? [`c${number - 1}`] : []]));

export const GRAPHS = { campaign: CAMPAIGN, fan: FAN, chain: CHAIN, one: { only: [] } };
export const LAST = { campaign: 'assemble_manifest', fan: 'sink', chain: 'c199', one: 'only' };

const PAD = 'x'.repeat(940);
export const output = (step) => ({ step, ok: true, artifactUri: `s3://bench/${step}`, pad: PAD });

// Runs that have been started and not ended, by a tag of their own.
export class Runs {
  #ends = new Map();
  #next = 0;

  tag(kind) {
    return `${process.pid}-${this.#next++}-${kind}`;
  }

  ended(tag) {
    this.#ends.get(tag)?.(performance.now());
    this.#ends.delete(tag);
  }

  end(tag) {
    return new Promise((resolve) => this.#ends.set(tag, resolve));
  }
}

// n runs by so many callers; `start` makes the call and gives a promise of the moment of the run's end.
export async function burst(n, callers, start) {
  const begun = performance.now();
  const latencies = [], calls = [], ends = [];
  let left = n, last = begun;
  const caller = async () => {
    while (left-- > 0) {
      const at = performance.now();
      const { end } = await start();
      ends.push(end.then((ended) => { last = Math.max(last, ended); latencies.push(ended - at); }));
      calls.push(performance.now() - at);
    }
  };
  await Promise.all(numbered(callers, caller));
  const started = performance.now();
  await Promise.all(ends);
  return { ms: last - begun, startedMs: started - begun, latencies, calls };
}

const percentile = (values, percent) => {
  const ordered = [...values].sort((one, other) => one - other);
  return ordered[Math.min(ordered.length - 1, Math.floor((ordered.length * percent) / 100))];
};

function say(version, work, n, steps, ms, latencies) {
  const row = { work, n, steps, seconds: ms / 1e3, p50_ms: percentile(latencies, 50), p99_ms: percentile(latencies, 99) };
  console.log(JSON.stringify({ ...row, version }));
}

// A warm-up, then everything that the command line asks for, once.
export async function measure(version, run) {
  const { values } = parseArgs({ options: { work: { type: 'string' }, n: { type: 'string' } } });
  const works = values.work.split(','), sizes = values.n.split(',').map(Number), calls = Math.max(...sizes);
  await run('campaign', 100, 4);
  if (works.includes('one20')) {
    const latencies = [], begun = performance.now();
    for (let number = 0; number < 20; number++) latencies.push(...(await run('campaign', 1, 1)).latencies);
    say(version, 'one20', 20, 260, performance.now() - begun, latencies);
  }
  if (works.includes('w1')) {
    for (const n of sizes) { const found = await run('campaign', n, 16); say(version, 'w1', n, n * 13, found.ms, found.latencies); }
  }
  for (const [work, kind] of [['w2', 'fan'], ['w3', 'chain']]) {
    if (!works.includes(work)) continue;
    const found = await run(kind, 1, 1);
    say(version, work, 1, Object.keys(GRAPHS[kind]).length, found.ms, found.latencies);
  }
  if (works.includes('w4')) {
    const found = await run('one', calls, 32);
    say(version, 'w4', calls, calls, found.startedMs, found.calls);
  }
  process.exit(0);
}

// The installed version of a package, whatever it exports.
export const versionOf = (name) =>
  JSON.parse(fs.readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;
