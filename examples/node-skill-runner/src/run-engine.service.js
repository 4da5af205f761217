// The engine's REST surface as a service: what the quickstart's CampaignService is given.
export class RunEngineService {
  #url;
  #token;

  /** @param {{url: string, token: string}} options such as http://localhost:3001 */
  constructor({ url, token }) {
    this.#url = `${url}/api/v1`;
    this.#token = token;
  }

  /** Starts an initial run; resolves to its id. */
  async trigger(workflowName, triggerPayload) {
    const { runId } = await this.#request('POST', '/runs', { workflowName, triggerPayload });
    return runId;
  }

  /** Starts a partial rebuild of a completed run; resolves to the new run's id. */
  async triggerUpdate(baseRunId, { type, payload }) {
    const { runId } = await this.#request('POST', `/runs/${baseRunId}/update`, { changeRequest: { type, payload } });
    return runId;
  }

  /** The run as it is now. */
  async getRun(runId) {
    return this.#request('GET', `/runs/${runId}`);
  }

  /** The run's steps in the workflow's order. */
  async listSteps(runId) {
    const { steps } = await this.#request('GET', `/runs/${runId}/steps?pageSize=500`);
    return steps;
  }

  async #request(method, path, document) {
    const response = await fetch(this.#url + path, {
      method,
      headers: { 'content-type': 'application/json', authorization: `Bearer ${this.#token}` },
      body: document && JSON.stringify(document),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(`${answer.error.code}: ${answer.error.message}`);
    return answer;
  }
}
