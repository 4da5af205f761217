// Remembers calls by idempotency key: successes, so that no work is done twice, also after a restart if a file is given.
import { appendFileSync, existsSync, readFileSync } from 'node:fs';

export class Journal {
  #path;
  #finished = new Map();

  /** @param {string | null} path of a file of JSON lines; null keeps everything in memory */
  constructor(path) {
    this.#path = path;
    if (path === null || !existsSync(path)) return;
    for (const line of readFileSync(path, 'utf8').split('\n').slice(0, -1)) {
      const { event, key, answer } = JSON.parse(line);
      if (event === 'finished') this.#finished.set(key, answer);
    }
  }

  /** The answer of an earlier success with this key, if there is one. */
  finished(key) {
    return this.#finished.get(key);
  }

  /** A call began. */
  started(order) {
    this.#write({ event: 'started', key: order.idempotencyKey, skillId: order.skillId, stepId: order.stepId });
  }

  /** A call succeeded; written before anybody is told. */
  succeeded(key, answer) {
    this.#finished.set(key, answer);
    this.#write({ event: 'finished', key, answer });
  }

  #write(record) {
    if (this.#path !== null) appendFileSync(this.#path, `${JSON.stringify(record)}\n`);
  }
}
