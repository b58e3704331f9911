// The whole run in a strip: every span as a line of its kind's colour, and the part that is zoomed to.
import { useEffect, useRef, useState } from "preact/hooks";
import { theme } from "./state";
import { duration } from "./format";
import { kindClass } from "./parts";
import type { RunTree } from "./tree";

const HEIGHT = 44;

export interface Zoom {
  from: number;
  to: number;
}

/** Colours as the browser computes them: a canvas does not know variables, and light-dark() in them is silently black. */
export function colourOf(element: Element, name: string): string {
  const probe = document.createElement("span");
  probe.className = name;
  probe.hidden = true;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

export function Minimap({ tree, version, zoom, setZoom }: { tree: RunTree; version: number; zoom: Zoom; setZoom: (zoom: Zoom) => void }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const [drag, setDrag] = useState<{ from: number; to: number } | null>(null);
  const [width, setWidth] = useState(0);
  const end = Math.max(1, tree.end);

  useEffect(() => {
    const observer = new ResizeObserver(() => setWidth(box.current?.clientWidth ?? 0));
    observer.observe(box.current!);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    const element = canvas.current!;
    if (!width) return;
    const scale = devicePixelRatio || 1;
    element.width = width * scale;
    element.height = HEIGHT * scale;
    const context = element.getContext("2d")!;
    context.scale(scale, scale);
    context.clearRect(0, 0, width, HEIGHT);
    const colours = new Map<string, string>();
    const failed = colourOf(box.current!, "status-error");
    const rows = tree.order.length;
    const line = Math.max(1, Math.min(3, HEIGHT / Math.max(rows, 1)));
    const reach = new Map<number, number>(); // on each line of pixels, up to where something is drawn already
    for (let at = 0; at < rows; at++) {
      const span = tree.order[at];
      const y = Math.floor((at / rows) * (HEIGHT - line));
      const x = (tree.from[span] / end) * width;
      const w = Math.max(1, (Math.max(0, tree.length[span]) / end) * width);
      const bad = tree.failed(span);
      // Thousands of spans share a pixel: one of them is enough.
      const key = y * 65536 + Math.floor(x);
      if (!bad && (reach.get(key) ?? -1) >= w) continue;
      reach.set(key, w);
      const name = kindClass(tree.kinds[span]);
      let colour = colours.get(name);
      if (!colour) {
        colour = colourOf(box.current!, name);
        colours.set(name, colour);
      }
      context.fillStyle = bad ? failed : colour;
      context.fillRect(x, y, w, line);
    }
  }, [version, width, theme.value, tree]);

  const at = (event: PointerEvent): number => {
    const place = box.current!.getBoundingClientRect();
    return Math.min(end, Math.max(0, ((event.clientX - place.left) / place.width) * end));
  };
  const shown = drag ? { from: Math.min(drag.from, drag.to), to: Math.max(drag.from, drag.to) } : zoom;
  return (
    <div
      ref={box}
      class="minimap"
      onPointerDown={(event) => {
        (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
        setDrag({ from: at(event), to: at(event) });
      }}
      onPointerMove={(event) => drag && setDrag({ ...drag, to: at(event) })}
      onPointerUp={() => {
        if (drag && Math.abs(drag.to - drag.from) > end / 200) setZoom({ from: Math.min(drag.from, drag.to), to: Math.max(drag.from, drag.to) });
        setDrag(null);
      }}
      onDblClick={() => setZoom({ from: 0, to: end })}
    >
      <canvas ref={canvas} role="img" aria-label={`Map of the run: ${tree.size} spans over ${duration(end)}. Shown: ${duration(shown.from)} to ${duration(shown.to)}.`} style={{ width: "100%", height: `${HEIGHT}px` }} />
      <div class="minimap-shade" style={{ left: "0", width: `${(100 * shown.from) / end}%` }} />
      <div class="minimap-shade" style={{ left: `${(100 * shown.to) / end}%`, right: "0" }} />
    </div>
  );
}
