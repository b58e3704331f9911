// The keys: what each page binds, and the list of them all.
import { helpShown, keysOn } from "./state";

export const KEYS: [string, string][] = [
  ["/", "search"],
  ["j k ↓ ↑", "move"],
  ["h l ← →", "close and open"],
  ["Enter", "detail"],
  ["e E", "next and previous error"],
  ["c", "critical path"],
  ["f", "fold repeats"],
  ["z", "zoom to the selection"],
  ["0", "the whole run"],
  ["[ ]", "previous and next run of the list"],
  ["x", "mark for comparison"],
  ["p", "pause"],
  ["t", "theme"],
  ["y", "copy the id"],
  ["?", "this list"],
  ["Esc", "close"],
];

type Bindings = Record<string, (event: KeyboardEvent) => void>;
const layers: Bindings[] = [];

/** Binds keys until the function that it returns is called; the newest binding of a key wins. */
export function bind(bindings: Bindings): () => void {
  layers.push(bindings);
  return () => {
    layers.splice(layers.indexOf(bindings), 1);
  };
}

const inField = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

/** What these keys do on a control by themselves stays. */
const own = (event: KeyboardEvent): boolean =>
  event.target instanceof HTMLElement &&
  ((event.key === "Enter" && /^(BUTTON|A|SUMMARY)$/.test(event.target.tagName)) ||
    (event.key.startsWith("Arrow") && event.target.getAttribute("role") === "tab"));

export function listenToKeys(): void {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.key === "Escape") {
      if (helpShown.value) helpShown.value = false;
      else if (inField(event.target)) {
        event.preventDefault(); // it would clear the field
        (event.target as HTMLElement).blur();
      }
      else run(event);
      return;
    }
    if (inField(event.target) || helpShown.value || own(event)) return;
    // Arrows, Enter, Home and End are the usual keys of a list: only those of one character can be turned off.
    if (!keysOn.value && event.key.length === 1) return;
    run(event);
  });
}

function run(event: KeyboardEvent): void {
  for (let at = layers.length - 1; at >= 0; at--) {
    const bound = layers[at][event.key];
    if (bound) {
      event.preventDefault();
      bound(event);
      return;
    }
  }
}
