// What a span was given and gave: as a conversation, a tool call, documents, a JSON tree or as it was stored.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Part, Source, SpanAnswer } from "./api";
import { bytes, count, plural } from "./format";
import { JsonTree, LongText, Properties } from "./json";
import { holdsMark, plain, Text } from "./text";

/** A part, as far as it is loaded, and how to load more. */
export function usePart(source: Source, run: string, span: string, name: string, first: Part): { part: Part; more: (() => void) | null; loading: boolean; error: string } {
  const [part, setPart] = useState(first);
  const [loading, setLoading] = useState(false);
  const [error, setError] = useState("");
  const current = useRef(first);
  useEffect(() => {
    current.current = first;
    setPart(first);
    setError("");
  }, [run, span, name, first.text]);
  const more = async (): Promise<void> => {
    setLoading(true);
    const began = current.current;
    try {
      const piece = await source.part(run, span, name, part.next!);
      if (current.current === began) setPart({ ...part, text: part.text + piece.text, next: piece.next, length: piece.length });
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    }
    setLoading(false);
  };
  return { part, more: part.next === null ? null : () => void more(), loading, error };
}

export function parsed(part: Part | undefined): unknown {
  if (!part || part.next !== null) return undefined;
  const text = part.text.trimStart();
  if (part.type !== "json" && !/^[[{]/.test(text)) return undefined;
  try {
    return JSON.parse(part.text) as unknown;
  } catch {
    return undefined;
  }
}

interface Message {
  role: string;
  text: string;
  calls: { name: string; given: unknown }[];
  extra: unknown[];
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);
const own = (value: Record<string, unknown>, name: string): unknown => (Object.hasOwn(value, name) ? value[name] : undefined);

function toMessage(value: unknown): Message | null {
  if (!isObject(value)) return null;
  const inner = isObject(own(value, "message")) ? (own(value, "message") as Record<string, unknown>) : value;
  const role = own(inner, "role") ?? own(inner, "type");
  if (typeof role !== "string") return null;
  const content = own(inner, "content") ?? own(inner, "parts");
  const message: Message = { role, text: "", calls: [], extra: [] };
  const take = (part: unknown): void => {
    if (typeof part === "string") message.text += part;
    else if (isObject(part)) {
      const text = own(part, "text") ?? (own(part, "type") === "text" ? own(part, "content") : undefined);
      if (typeof text === "string") message.text += (message.text ? "\n" : "") + text;
      else if (typeof own(part, "name") === "string") message.calls.push({ name: own(part, "name") as string, given: own(part, "arguments") ?? own(part, "input") ?? own(part, "args") });
      else message.extra.push(part);
    } else if (part !== null && part !== undefined) message.extra.push(part);
  };
  if (Array.isArray(content)) content.forEach(take);
  else if (content !== undefined) take(content);
  const calls = own(inner, "tool_calls");
  for (const call of Array.isArray(calls) ? calls : []) {
    if (!isObject(call)) continue;
    const inside = isObject(own(call, "function")) ? (own(call, "function") as Record<string, unknown>) : call;
    message.calls.push({ name: String(own(inside, "name") ?? "tool"), given: own(inside, "arguments") ?? own(inside, "args") ?? own(inside, "input") });
  }
  if (content === undefined && !message.calls.length) return null;
  return message;
}

/** Messages in any of the forms that clients of models use; null if it is none of them. */
export function messagesOf(value: unknown): Message[] | null {
  let list: unknown = value;
  if (isObject(value)) {
    list = own(value, "messages") ?? own(value, "input") ?? own(value, "choices") ?? own(value, "contents") ?? [value];
    const system = own(value, "system");
    if (typeof system === "string" && Array.isArray(list)) list = [{ role: "system", content: system }, ...(list as unknown[])];
  }
  if (!Array.isArray(list) || !list.length || list.length > 5000) return null;
  const messages = (list as unknown[]).map(toMessage);
  return messages.every((each) => each !== null) ? messages : null;
}

interface Document {
  text: string;
  id: string;
  score: number | null;
  rest: Record<string, unknown>;
}

export function documentsOf(value: unknown): Document[] | null {
  const list = isObject(value) ? own(value, "documents") ?? own(value, "results") : value;
  if (!Array.isArray(list) || !list.length) return null;
  const documents: Document[] = [];
  for (const each of list as unknown[]) {
    if (!isObject(each)) return null;
    const inner = isObject(own(each, "document")) ? { ...each, ...(own(each, "document") as object) } : each;
    const names = ["page_content", "content", "text", "passage", "body"];
    const name = names.find((one) => typeof own(inner, one) === "string");
    if (!name || typeof own(inner, "role") === "string") return null;
    const score = own(inner, "score") ?? own(inner, "relevance_score") ?? own(inner, "similarity");
    const id = own(inner, "id") ?? own(inner, "title") ?? own(inner, "source") ?? own(inner, "path");
    const rest = Object.fromEntries(Object.entries(inner).filter(([one]) => ![name, "score", "id", "document"].includes(one)));
    documents.push({ text: own(inner, name) as string, id: id === undefined ? "" : String(id), score: typeof score === "number" ? score : null, rest });
  }
  return documents;
}

const ROLES = new Map(Object.entries({ human: "user", ai: "assistant", model: "assistant", developer: "system", function: "tool" }));

function Given({ value, find }: { value: unknown; find: string }) {
  let shown = value;
  if (typeof value === "string") {
    try {
      shown = JSON.parse(value) as unknown;
    } catch {
      return <LongText value={value} find={find} />;
    }
  }
  return isObject(shown) ? <Properties value={shown} find={find} /> : <JsonTree value={shown} find={find} />;
}

function Chat({ messages, find }: { messages: Message[]; find: string }) {
  const [all, setAll] = useState(false);
  // The newest are what the call was about.
  const shown = all || messages.length <= 40 ? messages : messages.slice(-40);
  return (
    <ol class="chat">
      {shown.length < messages.length && <li><button class="quiet" onClick={() => setAll(true)}>{shown.length} of {count(messages.length)} messages: show all</button></li>}
      {shown.map((message) => {
        const role = ROLES.get(message.role.toLowerCase()) ?? message.role.toLowerCase();
        return (
          <li class={`message role-${["user", "assistant", "system", "tool"].includes(role) ? role : "other"}`}>
            <div class="role"><Text value={message.role} limit={60} /></div>
            {message.text && <LongText value={message.text} find={find} />}
            {message.calls.map((call) => (
              <div class="call">
                <div class="call-name">→ <Text value={call.name} limit={200} find={find} /></div>
                <Given value={call.given} find={find} />
              </div>
            ))}
            {message.extra.map((each) => <JsonTree value={each} find={find} />)}
          </li>
        );
      })}
    </ol>
  );
}

function Documents({ documents, find }: { documents: Document[]; find: string }) {
  const [shown, setShown] = useState(20);
  return (
    <ol class="documents">
      {documents.slice(0, shown).map((each, index) => (
        <li class="document">
          <div class="document-head">
            <span class="number">{index + 1}</span>
            <Text value={each.id} limit={200} find={find} />
            {each.score !== null && <span class="score" title="Score">{each.score.toPrecision(3)}</span>}
          </div>
          <LongText value={each.text} find={find} />
          {Object.keys(each.rest).length > 0 && <JsonTree value={each.rest} find={find} />}
        </li>
      ))}
      {documents.length > shown && <li><button class="quiet" onClick={() => setShown(shown + 100)}>{shown} of {plural(documents.length, "document")}: show more</button></li>}
    </ol>
  );
}

export type View = "best" | "tree" | "raw";

export function PartView({ source, run, span, name, title, first, view, find }: { source: Source; run: string; span: SpanAnswer; name: string; title: string; first: Part; view: View; find: string }) {
  const { part, more, loading, error } = usePart(source, run, span.id, name, first);
  const loaded = part.next === null ? part.length : part.next;
  return (
    <section class="part" aria-label={title}>
      <h3>
        {title}
        <span class="faint">{bytes(part.length)}</span>
        {holdsMark(part.text) && <span class="has-marks" title="Parts were redacted or cut before they were stored; they are marked in place">marks</span>}
      </h3>
      <Shown part={part} kind={span.kind} name={name} view={view} find={find} />
      {(more || error) && (
        <p class="more">
          {more && (
            <button onClick={more} disabled={loading}>
              {loading ? "Loading…" : "Load more"}
            </button>
          )}{" "}
          <span class="faint">{bytes(loaded)} of {bytes(part.length)} are shown</span> {error}
        </p>
      )}
    </section>
  );
}

function Shown({ part, kind, name, view, find }: { part: Part; kind: string; name: string; view: View; find: string }) {
  if (view === "raw") return <Raw text={part.text} find={find} />;
  const value = parsed(part);
  if (value === undefined) return part.type === "json" ? <Raw text={part.text} find={find} /> : <div class="plain"><LongText value={part.text} find={find} /></div>;
  if (view === "tree") return <JsonTree value={value} find={find} />;
  const messages = messagesOf(value);
  if (messages) return <Chat messages={messages} find={find} />;
  const documents = documentsOf(value);
  if (documents) return <Documents documents={documents} find={find} />;
  if (kind === "TOOL" && name === "input" && isObject(value)) return <Properties value={value} find={find} />;
  if (typeof value === "string") return <div class="plain"><LongText value={value} find={find} /></div>;
  return <JsonTree value={value} find={find} />;
}

/** In blocks, so that the browser lays out only those that can be seen. */
export function Raw({ text, find = "" }: { text: string; find?: string }) {
  const blocks: string[] = [];
  for (let at = 0; at < text.length; ) {
    let end = Math.min(text.length, at + 4000);
    const line = end < text.length ? text.indexOf("\n", end - 500) : -1;
    if (line >= 0 && line < end + 2000) end = line + 1;
    blocks.push(text.slice(at, end));
    at = end;
  }
  return <pre class="raw" tabIndex={0}>{blocks.map((block) => <span class="raw-block"><Text value={block} find={find} /></span>)}</pre>;
}

export const titleOf = (name: string): string => plain(name.replace(/_/g, " ").replace(/^./, (letter) => letter.toUpperCase()));
