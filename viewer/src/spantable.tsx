// The spans of a run as a plain table, page by page: for those whom a tree of virtual rows does not serve.
import { useMemo, useState } from "preact/hooks";
import { count, duration, plural } from "./format";
import { StatusMark } from "./parts";
import { Text } from "./text";
import type { RunTree } from "./tree";

const PAGE = 200;

export function SpanTable({ tree, version, choose }: { tree: RunTree; version: number; choose: (span: number) => void }) {
  const [page, setPage] = useState(0);
  const [by, setBy] = useState("tree");
  const order = useMemo(() => {
    const spans = [...tree.order];
    if (by === "duration") spans.sort((a, b) => tree.length[b] - tree.length[a]);
    if (by === "self") spans.sort((a, b) => tree.self[b] - tree.self[a]);
    if (by === "tokens") spans.sort((a, b) => (tree.tokens[b] ?? 0) - (tree.tokens[a] ?? 0));
    return spans;
  }, [tree, version, tree.size, by]);
  const pages = Math.max(1, Math.ceil(order.length / PAGE));
  const at = Math.min(page, pages - 1);
  const shown = order.slice(at * PAGE, (at + 1) * PAGE);
  const sort = (key: string, title: string) => (
    <th scope="col" aria-sort={by === key ? (key === "tree" ? "ascending" : "descending") : "none"}><button class="quiet" onClick={() => setBy(key)}>{title}{by === key ? " ▾" : ""}</button></th>
  );
  return (
    <div class="span-table" tabIndex={0} role="region" aria-label="Spans as a table">
      <p class="faint">{count(at * PAGE + 1)} to {count(at * PAGE + shown.length)} of {plural(order.length, "span")}
        {pages > 1 && <> <button disabled={at === 0} onClick={() => setPage(at - 1)}>Previous</button> <button disabled={at === pages - 1} onClick={() => setPage(at + 1)}>Next</button></>}
      </p>
      <table class="list">
        <thead><tr>{sort("tree", "Name")}<th scope="col">Level</th><th scope="col">Kind</th><th scope="col">Status</th><th scope="col">Start</th>{sort("duration", "Duration")}{sort("self", "Self")}{sort("tokens", "Tokens")}</tr></thead>
        <tbody>
          {shown.map((span) => (
            <tr key={tree.ids[span]}>
              <th scope="row"><button class="link" onClick={() => choose(span)}><Text value={tree.names[span] || "(no name)"} limit={120} /></button></th>
              <td class="number">{tree.depth[span] + 1}</td>
              <td><Text value={tree.kinds[span]} limit={40} /></td>
              <td><StatusMark status={tree.statuses[span]} long /></td>
              <td class="number">{duration(tree.from[span])}</td>
              <td class="number">{duration(tree.length[span])}</td>
              <td class="number">{duration(tree.self[span])}</td>
              <td class="number">{tree.tokens[span] === null ? "" : count(tree.tokens[span]!)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
