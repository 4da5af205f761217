// A skill server in Node over gRPC: node skill.js [port]. The protos are read as they are, no code is generated.
import { fileURLToPath } from 'node:url';
import { setTimeout as wait } from 'node:timers/promises';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { Calls } from './calls.js';

const PROTOS = fileURLToPath(new URL('../../protos', import.meta.url));
const SHADES = 5;

const skills = {
  'color.palette': {
    version: '1.0.0',
    description: 'Chooses colours for a title.',
    async run({ title }, { signal, progress }) {
      if (!title) throw Object.assign(new Error('There is no title to choose colours for'), { code: 'NO_TITLE' });
      const hue = [...title].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
      const colors = [];
      for (let shade = 1; shade <= SHADES; shade++) {
        await wait(20, undefined, { signal });
        colors.push(`hsl(${hue}, 70%, ${shade * 16}%)`);
        progress(shade / SHADES, `${shade} of ${SHADES} shades`);
      }
      return { colors };
    },
  },
};
const calls = new Calls();

function execute(call) {
  const { skillId, idempotencyKey, inputJson, heartbeatInterval } = call.request;
  const skill = skills[skillId];
  if (!skill) return call.emit('error', { code: grpc.status.NOT_FOUND, details: `There is no skill ${skillId} here` });

  const { work, attached, replayed } = calls.join(idempotencyKey, (context) => skill.run(JSON.parse(inputJson), context));
  call.write({ accepted: { workerId: `node-${process.pid}`, skillVersion: skill.version, attached, replayed } });
  const heartbeatMs = Number(heartbeatInterval.seconds) * 1000 + heartbeatInterval.nanos / 1e6;
  const heartbeat = setInterval(() => call.write({ heartbeat: {} }), heartbeatMs / 2);
  const forget = work.listen((fraction, message) => call.write({ progress: { fraction, message } }));
  const leave = () => {
    clearInterval(heartbeat);
    forget();
  };
  call.on('cancelled', leave); // or the engine was lost: grpc-js does not tell which
  work.outcome
    .then(
      (output) => call.write({ result: { outputJson: Buffer.from(JSON.stringify(output)) } }),
      ({ code, message }) => call.write({ failure: { code: code ?? 'SKILL_FAILED', message, retryable: !code } }),
    )
    .finally(() => {
      leave();
      call.end();
    });
}

function listSkills(_, answer) {
  const described = Object.entries(skills).map(([skillId, { version, description }]) => ({
    skillId, version, description, maxConcurrency: 4, defaultTimeout: { seconds: 30 },
  }));
  answer(null, { skills: described });
}

const definition = loadSync('runengine/v1/skill_runner.proto', { includeDirs: [PROTOS], longs: Number });
const { SkillRunnerService } = grpc.loadPackageDefinition(definition).runengine.v1;
const server = new grpc.Server();
server.addService(SkillRunnerService.service, { execute, listSkills });
server.bindAsync(`127.0.0.1:${process.argv[2] ?? 7006}`, grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(`skills listening on grpc://127.0.0.1:${port}`);
});
process.on('SIGTERM', () => server.tryShutdown(() => process.exit(0)));
