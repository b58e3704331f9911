// Runs of one trace, or a single one, in a file of its own: the same page, which finds everything in the file.
import { render } from "preact";
import type { Part, RunAnswer, SearchAnswer, Source, SpanAnswer, SpansAnswer } from "./api";
import { bind, listenToKeys } from "./keys";
import { RunPage } from "./run";
import { Shell } from "./shell";
import { helpShown, nextTheme, parse, route } from "./state";

interface Exported {
  run: RunAnswer;
  spans: SpansAnswer;
  content: Record<string, SpanAnswer>;
  content_of?: number;
}

const data = JSON.parse(document.getElementById("data")!.textContent!) as { runs: Exported[] };
const byId = new Map(data.runs.map((each) => [each.run.run.id, each]));
const missing = "This file does not hold the content of this span: the run was too large.";

const found = (id: string): Promise<Exported> => {
  const run = byId.get(id);
  return run ? Promise.resolve(run) : Promise.reject(new Error("This file does not hold that run."));
};

const file: Source = {
  live: false,
  holds: (id) => byId.has(id),
  run: async (id) => (await found(id)).run,
  spans: async (id) => (await found(id)).spans,
  span: async (id, span) => {
    const { content } = await found(id);
    if (!Object.hasOwn(content, span)) throw new Error(missing);
    return content[span];
  },
  part: (): Promise<Part> => Promise.reject(new Error("This file holds no more of it.")),
  search: async (values): Promise<SearchAnswer> => {
    const { content } = await found(String(values.run));
    const wanted = String(values.q ?? "").toLowerCase();
    const hits = Object.entries(content).filter(([, span]) => Object.values(span.parts).some((part) => part.text.toLowerCase().includes(wanted)));
    return {
      runs: [],
      hits: hits.map(([span, { name, kind, start }]) => ({ run: "", span, name, kind, place: "", start, before: "", match: "", after: "" })),
      next: null,
      complete: true,
      scanned_to: null,
      indexed: 0,
      total: 0,
    };
  },
};

function App() {
  const { id } = route.value;
  return <Shell navigation={false}><RunPage key={id} source={file} id={id} /></Shell>;
}

const first = data.runs[0].run.run.id;

/** Follows links from one run of the file to another. */
function show(): void {
  const { page, id } = parse(location.hash);
  route.value = { page: "offline", id: page === "run" && byId.has(id) ? id : first, query: new URLSearchParams() };
}

show();
addEventListener("hashchange", show);
listenToKeys();
bind({ t: nextTheme, "?": () => (helpShown.value = true) });
render(<App />, document.getElementById("app")!);
