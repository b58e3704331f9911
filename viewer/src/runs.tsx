// The list of runs: filters, facets and the histogram, all in the address, live with pause.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { facets, follow, runs, type Facets, type Query, type RunSummary } from "./api";
import { cost, count, duration, fullMoment, moment, percent, plural, tokens } from "./format";
import { bind } from "./keys";
import { Empty, Moment, Name, Problem, runName, StatusMark, Zone } from "./parts";
import { Rows } from "./rows";
import { titleOf } from "./content";
import { address, copy, go, listed, mark, marked, paused, relativeTimes, route, say, setQuery } from "./state";
import { plain, Text } from "./text";

const ROW = 30;
const FACET_VALUES = 12;
const FILTERS = ["status", "workflow", "name", "user", "conversation", "tag", "q", "from", "to", "min_ms", "max_ms"];

const filterOf = (query: URLSearchParams): Query => Object.fromEntries(FILTERS.map((name) => [name, query.get(name)]));

export function RunsPage() {
  const { query } = route.value;
  const filter = filterOf(query);
  const key = JSON.stringify(filter);
  const [list, setList] = useState<RunSummary[]>([]);
  const [next, setNext] = useState<string | null>(null);
  const [complete, setComplete] = useState(true);
  const [backTo, setBackTo] = useState<number | null>(null);
  const [loading, setLoading] = useState(true);
  const [error, setError] = useState("");
  const [counts, setCounts] = useState<Facets | null>(null);
  const [waiting, setWaiting] = useState(0);
  const [active, setActive] = useState(0);
  const field = useRef<HTMLInputElement>(null);
  const asking = useRef(false);
  const counted = useRef({ took: 0, at: 0 });
  const current = useRef({ list, key });
  current.current = { list, key };

  useEffect(() => {
    document.title = "Runs";
    const abort = new AbortController();
    setLoading(true);
    setWaiting(0);
    const shown = runs({ ...filter, limit: 100 }, abort.signal).then(
      (answer) => {
        if (abort.signal.aborted) return;
        setList(answer.runs);
        setNext(answer.next);
        setComplete(answer.complete);
        setBackTo(answer.looked_back_to);
        setError("");
        setLoading(false);
        setActive(0);
      },
      (problem: unknown) => {
        if (abort.signal.aborted) return;
        setError(problem instanceof Error ? problem.message : String(problem));
        setLoading(false);
      },
    );
    setCounts((before) => before && { ...before, complete: false });
    // The list first: counting takes the server longer.
    void shown.then(() => keepCounting(filter, abort.signal, setCounts, counted.current)).catch(() => undefined);
    return () => abort.abort();
  }, [key]);

  useEffect(() => {
    listed.value = list.map((run) => run.id);
  }, [list]);

  const more = async (): Promise<void> => {
    if (asking.current || !next) return;
    asking.current = true;
    const began = key;
    try {
      const answer = await runs({ ...filter, before: next, limit: 200 });
      if (current.current.key === began) {
        const known = new Set(current.current.list.map((run) => run.id));
        setList([...current.current.list, ...answer.runs.filter((run) => !known.has(run.id))]);
        setNext(answer.next);
        setComplete(answer.complete);
        setBackTo(answer.looked_back_to);
      }
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    }
    asking.current = false;
  };

  // As long as few are found, the search goes on by itself; how far it has come is shown.
  useEffect(() => {
    if (next && !complete && list.length < 50 && !error) void more();
  }, [next, complete]);

  /** Runs that are shown change where they are; new ones wait for the button. */
  const refresh = async (show: boolean): Promise<void> => {
    const began = key;
    const answer = await runs({ ...filter, limit: 100 });
    if (current.current.key !== began) return;
    const byId = new Map(answer.runs.map((run) => [run.id, run]));
    const known = new Set(current.current.list.map((run) => run.id));
    const fresh = answer.runs.filter((run) => !known.has(run.id));
    const updated = current.current.list.map((run) => byId.get(run.id) ?? run);
    if (show || !current.current.list.length) {
      const old = new Set(answer.runs.map((run) => run.id));
      setList([...answer.runs, ...updated.filter((run) => !old.has(run.id))]);
      setWaiting(0);
      if (!current.current.list.length) setNext(answer.next);
    } else {
      setList(updated);
      setWaiting(fresh.length);
    }
  };

  useEffect(() => {
    let abort = new AbortController();
    let busy = false;
    let again = false;
    let counting = false;
    let stale = false;
    // Beside the list, which does not wait for it; what takes long is not done again for every change.
    const recount = async (): Promise<void> => {
      stale = true;
      if (counting || performance.now() - counted.current.at < 10 * counted.current.took) return;
      counting = true;
      try {
        do {
          stale = false;
          await keepCounting(filter, abort.signal, setCounts, counted.current, true);
        } while (stale && counted.current.took < 500 && !abort.signal.aborted);
      } catch {
        // the next change counts again
      }
      counting = false;
    };
    const update = async (): Promise<void> => {
      if (paused.value) return;
      void recount();
      if (busy) {
        again = true;
        return;
      }
      busy = true;
      try {
        do {
          again = false;
          await refresh(false);
        } while (again);
      } catch {
        // said by the next request of the reader's own
      }
      busy = false;
    };
    const watch = (): void => {
      abort.abort();
      abort = new AbortController();
      if (!document.hidden) void follow(abort.signal, () => void update());
    };
    watch();
    document.addEventListener("visibilitychange", watch);
    const unsubscribe = paused.subscribe((value) => {
      if (!value) void update();
    });
    return () => {
      abort.abort();
      unsubscribe();
      document.removeEventListener("visibilitychange", watch);
    };
  }, [key]);

  const showNew = (): void => {
    void refresh(true);
    setActive(0);
  };
  const actions = useRef<Record<string, (event: KeyboardEvent) => void>>({});
  const to = (row: number): void => setActive(Math.max(0, Math.min(list.length - 1, row)));
  actions.current = {
    j: () => to(active + 1),
    ArrowDown: () => to(active + 1),
    k: () => to(active - 1),
    ArrowUp: () => to(active - 1),
    PageDown: () => to(active + 15),
    PageUp: () => to(active - 15),
    Home: () => to(0),
    End: () => to(list.length - 1),
    Enter: () => list[active] && go(address("run", list[active].id)),
    l: () => list[active] && go(address("run", list[active].id)),
    e: () => {
      const found = list.findIndex((run, index) => index > active && run.status === "error");
      if (found >= 0) setActive(found);
      else say("No further failed run in this list");
    },
    E: () => {
      const found = list.findLastIndex((run, index) => index < active && run.status === "error");
      if (found >= 0) setActive(found);
      else say("No earlier failed run in this list");
    },
    x: () => list[active] && mark(list[active].id),
    y: () => list[active] && void copy(list[active].id),
    p: () => {
      paused.value = !paused.value;
      say(paused.value ? "Paused" : "Live");
    },
    "/": () => field.current?.focus(),
  };
  useEffect(() => bind(Object.fromEntries(Object.keys(actions.current).map((name) => [name, (event: KeyboardEvent) => actions.current[name](event)]))), []);

  const filtered = FILTERS.some((name) => query.get(name));
  return (
    <main id="main" class="runs-page">
      <aside class="facets" aria-label="Filters">
        <FilterForm />
        {counts && <FacetLists counts={counts} />}
      </aside>
      <section class="runs-main" aria-label="Runs">
        <div class="toolbar">
          <h1>Runs</h1>
          <span class="faint" role="status">
            {counts ? `${count(list.length)} of ${counts.complete ? "" : "at least "}${plural(counts.total, "run")}` : `${plural(list.length, "run")}`}
            {counts && !counts.complete && counts.looked_at !== null && `, ${percent(Math.min(counts.looked_at, counts.of), counts.of)} counted`}
          </span>
          <input ref={field} type="search" class="wide" placeholder="Name, id, user, error…  /" aria-label="Search runs by name, id, user or error" value={query.get("q") ?? ""}
            onChange={(event) => setQuery({ q: (event.target as HTMLInputElement).value || null }, false)} />
          {query.get("q") && <a href={address("search", "", { q: query.get("q") })}>Search in content</a>}
          <span class="spacer" />
          {waiting > 0 && <button class="fresh" onClick={showNew}>Show {plural(waiting, "new run")}</button>}
          <button aria-pressed={paused.value} onClick={() => (paused.value = !paused.value)} title="Key: p">{paused.value ? "▶ Resume" : "❚❚ Pause"}</button>
          <button class="quiet" aria-pressed={relativeTimes.value} onClick={() => (relativeTimes.value = !relativeTimes.value)}>{relativeTimes.value ? "Relative times" : "Absolute times"}</button>
          <Zone />
        </div>
        {filtered && <Chips />}
        {counts && counts.histogram.length > 0 && <Histogram counts={counts} />}
        {error && <Problem>{error}</Problem>}
        {!loading && !error && !list.length && !next && (filtered ? <Empty title="No run passes these filters."><button onClick={() => go(address("runs"))}>Clear the filters</button></Empty> : <Empty title="No runs yet">They appear here as soon as they are recorded.</Empty>)}
        {list.length > 0 && (
          <Rows
            count={list.length}
            height={ROW}
            active={active}
            activeId={`run-${active}`}
            label="Runs, newest first"
            role="grid"
            class="run-rows"
            onNearEnd={() => void more()}
            extra={{ "aria-rowcount": counts?.total ?? list.length, "aria-colcount": 9, "aria-busy": loading ? "true" : "false" }}
            render={(index, isActive) => <RunRow run={list[index]} index={index} active={isActive} choose={() => setActive(index)} />}
          >
            <div class="run-header" role="row" aria-rowindex={1}>
              {["Status", "Name", "Started", "Duration", "Spans", "Model calls", "Tokens", "Cost", "User"].map((title, index) => <span role="columnheader" class={index >= 3 && index <= 7 ? "number" : ""}>{title}</span>)}
            </div>
          </Rows>
        )}
        {next && !complete && <p class="notice" role="status">Runs back to {backTo === null ? "here" : moment(backTo)} were looked at. {list.length < 50 ? "Looking further back…" : <button onClick={() => void more()}>Look further back</button>}</p>}
        {next && complete && <p class="more"><button onClick={() => void more()}>Load more</button> <span class="faint">{count(list.length)}{counts ? ` of ${count(counts.total)}` : ""}</span></p>}
      </section>
    </main>
  );
}

/** Counts until everything is counted, and gives each sum so far, or with `quiet` the last one; the rest of an index that is being made comes later. */
async function keepCounting(filter: Query, signal: AbortSignal, take: (counts: Facets) => void, counted: { took: number; at: number }, quiet = false): Promise<void> {
  for (;;) {
    const began = performance.now();
    let sum: Facets | null = null;
    do {
      const answer: Facets = await facets({ ...filter, before: sum?.next }, signal);
      sum = sum ? added(sum, answer) : answer;
      if (signal.aborted) return;
      if (!quiet || sum.next === null) take(sum);
    } while (sum.next !== null);
    counted.at = performance.now();
    counted.took = counted.at - began;
    if (sum.complete) return;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

/** The sum of two answers, of which the second goes on where the first ended. */
function added(first: Facets, second: Facets): Facets {
  const values = (a: [string, number][], b: [string, number][]): [string, number][] => {
    const sums = new Map(a);
    for (const [value, number] of b) sums.set(value, (sums.get(value) ?? 0) + number);
    return [...sums].sort((one, other) => other[1] - one[1]);
  };
  const bars = new Map(first.histogram.map((bar) => [bar[0], bar]));
  for (const [at, number, failed] of second.histogram) {
    const known = bars.get(at);
    bars.set(at, [at, number + (known?.[1] ?? 0), failed + (known?.[2] ?? 0)]);
  }
  const rest = { ...first.rest };
  for (const [name, number] of Object.entries(second.rest)) rest[name] = (rest[name] ?? 0) + number;
  return {
    ...second,
    total: first.total + second.total,
    looked_at: (first.looked_at ?? 0) + (second.looked_at ?? 0),
    status: values(first.status, second.status),
    workflow: values(first.workflow, second.workflow),
    name: values(first.name, second.name),
    rest,
    from: first.from,
    step: first.step,
    histogram: [...bars.values()].sort((a, b) => a[0] - b[0]),
  };
}

export function RunRow({ run, index, active, choose }: { run: RunSummary; index: number; active: boolean; choose: () => void }) {
  const tags = Object.entries(run.tags ?? {});
  return (
    <div id={`run-${index}`} role="row" aria-rowindex={index + 2} aria-selected={active} class={`row run-row ${active ? "active" : ""} ${run.status === "error" || run.status === "died" ? "failed" : ""} ${marked.value.includes(run.id) ? "marked" : ""}`} onClick={(event) => {
      choose();
      if (!(event.target instanceof HTMLAnchorElement) && !event.ctrlKey && !event.metaKey) go(address("run", run.id));
    }}>
      <span role="gridcell"><StatusMark status={run.status} /></span>
      <span role="gridcell" class="run-name">
        <a href={address("run", run.id)} tabIndex={-1} title={plain(runName(run))}><Name value={runName(run)} limit={120} /></a>
        {run.workflow && run.workflow !== run.name && <span class="faint"> <Text value={run.workflow} limit={60} /></span>}
        {run.error && <span class="run-row-error"> <Text value={run.error} limit={120} /></span>}
        {tags.slice(0, 3).map(([name, value]) => <span class="chip"><Text value={`${name}: ${value}`} limit={40} /></span>)}
        {tags.length > 3 && <span class="faint" title={plain(tags.slice(3).map(([name, value]) => `${name}: ${value}`).join(", "))}>+{count(tags.length - 3)}</span>}
      </span>
      <span role="gridcell"><Moment us={run.start} /></span>
      <span role="gridcell" class="number">{duration(run.duration)}</span>
      <span role="gridcell" class="number">{run.spans === null ? "" : count(run.spans)}{run.errors ? <span class="warn" title={plural(run.errors, "failed span")}> {count(run.errors)}✕</span> : ""}</span>
      <span role="gridcell" class="number">{run.models ? count(run.models) : ""}</span>
      <span role="gridcell" class="number">{run.tokens ? tokens(run.tokens) : ""}</span>
      <span role="gridcell" class="number">{run.cost === null ? "" : cost(run.cost)}</span>
      <span role="gridcell" class="faint">{run.user && <Text value={run.user} limit={24} />}</span>
    </div>
  );
}

function FilterForm() {
  const { query } = route.value;
  const field = (name: string, title: string, more: Record<string, string> = {}) => (
    <label class="field">{title}
      <input type="text" value={query.get(name) ?? ""} {...more} onChange={(event) => setQuery({ [name]: (event.target as HTMLInputElement).value || null }, false)} />
    </label>
  );
  return (
    <form onSubmit={(event) => event.preventDefault()}>
      {field("user", "User")}
      {field("conversation", "Conversation")}
      {field("tag", "Tag", { placeholder: "name:value" })}
      <div class="pair">
        {field("min_ms", "At least ms", { inputMode: "numeric", pattern: "[0-9]*" })}
        {field("max_ms", "At most ms", { inputMode: "numeric", pattern: "[0-9]*" })}
      </div>
    </form>
  );
}

function FacetLists({ counts }: { counts: Facets }) {
  return (
    <>
      {(["status", "workflow", "name", "tag"] as const).map((name) => counts[name].length > 0 && <FacetList key={name} name={name} values={counts[name]} rest={counts.rest[name] ?? 0} total={counts.total} />)}
    </>
  );
}

function FacetList({ name, values, rest, total }: { name: string; values: [string, number | null][]; rest: number; total: number }) {
  const [most, setMost] = useState(FACET_VALUES);
  const wanted = route.value.query.get(name);
  const at = values.findIndex(([value]) => value === wanted);
  // What is chosen stays in sight.
  const shown = at >= most ? [values[at], ...values.slice(0, most - 1)] : values.slice(0, most);
  return (
    <fieldset class="facet">
      <legend>{titleOf(name)}</legend>
      {shown.map(([value, number]) => (
        <button key={value} aria-pressed={wanted === value} class="facet-value" onClick={() => setQuery({ [name]: wanted === value ? null : value }, false)} title={plain(value)}>
          <span class="facet-name">{name === "status" && <StatusMark status={value} />} <Text value={value} limit={60} /></span>
          {number !== null && <span class="number">{count(number)}</span>}
          {number !== null && <span class="facet-bar" style={{ width: percent(number, total) }} />}
        </button>
      ))}
      {values.length > shown.length && <button class="quiet" onClick={() => setMost(most * 4)}>{count(shown.length)} of {count(values.length)}: show more</button>}
      {rest > 0 && <p class="faint">and {plural(rest, "run")} with other values</p>}
    </fieldset>
  );
}

function Chips() {
  const { query } = route.value;
  const shown = FILTERS.filter((name) => query.get(name));
  return (
    <div class="chips">
      {shown.map((name) => {
        const value = query.get(name)!;
        const text = name === "from" || name === "to" ? moment(Number(value)) : value;
        return <button class="chip" onClick={() => setQuery({ [name]: null }, false)} ><span class="sr">Remove the filter </span>{name}: <Text value={text} limit={60} /> ✕</button>;
      })}
      <button class="quiet" onClick={() => go(address("runs"))}>Clear</button>
    </div>
  );
}

/** Runs over time; dragging, or the keys on the two handles, narrows the list to a span of time. */
function Histogram({ counts }: { counts: Facets }) {
  const [drag, setDrag] = useState<{ from: number; to: number } | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const bars = useMemo(() => {
    const last = counts.histogram[counts.histogram.length - 1][0];
    const all: [number, number][] = Array.from({ length: last + 1 }, () => [0, 0]);
    for (const [at, number, failed] of counts.histogram) if (at >= 0 && at <= last && last < 2000) all[at] = [number, failed];
    return all;
  }, [counts]);
  const most = Math.max(1, ...bars.map(([number]) => number));
  const barAt = (event: PointerEvent): number => {
    const place = box.current!.getBoundingClientRect();
    return Math.min(bars.length - 1, Math.max(0, Math.floor(((event.clientX - place.left) / place.width) * bars.length)));
  };
  const choose = (from: number, to: number): void => setQuery({ from: String(counts.from + from * counts.step), to: String(counts.from + (to + 1) * counts.step) }, false);
  const range = drag && { from: Math.min(drag.from, drag.to), to: Math.max(drag.from, drag.to) };
  const [brush, setBrush] = useState<[number, number]>([0, bars.length - 1]);
  useEffect(() => setBrush([0, bars.length - 1]), [bars.length]);
  const handle = (side: 0 | 1) => (event: KeyboardEvent): void => {
    const step = event.key === "ArrowLeft" ? -1 : event.key === "ArrowRight" ? 1 : 0;
    if (event.key === "Enter") choose(brush[0], brush[1]);
    if (!step && event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();
    const next: [number, number] = [...brush];
    next[side] = Math.min(bars.length - 1, Math.max(0, next[side] + step));
    if (next[0] <= next[1]) setBrush(next);
  };
  const shown = range ?? (brush[0] > 0 || brush[1] < bars.length - 1 ? { from: brush[0], to: brush[1] } : null);
  const timeOf = (bar: number): string => moment(counts.from + bar * counts.step);
  return (
    <div class="histogram">
      <div
        ref={box}
        class="histogram-bars"
        onPointerDown={(event) => {
          (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
          setDrag({ from: barAt(event), to: barAt(event) });
        }}
        onPointerMove={(event) => drag && setDrag({ ...drag, to: barAt(event) })}
        onPointerUp={() => {
          if (range) choose(range.from, range.to);
          setDrag(null);
        }}
      >
        {bars.map(([number, failed], index) => (
          <span class={`histogram-bar ${shown && (index < shown.from || index > shown.to) ? "outside" : ""}`} title={`${fullMoment(counts.from + index * counts.step)}: ${plural(number, "run")}, ${count(failed)} failed`}>
            <span class="bar-ok" style={{ height: `${(100 * (number - failed)) / most}%` }} />
            <span class="bar-failed" style={{ height: `${(100 * failed) / most}%` }} />
          </span>
        ))}
      </div>
      <div class="histogram-axis">
        <span>{timeOf(0)}</span>
        {([0, 1] as const).map((side) => (
          <span role="slider" tabIndex={0} class="brush" aria-label={side ? "End of the time range" : "Begin of the time range"} aria-valuemin={0} aria-valuemax={bars.length - 1} aria-valuenow={brush[side]} aria-valuetext={timeOf(brush[side] + side)} title="Arrow keys move, Enter narrows the list" onKeyDown={handle(side)}>{side ? "⇥" : "⇤"} {timeOf(brush[side] + side)}</span>
        ))}
        <span>{timeOf(bars.length)}</span>
      </div>
    </div>
  );
}
