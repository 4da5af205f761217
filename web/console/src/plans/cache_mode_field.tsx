// Chooses what a run does with the step cache.
interface Props {
  readonly value: string;
  readonly onValue: (mode: string) => void;
  /** The modes that are offered, each with its words; the empty one leaves it to the engine. */
  readonly modes: readonly (readonly [string, string])[];
}

export const CACHE_MODES = [
  ["refresh", "execute anew, renew the cache"],
  ["read_only", "use what is cached, store nothing"],
  ["bypass", "neither use nor store"],
] as const;

export function CacheModeField({ value, onValue, modes }: Props) {
  return (
    <label class="field">
      Cache
      <select value={value} onChange={(event) => onValue(event.currentTarget.value)}>
        {modes.map(([mode, means]) => (
          <option key={mode} value={mode}>
            {means}
          </option>
        ))}
      </select>
    </label>
  );
}
