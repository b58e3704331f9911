// Small parts that several pages share.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Ledger, RunSummary, Status } from "./api";
import { ago, count, fullMoment, isoMoment, moment, plural, zone } from "./format";
import { plain, Text } from "./text";
import { relativeTimes } from "./state";

// Maps, because what is looked up is recorded, and may be "constructor".
const STATUS = new Map<string, [string, string]>(Object.entries({
  ok: ["✓", "ok"],
  error: ["✕", "failed"],
  open: ["○", "open: no root span has arrived"],
  running: ["●", "running"],
  incomplete: ["◐", "incomplete: its run ended before it did"],
  died: ["†", "died: its process ended or no longer reports"],
}));

export function StatusMark({ status, long = false }: { status: Status | string; long?: boolean }) {
  const [sign, words] = STATUS.get(status) ?? ["?", status];
  return (
    <span class={`status status-${STATUS.has(status) ? status : "unknown"}`} title={plain(words, 80)}>
      <span aria-hidden="true">{sign}</span>
      <span class={long ? "" : "sr"}>{long ? words.split(":")[0] : words}</span>
    </span>
  );
}

const KINDS = new Set(["LLM", "TOOL", "WORKFLOW", "TASK", "FUNCTION", "AGENT", "RETRIEVER", "EMBEDDING", "RERANKER", "GUARDRAIL", "EVALUATOR", "PROMPT", "CHAIN", "CUSTOM", "SPAN", "TTC"]);
const SHORT = new Map(Object.entries({ EMBEDDING: "EMBED", RETRIEVER: "RETR", WORKFLOW: "FLOW", FUNCTION: "FUNC", GUARDRAIL: "GUARD", EVALUATOR: "EVAL", RERANKER: "RANK", CUSTOM: "CUST" }));

export const kindClass = (kind: string): string => (KINDS.has(kind) ? `kind-${kind.toLowerCase()}` : "kind-other");

export function Kind({ kind }: { kind: string }) {
  return <span class={`kind ${kindClass(kind)}`} title={plain(kind, 40)}>{SHORT.get(kind) ?? plain(kind, 8)}</span>;
}

export function Moment({ us, now }: { us: number; now?: number }) {
  const text = relativeTimes.value ? ago(us, now) : moment(us, now);
  return <time dateTime={isoMoment(us)} title={`${fullMoment(us)} (${ago(us)})`}>{text}</time>;
}

export function runName(run: RunSummary): string {
  return run.name || run.workflow || "unnamed run";
}

export function Name({ value, find, limit = 300 }: { value: string; find?: string; limit?: number }) {
  return value ? <Text value={value} limit={limit} find={find} /> : <span class="faint">(no name)</span>;
}

export function Problem({ children }: { children: ComponentChildren }) {
  return <div class="problem" role="alert">{children}</div>;
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <strong>{title}</strong>
      <div>{children}</div>
    </div>
  );
}

export const Zone = () => <span class="faint" title="Times are in your time zone">{zone()}</span>;

/** What became of a run's items: that nothing is missing is worth a line, that something is even more. */
export function Completeness({ ledgers, spans }: { ledgers: Ledger[]; spans: number | null }) {
  if (!ledgers.length) return <span class="faint" title="The store holds no ledger of this run">completeness unknown</span>;
  const whole = ledgers.every((each) => each.delivered === each.accepted);
  return (
    <span class={`complete ${whole ? "" : "lacking"}`}>
      {whole ? "✓ complete" : "⚠ incomplete"}
      {spans !== null && <span class="faint"> · {plural(spans, "span")}</span>}
      <span class="faint">
        {ledgers.map((each) => {
          const lost = Object.entries(each.dropped).map(([reason, number]) => `${count(number)} dropped (${plain(reason, 60)})`);
          if (each.failed) lost.push(`${count(each.failed)} failed`);
          if (each.pending) lost.push(`${count(each.pending)} pending`);
          return <span class="ledger"> · {plain(each.exporter, 40)}: {count(each.delivered)} of {count(each.accepted)} delivered{lost.length ? `, ${lost.join(", ")}` : ""}</span>;
        })}
      </span>
    </span>
  );
}

/** What an asynchronous job gives, and its error; the job of earlier dependencies is aborted. */
export function useAnswer<T>(job: (signal: AbortSignal) => Promise<T>, dependencies: unknown[]): { value: T | null; error: string | null; loading: boolean; reload: () => void } {
  const [state, setState] = useState<{ value: T | null; error: string | null; loading: boolean }>({ value: null, error: null, loading: true });
  const [round, setRound] = useState(0);
  const latest = useRef(job);
  latest.current = job;
  useEffect(() => {
    const abort = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    latest.current(abort.signal).then(
      (value) => abort.signal.aborted || setState({ value, error: null, loading: false }),
      (error: unknown) => abort.signal.aborted || setState({ value: null, error: error instanceof Error ? error.message : String(error), loading: false }),
    );
    return () => abort.abort();
  }, [...dependencies, round]);
  return { ...state, reload: () => setRound((each) => each + 1) };
}

export function Tabs({ tabs, chosen, choose, label }: { tabs: [string, string][]; chosen: string; choose: (tab: string) => void; label: string }) {
  const move = (event: KeyboardEvent): void => {
    const at = tabs.findIndex(([id]) => id === chosen);
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!step) return;
    event.preventDefault();
    const next = tabs[(at + step + tabs.length) % tabs.length][0];
    choose(next);
    const list = event.currentTarget as HTMLElement;
    (list.children[(at + step + tabs.length) % tabs.length] as HTMLElement).focus();
  };
  return (
    <div class="tabs" role="tablist" aria-label={label} onKeyDown={move}>
      {tabs.map(([id, title]) => (
        <button role="tab" id={`tab-${id}`} aria-selected={id === chosen} aria-controls="tab-panel" tabIndex={id === chosen ? 0 : -1} onClick={() => choose(id)}>
          {title}
        </button>
      ))}
    </div>
  );
}

export function CopyId({ id, copy }: { id: string; copy: (text: string) => void }) {
  return <button class="quiet mono" title="Copy" onClick={() => copy(id)}>{plain(id, 80)}</button>;
}
