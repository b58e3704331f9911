// The spans of one run as a tree: order, depth, self time, critical path, folded repeats and the rows to show.
import type { SpansAnswer } from "./api";

/** So many siblings in a row with the same name and kind are folded into one row. */
const FOLD_FROM = 5;

export interface Fold {
  parent: number; // a span, or -1 at the top
  first: number; // its place among its parent's children
  members: number[];
  length: number; // microseconds, all members
}

export class RunTree {
  readonly ids: string[] = [];
  readonly parents: (string | null)[] = [];
  readonly names: string[] = [];
  readonly kinds: string[] = [];
  readonly statuses: string[] = [];
  readonly from: number[] = [];
  readonly length: number[] = [];
  readonly first: (number | null)[] = [];
  readonly tokens: (number | null)[] = [];
  readonly cost: (number | null)[] = [];
  start = 0;
  end = 0; // microseconds since the start
  total = 0;
  cursor = 0;

  order: number[] = []; // all spans, each after its parent, by start
  parent = new Int32Array(0);
  depth = new Int32Array(0);
  children: (number[] | null)[] = [];
  roots: number[] = [];
  self = new Float64Array(0);
  critical = new Uint8Array(0);
  inCircle = new Uint8Array(0);
  orphan = new Uint8Array(0);
  /** The status of what is below a span: 1 if something failed there. */
  failedBelow = new Uint8Array(0);
  folds: Fold[] = [];
  private byId = new Map<string, number>();
  private foldOf = new Int32Array(0);

  get size(): number {
    return this.ids.length;
  }

  indexOf(id: string): number {
    return this.byId.get(id) ?? -1;
  }

  /** Takes spans over, in place of those with the same ids; `build` has to follow. Returns how many are new. */
  add(answer: SpansAnswer): number {
    const before = this.size;
    if (before === 0) this.start = answer.start;
    const shift = answer.start - this.start;
    for (let row = 0; row < answer.id.length; row++) {
      const id = answer.id[row];
      let at = this.byId.get(id);
      if (at === undefined) {
        at = this.ids.length;
        this.byId.set(id, at);
        this.ids.push(id);
      }
      this.parents[at] = answer.parent[row];
      this.names[at] = answer.names[answer.name[row]];
      this.kinds[at] = answer.kinds[answer.kind[row]];
      this.statuses[at] = answer.statuses[answer.status[row]];
      this.from[at] = answer.from[row] + shift;
      this.length[at] = answer.length[row];
      this.first[at] = answer.first[row] === null ? null : answer.first[row]! + shift;
      this.tokens[at] = answer.tokens[row];
      this.cost[at] = answer.cost[row];
    }
    this.total = Math.max(answer.total, this.size);
    this.cursor = Math.max(this.cursor, answer.cursor);
    return this.size - before;
  }

  /** Lets the spans that are still running go on until a moment, in microseconds since the epoch. */
  advance(now: number): void {
    let changed = false;
    for (let span = 0; span < this.size; span++) {
      if (this.statuses[span] !== "running") continue;
      const length = now - this.start - this.from[span];
      if (length <= this.length[span]) continue;
      this.length[span] = length;
      changed = true;
    }
    if (!changed) return;
    this.measure();
    this.findCriticalPath();
  }

  build(): void {
    const size = this.size;
    const { from, length } = this;
    const byStart = Uint32Array.from({ length: size }, (_, index) => index);
    byStart.sort((a, b) => from[a] - from[b] || length[b] - length[a] || (this.ids[a] < this.ids[b] ? -1 : 1));
    this.parent = new Int32Array(size).fill(-1);
    this.inCircle = new Uint8Array(size);
    this.orphan = new Uint8Array(size);
    this.children = new Array<number[] | null>(size).fill(null);
    this.roots = [];
    for (let span = 0; span < size; span++) {
      const above = this.parents[span];
      if (above === null) continue;
      const parent = this.byId.get(above);
      if (parent === undefined) this.orphan[span] = 1;
      else this.parent[span] = parent;
    }
    this.breakCircles(byStart);
    for (const span of byStart) {
      const parent = this.parent[span];
      if (parent < 0) this.roots.push(span);
      else (this.children[parent] ??= []).push(span);
    }
    this.walk();
    this.measure();
    this.findCriticalPath();
    this.fold();
  }

  /** The first span of each circle of parents becomes a root, so that none is lost. */
  private breakCircles(byStart: Uint32Array): void {
    const seenBy = new Int32Array(this.size).fill(-1);
    for (const span of byStart) {
      let at = span;
      while (at >= 0 && seenBy[at] < 0) {
        seenBy[at] = span;
        at = this.parent[at];
      }
      if (at >= 0 && seenBy[at] === span) {
        const ring = [at];
        for (let next = this.parent[at]; next !== at; next = this.parent[next]) ring.push(next);
        let first = ring[0];
        for (const each of ring) {
          this.inCircle[each] = 1;
          if (this.from[each] < this.from[first] || (this.from[each] === this.from[first] && this.ids[each] < this.ids[first])) first = each;
        }
        this.parent[first] = -1;
      }
    }
  }

  private walk(): void {
    this.order = [];
    this.depth = new Int32Array(this.size);
    const stack = [...this.roots].reverse();
    while (stack.length) {
      const span = stack.pop()!;
      this.order.push(span);
      const below = this.children[span];
      if (!below) continue;
      for (let at = below.length - 1; at >= 0; at--) {
        this.depth[below[at]] = this.depth[span] + 1;
        stack.push(below[at]);
      }
    }
  }

  private measure(): void {
    this.self = new Float64Array(this.size);
    this.failedBelow = new Uint8Array(this.size);
    this.end = 0;
    for (let at = this.order.length - 1; at >= 0; at--) {
      const span = this.order[at];
      const begin = this.from[span];
      const end = begin + Math.max(0, this.length[span]);
      this.end = Math.max(this.end, end);
      let covered = 0;
      let reached = begin;
      for (const child of this.children[span] ?? []) {
        const childEnd = Math.min(this.from[child] + Math.max(0, this.length[child]), end);
        if (childEnd > reached) {
          covered += childEnd - Math.max(reached, this.from[child]);
          reached = childEnd;
        }
        if (this.failedBelow[child] || this.failed(child)) this.failedBelow[span] = 1;
      }
      this.self[span] = Math.max(0, end - begin - covered);
    }
  }

  failed(span: number): boolean {
    const status = this.statuses[span];
    return status === "error" || status === "incomplete" || status === "died";
  }

  /** Backwards from the end: at each moment the child that ended last, until it began. */
  private findCriticalPath(): void {
    this.critical = new Uint8Array(this.size);
    let last = -1;
    for (const root of this.roots) {
      if (last < 0 || this.length[root] > this.length[last]) last = root;
    }
    if (last < 0) return;
    const stack: [number, number][] = [[last, this.from[last] + this.length[last]]];
    while (stack.length) {
      const [span, until] = stack.pop()!;
      this.critical[span] = 1;
      const below = this.children[span];
      if (!below) continue;
      let reached = until;
      const byEnd = below.length > 1 ? [...below].sort((a, b) => this.from[b] + this.length[b] - this.from[a] - this.length[a]) : below;
      for (const child of byEnd) {
        const end = this.from[child] + Math.max(0, this.length[child]);
        // A child that outlives its parent counts up to the parent's end.
        if (this.from[child] >= reached || (end > reached && reached !== until)) continue;
        stack.push([child, Math.min(end, reached)]);
        reached = this.from[child];
      }
    }
  }

  private fold(): void {
    this.folds = [];
    this.foldOf = new Int32Array(this.size).fill(-1);
    const group = (parent: number, siblings: number[]): void => {
      let begin = 0;
      while (begin < siblings.length) {
        let end = begin + 1;
        const first = siblings[begin];
        const same = (span: number): boolean =>
          this.names[span] === this.names[first] && this.kinds[span] === this.kinds[first] && !this.failed(span);
        if (!this.failed(first)) while (end < siblings.length && same(siblings[end])) end++;
        if (end - begin >= FOLD_FROM) {
          const members = siblings.slice(begin, end);
          for (const member of members) this.foldOf[member] = this.folds.length;
          this.folds.push({ parent, first: begin, members, length: members.reduce((sum, span) => sum + this.length[span], 0) });
        }
        begin = end;
      }
    };
    group(-1, this.roots);
    for (let span = 0; span < this.size; span++) {
      const below = this.children[span];
      if (below && below.length >= FOLD_FROM) group(span, below);
    }
  }

  foldAt(span: number): number {
    return this.foldOf[span];
  }

  /**
   * The rows to show: a span as its index, a fold as -1 - its index.
   *
   * A closed span hides what is below it; an open fold shows its members.
   */
  rows(closed: ReadonlySet<number>, folding: boolean, openFolds: ReadonlySet<string>): Int32Array {
    const rows = new Int32Array(this.size + this.folds.length);
    let count = 0;
    const stack: number[] = [];
    const push = (siblings: number[]): void => {
      for (let at = siblings.length - 1; at >= 0; at--) stack.push(siblings[at]);
    };
    push(this.roots);
    while (stack.length) {
      const span = stack.pop()!;
      const fold = folding ? this.foldOf[span] : -1;
      if (fold >= 0) {
        const { members } = this.folds[fold];
        if (members[0] === span) {
          rows[count++] = -1 - fold;
        }
        if (!openFolds.has(this.ids[members[0]])) continue;
      }
      rows[count++] = span;
      const below = this.children[span];
      if (below && !closed.has(span)) push(below);
    }
    return rows.subarray(0, count);
  }

  /** The spans that enclose one, from the top. */
  above(span: number): number[] {
    const path: number[] = [];
    for (let at = this.parent[span]; at >= 0; at = this.parent[at]) path.push(at);
    return path.reverse();
  }
}
