// Tells the engine how one call goes: heartbeats by itself, progress, and the end until somebody has heard it.
import { setTimeout as wait } from 'node:timers/promises';

const TRY_AGAIN_MS = 500;

export class CallbackClient {
  #order;
  #onUnwanted;
  #heartbeats;

  /**
   * @param {object} order the engine's request
   * @param {() => void} onUnwanted nobody waits for the call any more
   */
  constructor(order, onUnwanted) {
    this.#order = order;
    this.#onUnwanted = onUnwanted;
    this.#heartbeats = setInterval(() => this.#say('heartbeat', {}).catch(() => {}), order.heartbeatIntervalMs);
  }

  get fencingToken() {
    return this.#order.fencingToken;
  }

  /** From now on a later attempt of the same call is told. */
  attend(order) {
    this.#order = order;
  }

  async progress(fraction, message) {
    await this.#say('progress', { fraction, message }).catch(() => {}); // the next one tells more
  }

  async complete(answer) {
    await this.#sayUntilHeard('complete', answer);
  }

  async fail(error) {
    await this.#sayUntilHeard('fail', { error });
  }

  close() {
    clearInterval(this.#heartbeats);
  }

  /** Repeats while engines restart, and while a newer attempt is on its way to ask for the same. */
  async #sayUntilHeard(kind, document) {
    while (Date.now() < Date.parse(this.#order.deadline)) {
      const { status, code } = await this.#say(kind, document).catch(() => ({ status: 503 }));
      if (status < 500 && code !== 'FENCING_TOKEN_STALE') return;
      await wait(TRY_AGAIN_MS);
    }
  }

  async #say(kind, document) {
    const { callback, fencingToken } = this.#order;
    const response = await fetch(`${callback.url}/${kind}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${callback.token}` },
      body: JSON.stringify({ ...document, fencingToken }),
      signal: AbortSignal.timeout(10_000),
    });
    const { error } = await response.json();
    if (response.status === 404) this.#onUnwanted();
    return { status: response.status, code: error?.code };
  }
}
