// A JSON value as a tree, opened part by part; and values as rows of names.
import { useState } from "preact/hooks";
import { count } from "./format";
import { plain, Text } from "./text";

const SHOWN = 100;
const LONG = 2000;
const OPEN_DEPTH = 2;
const MOST_INDENT = 30;

export function JsonTree({ value, find = "" }: { value: unknown; find?: string }) {
  return <div class="json mono"><Value value={value} depth={0} find={find} /></div>;
}

const entriesOf = (value: object): [string, unknown][] =>
  Array.isArray(value) ? value.map((each, index) => [String(index), each]) : Object.entries(value);

function Value({ value, depth, find }: { value: unknown; depth: number; find: string }) {
  const [open, setOpen] = useState(depth < OPEN_DEPTH);
  const [shown, setShown] = useState(SHOWN);
  const [whole, setWhole] = useState(false);
  if (typeof value === "string") {
    return (
      <span class="json-string">
        "<Text value={value} limit={whole ? Infinity : LONG} find={find} />"
        {value.length > LONG && !whole && <button class="quiet" onClick={() => setWhole(true)}>{count(LONG)} of {count(value.length)} characters: show all</button>}
      </span>
    );
  }
  if (value === null || typeof value !== "object") return <span class="json-atom">{String(value)}</span>;
  const entries = entriesOf(value);
  const list = Array.isArray(value);
  if (!entries.length) return <span class="json-atom">{list ? "[]" : "{}"}</span>;
  return (
    <span>
      <button class="json-toggle" aria-expanded={open} aria-label={`${open ? "Close" : "Open"} ${list ? "list" : "object"} of ${entries.length}`} onClick={() => setOpen(!open)}>
        {open ? "▾" : "▸"} <span class="faint">{list ? `[${count(entries.length)}]` : `{${count(entries.length)}}`}</span>
      </button>
      {!open && <span class="faint json-glance"> {glance(value)}</span>}
      {open && (
        <span class={depth < MOST_INDENT ? "json-block" : "json-block flat"}>
          {entries.slice(0, shown).map(([name, each]) => (
            <span class="json-row" key={name}>
              <span class={list ? "json-index" : "json-name"}>{list ? name : <Text value={name} limit={200} find={find} />}</span>: <Value value={each} depth={depth + 1} find={find} />
            </span>
          ))}
          {entries.length > shown && (
            <button class="quiet" onClick={() => setShown(shown + 10 * SHOWN)}>{count(shown)} of {count(entries.length)}: show more</button>
          )}
        </span>
      )}
    </span>
  );
}

function glance(value: object): string {
  const parts = entriesOf(value).slice(0, 4).map(([name, each]) => {
    const short = typeof each === "string" ? `"${plain(each, 30)}"` : each === null || typeof each !== "object" ? String(each) : Array.isArray(each) ? "[…]" : "{…}";
    return Array.isArray(value) ? short : `${plain(name, 30)}: ${short}`;
  });
  return parts.join(", ");
}

/** An object's own values, each on a line; long ones and nested ones as trees. */
export function Properties({ value, find = "" }: { value: Record<string, unknown>; find?: string }) {
  const [shown, setShown] = useState(SHOWN);
  const entries = Object.entries(value);
  return (
    <div>
      <table class="properties">
        <thead class="sr"><tr><th scope="col">Name</th><th scope="col">Value</th></tr></thead>
        <tbody>
          {entries.slice(0, shown).map(([name, each]) => (
            <tr key={name}>
              <th scope="row"><Text value={name} limit={200} find={find} /></th>
              <td>{typeof each === "string" ? <LongText value={each} find={find} /> : <JsonTree value={each} find={find} />}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {entries.length > shown && <button class="quiet" onClick={() => setShown(shown + SHOWN)}>{count(shown)} of {count(entries.length)}: show more</button>}
    </div>
  );
}

export function LongText({ value, find = "" }: { value: string; find?: string }) {
  const [shown, setShown] = useState(LONG * 4);
  return (
    <div class="long">
      <Text value={value} limit={shown} find={find} />
      {value.length > shown && <button class="quiet" onClick={() => setShown(shown * 8)}>{count(shown)} of {count(value.length)} characters: show more</button>}
    </div>
  );
}
