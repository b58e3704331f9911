// Virtual rows: only what can be seen is in the document, whatever the number of rows.
import type { ComponentChildren, VNode } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

// Browsers stop at about 2^25 pixels of height.
const MOST_PIXELS = 15_000_000;
const BEYOND = 5; // rows above and below what can be seen
const REST = 400; // milliseconds without scrolling

export interface RowsProps {
  count: number;
  height: number;
  active: number; // is always in the document, and scrolled into view when it changes; -1 for none
  /** A row: another function as soon as any row would look different, so that those that stay are not made again. */
  render: (index: number, active: boolean) => ComponentChildren;
  class?: string;
  label: string;
  role?: "grid" | "treegrid";
  activeId?: string;
  onKeyDown?: (event: KeyboardEvent) => void;
  onNearEnd?: () => void;
  extra?: Record<string, string | number | undefined>;
  /** Increases when rows were put in above: the row at the top of the view stays where it is. */
  anchor?: { version: number; moved: number };
  children?: ComponentChildren;
}

interface Kept {
  render: RowsProps["render"];
  slots: number;
  rows: { index: number; place: number; active: boolean; made: VNode }[];
  apart?: { index: number; made: VNode }; // the active row, while it is out of sight
}

export function Rows(props: RowsProps) {
  const { count, height, active } = props;
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [view, setView] = useState(700);
  const [moving, setMoving] = useState(false);
  const kept = useRef<Kept>({ render: props.render, slots: 0, rows: [] });
  const full = count * height;
  const stretch = full > MOST_PIXELS ? MOST_PIXELS / full : 1;
  const pixels = Math.ceil(full * stretch);

  useLayoutEffect(() => {
    const element = box.current!;
    const measure = (): void => setView(element.clientHeight);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  useLayoutEffect(() => {
    const element = box.current!;
    if (active < 0) return;
    const at = active * height * stretch;
    const visible = element.clientHeight;
    if (at < element.scrollTop + height) element.scrollTop = Math.max(0, at - height);
    else if (at + 2 * height > element.scrollTop + visible) element.scrollTop = at + 2 * height - visible;
  }, [active]);

  useLayoutEffect(() => {
    if (props.anchor?.moved) box.current!.scrollTop += props.anchor.moved * height * stretch;
  }, [props.anchor?.version]);

  const resting = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(resting.current), []);
  const scrolled = (): void => {
    const element = box.current!;
    setTop(element.scrollTop);
    setMoving(true);
    clearTimeout(resting.current);
    resting.current = setTimeout(() => setMoving(false), REST);
    if (props.onNearEnd && element.scrollTop + view > pixels - 20 * height) props.onNearEnd();
  };

  const first = Math.max(0, Math.floor(Math.min(top, Math.max(0, pixels - view)) / stretch / height) - BEYOND);
  const slots = Math.ceil(view / height) + 1 + 2 * BEYOND;
  const last = Math.min(count, first + slots);
  const offset = Math.max(0, Math.min(top, pixels - (last - first) * height));
  if (kept.current.render !== props.render || kept.current.slots !== slots) kept.current = { render: props.render, slots, rows: [] };
  const rows: VNode[] = [];
  for (let index = first; index < last; index++) {
    // A row that goes out of the view at one end leaves its elements to the one that comes in at the other.
    const slot = index % slots;
    const place = stretch === 1 ? index * height : offset + (index - first) * height;
    let row = kept.current.rows[slot];
    if (row?.index !== index || row.place !== place || row.active !== (index === active)) {
      const made = <div key={slot} class="slot" role="presentation" style={{ top: `${place}px`, height: `${height}px` }}>{props.render(index, index === active)}</div>;
      row = kept.current.rows[slot] = { index, place, active: index === active, made };
    }
    rows.push(row.made);
  }
  // Moving elements costs more than changing them: they are in the order of the rows, for who reads them, at rest only.
  if (moving) rows.sort((a, b) => (a.key as number) - (b.key as number));
  const apart = active >= 0 && active < count && (active < first || active >= last);
  if (apart && kept.current.apart?.index !== active) {
    kept.current.apart = { index: active, made: <div key="apart" class="rows-apart" role="presentation">{props.render(active, true)}</div> };
  }
  return (
    <div
      ref={box}
      class={`rows ${props.class ?? ""}`}
      role={props.role}
      aria-label={props.label}
      aria-activedescendant={active >= 0 && active < count ? props.activeId : undefined}
      tabIndex={0}
      onScroll={scrolled}
      onKeyDown={props.onKeyDown}
      {...props.extra}
    >
      {props.children}
      <div class="rows-space" role="presentation" style={{ height: `${pixels}px` }}>
        {rows}
        {apart && kept.current.apart!.made}
      </div>
    </div>
  );
}
