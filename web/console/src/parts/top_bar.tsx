// The bar on top: where the reader can go, how the connection is, light or dark.
import { place } from "../router";
import { signOut, token } from "../session";
import { nextTheme, theme } from "../theme";
import { connection } from "../live/connection";
import { ago } from "../format";
import { Icon, type IconName } from "./icons";

const PLACES = [
  ["/runs", "Runs"],
  ["/queue", "Queue"],
  ["/workflows", "Workflows"],
] as const;

const THEME_ICONS: Record<string, IconName> = { system: "system", light: "sun", dark: "moon" };

export function TopBar({ onHelp }: { onHelp: () => void }) {
  const path = place.value.path;
  return (
    <header class="top-bar">
      <a class="brand" href="/runs" aria-label="RunEngine, all runs">
        <Mark />
        RunEngine
      </a>
      <nav aria-label="Pages">
        {PLACES.map(([href, name]) => (
          <a key={href} href={href} aria-current={path === href || path.startsWith(`${href}/`) ? "page" : undefined}>
            {name}
          </a>
        ))}
      </nav>
      <div class="top-bar-end">
        <ConnectionState />
        <button
          class="icon-button"
          type="button"
          onClick={nextTheme}
          aria-label={`Theme: ${theme.value}. Change`}
          title={`Theme: ${theme.value}`}
        >
          <Icon name={THEME_ICONS[theme.value]!} />
        </button>
        <button class="icon-button" type="button" onClick={onHelp} aria-label="Keyboard shortcuts" title="Keys (?)">
          <Icon name="keyboard" />
        </button>
        {token.value && (
          <button class="icon-button" type="button" onClick={signOut} aria-label="Sign out" title="Forget the token">
            <Icon name="signout" />
          </button>
        )}
      </div>
    </header>
  );
}

/** Whether what is shown is true now; by words, as nobody may rely on colour. */
function ConnectionState() {
  const state = connection.value;
  if (state === null) return null;
  const text = {
    connecting: "Connecting…",
    live: "Live",
    stale: state.heardAt ? `Reconnecting… last heard ${ago(state.heardAt)}` : "Reconnecting…",
    paused: "Paused",
    ended: "Up to date",
    refused: "Not connected",
  }[state.connection];
  return (
    <span class={`connection c-${state.connection}`} role="status" aria-live="polite">
      <span class="dot" />
      {text}
    </span>
  );
}

function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" />
      <path d="M9 10h5a4 4 0 0 1 4 4v4a4 4 0 0 0 4 4h1M14 10h9" />
      <circle cx="9" cy="10" r="3" />
      <circle class="mark-soft" cx="23" cy="10" r="3" />
      <circle cx="23" cy="22" r="3" />
    </svg>
  );
}
