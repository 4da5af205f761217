// The skills. One answers at once; the other takes its time, says how far it is, and may be told to stop.
import { setTimeout as wait } from 'node:timers/promises';

const NOTE_MS = Number(process.env.NOTE_MS ?? 100);

export class SkillError extends Error {
  /**
   * @param {string} code stable, in upper snake case
   * @param {string} message for people
   * @param {{retryable?: boolean, retryAfterMs?: number}} options
   */
  constructor(code, message, { retryable = false, retryAfterMs } = {}) {
    super(message);
    Object.assign(this, { code, retryable, retryAfterMs });
  }
}

export const skills = [
  {
    skillId: 'node.slogan',
    version: '1.0.0',
    description: 'Makes a slogan of a title.',
    isLong: false,
    async run({ title, style }) {
      if (!title) throw new SkillError('NO_TITLE', 'There is no title to make a slogan of');
      return { slogan: style === 'epic' ? `${title.toUpperCase()}!` : `${title}, simply.` };
    },
  },
  {
    skillId: 'node.jingle',
    version: '1.0.0',
    description: 'Composes a jingle for a slogan, note by note.',
    isLong: true,
    defaultTimeoutMs: 120_000,
    async run({ slogan, style }, { signal, progress }) {
      const letters = [...slogan.toLowerCase()].filter((letter) => /[a-z]/.test(letter)).slice(0, 12);
      const scale = style === 'epic' ? 'CDEFGAB' : 'cdefgab';
      const notes = [];
      for (const letter of letters) {
        await wait(NOTE_MS, undefined, { signal });
        notes.push(scale[letter.charCodeAt(0) % scale.length]);
        await progress(notes.length / letters.length, `${notes.length} of ${letters.length} notes`);
      }
      return { notes: notes.join(' ') };
    },
  },
];
