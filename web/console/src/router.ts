// Addresses: what is shown is in the URL, so that it can be shared, bookmarked and gone back to.
import { signal } from "@preact/signals";

export interface Place {
  readonly path: string;
  readonly query: URLSearchParams;
}

/** Where the reader is. */
export const place = signal<Place>(read());

addEventListener("popstate", () => {
  place.value = read();
});

export function navigate(to: string, how: "push" | "replace" = "push"): void {
  if (to === location.pathname + location.search) return;
  if (how === "push") history.pushState(null, "", to);
  else history.replaceState(null, "", to);
  place.value = read();
}

/** Changes parameters of the query and leaves the others; null removes one. */
export function setQuery(changes: Record<string, string | null>, how: "push" | "replace" = "replace"): void {
  navigate(hrefWith(changes), how);
}

/** The address of here with other parameters. */
export function hrefWith(changes: Record<string, string | null>): string {
  const query = new URLSearchParams(place.value.query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  return place.value.path + (text && `?${text}`);
}

/** The parameters in the braces of a pattern such as `/runs/{id}`, null where the path is another one. */
export function match(pattern: string, path: string): Record<string, string> | null {
  const wanted = pattern.split("/");
  const parts = path.replace(/\/+$/, "").split("/");
  if (wanted.length !== parts.length) return null;
  const found: Record<string, string> = {};
  for (const [index, part] of parts.entries()) {
    const name = /^{(\w+)}$/.exec(wanted[index]!)?.[1];
    if (name !== undefined) found[name] = decoded(part);
    else if (wanted[index] !== part) return null;
  }
  return found;
}

/** For a click on a link of ours: follow it without loading the page anew, unless the reader wants a new tab. */
export function followLink(event: MouseEvent): void {
  const link = (event.target as Element | null)?.closest("a");
  if (link === null || link === undefined || link.origin !== location.origin || link.target || link.download) return;
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)
    return;
  if (link.pathname.startsWith("/api/")) return;
  event.preventDefault();
  navigate(link.pathname + link.search);
}

/** What cannot be decoded is taken as it is; the engine will say that there is no such thing. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function read(): Place {
  return { path: location.pathname, query: new URLSearchParams(location.search) };
}
