// Light, dark, or as the system says; chosen by the person, remembered by the browser.
import { signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

const KEY = "runengine.theme";
const ORDER: readonly Theme[] = ["system", "light", "dark"];

export const theme = signal<Theme>(stored());

export function applyTheme(): void {
  document.documentElement.dataset["theme"] = theme.value;
}

export function nextTheme(): void {
  theme.value = ORDER[(ORDER.indexOf(theme.value) + 1) % ORDER.length]!;
  localStorage.setItem(KEY, theme.value);
  applyTheme();
}

function stored(): Theme {
  const value = localStorage.getItem(KEY) as Theme | null;
  return value !== null && ORDER.includes(value) ? value : "system";
}
