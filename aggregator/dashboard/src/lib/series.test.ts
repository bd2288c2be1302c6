// Checks that gaps stay gaps, slow sampling does not look like one, and nothing is invented at the end of a line.
import { describe, expect, it } from 'vitest';
import { bridge, extent, lastValue, lonely, summarize, toGrid, valueAt, type Cell, type Point } from './series';

describe('toGrid', () => {
  it('aligns series of different lengths on one grid', () => {
    const a: Point[] = [
      [0, 1],
      [300_000, 2],
    ];
    const b: Point[] = [
      [300_000, 5],
      [900_000, 6],
    ];
    expect(toGrid([a, b], 300_000)).toEqual({
      times: [0, 300_000, 600_000, 900_000],
      rows: [
        [1, 2, null, null],
        [null, 5, null, 6],
      ],
    });
  });
  it('has no times without points', () => {
    expect(toGrid([[], []], 1000)).toEqual({ times: [], rows: [[], []] });
  });
});

describe('bridge', () => {
  it('passes over buckets that slow sampling leaves empty', () => {
    expect(bridge([1, null, 2, 3, null, 4], 10_000)).toEqual([1, undefined, 2, 3, undefined, 4]);
    const minutely = Array.from({ length: 25 }, (_, index) => (index % 6 === 0 ? index : null));
    expect(bridge(minutely, 10_000).filter((cell) => cell === null)).toEqual([]);
  });
  it('passes over the pause of an agent that sees nothing move, but not over a longer one', () => {
    const pause = (buckets: number): Cell[] => [1, 2, 3, 4, ...new Array<Cell>(buckets).fill(null), 5];
    expect(bridge(pause(11), 10_000)).not.toContain(null);
    expect(bridge(pause(15), 10_000)).toContain(null);
  });
  it('keeps real gaps', () => {
    expect(bridge([1, 2, null, 3, 4], 7_200_000)).toEqual([1, 2, null, 3, 4]);
    expect(bridge([1, 2, 3, null, null, null, null, 4], 60_000)).toEqual([1, 2, 3, null, null, null, null, 4]);
  });
  it('invents nothing before the first and after the last sample', () => {
    expect(bridge([null, 1, null, null], 10_000)).toEqual([null, 1, null, null]);
  });
});

describe('reading', () => {
  it('finds samples that stand alone', () => {
    expect(lonely([1, null, 2, 3, null, 4])).toEqual([0, 5]);
    expect(lonely([null, 1, undefined, 2])).toEqual([]);
  });
  it('gives the value the line has', () => {
    expect(valueAt([1, undefined, 2, null], 1)).toBe(1);
    expect(valueAt([1, undefined, 2, null], 3)).toBeNull();
    expect(valueAt(undefined, 0)).toBeNull();
    expect(lastValue([1, 2, null])).toBe(2);
    expect(extent([null, 3, undefined, 1])).toEqual({ low: 1, high: 3 });
    expect(extent([null])).toBeUndefined();
  });
  it('says it in words', () => {
    expect(
      summarize(
        'CPU',
        'last 1 h',
        ['web-1', 'web-2'],
        [
          [1, 97],
          [null, null],
        ],
        'percent',
      ),
    ).toBe('CPU, last 1 h, 2 series. web-1: last 97 %, lowest 1 %, highest 97 %. web-2: no samples.');
  });
});
