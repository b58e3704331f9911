// Statistics by name, kind, model or workflow, and over time.
import { useEffect, useRef, useState } from "preact/hooks";
import { stats, type StatsAnswer } from "./api";
import { cost, count, duration, moment, percent, plural } from "./format";
import { colourOf } from "./minimap";
import { Empty, Problem, useAnswer, Zone } from "./parts";
import { route, setQuery, theme } from "./state";
import { Text } from "./text";
import type { Plot } from "./plots";

const PERIODS: [string, number][] = [["1 h", 3600], ["24 h", 86400], ["7 d", 604800], ["30 d", 2592000], ["all", 0]];
const KINDS: [string, string][] = [["name", "Name"], ["kind", "Kind"], ["model", "Model"], ["workflow", "Workflow"]];

export function StatisticsPage() {
  const { query } = route.value;
  const by = query.get("by") ?? "name";
  const period = Number(query.get("period") ?? 0);
  const only = query.get("only");
  const [begin] = useState(Date.now());
  const { value, error, loading, reload } = useAnswer((signal) => stats({ by, only, from: period ? begin * 1000 - period * 1e6 : null }, signal), [by, period, only]);
  useEffect(() => {
    document.title = "Statistics";
  }, []);
  useEffect(() => {
    if (!value || value.complete) return;
    const wait = setTimeout(reload, 1500);
    return () => clearTimeout(wait);
  }, [value]);
  const choice = (chosen: boolean, title: string, choose: () => void) => <button aria-pressed={chosen} onClick={choose}>{title}</button>;
  return (
    <main id="main" class="page">
      <div class="toolbar">
        <h1>Statistics</h1>
        <span class="group" role="group" aria-label="By">{KINDS.map(([id, title]) => choice(by === id, title, () => setQuery({ by: id, only: null }, false)))}</span>
        <span class="group" role="group" aria-label="Period">{PERIODS.map(([title, seconds]) => choice(period === seconds, title, () => setQuery({ period: seconds ? String(seconds) : null }, false)))}</span>
        {only && <button class="chip" onClick={() => setQuery({ only: null })}>Only <Text value={only} limit={60} /> ✕</button>}
        <span class="spacer" /><Zone />
      </div>
      {error && <Problem>{error}</Problem>}
      {value?.problem && <Problem>{value.problem}</Problem>}
      {value && !value.complete && !value.problem && <p class="notice" role="status">The index is being made: {percent(value.indexed, value.total)} of the store is counted so far, newest first.</p>}
      {value && value.over.length > 0 && <Charts answer={value} />}
      {value && value.over.length > 0 && !only && <p class="faint">The charts are of all spans: choose a row for its own.</p>}
      {value && <Table answer={value} by={by} />}
      {value && !value.rows.length && <Empty title="Nothing in this period">{loading ? "Counting…" : "Choose a longer one."}</Empty>}
    </main>
  );
}

function Table({ answer, by }: { answer: StatsAnswer; by: string }) {
  const [sort, setSort] = useState<"count" | "errors" | "p50" | "p95" | "p99" | "tokens" | "cost">("count");
  const rows = [...answer.rows].sort((a, b) => b[sort] - a[sort]);
  const head = (key: typeof sort, title: string) => <th scope="col" class="number" aria-sort={sort === key ? "descending" : "none"}><button class="quiet" onClick={() => setSort(key)}>{title}{sort === key ? " ▾" : ""}</button></th>;
  if (!rows.length) return null;
  return (
    <div class="table-box" tabIndex={0} role="region" aria-label="Statistics as a table">
      <table class="list">
        <thead><tr><th scope="col">{KINDS.find(([id]) => id === by)?.[1]}</th>{head("count", by === "workflow" ? "Runs" : "Spans")}{head("errors", "Errors")}{head("p50", "p50")}{head("p95", "p95")}{head("p99", "p99")}{head("tokens", "Tokens")}{head("cost", "Cost")}</tr></thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.key}>
              <th scope="row"><button class="link" onClick={() => setQuery({ only: row.key })}><Text value={row.key || "(no name)"} limit={100} /></button></th>
              <td class="number">{count(row.count)}</td>
              <td class="number">{row.errors ? <span class="warn">{count(row.errors)} <span class="faint">{percent(row.errors, row.count)}</span></span> : ""}</td>
              <td class="number">{duration(row.p50)}</td><td class="number">{duration(row.p95)}</td><td class="number">{duration(row.p99)}</td>
              <td class="number">{row.tokens ? count(row.tokens) : ""}</td><td class="number">{row.cost ? cost(row.cost) : ""}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {answer.more > 0 && <p class="faint">{count(rows.length)} of {count(rows.length + answer.more)} are shown, those with most spans.</p>}
      <p class="faint">Percentiles are exact to 2.2%. Hours are counted whole. Tokens and cost as they were recorded; nothing is estimated.</p>
    </div>
  );
}

function Charts({ answer }: { answer: StatsAnswer }) {
  const box = useRef<HTMLDivElement>(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    let plots: Plot[] = [];
    let gone = false;
    const colours = { line: "status-ok", bad: "status-error", first: "kind-llm", second: "kind-tool", third: "kind-agent", axis: "faint" };
    void import("/page/plots.js" as string).then((module: typeof import("./plots")) => {
      if (gone || !box.current) return;
      const found = Object.fromEntries(Object.entries(colours).map(([name, each]) => [name, colourOf(box.current!, each)]));
      plots = module.draw(box.current, answer, found, { duration, count, cost, moment });
    }, (error: unknown) => setProblem(String(error)));
    return () => {
      gone = true;
      for (const plot of plots) plot.destroy();
    };
  }, [answer, theme.value]);
  const { over } = answer;
  const sum = over.reduce((all, each) => all + each.count, 0);
  return (
    <>
      {problem && <Problem>{problem}</Problem>}
      <div class="charts" ref={box} role="img" aria-label={`Over time: ${plural(sum, "span")} in ${plural(over.length, "interval")} from ${moment(over[0].at)} to ${moment(over[over.length - 1].at)}; the table holds the numbers.`} />
    </>
  );
}
