// Checks that colours are stable per host and readable on their ground.
import { describe, expect, it } from 'vitest';
import { CHART, dashPattern, hostIndex, seriesColor } from './color';

function luminance(hex: string): number {
  const channel = (from: number): number => {
    const value = parseInt(hex.slice(from, from + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5);
}

function contrast(a: string, b: string): number {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

describe('series colours', () => {
  it.each(['light', 'dark'] as const)('keep 3:1 on the %s ground, and texts 4.5:1', (theme) => {
    for (let index = 0; index < 8; index += 1) expect(contrast(seriesColor(index, theme), CHART[theme].ground)).toBeGreaterThanOrEqual(3);
    expect(contrast(CHART[theme].text, CHART[theme].ground)).toBeGreaterThanOrEqual(4.5);
    expect(contrast(CHART[theme].threshold, CHART[theme].ground)).toBeGreaterThanOrEqual(4.5);
  });
  it('repeat rather than run out', () => {
    expect(seriesColor(8, 'dark')).toBe(seriesColor(0, 'dark'));
    expect(dashPattern(5)).toEqual(dashPattern(1));
  });
  it('follow the host, not the order of the answer', () => {
    expect(hostIndex('b', ['c', 'a', 'b'])).toBe(1);
    expect(hostIndex('b', ['b', 'c', 'a'])).toBe(1);
    expect(hostIndex('new', ['a'])).toBe(1);
  });
});
