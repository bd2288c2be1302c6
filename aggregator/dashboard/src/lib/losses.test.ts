// Checks that a loss is never shown smaller than it may be.
import { describe, expect, it } from 'vitest';
import type { Gap } from '../api/types';
import { lossesSince } from './losses';

const gap = (time: number, items: number | null, host = 'web-1'): Gap => ({
  host,
  class: 'sample',
  cause: `at ${time}`,
  first_seq: 1,
  last_seq: 2,
  items,
  time,
});

describe('losses', () => {
  it('adds what was lost since then and names the newest cause first', () => {
    const gaps = [gap(100, 7), gap(300, 5, 'web-2'), gap(200, 3)];
    expect(lossesSince(gaps, true, 150)).toEqual({ known: 8, more: false, hosts: ['web-2', 'web-1'], cause: 'at 300' });
    expect(lossesSince(gaps, true, 300)).toEqual({ known: 0, more: false, hosts: [], cause: undefined });
  });
  it('says that there is more where nobody knows how much', () => {
    expect(lossesSince([gap(100, 7), gap(90, null)], true, 0).more).toBe(true);
    expect(lossesSince([gap(100, 7), gap(90, null)], true, 95).more).toBe(false);
  });
  it('says that there is more where older losses of that time were not asked for', () => {
    expect(lossesSince([gap(100, 7), gap(90, 1)], false, 50).more).toBe(true);
    expect(lossesSince([gap(100, 7), gap(40, 1)], false, 50).more).toBe(false);
  });
});
