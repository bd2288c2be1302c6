import { describe, expect, it } from 'vitest';
import type { Usage } from '../api/types';
import { lastUse, notUsed, refusedText, totalText, useSeries, usesText } from './usage';

const usage = (over: Partial<Usage>): Usage => ({
  key: 'a',
  interval_ms: 1,
  observed: 'exact',
  observed_since: 0,
  reasons: [],
  last_used: null,
  last_used_by: null,
  count: { uses: {}, total: 0, denied: 0, unauthorized: 0, first_use: null, last_use: null },
  actors: [],
  actors_total: 0,
  series: {},
  ...over,
});
const seven = { uses: { open: 1, sign: 7 }, total: 8, denied: 2, unauthorized: 0, first_use: 1, last_use: 2 };

describe('what is said of use', () => {
  it('is never 0 where nobody looked', () => {
    expect(totalText(usage({ observed: 'unknown', count: null }))).toBe('unknown');
    expect(totalText(usage({}))).toBe('0');
    expect(totalText(usage({ observed: 'at_least' }))).toBe('none seen');
    expect(totalText(usage({ observed: 'at_least', count: seven }))).toBe('≥ 8');
    expect([
      notUsed({ last_used: null, observed_since: null }),
      notUsed({ last_used: null, observed_since: 5 }),
      notUsed({ last_used: 5, observed_since: null }),
    ]).toEqual(['unknown', 'never', undefined]);
  });

  it('was last when somebody saw it last, by whichever sensor', () => {
    expect(lastUse(usage({ last_used: 1, count: seven }))).toBe(2);
    expect(lastUse(usage({ last_used: 5, count: null }))).toBe(5);
    expect(lastUse(usage({ last_used: null }))).toBeNull();
  });

  it('adds uses of all kinds, and not what was denied', () => {
    expect(usesText(seven)).toBe('7 sign, 1 open');
    expect(refusedText({ ...seven, denied: 4, unauthorized: 2 })).toBe('4 denied, 2 not allowed');
    expect(refusedText(seven)).toBe('2 denied');
    const points = (...values: number[]): [number, number][] => values.map((value, at) => [at, value]);
    expect(useSeries(usage({ series: { sign: points(0, 7), open: points(1, 0), denied: points(9, 9) } }))).toEqual([1, 7]);
  });
});
