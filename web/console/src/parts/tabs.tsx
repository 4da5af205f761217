// Tabs whose choice is in the address.
import { hrefWith } from "../router";

interface Props {
  readonly label: string;
  readonly current: string;
  /** Key and name of each. */
  readonly tabs: readonly (readonly [string, string])[];
  /** The one that the address does not name. */
  readonly first: string;
}

export function Tabs({ label, current, tabs, first }: Props) {
  return (
    <nav class="tabs" aria-label={label}>
      {tabs.map(([key, name]) => (
        <a key={key} href={hrefWith({ tab: key === first ? null : key })} aria-current={key === current ? "page" : undefined}>
          {name}
        </a>
      ))}
    </nav>
  );
}
