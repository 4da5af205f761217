// The quickstart's service, as it stands there but for types and decorators; it is given the engine.
export class CampaignService {
  #runEngine;

  /** @param {import('./run-engine.service.js').RunEngineService} runEngine */
  constructor(runEngine) {
    this.#runEngine = runEngine;
  }

  async buildCampaign(campaignId, brief) {
    // Trigger initial build
    const runId = await this.#runEngine.trigger('campaign.build.v1', {
      campaignId,
      brief,
    });

    return runId;
  }

  async updateCampaignAudio(baseRunId, audioConfig) {
    // Trigger partial rebuild
    const updateRunId = await this.#runEngine.triggerUpdate(baseRunId, {
      type: 'audio.update',
      payload: audioConfig,
    });

    return updateRunId;
  }

  async getCampaignStatus(runId) {
    const run = await this.#runEngine.getRun(runId);
    return run;
  }
}
