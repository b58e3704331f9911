// One span: its facts, its content, its attributes, events and links.
import { useEffect, useState } from "preact/hooks";
import type { Source, SpanAnswer } from "./api";
import { PartView, parsed, titleOf, type View } from "./content";
import { cost, count, duration, fullMoment, plural } from "./format";
import { JsonTree, LongText, Properties } from "./json";
import { CopyId, Kind, Problem, StatusMark, Tabs } from "./parts";
import { address, copy } from "./state";
import { plain, Text } from "./text";
import type { RunTree } from "./tree";

const ORDER = ["error_message", "input", "output", "metadata", "error_traceback"];
const TITLES: Record<string, string> = { error_message: "Error", error_traceback: "Traceback" };

export function Detail({ source, run, tree, span, find, close }: { source: Source; run: string; tree: RunTree; span: number; find: string; close: () => void }) {
  const id = tree.ids[span];
  const [state, setState] = useState<{ id: string; answer: SpanAnswer | null; error: string }>({ id, answer: null, error: "" });
  const [tab, setTab] = useState("content");
  const [view, setView] = useState<View>("best");
  const version = `${tree.statuses[span]} ${tree.length[span]}`;
  useEffect(() => {
    const abort = new AbortController();
    // Moving through rows must not ask for each of them.
    const wait = setTimeout(() => {
      source.span(run, id, abort.signal).then(
        (answer) => abort.signal.aborted || setState({ id, answer, error: "" }),
        (problem: unknown) => abort.signal.aborted || setState({ id, answer: null, error: problem instanceof Error ? problem.message : String(problem) }),
      );
    }, 15);
    return () => {
      clearTimeout(wait);
      abort.abort();
    };
  }, [id, version]);
  const answer = state.id === id ? state.answer : null;
  return (
    <aside class="detail" aria-label="Span" data-span={id} data-loaded={answer ? "yes" : "no"}>
      <header class="detail-head">
        <div class="detail-title">
          <Kind kind={tree.kinds[span]} />
          <h2 title={plain(tree.names[span])}><Text value={tree.names[span] || "(no name)"} limit={300} /></h2>
          <StatusMark status={tree.statuses[span]} long />
          <button class="quiet close" aria-label="Close the span" onClick={close}>✕</button>
        </div>
        <Facts tree={tree} span={span} answer={answer} />
      </header>
      {state.id === id && state.error && <Problem>{state.error}</Problem>}
      {answer && <Body source={source} run={run} answer={answer} tab={tab} setTab={setTab} view={view} setView={setView} find={find} />}
    </aside>
  );
}

function Facts({ tree, span, answer }: { tree: RunTree; span: number; answer: SpanAnswer | null }) {
  const first = tree.first[span];
  return (
    <dl class="facts">
      <div><dt>Duration</dt><dd>{duration(tree.length[span])}{tree.length[span] < 0 && <strong class="warn"> ends before it starts</strong>}</dd></div>
      <div><dt>Self</dt><dd>{duration(tree.self[span])}</dd></div>
      <div><dt>Start</dt><dd title={fullMoment(tree.start + tree.from[span])}>+{duration(tree.from[span])}</dd></div>
      {first !== null && <div><dt>First token</dt><dd>{duration(first - tree.from[span])}</dd></div>}
      {answer?.model && <div><dt>Model</dt><dd><Text value={answer.model} limit={100} /></dd></div>}
      {answer && Object.entries(answer.usage).map(([name, value]) => (
        <div><dt>{titleOf(name.replace("_tokens", ""))}</dt><dd>{count(value)} <span class="faint">tok</span></dd></div>
      ))}
      {answer?.cost !== null && answer?.cost !== undefined && <div><dt>Cost</dt><dd>{cost(answer.cost)}</dd></div>}
      {answer && answer.chunks > 0 && <div><dt>Chunks</dt><dd>{count(answer.chunks)}</dd></div>}
      {tree.inCircle[span] === 1 && <div><dt>Parents</dt><dd class="warn">form a circle</dd></div>}
      {tree.orphan[span] === 1 && <div><dt>Parent</dt><dd class="faint">not in this store</dd></div>}
      <div class="wide"><dt>Id</dt><dd><CopyId id={tree.ids[span]} copy={(text) => void copy(text)} /></dd></div>
    </dl>
  );
}

function Body({ source, run, answer, tab, setTab, view, setView, find }: { source: Source; run: string; answer: SpanAnswer; tab: string; setTab: (tab: string) => void; view: View; setView: (view: View) => void; find: string }) {
  const attributes = answer.parts.attributes;
  const tabs: [string, string][] = [["content", "Content"]];
  const known = parsed(attributes);
  const number = known && typeof known === "object" ? Object.keys(known).length : 0;
  if (attributes || answer.tags.length || answer.span_kind || answer.status_message) tabs.push(["attributes", `Attributes${number ? ` ${count(number)}` : ""}`]);
  const events = parsed(answer.parts.events);
  const links = parsed(answer.parts.links);
  if (answer.parts.events) tabs.push(["events", `Events${Array.isArray(events) ? ` ${count(events.length)}` : ""}`]);
  if (answer.parts.links) tabs.push(["links", `Links${Array.isArray(links) ? ` ${count(links.length)}` : ""}`]);
  const chosen = tabs.some(([id]) => id === tab) ? tab : "content";
  const names = ORDER.filter((name) => answer.parts[name]);
  return (
    <>
      <div class="detail-tabs">
        <Tabs tabs={tabs} chosen={chosen} choose={setTab} label="Parts of the span" />
        <div class="views" role="group" aria-label="Show content as">
          {([["best", "Formatted"], ["tree", "Tree"], ["raw", "Raw"]] as [View, string][]).map(([each, title]) => (
            <button aria-pressed={view === each} onClick={() => setView(each)}>{title}</button>
          ))}
        </div>
      </div>
      <div class="detail-body" role="tabpanel" id="tab-panel" aria-labelledby={`tab-${chosen}`} tabIndex={0}>
        {chosen === "content" && (
          <>
            {answer.name_length > answer.name.length && <p class="faint">The name is {count(answer.name_length)} bytes long.</p>}
            {answer.error && <p class="error-type"><Text value={answer.error.type} limit={300} /></p>}
            {names.map((name) => (
              <PartView key={name} source={source} run={run} span={answer} name={name} title={TITLES[name] ?? titleOf(name)} first={answer.parts[name]} view={name.startsWith("error") ? "raw" : view} find={find} />
            ))}
            {!names.length && <p class="faint">Neither input nor output was recorded.</p>}
          </>
        )}
        {chosen === "attributes" && (
          <>
            {answer.tags.length > 0 && <p>{answer.tags.map((tag) => <span class="chip"><Text value={String(tag)} limit={100} /></span>)}</p>}
            {(answer.span_kind || answer.status_message) && <Properties value={{ ...(answer.span_kind && { "span kind": answer.span_kind }), ...(answer.status_message && { "status message": answer.status_message }) }} />}
            {attributes && (view !== "best" || !known || Array.isArray(known)
              ? <PartView source={source} run={run} span={answer} name="attributes" title="Attributes" first={attributes} view={view} find={find} />
              : <Properties value={known as Record<string, unknown>} find={find} />)}
            {answer.dropped && <p class="warn">Over the limits, and so not recorded: {plural(answer.dropped[0], "attribute")}, {plural(answer.dropped[1], "event")}, {plural(answer.dropped[2], "link")}.</p>}
          </>
        )}
        {chosen === "events" && (Array.isArray(events) && view === "best" ? <Events events={events} start={answer.start} find={find} /> : <PartView source={source} run={run} span={answer} name="events" title="Events" first={answer.parts.events} view={view} find={find} />)}
        {chosen === "links" && (Array.isArray(links) && view === "best" ? <Links links={links} find={find} /> : <PartView source={source} run={run} span={answer} name="links" title="Links" first={answer.parts.links} view={view} find={find} />)}
      </div>
    </>
  );
}

function Events({ events, start, find }: { events: unknown[]; start: number; find: string }) {
  const [shown, setShown] = useState(50);
  return (
    <>
      <ol class="events">
        {events.slice(0, shown).map((event) => {
          const { name, time_ns, attributes } = (event ?? {}) as { name?: unknown; time_ns?: unknown; attributes?: unknown };
          return (
            <li>
              <div><span class="faint">{typeof time_ns === "number" ? `+${duration(time_ns / 1000 - start)}` : ""}</span> <LongText value={String(name ?? "")} find={find} /></div>
              {attributes !== null && typeof attributes === "object" && <Properties value={attributes as Record<string, unknown>} find={find} />}
            </li>
          );
        })}
      </ol>
      {events.length > shown && <button class="quiet" onClick={() => setShown(shown + 200)}>{count(shown)} of {count(events.length)}: show more</button>}
    </>
  );
}

function Links({ links, find }: { links: unknown[]; find: string }) {
  return (
    <ol class="events">
      {links.slice(0, 500).map((link) => {
        const { trace_id, span_id } = (link ?? {}) as { trace_id?: unknown; span_id?: unknown };
        return (
          <li>
            {/* Only an identifier leads anywhere, and only to a search on this page. */}
            {typeof trace_id === "string" && /^[0-9a-f]{32}$/.test(trace_id) && <a href={address("search", "", { q: trace_id })}>Find trace {trace_id.slice(0, 12)}…</a>}
            {typeof span_id === "string" && <span class="faint"> span {plain(span_id, 40)}</span>}
            <JsonTree value={link} find={find} />
          </li>
        );
      })}
      {links.length > 500 && <li>500 of {count(links.length)} links are shown: choose Raw for all.</li>}
    </ol>
  );
}
