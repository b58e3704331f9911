// Search in everything that was recorded, newest first, with its progress.
import { useEffect, useRef, useState } from "preact/hooks";
import { server, type Hit, type RunSummary, type SearchAnswer } from "./api";
import { count, moment, percent, plural } from "./format";
import { bind } from "./keys";
import { Empty, Kind, Moment, Name, Problem, runName, StatusMark } from "./parts";
import { address, go, route, setQuery } from "./state";
import { plain, Text } from "./text";

export function SearchPage() {
  const { query } = route.value;
  const wanted = query.get("q") ?? "";
  const [hits, setHits] = useState<Hit[]>([]);
  const [runs, setRuns] = useState<RunSummary[]>([]);
  const [last, setLast] = useState<SearchAnswer | null>(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const [active, setActive] = useState(0);
  const field = useRef<HTMLInputElement>(null);
  const abort = useRef(new AbortController());

  const go_on = async (before: number | null, signal: AbortSignal, found: Hit[]): Promise<void> => {
    setBusy(true);
    setError("");
    let next = before;
    const enough = found.length + 50;
    try {
      do {
        const answer = await server.search({ q: wanted, before: next }, signal);
        if (signal.aborted) return;
        if (before === null && next === null) setRuns(answer.runs);
        found = [...found, ...answer.hits];
        setHits(found);
        setLast(answer);
        next = answer.next;
        // Without a hit, the search goes on by itself; its progress is shown.
      } while (next !== null && found.length < enough && !last?.complete);
    } catch (problem) {
      if (!signal.aborted) setError(problem instanceof Error ? problem.message : String(problem));
    }
    if (!signal.aborted) setBusy(false);
  };

  useEffect(() => {
    document.title = wanted ? `${plain(wanted, 40)} · search` : "Search";
    setHits([]);
    setRuns([]);
    setLast(null);
    setActive(0);
    abort.current = new AbortController();
    if (wanted) void go_on(null, abort.current.signal, []);
    else field.current?.focus();
    return () => abort.current.abort();
  }, [wanted]);

  const actions = useRef<Record<string, () => void>>({});
  const open = (hit: Hit): void => go(address("run", hit.run, { span: hit.span, find: wanted }));
  actions.current = {
    "/": () => field.current?.focus(),
    j: () => setActive(Math.min(hits.length - 1, active + 1)),
    ArrowDown: () => setActive(Math.min(hits.length - 1, active + 1)),
    k: () => setActive(Math.max(0, active - 1)),
    ArrowUp: () => setActive(Math.max(0, active - 1)),
    Enter: () => hits[active] && open(hits[active]),
  };
  useEffect(() => bind(Object.fromEntries(Object.keys(actions.current).map((key) => [key, () => actions.current[key]()]))), []);
  useEffect(() => document.getElementById(`hit-${active}`)?.scrollIntoView({ block: "nearest" }), [active]);

  return (
    <main id="main" class="page">
      <div class="toolbar">
        <h1>Search</h1>
        <input ref={field} type="search" class="wide" aria-label="Search in names, inputs, outputs, errors and attributes" placeholder="Any text, in any script, or the beginning of an id  /" value={wanted}
          onChange={(event) => setQuery({ q: (event.target as HTMLInputElement).value || null }, false)} />
        {last && <span class="faint" role="status">{plural(hits.length, "hit")}{last.next === null ? "" : " so far"}{busy && ", searching…"}</span>}
      </div>
      {last && last.indexed < last.total && <p class="notice" role="status">The index is being made: {percent(last.indexed, last.total)} of the store. What it does not cover yet is read, which takes longer.</p>}
      {error && <Problem>{error}</Problem>}
      {runs.length > 0 && (
        <section aria-label="Runs with this id">
          {runs.map((run) => <p><StatusMark status={run.status} /> <a href={address("run", run.id)}><Name value={runName(run)} limit={100} /></a> <span class="mono faint">{plain(run.id, 60)}</span> <Moment us={run.start} /></p>)}
        </section>
      )}
      <ol class="hits">
        {hits.map((hit, index) => (
          <li id={`hit-${index}`} class={index === active ? "active" : ""}>
            <a href={address("run", hit.run, { span: hit.span, find: wanted })}><Kind kind={hit.kind} /> <Name value={hit.name} limit={80} /></a>
            <span class="faint"> {hit.place.replace("_", " ")} · <Moment us={hit.start} /></span>
            <div class="excerpt">…<Text value={hit.before} /><mark class="hit"><Text value={hit.match} limit={300} /></mark><Text value={hit.after} />…</div>
          </li>
        ))}
      </ol>
      {last && !hits.length && !runs.length && !busy && last.next === null && <Empty title="Nothing found">The text occurs in no name, input, output, error or attribute of this store.</Empty>}
      {last?.next !== null && last && !busy && (
        <p class="more"><button onClick={() => void go_on(last.next, abort.current.signal, hits)}>{last.complete ? "More hits" : "Search further back"}</button> <span class="faint">{count(hits.length)} shown{last.scanned_to ? `, back to ${moment(last.scanned_to)}` : ""}</span></p>
      )}
    </main>
  );
}
