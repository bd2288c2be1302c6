// What is said of a key's use: how often, when last, and how much of it is observed. Pure. What nobody observes is unknown, never 0.
import type { Key, Uses, Usage } from '../api/types';
import { thousands } from './format';

/** `7 sign, 1 open`, the most first. */
export function usesText(count: Uses): string {
  const all = Object.entries(count.uses).sort((a, b) => b[1] - a[1]);
  return all.map(([word, times]) => `${thousands(times)} ${word}`).join(', ');
}

/** `4 denied, 2 not allowed`: what was denied may be both, so the two are never added. */
export function refusedText(count: Uses): string {
  const both = [
    [count.denied, 'denied'],
    [count.unauthorized, 'not allowed'],
  ] as const;
  return both
    .filter(([times]) => times > 0)
    .map(([times, word]) => `${thousands(times)} ${word}`)
    .join(', ');
}

/** The figure of all uses: what is not observed in full is at least that. */
export function totalText(usage: Usage): string {
  if (usage.count === null) return 'unknown';
  if (usage.observed === 'exact') return thousands(usage.count.total);
  return usage.count.total === 0 ? 'none seen' : `≥ ${thousands(usage.count.total)}`;
}

/** When it was used last: as it is told with who it was, or as a counter grew since. */
export function lastUse(usage: Usage): number | null {
  const times = [usage.last_used, usage.count?.last_use ?? null].filter((at) => at !== null);
  return times.length === 0 ? null : Math.max(...times);
}

/** How much of its use is observed, in a few words. */
export function observedWord(observed: Usage['observed']): string {
  switch (observed) {
    case 'exact':
      return 'every use is counted';
    case 'at_least':
      return 'there may be more uses than are counted';
    case 'none':
      return 'its private half lies on no host';
    default:
      return 'unknown';
  }
}

/** Why nothing is known of its last use, or that there was none; `undefined` where there was one. */
export function notUsed(key: Pick<Key, 'last_used' | 'observed_since'>): 'never' | 'unknown' | undefined {
  if (key.last_used !== null) return undefined;
  return key.observed_since === null ? 'unknown' : 'never';
}

/** What is no use of its own: what was refused, and handshakes, whose signature counts already. */
const APART = ['denied', 'unauthorized', 'handshake'];

/** All uses in each interval, of whatever kind. */
export function useSeries(usage: Usage): number[] {
  const out: number[] = [];
  for (const [word, points] of Object.entries(usage.series))
    if (!APART.includes(word)) points.forEach(([, value], at) => (out[at] = (out[at] ?? 0) + value));
  return out;
}
