// Checks that many equal events become one line and one mark, and that the gravest is the one seen.
import { describe, expect, it } from 'vitest';
import type { KeyEvent } from '../api/types';
import { eventLetter, fold, marks } from './events';

function event(kind: string, time: number, host = 'a'): KeyEvent {
  return { id: `${kind}${time}`, kind, time, host, key: null, path: null, actor: null, message: '', evidence: {} };
}

describe('fold', () => {
  it('joins neighbours of a kind and host', () => {
    const folded = fold([
      event('created', 90_000),
      event('created', 50_000),
      event('created', 49_000),
      event('rotated', 48_000),
      event('created', 47_000, 'b'),
    ]);
    expect(folded.map((f) => [f.event.kind, f.count])).toEqual([
      ['created', 3],
      ['rotated', 1],
      ['created', 1],
    ]);
    expect(folded[0]?.from).toBe(49_000);
  });
  it('starts anew after a minute', () => {
    expect(fold([event('created', 200_000), event('created', 100_000)])).toHaveLength(2);
  });
});

describe('marks', () => {
  it('shows the gravest of a cluster and counts all', () => {
    const found = marks([event('created', 3000), event('data_lost', 2000), event('created', 1000), event('rotated', 90_000)], 10_000);
    expect(found).toHaveLength(2);
    expect(found[0]).toEqual({ time: 1000, letter: 'G', weight: 'critical', text: '2 created, 1 data lost' });
  });
  it('has a letter for kinds it does not know', () => {
    expect(eventLetter('something_new')).toBe('?');
  });
});
