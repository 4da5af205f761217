// Builds a campaign, changes its audio, and says what was executed and what was reused:
//   RUNENGINE_URL=http://localhost:3001 TOKEN=… node src/campaign.js
import { setTimeout as wait } from 'node:timers/promises';
import { CampaignService } from './campaign.service.js';
import { RunEngineService } from './run-engine.service.js';

const runEngine = new RunEngineService({
  url: process.env.RUNENGINE_URL ?? 'http://localhost:3001',
  token: process.env.TOKEN,
});
const campaigns = new CampaignService(runEngine);

async function finished(runId) {
  for (;;) {
    const run = await campaigns.getCampaignStatus(runId);
    if (!['queued', 'running'].includes(run.status)) return run;
    await wait(200);
  }
}

async function tell(run) {
  console.log(`run ${run.id} ${run.status}`);
  for (const step of await runEngine.listSteps(run.id)) {
    console.log(`  ${step.stepId}: ${step.status}${step.outputSource ? ` (${step.outputSource})` : ''}`);
  }
}

const campaignId = process.argv[2] ?? '123e4567-e89b-12d3-a456-426614174000';
const base = await finished(await campaigns.buildCampaign(campaignId, { title: 'Summer Sale Campaign', style: 'energetic' }));
await tell(base);
const update = await finished(await campaigns.updateCampaignAudio(base.id, { audioStyle: 'epic', volumeBoost: 1.2 }));
await tell(update);
if (base.status !== 'completed' || update.status !== 'completed') process.exitCode = 1;
