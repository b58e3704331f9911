// The charts of the statistics page, in a file of their own: uPlot is larger than the rest of the page.
import UPlot from "uplot";
import type { StatsAnswer } from "./api";

export interface Plot {
  destroy(): void;
}

interface Words {
  duration(us: number): string;
  count(value: number): string;
  cost(value: number): string;
  moment(us: number): string;
}

export function draw(box: HTMLElement, answer: StatsAnswer, colours: Record<string, string>, words: Words): Plot[] {
  const { over } = answer;
  const times = over.map((each) => each.at / 1e6);
  const step = answer.step / 1e6;
  const chart = (title: string, series: [string, string, number[]][], show: (value: number) => string, bars = false): Plot => {
    const width = (): number => Math.max(260, Math.floor(box.clientWidth / (box.clientWidth > 900 ? 2 : 1)) - 28);
    const grid = { stroke: `color-mix(in srgb, ${colours.axis} 22%, transparent)`, width: 1 };
    const plot = new UPlot(
      {
        title,
        width: width(),
        height: 140,
        cursor: { drag: { x: false, y: false } },
        legend: { live: true },
        scales: { x: { time: true, range: () => [times[0] - step / 2, times[times.length - 1] + step * 1.5] }, y: { range: (_self, _low, high) => [0, high > 0 ? high * 1.08 : 1] } },
        axes: [
          { stroke: colours.axis, grid, ticks: grid, values: (_self, values) => values.map((value) => words.moment(value * 1e6).replace(/:00$/, "")) , space: 110 },
          { stroke: colours.axis, grid, ticks: grid, size: 66, values: (_self, values) => values.map(show) },
        ],
        series: [
          { value: (_self, value) => (value === null ? "" : words.moment(value * 1e6)) },
          ...series.map(([label, colour]) => ({
            label,
            stroke: colour,
            fill: bars ? `color-mix(in srgb, ${colour} 28%, transparent)` : undefined,
            width: 1.5,
            paths: bars ? UPlot.paths.bars!({ size: [0.8, 40] }) : undefined,
            points: { show: !bars && over.length < 30, size: 5 },
            value: (_self: UPlot, value: number | null) => (value === null ? "" : show(value)),
          })),
        ],
      },
      [times, ...series.map(([, , values]) => values)],
      box,
    );
    const observer = new ResizeObserver(() => plot.setSize({ width: width(), height: 140 }));
    observer.observe(box);
    return {
      destroy() {
        observer.disconnect();
        plot.destroy();
      },
    };
  };
  const of = (name: "count" | "errors" | "p50" | "p95" | "p99" | "tokens" | "cost"): number[] => over.map((each) => each[name]);
  const plots = [
    chart("Spans", [["all", colours.first, of("count")], ["failed", colours.bad, of("errors")]], words.count, true),
    chart("Duration", [["p50", colours.line, of("p50")], ["p95", colours.second, of("p95")], ["p99", colours.bad, of("p99")]], words.duration),
    chart("Tokens", [["tokens", colours.third, of("tokens")]], words.count, true),
  ];
  if (over.some((each) => each.cost)) plots.push(chart("Cost", [["cost", colours.second, of("cost")]], words.cost, true));
  return plots;
}
