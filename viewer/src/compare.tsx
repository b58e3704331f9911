// Two runs side by side: structure, time, tokens and content, from the first divergence on.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { compare, server, type CompareAnswer, type CompareSpan, type RunSummary, type SpanAnswer } from "./api";
import { cost, count, duration, plural } from "./format";
import { bind } from "./keys";
import { Kind, Moment, Name, Problem, runName, StatusMark, useAnswer } from "./parts";
import { Rows } from "./rows";
import { address, go, marked, route, say } from "./state";
import { plain, Text } from "./text";

const ROW = 26;

export function ComparePage() {
  const { query } = route.value;
  const a = query.get("a") ?? "";
  const b = query.get("b") ?? "";
  const { value, error, loading } = useAnswer((signal) => (a && b ? compare(a, b, signal) : Promise.reject(new Error("Mark two runs with the key x, or the button Compare on a run's page."))), [a, b]);
  useEffect(() => {
    document.title = "Comparison";
    marked.value = [];
  }, [a, b]);
  if (error) return <main id="main" class="page"><h1>Comparison</h1><Problem>{error}</Problem></main>;
  if (!value) return <main id="main" class="page" aria-busy={loading}><p class="loading">Comparing…</p></main>;
  return <main id="main" class="compare-page"><Comparison key={`${value.a.id} ${value.b.id}`} answer={value} a={value.a.id} b={value.b.id} /></main>;
}

function Comparison({ answer, a, b }: { answer: CompareAnswer; a: string; b: string }) {
  const [onlyDifferences, setOnly] = useState(false);
  const rows = useMemo(() => answer.pairs.map((_, index) => index).filter((index) => !onlyDifferences || answer.pairs[index].differs.length > 0), [answer, onlyDifferences]);
  const [active, setActive] = useState(Math.max(0, answer.first ?? 0));
  useEffect(() => setActive(Math.max(0, answer.first === null ? 0 : rows.indexOf(answer.first))), [rows]);
  const step = (by: number): void => {
    for (let at = active + by; at >= 0 && at < rows.length; at += by) {
      if (answer.pairs[rows[at]].differs.length) {
        setActive(at);
        return;
      }
    }
    say("No further difference");
  };
  const actions = useRef<Record<string, () => void>>({});
  actions.current = {
    j: () => setActive(Math.min(rows.length - 1, active + 1)),
    ArrowDown: () => setActive(Math.min(rows.length - 1, active + 1)),
    k: () => setActive(Math.max(0, active - 1)),
    ArrowUp: () => setActive(Math.max(0, active - 1)),
    e: () => step(1),
    E: () => step(-1),
    f: () => setOnly(!onlyDifferences),
  };
  useEffect(() => bind(Object.fromEntries(Object.keys(actions.current).map((key) => [key, () => actions.current[key]()]))), []);
  const differing = answer.pairs.filter((pair) => pair.differs.length).length;
  const pair = answer.pairs[rows[active]];
  const longest = Math.max(1, answer.a.duration, answer.b.duration);
  return (
    <>
      <div class="toolbar">
        <h1>Comparison</h1>
        <span class="faint" role="status">{differing ? `${plural(differing, "difference")} in ${plural(answer.pairs.length, "pair")}` : "No differences"}</span>
        {answer.first !== null && <button onClick={() => setActive(Math.max(0, rows.indexOf(answer.first!)))}>First divergence</button>}
        <button onClick={() => step(1)} title="Key: e">Next difference</button>
        <button aria-pressed={onlyDifferences} onClick={() => setOnly(!onlyDifferences)} title="Key: f">Only differences</button>
        <span class="spacer" />
        <button onClick={() => go(address("compare", "", { a: b, b: a }))}>Swap</button>
      </div>
      <div class="compare-heads">
        <RunHead side="A" run={answer.a} other={answer.b} longest={longest} shown={answer.spans_a.length} total={answer.total_a} />
        <RunHead side="B" run={answer.b} other={answer.a} longest={longest} shown={answer.spans_b.length} total={answer.total_b} />
      </div>
      <Rows
        count={rows.length}
        height={ROW}
        active={active}
        activeId={`pair-${active}`}
        label="Pairs of spans"
        role="treegrid"
        class="pairs"
        extra={{ "aria-rowcount": rows.length }}
        render={(row, isActive) => {
          const index = rows[row];
          const { a: one, b: other, depth, differs } = answer.pairs[index];
          return (
            <div id={`pair-${row}`} role="row" aria-level={depth + 1} aria-selected={isActive} class={`row pair ${isActive ? "active" : ""} ${index === answer.first ? "first-divergence" : ""}`} onClick={() => setActive(row)}>
              <Side span={one === null ? null : answer.spans_a[one]} depth={depth} />
              <span role="gridcell" class="differs">{index === answer.first && <span class="flag" title="First divergence">◆</span>}{differs.map((each) => <span class={`differs-${each}`}>{each}</span>)}</span>
              <Side span={other === null ? null : answer.spans_b[other]} depth={depth} />
            </div>
          );
        }}
      />
      {pair && <PairContent a={a} b={b} one={pair.a === null ? null : answer.spans_a[pair.a].id} other={pair.b === null ? null : answer.spans_b[pair.b].id} />}
    </>
  );
}

function RunHead({ side, run, other, longest, shown, total }: { side: string; run: RunSummary; other: RunSummary; longest: number; shown: number; total: number }) {
  const more = (mine: number | null, theirs: number | null, show: (value: number) => string) => mine === null ? "" : `${show(mine)}${theirs !== null && mine > theirs && theirs > 0 ? ` (+${Math.round((100 * (mine - theirs)) / theirs)}%)` : ""}`;
  return (
    <section class="compare-head" aria-label={`Run ${side}`}>
      <p><strong>{side}</strong> <StatusMark status={run.status} /> <a href={address("run", run.id)}><Name value={runName(run)} limit={80} /></a> <Moment us={run.start} /></p>
      <div class="compare-bar"><span style={{ width: `${(100 * run.duration) / longest}%` }} /></div>
      <p class="faint">{more(run.duration, other.duration, duration)}{run.tokens !== null && <> · {more(run.tokens, other.tokens, count)} tokens</>}{run.cost !== null && <> · cost {cost(run.cost)}</>} · {shown < total ? `${count(shown)} of ` : ""}{plural(total, "span")}</p>
    </section>
  );
}

function Side({ span, depth }: { span: CompareSpan | null; depth: number }) {
  if (!span) return <span role="gridcell" class="side missing">—</span>;
  return (
    <span role="gridcell" class="side" style={{ paddingLeft: `${6 + 12 * Math.min(depth, 16)}px` }} title={plain(span.name)}>
      <Kind kind={span.kind} /> <span class="span-name"><Name value={span.name} limit={80} /></span> {span.status !== "ok" && <StatusMark status={span.status} />}
      <span class="number faint">{duration(span.duration)}{span.tokens ? ` · ${count(span.tokens)} tok` : ""}</span>
    </span>
  );
}

function PairContent({ a, b, one, other }: { a: string; b: string; one: string | null; other: string | null }) {
  const { value } = useAnswer(async (signal) => {
    const get = (run: string, span: string | null): Promise<SpanAnswer | null> => (span === null ? Promise.resolve(null) : server.span(run, span, signal));
    return Promise.all([get(a, one), get(b, other)]);
  }, [a, b, one, other]);
  if (!value) return <section class="pair-content" aria-busy="true" aria-label="Content of the pair" tabIndex={0} />;
  const names = ["error_message", "input", "output"].filter((name) => value.some((each) => each?.parts[name]));
  return (
    <section class="pair-content" aria-label="Content of the pair" tabIndex={0}>
      {names.map((name) => {
        const [left, right] = value.map((each) => each?.parts[name]);
        const [before, after] = linesOf(left?.text ?? "", right?.text ?? "");
        return (
          <div class="pair-part">
            <h2>{name.replace("_", " ")} {left && right && left.text === right.text && left.length === right.length && <span class="faint">equal</span>}</h2>
            <pre class="raw" role="region" tabIndex={0} aria-label={`${name} of A`}>{before.map(([text, changed]) => <span class={changed ? "line removed" : "line"}><Text value={text} limit={4000} /></span>)}{left && left.next !== null && <Cut run={a} span={one!} shown={left.text.length} of={left.length} />}</pre>
            <pre class="raw" role="region" tabIndex={0} aria-label={`${name} of B`}>{after.map(([text, changed]) => <span class={changed ? "line added" : "line"}><Text value={text} limit={4000} /></span>)}{right && right.next !== null && <Cut run={b} span={other!} shown={right.text.length} of={right.length} />}</pre>
          </div>
        );
      })}
      {!names.length && <p class="faint">Neither side has content.</p>}
    </section>
  );
}

const Cut = ({ run, span, shown, of }: { run: string; span: string; shown: number; of: number }) => (
  <span class="faint">… {count(shown)} of {count(of)} bytes: <a href={address("run", run, { span })}>open the span</a></span>
);

type Line = [string, boolean];

/** Lines of two texts, those that only one has as changed: by the longest common subsequence, or by position if long. */
export function linesOf(left: string, right: string): [Line[], Line[]] {
  const pretty = (text: string): string => {
    try {
      return /^\s*[[{]/.test(text) ? JSON.stringify(JSON.parse(text), null, 1) : text;
    } catch {
      return text;
    }
  };
  const a = pretty(left).split("\n");
  const b = pretty(right).split("\n");
  if (a.length * b.length > 1_000_000) {
    const inA = new Set(a);
    const inB = new Set(b);
    return [a.map((line) => [line, !inB.has(line)]), b.map((line) => [line, !inA.has(line)])];
  }
  const width = b.length + 1;
  const best = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) best[i * width + j] = a[i] === b[j] ? best[(i + 1) * width + j + 1] + 1 : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
  }
  const one: Line[] = [];
  const other: Line[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      one.push([a[i++], false]);
      other.push([b[j++], false]);
    } else if (j >= b.length || (i < a.length && best[(i + 1) * width + j] >= best[i * width + j + 1])) one.push([a[i++], true]);
    else other.push([b[j++], true]);
  }
  return [one, other];
}
