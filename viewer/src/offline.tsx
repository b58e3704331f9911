// One run in a file of its own: the same page, which finds everything in the file.
import { render } from "preact";
import type { Part, RunAnswer, SearchAnswer, Source, SpanAnswer, SpansAnswer } from "./api";
import { bind, listenToKeys } from "./keys";
import { RunPage } from "./run";
import { Shell } from "./shell";
import { helpShown, nextTheme, route } from "./state";

interface Exported {
  run: RunAnswer;
  spans: SpansAnswer;
  content: Record<string, SpanAnswer>;
  content_of?: number;
}

const data = JSON.parse(document.getElementById("data")!.textContent!) as Exported;
const missing = "This file does not hold the content of this span: the run was too large.";

const file: Source = {
  live: false,
  run: () => Promise.resolve(data.run),
  spans: () => Promise.resolve(data.spans),
  span: (_run, span) => (Object.hasOwn(data.content, span) ? Promise.resolve(data.content[span]) : Promise.reject(new Error(missing))),
  part: (): Promise<Part> => Promise.reject(new Error("This file holds no more of it.")),
  search: (values): Promise<SearchAnswer> => {
    const wanted = String(values.q ?? "").toLowerCase();
    const hits = Object.entries(data.content).filter(([, span]) => Object.values(span.parts).some((part) => part.text.toLowerCase().includes(wanted)));
    return Promise.resolve({
      runs: [],
      hits: hits.map(([span, { name, kind, start }]) => ({ run: "", span, name, kind, place: "", start, before: "", match: "", after: "" })),
      next: null,
      complete: true,
      scanned_to: null,
      indexed: 0,
      total: 0,
    });
  },
};

function App() {
  return <Shell navigation={false}><RunPage source={file} id={data.run.run.id} /></Shell>;
}

route.value = { page: "offline", id: data.run.run.id, query: new URLSearchParams() };
listenToKeys();
bind({ t: nextTheme, "?": () => (helpShown.value = true) });
render(<App />, document.getElementById("app")!);
