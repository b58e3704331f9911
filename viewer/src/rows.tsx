// Virtual rows: only what can be seen is in the document, whatever the number of rows.
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

// Browsers stop at about 2^25 pixels of height.
const MOST_PIXELS = 15_000_000;

export interface RowsProps {
  count: number;
  height: number;
  active: number; // is always in the document, and scrolled into view when it changes; -1 for none
  render: (index: number) => ComponentChildren;
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

export function Rows(props: RowsProps) {
  const { count, height, active } = props;
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [view, setView] = useState(700);
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

  const scrolled = (): void => {
    const element = box.current!;
    setTop(element.scrollTop);
    if (props.onNearEnd && element.scrollTop + element.clientHeight > pixels - 20 * height) props.onNearEnd();
  };

  const first = Math.max(0, Math.floor(Math.min(top, Math.max(0, pixels - view)) / stretch / height) - 6);
  const last = Math.min(count, first + Math.ceil(view / height) + 14);
  const offset = stretch === 1 ? first * height : Math.min(top, pixels - (last - first) * height);
  const rows: ComponentChildren[] = [];
  for (let index = first; index < last; index++) rows.push(props.render(index));
  const apart = active >= 0 && active < count && (active < first || active >= last);
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
        <div class="rows-window" role="presentation" style={{ transform: `translateY(${Math.max(0, offset)}px)` }}>
          {rows}
          {apart && <div class="rows-apart" role="presentation">{props.render(active)}</div>}
        </div>
      </div>
    </div>
  );
}
