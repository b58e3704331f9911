// What the server answers, and how the page asks it: with the token as a header, never in an address.
import { signal } from "@preact/signals";

export type Status = "ok" | "error" | "open" | "running" | "incomplete" | "died";

export interface RunSummary {
  id: string;
  trace: string;
  name: string | null;
  workflow: string | null;
  user: string | null;
  conversation: string | null;
  status: Status;
  start: number; // microseconds since the epoch
  duration: number; // microseconds
  error: string | null;
  tags: Record<string, string> | null;
  parent: string | null;
  spans: number | null;
  errors: number | null;
  models: number | null;
  tools: number | null;
  tokens: number | null;
  prompt: number | null;
  completion: number | null;
  cost: number | null;
}

export interface Ledger {
  exporter: string;
  accepted: number;
  delivered: number;
  failed: number;
  pending: number;
  dropped: Record<string, number>;
}

export interface RunAnswer {
  now: number; // microseconds since the epoch, by the server's clock
  run: RunSummary;
  ledgers: Ledger[];
  trace: RunSummary[]; // the other runs of its trace
  older: string | null;
  newer: string | null;
}

export interface RunsAnswer {
  runs: RunSummary[];
  next: string | null;
  complete: boolean;
  looked_back_to: number | null; // if there was no time to look at every run
}

export interface Facets {
  total: number;
  complete: boolean;
  next: string | null; // where an answer goes on that has to be added to this one
  looked_at: number | null; // runs, of all that there are, if not at all of them
  of: number;
  status: [string, number][];
  workflow: [string, number][];
  name: [string, number][];
  tag: [string, number | null][];
  rest: Record<string, number>; // runs with further values
  from: number;
  step: number;
  histogram: [number, number, number][]; // bucket, runs, of which failed
}

export interface SpansAnswer {
  start: number;
  names: string[];
  kinds: string[];
  statuses: string[];
  id: string[];
  parent: (string | null)[];
  name: number[];
  kind: number[];
  status: number[];
  from: number[]; // microseconds since the start of the run
  length: number[];
  first: (number | null)[];
  tokens: (number | null)[];
  cost: (number | null)[];
  next: number | null;
  cursor: number;
  total: number;
}

export interface Part {
  text: string;
  type: "text" | "json";
  length: number; // bytes of the whole
  offset: number; // in bytes
  next: number | null; // where the next piece begins
}

export interface SpanAnswer {
  id: string;
  parent: string | null;
  kind: string;
  name: string;
  name_length: number;
  status: Status;
  start: number;
  duration: number;
  first: number | null;
  chunks: number;
  span_kind: string | null;
  status_message: string | null;
  model: string | null;
  usage: Record<string, number>;
  cost: number | null;
  tags: string[];
  dropped: [number, number, number] | null;
  error: { type: string; message: string } | null;
  parts: Record<string, Part>;
}

export interface Hit {
  run: string;
  span: string;
  name: string;
  kind: string;
  place: string;
  start: number;
  before: string;
  match: string;
  after: string;
}

export interface SearchAnswer {
  runs: RunSummary[];
  hits: Hit[];
  next: number | null;
  complete: boolean;
  scanned_to: number | null;
  indexed: number;
  total: number;
}

export interface StatRow {
  key: string;
  count: number;
  errors: number;
  tokens: number;
  prompt: number;
  completion: number;
  cost: number;
  p50: number;
  p95: number;
  p99: number;
}

export interface StatsAnswer {
  rows: StatRow[];
  more: number;
  over: { at: number; count: number; errors: number; tokens: number; cost: number; p50: number; p95: number; p99: number }[];
  step: number;
  complete: boolean;
  indexed: number;
  total: number;
  problem: string | null;
}

export interface ComparePair {
  a: number | null;
  b: number | null;
  depth: number;
  differs: string[];
}

export interface CompareSpan {
  id: string;
  name: string;
  kind: string;
  status: string;
  duration: number;
  tokens: number | null;
}

export interface CompareAnswer {
  a: RunSummary;
  b: RunSummary;
  spans_a: CompareSpan[];
  spans_b: CompareSpan[];
  pairs: ComparePair[];
  first: number | null;
  total_a: number;
  total_b: number;
}

export interface StoreAnswer {
  path: string;
  version: number;
  known: number;
  size: number;
  wal: number;
  runs: number;
  spans: number;
  oldest: number | null;
  newest: number | null;
  readonly: boolean;
  sidecar: { path: string; size: number; indexed: number; total: number; state: string; problem: string | null } | null;
  processes: { id: string; pid: number; host: string; seen: number; alive: boolean }[];
  exporters: Ledger[];
}

export class ApiError extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

/** Set when the server no longer takes the token, or cannot be reached. */
export const offline = signal<string | null>(null);

const KEY = "nat-observability-token";

/** Takes the token out of the address, where the command has put it, and keeps it for this origin. */
export function takeToken(): void {
  const found = /^#token=([\w-]+)(.*)$/.exec(location.hash);
  if (!found) return;
  localStorage.setItem(KEY, found[1]);
  history.replaceState(null, "", `/${found[2] ? `#${found[2].replace(/^&/, "")}` : "#/runs"}`);
}

const headers = (): Record<string, string> => ({ Authorization: `Bearer ${localStorage.getItem(KEY) ?? ""}` });

async function ask(path: string, signal?: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { headers: headers(), signal, cache: "no-store" });
  } catch (error) {
    if (!signal?.aborted) offline.value = "The viewer's server does not answer. Start it again with: nat-observability ui";
    throw error;
  }
  if (response.ok) {
    if (offline.value) offline.value = null;
    return response;
  }
  let message = response.statusText;
  try {
    message = ((await response.json()) as { error: string }).error;
  } catch {
    // not an answer of ours
  }
  if (response.status === 401) offline.value = message;
  throw new ApiError(response.status, message);
}

export type Query = Record<string, string | number | null | undefined>;

export function query(values: Query): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined && value !== "") search.set(name, String(value));
  }
  const text = search.toString();
  return text ? `?${text}` : "";
}

export interface Source {
  readonly live: boolean;
  /** Whether it can show a run. */
  holds(id: string): boolean;
  run(id: string, signal?: AbortSignal): Promise<RunAnswer>;
  spans(id: string, after: number, signal?: AbortSignal, limit?: number): Promise<SpansAnswer>;
  span(run: string, span: string, signal?: AbortSignal): Promise<SpanAnswer>;
  part(run: string, span: string, part: string, offset: number, signal?: AbortSignal): Promise<Part>;
  search(values: Query, signal?: AbortSignal): Promise<SearchAnswer>;
}

const json = async <T>(path: string, signal?: AbortSignal): Promise<T> => (await ask(path, signal)).json() as Promise<T>;
const at = encodeURIComponent;

export const server: Source = {
  live: true,
  holds: () => true,
  run: (id, signal) => json(`/api/runs/${at(id)}`, signal),
  spans: (id, after, signal, limit) => json(`/api/runs/${at(id)}/spans${query({ after, limit })}`, signal),
  span: (run, span, signal) => json(`/api/runs/${at(run)}/spans/${at(span)}`, signal),
  part: (run, span, part, offset, signal) => json(`/api/runs/${at(run)}/spans/${at(span)}${query({ part, offset: String(offset) })}`, signal),
  search: (values, signal) => json(`/api/search${query(values)}`, signal),
};

export const runs = (values: Query, signal?: AbortSignal): Promise<RunsAnswer> => json(`/api/runs${query(values)}`, signal);
export const facets = (values: Query, signal?: AbortSignal): Promise<Facets> => json(`/api/facets${query(values)}`, signal);
export const stats = (values: Query, signal?: AbortSignal): Promise<StatsAnswer> => json(`/api/stats${query(values)}`, signal);
export const compare = (a: string, b: string, signal?: AbortSignal): Promise<CompareAnswer> => json(`/api/compare${query({ a, b })}`, signal);
export const store = (signal?: AbortSignal): Promise<StoreAnswer> => json("/api/store", signal);

/** Saves an export under the name that the server gives it. */
export async function save(id: string, format: string): Promise<void> {
  const response = await ask(`/api/export/${at(id)}.${format}`);
  const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "")?.[1] ?? `run.${format}`;
  const link = document.createElement("a");
  const address = URL.createObjectURL(await response.blob());
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

export interface Change {
  cursor: number;
  runs: string[];
}

const LIVE = "nat-observability-live";

/**
 * Calls `changed` for each change of the store until `signal` is aborted.
 *
 * A browser has six connections to a host: of all tabs, one holds a stream, and tells the others.
 */
export async function follow(signal: AbortSignal, changed: (change: Change) => void): Promise<void> {
  let cursor: number | null = null;
  const take = (change: Change): void => {
    cursor = change.cursor;
    if (change.runs.length) changed(change);
  };
  if (!("locks" in navigator)) {
    // An unencrypted page from another machine.
    await stream(signal, () => cursor, take);
    return;
  }
  const channel = new BroadcastChannel(LIVE);
  channel.onmessage = (event) => take(event.data as Change);
  try {
    await navigator.locks.request(LIVE, { signal }, () =>
      stream(signal, () => cursor, (change) => {
        take(change);
        channel.postMessage(change);
      }),
    );
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    channel.close();
  }
}

async function stream(signal: AbortSignal, cursor: () => number | null, take: (change: Change) => void): Promise<void> {
  while (!signal.aborted) {
    try {
      const response = await ask(`/api/live${query({ after: cursor() })}`, signal);
      const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const lines = (rest + value).split("\n");
        rest = lines.pop()!;
        for (const line of lines) if (line) take(JSON.parse(line) as Change);
      }
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return;
    }
    if (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
