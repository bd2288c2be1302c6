// From the points of an answer to what a chart draws: one time grid, gaps that are gaps, a summary in words. Pure.
import { withUnit } from './format';
import { SECOND } from './time';
import type { Unit } from './units';

export type Point = readonly [number, number | null];
/** A number; `null` is a gap in the line; `undefined` is a bucket the line may pass over. */
export type Cell = number | null | undefined;

export interface Grid {
  times: number[];
  rows: Cell[][];
}

/** Puts series on the times start, start + interval, ...; a bucket that no series names is empty, not skipped. */
export function toGrid(series: readonly (readonly Point[])[], interval: number): Grid {
  let first = Infinity;
  let last = -Infinity;
  for (const points of series) {
    for (const [time] of points) {
      first = Math.min(first, time);
      last = Math.max(last, time);
    }
  }
  if (first > last || interval <= 0) return { times: [], rows: series.map(() => []) };
  const length = Math.round((last - first) / interval) + 1;
  const times = Array.from({ length }, (_, index) => first + index * interval);
  const rows = series.map((points) => {
    const row: Cell[] = new Array<Cell>(length).fill(null);
    for (const [time, value] of points) row[Math.round((time - first) / interval)] = value;
    return bridge(row, interval);
  });
  return { times, rows };
}

/** An agent that sees nothing move looks less often: two minutes apart at the most, and some jitter. */
const QUIET = 150 * SECOND;

/** Buckets that are empty only because samples come less often than buckets do are no gaps: they become `undefined`. */
export function bridge(row: readonly Cell[], interval: number): Cell[] {
  const filled = row.flatMap((cell, index) => (typeof cell === 'number' ? [index] : []));
  const steps = filled
    .slice(1)
    .map((index, i) => index - (filled[i] ?? 0))
    .sort((a, b) => a - b);
  // Two samples tell no rhythm: from the third distance on we believe one.
  const median = steps.length >= 3 ? (steps[Math.floor(steps.length / 2)] ?? 1) : 1;
  // Half as long again as usual is jitter.
  const longest = Math.max(median * 1.5, QUIET / interval);
  const out = [...row];
  for (let i = 1; i < filled.length; i += 1) {
    const from = filled[i - 1] ?? 0;
    const to = filled[i] ?? 0;
    if (to - from > 1 && to - from <= longest) out.fill(undefined, from + 1, to);
  }
  return out;
}

/** Positions whose neighbours on both sides are gaps: a line cannot show them, a dot must. */
export function lonely(row: readonly Cell[]): number[] {
  const broken = (index: number, step: number): boolean => {
    let at = index + step;
    while (at >= 0 && at < row.length && row[at] === undefined) at += step;
    return at < 0 || at >= row.length || row[at] === null;
  };
  return row.flatMap((cell, index) => (typeof cell === 'number' && broken(index, -1) && broken(index, 1) ? [index] : []));
}

/** The value the line has at a position: where it passes over an empty bucket, the one before. */
export function valueAt(row: readonly Cell[] | undefined, index: number): number | null {
  if (!row) return null;
  let at = index;
  while (at > 0 && row[at] === undefined) at -= 1;
  return row[at] ?? null;
}

export function lastValue(row: readonly Cell[]): number | null {
  for (let index = row.length - 1; index >= 0; index -= 1) {
    const cell = row[index];
    if (typeof cell === 'number') return cell;
  }
  return null;
}

export interface Extent {
  low: number;
  high: number;
}

export function extent(row: readonly Cell[]): Extent | undefined {
  let low = Infinity;
  let high = -Infinity;
  for (const cell of row) {
    if (typeof cell !== 'number') continue;
    low = Math.min(low, cell);
    high = Math.max(high, cell);
  }
  return low <= high ? { low, high } : undefined;
}

/** What somebody who cannot see the chart should know of it. */
export function summarize(title: string, range: string, labels: readonly string[], rows: readonly (readonly Cell[])[], unit: Unit): string {
  const told = labels.slice(0, 5).map((label, index) => {
    const row = rows[index] ?? [];
    const span = extent(row);
    if (!span) return `${label}: no samples`;
    return `${label}: last ${withUnit(lastValue(row), unit)}, lowest ${withUnit(span.low, unit)}, highest ${withUnit(span.high, unit)}`;
  });
  const rest = labels.length > 5 ? ` And ${labels.length - 5} more.` : '';
  return `${title}, ${range}, ${labels.length} series. ${told.join('. ')}.${rest}`;
}
