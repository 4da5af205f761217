// RunEngine's HTTP contract for skills (docs/http-skills.md) over node:http:
//   POST   /skills/execute      one attempt: 200 with the output, 202 and a callback later, or an error
//   GET    /skills/skills       what is offered
//   DELETE /skills/calls/:key   nobody wants this call any more
import { createServer } from 'node:http';
import { CallbackClient } from './callback.client.js';
import { SkillError } from './skills.js';

const BODY_BYTES_MAX = 3 << 20;

export class SkillRunnerServer {
  #skills;
  #journal;
  #token;
  #http = createServer((request, response) => this.#answer(request, response));
  #running = new Map(); // by idempotency key: the attempt that is to be told, and how to stop the work

  /**
   * @param {Array<object>} skills see skills.js
   * @param {{journal: import('./journal.js').Journal, token: string | null}} options token: what the engine must show
   */
  constructor(skills, { journal, token }) {
    this.#skills = new Map(skills.map((skill) => [skill.skillId, skill]));
    this.#journal = journal;
    this.#token = token;
  }

  /** Listens on this machine only; resolves to the base URL for the engine's target map. */
  async listen(port) {
    await new Promise((resolve, reject) => this.#http.once('error', reject).listen(port, '127.0.0.1', resolve));
    return `http://127.0.0.1:${this.#http.address().port}/skills`;
  }

  /** Stops; calls that are left go on at the engine's next attempt, on whichever runner answers then. */
  async close() {
    this.#http.closeAllConnections();
    await new Promise((resolve) => this.#http.close(resolve));
  }

  async #answer(request, response) {
    try {
      this.#authorize(request);
      const [, base, what, key] = new URL(request.url, 'http://runner').pathname.split('/');
      const route = base === 'skills' ? `${request.method} ${what}` : '';
      if (route === 'POST execute') return await this.#execute(await readJson(request), response);
      if (route === 'GET skills') return send(response, 200, { skills: [...this.#skills.values()].map(describe) });
      if (route === 'DELETE calls') return this.#cancel(decodeURIComponent(key ?? ''), request, response);
      return sendError(response, 404, new SkillError('PATH_NOT_FOUND', 'There is nothing here'));
    } catch (error) {
      return sendError(response, error.status ?? 500, error);
    }
  }

  async #execute(order, response) {
    const { idempotencyKey: key, skillId } = order;
    const skill = this.#skills.get(skillId);
    if (!skill) return sendError(response, 404, new SkillError('SKILL_UNAVAILABLE', `There is no skill ${skillId} here`));
    const finished = this.#journal.finished(key);
    if (finished) return send(response, 200, finished);
    if (skill.isLong) {
      this.#begin(skill, order);
      return send(response, 202, { workerId: `node-${process.pid}` });
    }
    try {
      return send(response, 200, await this.#work(skill, order, new AbortController().signal, async () => {}));
    } catch (error) {
      return sendError(response, 422, error);
    }
  }

  /** Starts a long call; one that runs already is joined: its newest attempt is told. */
  #begin(skill, order) {
    const known = this.#running.get(order.idempotencyKey);
    if (known) {
      if (order.fencingToken > known.client.fencingToken) known.client.attend(order);
      return;
    }
    const abort = new AbortController();
    const client = new CallbackClient(order, () => abort.abort());
    this.#running.set(order.idempotencyKey, { client, abort });
    this.#work(skill, order, abort.signal, (fraction, message) => client.progress(fraction, message))
      .then((answer) => client.complete(answer), (error) => abort.signal.aborted || client.fail(errorOf(error)))
      .catch((error) => console.error(`callback of ${order.idempotencyKey} was not heard: ${error.message}`))
      .finally(() => {
        client.close();
        this.#running.delete(order.idempotencyKey);
      });
  }

  async #work(skill, order, signal, progress) {
    this.#journal.started(order);
    const output = await skill.run(order.input, { signal, progress });
    const answer = { output, skillVersion: skill.version };
    this.#journal.succeeded(order.idempotencyKey, answer);
    return answer;
  }

  #cancel(key, request, response) {
    const call = this.#running.get(key);
    const token = Number(request.headers['runengine-fencing-token']);
    if (call && token >= call.client.fencingToken) call.abort.abort(); // a later attempt may have joined
    return send(response, 204);
  }

  #authorize(request) {
    if (this.#token !== null && request.headers.authorization !== `Bearer ${this.#token}`) {
      throw Object.assign(new SkillError('TOKEN_INVALID', 'The engine must show its token'), { status: 401 });
    }
  }
}

function describe({ skillId, version, description, defaultTimeoutMs }) {
  return { skillId, version, description, defaultTimeoutMs };
}

function errorOf(error) {
  const { code = 'SKILL_FAILED', message, retryable = !(error instanceof SkillError), retryAfterMs } = error;
  return { code, message, retryable, retryAfterMs };
}

function send(response, status, document) {
  response.writeHead(status, document === undefined ? {} : { 'content-type': 'application/json' });
  response.end(document === undefined ? undefined : JSON.stringify(document));
}

function sendError(response, status, error) {
  send(response, status, { error: errorOf(error) });
}

async function readJson(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > BODY_BYTES_MAX) throw Object.assign(new SkillError('TOO_LARGE', 'The request is too large'), { status: 413 });
  }
  return JSON.parse(Buffer.concat(chunks).toString('utf8'));
}
