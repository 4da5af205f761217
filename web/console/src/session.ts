// The token of this tab: pasted, or handed over in the address's fragment, and forgotten with the tab.
import { signal } from "@preact/signals";

const KEY = "runengine.token";

export const token = signal<string>(sessionStorage.getItem(KEY) ?? "");

/** Why the console asks for a token; empty while it does not. */
export const signInReason = signal<string>("");

export function setToken(value: string): void {
  token.value = value.trim();
  sessionStorage.setItem(KEY, token.value);
  signInReason.value = "";
}

export function signOut(): void {
  sessionStorage.removeItem(KEY);
  token.value = "";
  signInReason.value = "You signed out of this tab.";
}

export function askForToken(reason: string): void {
  signInReason.value = reason;
}

/** Takes `#token=…` and removes it at once, so that it is in no history, bookmark or shared link. */
export function takeTokenFromAddress(): void {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given !== null) {
    history.replaceState(history.state, "", location.pathname + location.search);
    setToken(given);
  }
}
