// Serves the example's skills: node src/main.js [port]. Everything that is specific to these skills is in skills.js.
import { Journal } from './journal.js';
import { SkillRunnerServer } from './skill-runner.server.js';
import { skills } from './skills.js';

const port = Number(process.argv[2] ?? process.env.PORT ?? 7005);
const journal = new Journal(process.env.JOURNAL ?? null);
const server = new SkillRunnerServer(skills, { journal, token: process.env.SKILL_TOKEN ?? null });

const address = await server.listen(port);
console.log(`skills listening on ${address}`);

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => server.close().then(() => process.exit(0)));
}
