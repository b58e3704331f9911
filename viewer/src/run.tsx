// One run: its facts, the minimap, and the waterfall and the tree in one, with a span's detail beside it.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { ApiError, follow, save, type RunAnswer, type Source } from "./api";
import { Detail } from "./detail";
import { cost, count, duration, fullMoment, plural, tokens } from "./format";
import { bind } from "./keys";
import { Minimap, type Zoom } from "./minimap";
import { Completeness, CopyId, Empty, Kind, kindClass, Moment, Name, Problem, runName, StatusMark, Zone } from "./parts";
import { Rows } from "./rows";
import { SpanTable } from "./spantable";
import { address, copy, go, listed, mark, marked, paused, route, say, setQuery } from "./state";
import { plain, Text } from "./text";
import { RunTree } from "./tree";

const ROW = 26;
const MOST_INDENT = 22;
const MOST_BARS = 200; // of one row
const LIMIT = 100_000;
const PIECE = 10_000; // spans of one answer

interface Loaded {
  answer: RunAnswer;
  tree: RunTree;
  whole: boolean; // no more spans are on their way
  next: number | null;
}

export function RunPage({ source, id }: { source: Source; id: string }) {
  const [loaded, setLoaded] = useState<Loaded | null>(null);
  const [error, setError] = useState("");
  const [version, setVersion] = useState(0);
  const [fresh, setFresh] = useState(0);

  useEffect(() => {
    const abort = new AbortController();
    const tree = new RunTree();
    setLoaded(null);
    setError("");
    const load = async (): Promise<void> => {
      const [answer, first] = await Promise.all([source.run(id, abort.signal), source.spans(id, 0, abort.signal)]);
      tree.add(first);
      tree.build();
      document.title = `${plain(runName(answer.run), 60)} · run`;
      setLoaded({ answer, tree, whole: first.next === null, next: first.next });
      let next = first.next;
      while (next !== null && tree.size < LIMIT && !abort.signal.aborted) {
        const more = await source.spans(id, next, abort.signal, LIMIT - tree.size);
        tree.add(more);
        next = more.next;
        // Until the last piece, the first is shown, and how many there are.
        if (next === null || tree.size >= LIMIT) tree.build();
        setLoaded({ answer, tree, whole: next === null, next });
        setVersion((each) => each + 1);
      }
    };
    load().catch((problem: unknown) => abort.signal.aborted || setError(problem instanceof Error ? problem.message : String(problem)));
    return () => abort.abort();
  }, [id]);

  // The run goes on: what changed is taken over, or waits while the page is paused.
  const open = loaded !== null && ["open", "running"].includes(loaded.answer.run.status);
  useEffect(() => {
    if (!source.live || !loaded?.whole || !open) return;
    let abort = new AbortController();
    const { tree } = loaded;
    let busy = false;
    let again = false;
    const update = async (): Promise<void> => {
      if (paused.value) {
        setFresh((each) => each + 1);
        return;
      }
      if (busy) {
        again = true;
        return;
      }
      busy = true;
      try {
        do {
          again = false;
          let next: number | null = tree.cursor;
          while (next !== null && tree.size < LIMIT) {
            const more: Awaited<ReturnType<Source["spans"]>> = await source.spans(id, Math.max(1, next), abort.signal);
            tree.add(more);
            next = more.next;
          }
          const answer = await source.run(id, abort.signal);
          tree.build();
          setFresh(0);
          setLoaded({ answer, tree, whole: true, next: null });
          setVersion((each) => each + 1);
        } while (again);
      } catch (problem) {
        if (problem instanceof ApiError) say(problem.message);
      }
      busy = false;
    };
    const watch = (): void => {
      abort.abort();
      abort = new AbortController();
      if (!document.hidden) {
        void follow(abort.signal, (change) => {
          if (change.runs.includes(id)) void update();
        });
        void update();
      }
    };
    watch();
    document.addEventListener("visibilitychange", watch);
    const unsubscribe = paused.subscribe((value) => {
      if (!value) void update();
    });
    // A process that died says nothing: its run is asked for now and then.
    const beat = setInterval(() => void (document.hidden || update()), 10_000);
    return () => {
      abort.abort();
      unsubscribe();
      clearInterval(beat);
      document.removeEventListener("visibilitychange", watch);
    };
  }, [id, loaded?.whole, open]);

  // What is running gets longer without a word from the store. The server's clock counts: it is the writer's, mostly.
  useEffect(() => {
    if (!source.live || !loaded?.whole || !open) return;
    const ahead = loaded.answer.now - Date.now() * 1000;
    const { tree } = loaded;
    const tick = setInterval(() => {
      if (document.hidden || paused.value) return;
      tree.advance(Date.now() * 1000 + ahead);
      setVersion((each) => each + 1);
    }, 1000);
    return () => clearInterval(tick);
  }, [id, loaded?.whole, open]);

  const more = async (): Promise<void> => {
    if (!loaded?.next) return;
    const answer = await source.spans(id, loaded.next);
    loaded.tree.add(answer);
    loaded.tree.build();
    setLoaded({ ...loaded, next: answer.next, whole: answer.next === null });
    setVersion((each) => each + 1);
  };

  if (error) return <main id="main"><div class="toolbar"><h1>Run</h1></div><Problem>{error}</Problem></main>;
  if (!loaded) return <main id="main" aria-busy="true"><p class="loading">Loading the run…</p></main>;
  return (
    <main id="main" class="run-page">
      <Head source={source} answer={loaded.answer} tree={loaded.tree} fresh={fresh} open={open} />
      {loaded.next !== null && loaded.tree.size >= LIMIT && (
        <p class="notice" role="status">{count(loaded.tree.size)} of {plural(loaded.tree.total, "span")} are shown. <button onClick={() => void more()}>Load {count(Math.min(PIECE, loaded.tree.total - loaded.tree.size))} more</button></p>
      )}
      {loaded.next !== null && loaded.tree.size < LIMIT && <p class="notice" role="status">{count(loaded.tree.size)} of {plural(loaded.tree.total, "span")} so far…</p>}
      {loaded.tree.size ? <Waterfall source={source} answer={loaded.answer} tree={loaded.tree} version={version} /> : <Empty title="No spans yet">They appear here as they arrive.</Empty>}
    </main>
  );
}

function Head({ source, answer, tree, fresh, open }: { source: Source; answer: RunAnswer; tree: RunTree; fresh: number; open: boolean }) {
  const { run, ledgers } = answer;
  const [allTags, setAllTags] = useState(false);
  const tags = Object.entries(run.tags ?? {});
  const shownTags = allTags ? tags.length : 30;
  const totals = useMemo(() => {
    let errors = 0;
    let used = 0;
    for (let span = 0; span < tree.size; span++) {
      if (tree.failed(span)) errors++;
      if (tree.kinds[span] === "LLM") used += tree.tokens[span] ?? 0;
    }
    return { errors: run.errors ?? errors, tokens: run.tokens ?? used };
  }, [tree.cursor, tree.size, run]);
  return (
    <header class="run-head">
      <div class="run-title">
        <StatusMark status={run.status} long />
        <h1><Name value={runName(run)} limit={200} /></h1>
        {run.workflow && run.workflow !== run.name && <span class="faint"><Text value={run.workflow} limit={80} /></span>}
        <span class="spacer" />
        {source.live && (
          <>
            {open && (
              <button aria-pressed={paused.value} onClick={() => (paused.value = !paused.value)} title="Key: p">
                {paused.value ? `▶ Resume${fresh ? ` (${plural(fresh, "change")})` : ""}` : "❚❚ Pause"}
              </button>
            )}
            <button aria-pressed={marked.value.includes(run.id)} onClick={() => mark(run.id)} title="Key: x">Compare</button>
            <ExportMenu id={run.id} />
          </>
        )}
        {route.value.page === "run" && answer.trace.length > 0 && (
          <button aria-pressed={route.value.query.has("joined")} onClick={() => setQuery({ joined: route.value.query.has("joined") ? null : "1", span: null }, false)} title="The spans of all runs of this trace in one waterfall">Whole trace: {plural(answer.trace.length + 1, "run")}</button>
        )}
      </div>
      <dl class="facts">
        <div><dt>Start</dt><dd title={fullMoment(run.start)}><Moment us={run.start} /> <Zone /></dd></div>
        <div><dt>Duration</dt><dd>{duration(Math.max(run.duration, tree.end))}</dd></div>
        <div><dt>Spans</dt><dd>{count(tree.total)}</dd></div>
        {totals.errors > 0 && <div><dt>Errors</dt><dd class="warn">{count(totals.errors)}</dd></div>}
        {totals.tokens > 0 && <div><dt>Tokens</dt><dd title={run.prompt !== null ? `${count(run.prompt)} prompt, ${count(run.completion ?? 0)} completion; of model calls alone` : "of model calls alone"}>{count(totals.tokens)}</dd></div>}
        {run.cost !== null && <div><dt>Cost</dt><dd>{cost(run.cost)}</dd></div>}
        {run.user && <div><dt>User</dt><dd>{source.live ? <a href={address("runs", "", { user: run.user })}><Text value={run.user} limit={60} /></a> : <Text value={run.user} limit={60} />}</dd></div>}
        {run.conversation && <div><dt>Conversation</dt><dd>{source.live ? <a href={address("conversation", run.conversation)}><Text value={run.conversation} limit={40} /></a> : <Text value={run.conversation} limit={40} />}</dd></div>}
        {tags.slice(0, shownTags).map(([name, value]) => (
          <div><dt><Text value={name} limit={40} /></dt><dd>{source.live ? <a href={address("runs", "", { tag: `${name}:${value}` })}><Text value={value} limit={60} /></a> : <Text value={value} limit={60} />}</dd></div>
        ))}
        {tags.length > shownTags && <div><dt>Tags</dt><dd>{shownTags} of {count(tags.length)} are shown <button class="quiet" onClick={() => setAllTags(true)}>show all</button></dd></div>}
        <div><dt>Run</dt><dd><CopyId id={run.id} copy={(text) => void copy(text)} /></dd></div>
        {answer.trace.length > 0 && (
          <div><dt>Same trace</dt><dd>{answer.trace.slice(0, 6).map((other) => {
            const name = <><StatusMark status={other.status} /> <Text value={runName(other)} limit={40} /></>;
            return source.holds(other.id) ? <a class="chip" href={address("run", other.id)}>{name}</a> : <span class="chip" title="Not in this file">{name}</span>;
          })}{answer.trace.length > 6 && ` and ${answer.trace.length - 6} more`}</dd></div>
        )}
        <div class="wide"><dt class="sr">Completeness</dt><dd><Completeness ledgers={ledgers} spans={null} /></dd></div>
      </dl>
      {run.error && <p class="run-error"><Text value={run.error} limit={600} /></p>}
    </header>
  );
}

function ExportMenu({ id }: { id: string }) {
  const [open, setOpen] = useState(false);
  const choose = async (format: string): Promise<void> => {
    setOpen(false);
    say("Preparing the file…");
    try {
      await save(id, format);
      say("Saved");
    } catch (problem) {
      say(problem instanceof Error ? problem.message : String(problem));
    }
  };
  return (
    <span class="menu" onKeyDown={(event) => event.key === "Escape" && setOpen(false)}>
      <button aria-expanded={open} aria-haspopup="true" onClick={() => setOpen(!open)}>Export ▾</button>
      {open && (
        <span class="menu-items">
          <button onClick={() => void choose("html")}>HTML file, works offline</button>
          <button onClick={() => void choose("json")}>JSON</button>
          <button onClick={() => void choose("otlp.json")}>OTLP JSON</button>
        </span>
      )}
    </span>
  );
}

function Waterfall({ source, answer, tree, version }: { source: Source; answer: RunAnswer; tree: RunTree; version: number }) {
  const { query } = route.value;
  const [closed, setClosed] = useState<ReadonlySet<number>>(new Set());
  const [folding, setFolding] = useState(true);
  const [openFolds, setOpenFolds] = useState<ReadonlySet<string>>(new Set());
  const [path, setPath] = useState(false);
  const [zoom, setZoom] = useState<Zoom>({ from: 0, to: Math.max(1, tree.end) });
  const [following, setFollowing] = useState(true); // the zoom is the whole run
  const [active, setActive] = useState(() => {
    const wanted = tree.indexOf(query.get("span") ?? "");
    return wanted >= 0 ? wanted : (tree.order[0] ?? 0);
  });
  const [activeFold, setActiveFold] = useState<string | null>(null);
  const [detail, setDetail] = useState(query.has("span"));
  const [find, setFind] = useState(query.get("find") ?? "");
  const [hits, setHits] = useState<ReadonlySet<string> | null>(null);
  const [searching, setSearching] = useState("");
  const box = useRef<HTMLDivElement>(null);
  const field = useRef<HTMLInputElement>(null);
  const table = query.get("as") === "table";

  useEffect(() => {
    if (following) setZoom({ from: 0, to: Math.max(1, tree.end) });
  }, [version, tree.end]);

  const rows = useMemo(() => tree.rows(closed, folding, openFolds), [tree, version, tree.size, closed, folding, openFolds]);
  const activeRow = useMemo(() => {
    if (activeFold !== null) {
      const row = rows.findIndex((each) => each < 0 && tree.ids[tree.folds[-1 - each].members[0]] === activeFold);
      if (row >= 0) return row;
    }
    return rows.indexOf(active);
  }, [rows, active, activeFold]);

  // Rows that arrive above the view must not move what is looked at.
  const anchor = useRef({ version: 0, moved: 0, row: activeRow, span: active, rows });
  if (anchor.current.rows !== rows) {
    const moved = anchor.current.span === active && anchor.current.version !== version && anchor.current.row >= 0 && activeRow >= 0 ? activeRow - anchor.current.row : 0;
    anchor.current = { version, moved, row: activeRow, span: active, rows };
  } else {
    anchor.current.row = activeRow;
    anchor.current.span = active;
  }

  const reveal = (span: number): void => {
    const above = tree.above(span);
    if (above.some((each) => closed.has(each))) setClosed(new Set([...closed].filter((each) => !above.includes(each))));
    const folded = [...above, span].map((each) => tree.foldAt(each)).filter((fold) => fold >= 0).map((fold) => tree.ids[tree.folds[fold].members[0]]);
    if (folding && folded.some((each) => !openFolds.has(each))) setOpenFolds(new Set([...openFolds, ...folded]));
  };
  const select = (span: number, show = detail): void => {
    setActiveFold(null);
    setActive(span);
    if (show !== detail) setDetail(show);
    if (show && route.value.page !== "offline") setQuery({ span: tree.ids[span] });
  };
  const jump = (span: number): void => {
    reveal(span);
    select(span);
  };
  const toRow = (row: number): void => {
    if (!rows.length) return;
    const at = rows[Math.min(rows.length - 1, Math.max(0, row))];
    if (at >= 0) select(at);
    else setActiveFold(tree.ids[tree.folds[-1 - at].members[0]]);
  };
  const toggle = (span: number, open?: boolean): void => {
    const next = new Set(closed);
    if (open ?? closed.has(span)) next.delete(span);
    else next.add(span);
    setClosed(next);
  };
  const toggleFold = (key: string, open?: boolean): void => {
    const next = new Set(openFolds);
    if (open ?? !openFolds.has(key)) next.add(key);
    else next.delete(key);
    setOpenFolds(next);
  };
  const step = (wanted: (span: number) => boolean, back: boolean, what: string): void => {
    const { order } = tree;
    const from = order.indexOf(active);
    for (let distance = 1; distance <= order.length; distance++) {
      const at = order[(from + (back ? -distance : distance) + 2 * order.length) % order.length];
      if (wanted(at)) {
        jump(at);
        return;
      }
    }
    say(`No ${what} in this run`);
  };
  const failedSpan = (span: number): boolean => tree.failed(span);
  const isHit = (span: number): boolean => hits?.has(tree.ids[span]) ?? false;
  const zoomTo = (next: Zoom): void => {
    const from = Math.max(0, Math.min(next.from, tree.end - 1));
    setZoom({ from, to: Math.min(Math.max(next.to, from + 1), Math.max(1, tree.end)) });
    setFollowing(false);
  };
  const wholeRun = (): void => {
    setZoom({ from: 0, to: Math.max(1, tree.end) });
    setFollowing(true);
  };
  const neighbour = (by: number): void => {
    if (route.value.page === "offline") {
      say("This file has no list");
      return;
    }
    const at = listed.value.indexOf(answer.run.id);
    const next = at >= 0 ? listed.value[at + by] : by < 0 ? answer.newer : answer.older;
    if (next) go(address("run", next));
    else say(by < 0 ? "This is the newest run" : "This is the oldest run");
  };

  // Keys always act on what is shown now.
  const actions = useRef<Record<string, (event: KeyboardEvent) => void>>({});
  actions.current = {
    j: () => toRow(activeRow + 1),
    ArrowDown: () => toRow(activeRow + 1),
    k: () => toRow(activeRow - 1),
    ArrowUp: () => toRow(activeRow - 1),
    PageDown: () => toRow(activeRow + 20),
    PageUp: () => toRow(activeRow - 20),
    Home: () => toRow(0),
    End: () => toRow(rows.length - 1),
    h: () => {
      if (activeFold !== null) toggleFold(activeFold, false);
      else if (tree.children[active] && !closed.has(active)) toggle(active, false);
      else if (tree.parent[active] >= 0) select(tree.parent[active]);
    },
    l: () => {
      if (activeFold !== null) {
        if (!openFolds.has(activeFold)) toggleFold(activeFold, true);
        else toRow(activeRow + 1);
      } else if (tree.children[active] && closed.has(active)) toggle(active, true);
      else if (tree.children[active]) toRow(activeRow + 1);
    },
    Enter: () => {
      if (activeFold !== null) toggleFold(activeFold);
      else select(active, true);
    },
    Escape: () => {
      if (detail) {
        setDetail(false);
        setQuery({ span: null });
      }
    },
    e: () => step(failedSpan, false, "error"),
    E: () => step(failedSpan, true, "error"),
    n: () => step(isHit, false, "hit"),
    N: () => step(isHit, true, "hit"),
    c: () => setPath(!path),
    f: () => setFolding(!folding),
    z: () => {
      const margin = Math.max(1, tree.length[active] * 0.05);
      zoomTo({ from: tree.from[active] - margin, to: tree.from[active] + tree.length[active] + margin });
    },
    "0": wholeRun,
    "[": () => neighbour(-1),
    "]": () => neighbour(1),
    x: () => mark(answer.run.id),
    p: () => {
      paused.value = !paused.value;
      say(paused.value ? "Paused" : "Live");
    },
    y: () => void copy(detail ? tree.ids[active] : answer.run.id),
    "/": () => {
      field.current?.focus();
      field.current?.select();
    },
  };
  actions.current.ArrowLeft = actions.current.h;
  actions.current.ArrowRight = actions.current.l;
  useEffect(() => bind(Object.fromEntries(Object.keys(actions.current).map((key) => [key, (event: KeyboardEvent) => actions.current[key](event)]))), []);
  useLayoutEffect(() => {
    if (document.activeElement === document.body) box.current?.querySelector<HTMLElement>(".rows")?.focus({ preventScroll: true });
    if (tree.indexOf(query.get("span") ?? "") >= 0) reveal(active);
  }, []);

  // The address may come to name another span: by a link, or by going back.
  const wanted = query.get("span");
  useEffect(() => {
    const at = wanted === null ? -1 : tree.indexOf(wanted);
    if (at < 0 || (at === active && detail)) return;
    reveal(at);
    setActiveFold(null);
    setActive(at);
    setDetail(true);
  }, [wanted, tree.order.length]);

  // Names are found here, content by the server.
  useEffect(() => {
    if (!find) {
      setHits(null);
      setSearching("");
      return;
    }
    const abort = new AbortController();
    const wanted = find.toLowerCase();
    const found = new Set<string>();
    for (let span = 0; span < tree.size; span++) {
      if (tree.names[span].toLowerCase().includes(wanted) || tree.ids[span] === find) found.add(tree.ids[span]);
    }
    setHits(new Set(found));
    setSearching("…");
    const wait = setTimeout(async () => {
      try {
        let before: number | null = null;
        do {
          const page: Awaited<ReturnType<Source["search"]>> = await source.search({ q: find, run: answer.run.id, before }, abort.signal);
          for (const hit of page.hits) found.add(hit.span);
          before = page.next;
          setHits(new Set(found));
          setSearching(before === null ? "" : "…");
        } while (before !== null && found.size < 5000 && !abort.signal.aborted);
        if (before !== null) setSearching(" so far");
      } catch (problem) {
        if (!abort.signal.aborted) setSearching(` in names; content: ${problem instanceof Error ? problem.message : String(problem)}`);
      }
    }, 200);
    return () => {
      clearTimeout(wait);
      abort.abort();
    };
  }, [find, tree, version]);

  // Rows do not change because these do.
  const calls = useRef({ toggle, toggleFold, select, setActiveFold });
  calls.current = { toggle, toggleFold, select, setActiveFold };
  const render = useMemo(() => {
    const scale = zoom.to - zoom.from || 1;
    return (row: number, isActive: boolean) => {
      const at = rows[row];
      return at < 0
        ? <FoldRow tree={tree} fold={-1 - at} row={row} zoom={zoom} scale={scale} open={openFolds} active={isActive} toggle={(key) => calls.current.toggleFold(key)} choose={() => calls.current.setActiveFold(tree.ids[tree.folds[-1 - at].members[0]])} />
        : <SpanRow tree={tree} span={at} row={row} zoom={zoom} scale={scale} closed={closed.has(at)} active={isActive} path={path} hit={hits?.has(tree.ids[at]) ?? false} find={find} indented={folding && tree.foldAt(at) >= 0} toggle={(span) => calls.current.toggle(span)} choose={(span, show) => calls.current.select(span, show)} />;
    };
  }, [tree, version, tree.size, rows, zoom, closed, path, hits, find, folding, openFolds]);

  const errors = useMemo(() => tree.order.filter(failedSpan).length, [tree, version, tree.size]);
  const errorPlace = errors && failedSpan(active) ? tree.order.filter(failedSpan).indexOf(active) + 1 : 0;
  return (
    <div class={`run-body ${detail ? "with-detail" : ""}`} ref={box}>
      <section class="waterfall" aria-label="Spans">
        <div class="toolbar">
          <input ref={field} type="search" placeholder="Search in this run  /" aria-label="Search in this run" value={find}
            onInput={(event) => setFind((event.target as HTMLInputElement).value)}
            onKeyDown={(event) => event.key === "Enter" && step(isHit, event.shiftKey, "hit")} />
          {hits && <span class="faint" role="status">{plural(hits.size, "span")}{searching}</span>}
          {hits && <><button class="quiet" aria-label="Previous hit" onClick={() => step(isHit, true, "hit")}>↑</button><button class="quiet" aria-label="Next hit" onClick={() => step(isHit, false, "hit")}>↓</button></>}
          <span class="spacer" />
          {errors > 0 && <button class="error-button" onClick={() => step(failedSpan, false, "error")} title="Keys: e, E">✕ {errorPlace ? `${errorPlace} of ` : ""}{plural(errors, "error")}</button>}
          <button aria-pressed={path} onClick={() => setPath(!path)} title="Key: c">Critical path</button>
          {tree.folds.length > 0 && <button aria-pressed={folding} onClick={() => setFolding(!folding)} title="Key: f">Fold repeats</button>}
          <button onClick={() => setClosed(closed.size ? new Set() : new Set(tree.order.filter((span) => tree.children[span] && tree.depth[span] > 0)))}>{closed.size ? "Open all" : "Close all"}</button>
          <button disabled={following} onClick={wholeRun} title="Key: 0">Whole run</button>
          {route.value.page !== "offline" && <button aria-pressed={table} onClick={() => setQuery({ as: table ? null : "table" })}>Table</button>}
        </div>
        {table ? <SpanTable tree={tree} version={version} choose={(span) => select(span, true)} /> : (
          <>
            <Minimap tree={tree} version={version + tree.size} zoom={zoom} setZoom={zoomTo} />
            <Axis zoom={zoom} />
            <Rows
              count={rows.length}
              height={ROW}
              active={activeRow}
              activeId={`row-${activeRow}`}
              label={`Spans of the run, ${rows.length} rows`}
              role="treegrid"
              class="spans"
              anchor={anchor.current}
              extra={{ "aria-rowcount": rows.length, "aria-colcount": 2 }}
              render={render}
            />
          </>
        )}
      </section>
      {detail && <Detail source={source} run={answer.run.id} tree={tree} span={active} find={find} close={() => actions.current.Escape(new KeyboardEvent("keydown"))} />}
    </div>
  );
}

function Axis({ zoom }: { zoom: Zoom }) {
  return (
    <div class="axis" aria-hidden="true">
      <div class="axis-tree">Span</div>
      <div class="axis-time">
        {[0, 0.25, 0.5, 0.75, 1].map((at) => (
          <span class="tick" style={at === 1 ? { right: "0" } : { left: `${100 * at}%` }}>{duration(zoom.from + at * (zoom.to - zoom.from))}</span>
        ))}
      </div>
    </div>
  );
}

interface RowProps {
  tree: RunTree;
  row: number;
  zoom: Zoom;
  scale: number;
  active: boolean;
}

const indent = (depth: number): string => `${6 + 14 * Math.min(depth, MOST_INDENT)}px`;

function SpanRow({ tree, span, row, zoom, scale, closed, active, path, hit, find, indented, toggle, choose }: RowProps & { span: number; closed: boolean; path: boolean; hit: boolean; find: string; indented: boolean; toggle: (span: number) => void; choose: (span: number, show?: boolean) => void }) {
  const below = tree.children[span];
  const depth = tree.depth[span] + (indented ? 1 : 0);
  const parent = tree.parent[span];
  const siblings = parent < 0 ? tree.roots : tree.children[parent]!;
  const failed = tree.failed(span);
  const length = tree.length[span];
  const critical = path && tree.critical[span] === 1;
  const used = tree.tokens[span];
  return (
    <div
      id={`row-${row}`}
      role="row"
      aria-level={depth + 1}
      aria-setsize={siblings.length}
      aria-rowindex={row + 1}
      aria-expanded={below ? !closed : undefined}
      aria-selected={active}
      class={`row ${active ? "active" : ""} ${failed ? "failed" : ""} ${hit ? "is-hit" : ""} ${path && !critical ? "off-path" : ""}`}
      onClick={() => choose(span, true)}
    >
      <div class="cell-tree" role="gridcell" style={{ paddingLeft: indent(depth) }}>
        {below ? (
          <span class="toggle" aria-hidden="true" onClick={(event) => { event.stopPropagation(); toggle(span); }}>{closed ? "▸" : "▾"}</span>
        ) : <span class="toggle" aria-hidden="true" />}
        {depth > MOST_INDENT && <span class="depth" title={`${depth} levels deep`}>{depth}</span>}
        <Kind kind={tree.kinds[span]} />
        <span class="span-name" title={plain(tree.names[span])}><Name value={tree.names[span]} limit={160} find={find} /></span>
        {tree.inCircle[span] === 1 && <span class="flag" title="Its parents form a circle">↻</span>}
        {closed && below && <span class="below" title="Spans below it are hidden">+{count(below.length)}</span>}
        {closed && tree.failedBelow[span] === 1 && <span class="below failed" title="Something below it failed">✕</span>}
        {tree.statuses[span] !== "ok" && <StatusMark status={tree.statuses[span]} />}
        {used !== null && used > 0 && <span class="tokens" title="Tokens">{tokens(used)}</span>}
      </div>
      <div class="cell-time" role="gridcell" aria-label={`${duration(length)}, starts at ${duration(tree.from[span])}`}>
        <Bar tree={tree} from={tree.from[span]} length={length} zoom={zoom} scale={scale} span={span} critical={critical} />
      </div>
    </div>
  );
}

function Bar({ tree, from, length, zoom, scale, span, critical }: { tree: RunTree; from: number; length: number; zoom: Zoom; scale: number; span: number; critical: boolean }) {
  const shown = Math.max(0, length);
  const left = (100 * (from - zoom.from)) / scale;
  const right = (100 * (from + shown - zoom.from)) / scale;
  if (right < 0 || left > 100) return <span class={`beyond ${left > 100 ? "after" : "before"}`} aria-hidden="true">{left > 100 ? "▸" : "◂"}</span>;
  const begin = Math.max(0, left);
  const width = Math.min(100, right) - begin;
  const first = tree.first[span];
  const firstAt = first === null || shown === 0 ? null : (100 * (first - from)) / shown;
  // After the bar, else before it, else in it.
  const label = begin + width <= 78 ? { left: `calc(${begin + Math.max(width, 0)}% + 6px)` } : { right: begin > 14 ? `${100 - begin + 0.4}%` : `${100 - begin - width + 0.6}%` };
  const inside = begin + width > 78 && begin <= 14;
  const selfShare = shown > 0 ? tree.self[span] / shown : 1;
  return (
    <>
      <span class={`bar ${kindClass(tree.kinds[span])} ${tree.failed(span) ? "failed" : ""} ${tree.statuses[span] === "running" ? "running" : ""} ${critical ? "critical" : ""}`} style={{ left: `${begin}%`, width: `max(2px, ${width}%)` }} title={`${duration(length)}, of which ${duration(tree.self[span])} by itself`}>
        <span class="self" style={{ width: `${100 * selfShare}%` }} />
        {firstAt !== null && firstAt >= 0 && firstAt <= 100 && <span class="first-token" style={{ left: `${firstAt}%` }} title={`First token after ${duration(first! - from)}`} />}
      </span>
      <span class={`bar-label ${inside ? "inside" : ""}`} style={label}>{duration(length)}</span>
    </>
  );
}

function FoldRow({ tree, fold, row, zoom, scale, open, active, toggle, choose }: RowProps & { fold: number; open: ReadonlySet<string>; toggle: (key: string) => void; choose: () => void }) {
  const { members, length, parent } = tree.folds[fold];
  const key = tree.ids[members[0]];
  const first = members[0];
  const depth = parent < 0 ? 0 : tree.depth[parent] + 1;
  return (
    <div id={`row-${row}`} role="row" aria-level={depth + 1} aria-rowindex={row + 1} aria-expanded={open.has(key)} aria-selected={active} class={`row fold ${active ? "active" : ""}`} onClick={() => { choose(); toggle(key); }}>
      <div class="cell-tree" role="gridcell" style={{ paddingLeft: indent(depth) }}>
        <span class="toggle" aria-hidden="true">{open.has(key) ? "▾" : "▸"}</span>
        <Kind kind={tree.kinds[first]} />
        <span class="span-name"><Name value={tree.names[first]} limit={160} /></span>
        <span class="times">× {count(members.length)}</span>
      </div>
      <div class="cell-time" role="gridcell" aria-label={`${members.length} spans, ${duration(length)} in total`}>
        {members.slice(0, MOST_BARS).map((member) => {
          const left = (100 * (tree.from[member] - zoom.from)) / scale;
          return left > 100 || left + (100 * tree.length[member]) / scale < 0 ? null : <span class={`bar thin ${kindClass(tree.kinds[member])}`} style={{ left: `${Math.max(0, left)}%`, width: `max(1px, ${Math.min(100 - Math.max(0, left), (100 * Math.max(0, tree.length[member])) / scale)}%)` }} />;
        })}
        <span class="bar-label" style={{ right: "4px" }}>{members.length > MOST_BARS && `${MOST_BARS} of ${count(members.length)} are drawn · `}Σ {duration(length)}</span>
      </div>
    </div>
  );
}

