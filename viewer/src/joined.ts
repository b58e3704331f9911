// The runs of one trace as one run: the spans of all of them in one tree, each with its content from its own run.
import { server, type Hit, type RunAnswer, type Source, type SpansAnswer } from "./api";
import { count } from "./format";

const MOST_SPANS = 100_000;
const MOST_HITS = 5_000; // as many as the page marks

/** A source that shows the whole trace of a run in place of the run. */
export function joined(id: string): Source {
  const runOf = new Map<string, string>(); // by span
  let known: Promise<RunAnswer[]> | null = null;
  const all = (signal?: AbortSignal): Promise<RunAnswer[]> =>
    (known ??= server.run(id, signal).then(async (own) => {
      const others = await Promise.all(own.trace.map((run) => server.run(run.id, signal)));
      return [own, ...others].sort((a, b) => a.run.start - b.run.start);
    }));
  return {
    live: false,
    holds: () => true,
    async run(_, signal) {
      const answers = await all(signal);
      const runs = answers.map((each) => each.run);
      const own = answers.find((each) => each.run.id === id)!;
      const sum = (numbers: (number | null)[]): number | null => (numbers.every((each) => each === null) ? null : numbers.reduce<number>((total, each) => total + (each ?? 0), 0));
      const start = runs[0].start;
      const names = ["spans", "errors", "models", "tools", "tokens", "prompt", "completion", "cost"] as const;
      const sums = Object.fromEntries(names.map((name) => [name, sum(runs.map((run) => run[name]))]));
      return {
        ...own,
        run: { ...own.run, ...sums, start, duration: Math.max(...runs.map((run) => run.start + run.duration)) - start },
        ledgers: answers.flatMap((each) => each.ledgers.map((ledger) => ({ ...ledger, exporter: `${each.run.workflow || each.run.name || each.run.id} → ${ledger.exporter}` }))),
        trace: runs.filter((run) => run.id !== id),
      };
    },
    async spans(_, _after, signal) {
      const runs = (await all(signal)).map((each) => each.run);
      const total = runs.reduce((sum, run) => sum + (run.spans ?? 0), 0);
      if (total > MOST_SPANS) throw new Error(`The runs of this trace have ${count(total)} spans together, which is more than can be shown at once: show each run alone.`);
      const whole: SpansAnswer = { start: runs[0].start, names: [], kinds: [], statuses: [], id: [], parent: [], name: [], kind: [], status: [], from: [], length: [], first: [], tokens: [], cost: [], next: null, cursor: 0, total: 0 };
      for (const run of runs) {
        let after: number | null = 0;
        while (after !== null) {
          const piece: SpansAnswer = await server.spans(run.id, after, signal);
          take(whole, piece);
          for (const span of piece.id) runOf.set(span, run.id);
          after = piece.next;
        }
      }
      whole.total = whole.id.length;
      return whole;
    },
    span: (_, span, signal) => server.span(runOf.get(span) ?? id, span, signal),
    part: (_, span, part, offset, signal) => server.part(runOf.get(span) ?? id, span, part, offset, signal),
    async search(values, signal) {
      const hits: Hit[] = [];
      let next: number | null = null; // where it stopped, if there are too many
      for (const { run } of await all(signal)) {
        let before: number | null = null;
        do {
          const page: Awaited<ReturnType<Source["search"]>> = await server.search({ ...values, run: run.id, before }, signal);
          hits.push(...page.hits);
          before = page.next;
        } while (before !== null && hits.length < MOST_HITS);
        next ??= before;
      }
      return { runs: [], hits, next, complete: true, scanned_to: null, indexed: 0, total: 0 };
    },
  };
}

/** Adds spans to those of other runs; their times count from the start of the first. */
function take(whole: SpansAnswer, piece: SpansAnswer): void {
  const shift = piece.start - whole.start;
  for (const [words, places] of [["names", "name"], ["kinds", "kind"], ["statuses", "status"]] as const) {
    const before = whole[words].length;
    whole[words].push(...piece[words]);
    for (const place of piece[places]) whole[places].push(before + place);
  }
  for (let row = 0; row < piece.id.length; row++) {
    whole.id.push(piece.id[row]);
    whole.parent.push(piece.parent[row]);
    whole.from.push(piece.from[row] + shift);
    whole.length.push(piece.length[row]);
    whole.first.push(piece.first[row] === null ? null : piece.first[row]! + shift);
    whole.tokens.push(piece.tokens[row]);
    whole.cost.push(piece.cost[row]);
  }
}
