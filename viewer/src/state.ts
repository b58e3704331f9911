// What the whole page shares: the address, the theme, the keys, what is marked for comparison, and notices.
import { effect, signal } from "@preact/signals";

export interface Route {
  page: string; // runs, run, conversation, compare, search, stats, store
  id: string;
  query: URLSearchParams;
}

export function parse(hash: string): Route {
  const [path, search = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [page, id = ""] = path.split("/", 2);
  let decoded = id;
  try {
    decoded = decodeURIComponent(id);
  } catch {
    // an address that somebody typed
  }
  return { page: page || "runs", id: decoded, query: new URLSearchParams(search) };
}

export const route = signal<Route>(parse(location.hash));

export function address(page: string, id = "", query: Record<string, string | null | undefined> = {}): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value) search.set(name, value);
  const text = search.toString();
  return `#/${page}${id ? `/${encodeURIComponent(id)}` : ""}${text ? `?${text}` : ""}`;
}

export function go(hash: string, replace = false): void {
  if (replace) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
  route.value = parse(location.hash);
}

/** Changes the query of this page's address; an empty value removes its name. */
export function setQuery(changes: Record<string, string | null>, replace = true): void {
  const { page, id, query } = route.value;
  const next = Object.fromEntries(query.entries()) as Record<string, string | null>;
  go(address(page, id, { ...next, ...changes }), replace);
}

export function listen(): void {
  const update = (): void => {
    route.value = parse(location.hash);
  };
  addEventListener("hashchange", update);
  addEventListener("popstate", update);
}

function kept(name: string, fallback: string): string {
  try {
    return localStorage.getItem(`nat-observability-${name}`) ?? fallback;
  } catch {
    return fallback; // a file: address has no storage
  }
}

function keep(name: string, value: string): void {
  try {
    localStorage.setItem(`nat-observability-${name}`, value);
  } catch {
    // not kept
  }
}

export const theme = signal(kept("theme", "auto"));
export const keysOn = signal(kept("keys", "on") === "on");
export const relativeTimes = signal(kept("times", "absolute") === "relative");
export const paused = signal(false);
export const helpShown = signal(false);
export const notice = signal("");
export const marked = signal<string[]>([]);
/** The ids of the list that a run was opened from, for the keys [ and ]. */
export const listed = signal<string[]>([]);

let noticed: ReturnType<typeof setTimeout> | undefined;

/** Says something for a moment, to screen readers too. */
export function say(text: string): void {
  notice.value = text;
  clearTimeout(noticed);
  noticed = setTimeout(() => (notice.value = ""), 4000);
}

export function nextTheme(): void {
  const order = ["auto", "light", "dark"];
  theme.value = order[(order.indexOf(theme.value) + 1) % order.length];
  say(`Theme: ${theme.value}`);
}

export function mark(id: string): void {
  const others = marked.value.filter((each) => each !== id);
  if (others.length < marked.value.length) {
    marked.value = others;
    say("No longer marked for comparison");
    return;
  }
  marked.value = [...others.slice(-1), id];
  if (marked.value.length === 2) go(address("compare", "", { a: marked.value[0], b: marked.value[1] }));
  else say("Marked for comparison: mark another run");
}

export async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied");
  } catch {
    say(`Cannot copy here: ${text}`);
  }
}

effect(() => {
  document.documentElement.dataset.theme = theme.value;
  keep("theme", theme.value);
});
effect(() => keep("keys", keysOn.value ? "on" : "off"));
effect(() => keep("times", relativeTimes.value ? "relative" : "absolute"));
