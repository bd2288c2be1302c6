// Checks of the time arithmetic: ranges as the URL holds them, bucket widths, words.
import { describe, expect, it } from 'vitest';
import {
  absolute,
  axisLabel,
  chartInterval,
  DAY,
  HOUR,
  inputValue,
  intervalText,
  lengthWords,
  MINUTE,
  parseInput,
  parseLength,
  parseRange,
  rangeParams,
  rangeWords,
  relative,
  SECOND,
  shiftRange,
  usualRange,
} from './time';

const T = Date.UTC(2026, 10, 22, 18, 0, 30);

describe('parsing', () => {
  it('reads lengths and refuses the rest', () => {
    expect(parseLength('15m')).toBe(15 * MINUTE);
    expect(parseLength('7d')).toBe(7 * DAY);
    for (const bad of ['', '1', 'm', '0h', '-1h', '1 fortnight', '1.5h', '9999999s']) expect(parseLength(bad)).toBeUndefined();
  });
  it('prefers a fixed range, and falls back to one hour', () => {
    expect(parseRange({ range: '6h', from: '1000', to: '2000' })).toEqual({ kind: 'absolute', from: 1000, to: 2000 });
    expect(parseRange({ range: '6h', from: '2000', to: '1000' })).toEqual({ kind: 'relative', text: '6h', length: 6 * HOUR });
    expect(parseRange({ range: 'soon' })).toEqual({ kind: 'relative', text: '1h', length: HOUR });
    expect(parseRange({})).toEqual({ kind: 'relative', text: '1h', length: HOUR });
  });
  it('leaves a relative range to the server', () => {
    expect(rangeParams(parseRange({ range: '24h' }))).toEqual({ start_time: '-1d', end_time: 'now' });
    expect(rangeParams({ kind: 'absolute', from: 1, to: 2 })).toEqual({ start_time: '1', end_time: '2' });
  });
  it('carries a typed instant there and back', () => {
    const minute = Math.floor(T / MINUTE) * MINUTE;
    expect(parseInput(inputValue(T, true), true)).toBe(minute);
    expect(parseInput(inputValue(T, false), false)).toBe(minute);
    expect(parseInput('', true)).toBeUndefined();
  });
});

describe('bucket widths', () => {
  it.each([
    [5 * MINUTE, '10s'],
    [15 * MINUTE, '10s'],
    [HOUR, '30s'],
    [6 * HOUR, '5m'],
    [DAY, '15m'],
    [7 * DAY, '2h'],
    [400 * DAY, '4d'],
  ])('%d ms -> %s', (length, text) => {
    expect(intervalText(chartInterval(length))).toBe(text);
    expect(length / chartInterval(length)).toBeLessThanOrEqual(120);
  });
});

describe('words', () => {
  it('uses one unit', () => {
    expect(lengthWords(4 * SECOND)).toBe('4 s');
    expect(lengthWords(5 * MINUTE)).toBe('5 min');
    expect(lengthWords(26 * HOUR)).toBe('26 h');
    expect(lengthWords(-9 * DAY)).toBe('9 d');
    expect(lengthWords(365 * DAY)).toBe('12 months');
    expect(lengthWords(10 * 365.25 * DAY)).toBe('10.0 years');
  });
  it('says which side of now', () => {
    expect(relative(T - 4 * MINUTE, T)).toBe('4 min ago');
    expect(relative(T + 6 * DAY, T)).toBe('in 6 d');
    expect(relative(T - 500, T)).toBe('now');
  });
  it('writes instants', () => {
    expect(absolute(T, true)).toBe('2026-11-22 18:00:30 UTC');
    expect(axisLabel(T, 30 * SECOND, true)).toBe('18:00:30');
    expect(axisLabel(T, 5 * MINUTE, true)).toBe('18:00');
    expect(axisLabel(Date.UTC(2026, 10, 22), HOUR, true)).toBe('22 Nov');
    expect(rangeWords(parseRange({ range: '15m' }), true)).toBe('Last 15 min');
    expect(rangeWords({ kind: 'absolute', from: T, to: T + HOUR }, true)).toBe('11-22 18:00 – 19:00');
  });
});

describe('moving a range', () => {
  const hour = { kind: 'absolute', from: T - HOUR, to: T } as const;
  it('pans by a part of its length', () => {
    expect(shiftRange(hour, T + DAY, -0.5, 1)).toEqual({ kind: 'absolute', from: T - 1.5 * HOUR, to: T - 0.5 * HOUR });
  });
  it('never passes now', () => {
    expect(shiftRange(hour, T, 0.5, 1)).toEqual(hour);
    expect(shiftRange(parseRange({ range: '1h' }), T, 0, 2)).toEqual({ kind: 'absolute', from: T - 2 * HOUR, to: T });
  });
});

describe('the range shown first', () => {
  it('is no longer than there is data, up to an hour', () => {
    expect([0, 4 * MINUTE, 6 * MINUTE, 20 * MINUTE, DAY].map(usualRange)).toEqual(['5m', '5m', '15m', '1h', '1h']);
    expect(parseRange({}, '5m')).toMatchObject({ text: '5m' });
    expect(parseRange({ range: '6h' }, '5m')).toMatchObject({ text: '6h' });
  });
});
