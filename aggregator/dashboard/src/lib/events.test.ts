// Checks that many equal events become one line and one mark, and that the gravest is the one seen.
import { describe, expect, it } from 'vitest';
import type { KeyEvent } from '../api/types';
import { eventLetter, eventWord, fold, foldedText, marks } from './events';

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
  it('names who did all of it, and nobody where several did', () => {
    const by = (exe: string, time: number): KeyEvent => ({
      ...event('accessed', time),
      actor: { exe, pid: 1, uid: 0, login_uid: null, unit: null, peer: null },
    });
    const told = (events: KeyEvent[]): string[] => fold(events).map(foldedText);
    expect(told([by('/usr/bin/openssl', 3), by('/usr/bin/openssl', 2)])).toEqual(['2 accesses to keys by /usr/bin/openssl']);
    expect(told([by('/usr/bin/openssl', 3), by('/usr/bin/cat', 2), by('/usr/bin/openssl', 1)])).toEqual(['3 accesses to keys']);
  });
  it('starts anew after a minute', () => {
    expect(fold([event('created', 200_000), event('created', 100_000)])).toHaveLength(2);
  });
});

describe('words', () => {
  it('names what concerns no key', () => {
    const kinds = ['coverage_lost', 'auth_failure', 'data_lost', 'unreadable', 'something_new'];
    expect(kinds.map(eventWord)).toEqual(['Coverage lost', 'Login failed', 'Data lost', 'Unreadable', 'Something new']);
  });
  it('counts what is quiet, and says what is not', () => {
    const lost = { ...event('coverage_lost', 1), message: 'the disk sensor cannot see /srv: no permission' };
    expect(foldedText({ event: lost, count: 1, from: 1, exe: null })).toBe(lost.message);
    expect(foldedText({ event: lost, count: 3, from: 1, exe: null })).toBe(`${lost.message}, and 2 more`);
    expect(foldedText({ event: event('created', 1), count: 1204, from: 1, exe: null })).toBe('1,204 keys created');
    expect(foldedText({ event: event('something_new', 1), count: 2, from: 1, exe: null })).toBe('2 × something new');
    expect(foldedText({ event: event('agent_started', 1), count: 1, from: 1, exe: null })).toBe('Agent started');
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
