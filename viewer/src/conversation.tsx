// A conversation: its runs in order, with what was asked and answered in each.
import { useEffect, useState } from "preact/hooks";
import { runs, server, type RunSummary, type SpanAnswer } from "./api";
import { messagesOf, parsed } from "./content";
import { count, duration, plural } from "./format";
import { LongText } from "./json";
import { Empty, Moment, Name, Problem, runName, StatusMark, useAnswer } from "./parts";
import { address } from "./state";
import { plain, Text } from "./text";

export function ConversationPage({ id }: { id: string }) {
  const [all, setAll] = useState<RunSummary[]>([]);
  const [next, setNext] = useState<string | null>(null);
  const { value, error } = useAnswer((signal) => runs({ conversation: id, limit: 30 }, signal), [id]);
  useEffect(() => {
    document.title = `${plain(id, 40)} · conversation`;
    setAll(value?.runs ?? []);
    setNext(value?.next ?? null);
  }, [value]);
  const earlier = async (): Promise<void> => {
    const answer = await runs({ conversation: id, limit: 30, before: next });
    setAll([...all, ...answer.runs]);
    setNext(answer.next);
  };
  const inOrder = [...all].reverse();
  return (
    <main id="main" class="page">
      <div class="toolbar"><h1>Conversation</h1><span class="mono"><Text value={id} limit={100} /></span><span class="faint">{plural(all.length, "run")}{next ? ", the newest" : ""}</span></div>
      {error && <Problem>{error}</Problem>}
      {value && !all.length && <Empty title="No runs">The store holds no run of this conversation.</Empty>}
      {next && <p class="more"><button onClick={() => void earlier()}>Earlier runs</button></p>}
      <ol class="turns">{inOrder.map((run) => <Turn key={run.id} run={run} />)}</ol>
    </main>
  );
}

function Turn({ run }: { run: RunSummary }) {
  const { value, error } = useAnswer(async (signal) => {
    const spans = await server.spans(run.id, 0, signal);
    const known = new Set(spans.id);
    let root = -1;
    spans.id.forEach((_, at) => {
      const parent = spans.parent[at];
      if ((parent === null || !known.has(parent)) && (root < 0 || spans.from[at] < spans.from[root])) root = at;
    });
    return root < 0 ? null : server.span(run.id, spans.id[root], signal);
  }, [run.id]);
  return (
    <li class="turn">
      <p><StatusMark status={run.status} /> <a href={address("run", run.id)}><Name value={runName(run)} limit={100} /></a> <span class="faint"><Moment us={run.start} /> · {duration(run.duration)}{run.tokens ? ` · ${count(run.tokens)} tokens` : ""}</span></p>
      {error && <Problem>{error}</Problem>}
      {value && <Exchange span={value} />}
      {run.error && <p class="run-error"><Text value={run.error} limit={400} /></p>}
    </li>
  );
}

function Exchange({ span }: { span: SpanAnswer }) {
  const line = (name: string, role: string) => {
    const part = span.parts[name];
    if (!part) return null;
    const value = parsed(part);
    const messages = messagesOf(value);
    // A question is often all that there is in an object.
    const only = value !== null && typeof value === "object" ? Object.values(value) : [];
    const text = typeof value === "string" ? value : messages ? messages[messages.length - 1].text : only.length === 1 && typeof only[0] === "string" ? only[0] : part.text;
    return <div class={`message role-${role}`}><div class="role">{role}</div><LongText value={text || part.text} /></div>;
  };
  return <div class="chat">{line("input", "user")}{line("output", "assistant")}</div>;
}
