// What the server works on, by idempotency key, so that nothing is done and paid for twice.
const GRACE_MS = 30_000; // a call goes on for so long after its engine was lost: the next one joins it
const KEPT_MAX = 1000; // successes that are remembered

export class Calls {
  #running = new Map();
  #succeeded = new Map();

  /** The work with this key: what succeeded is replayed, what runs is joined, anything else begins. */
  join(key, run) {
    if (this.#succeeded.has(key)) return { work: this.#succeeded.get(key), attached: false, replayed: true };
    if (this.#running.has(key)) return { work: this.#running.get(key), attached: true, replayed: false };
    const work = new Work(run);
    this.#running.set(key, work);
    work.outcome.then(() => this.#remember(key, work), () => {}).finally(() => this.#running.delete(key));
    return { work, attached: false, replayed: false };
  }

  #remember(key, work) {
    this.#succeeded.set(key, work);
    if (this.#succeeded.size > KEPT_MAX) this.#succeeded.delete(this.#succeeded.keys().next().value);
  }
}

class Work {
  #listeners = new Set();
  #abort = new AbortController();
  #grace = null;

  constructor(run) {
    const progress = (...report) => this.#listeners.forEach((listener) => listener(...report));
    this.outcome = run({ signal: this.#abort.signal, progress });
  }

  /** Reports go to the listener until the function that comes back is called; work that nobody listens to ends. */
  listen(listener) {
    clearTimeout(this.#grace);
    this.#listeners.add(listener);
    return () => {
      if (this.#listeners.delete(listener) && this.#listeners.size === 0) {
        this.#grace = setTimeout(() => this.#abort.abort(), GRACE_MS).unref();
      }
    };
  }
}
