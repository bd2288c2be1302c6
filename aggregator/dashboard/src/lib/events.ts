// Events in few words: letters for the time axis, neighbours that say the same folded into one line. Pure.
import type { KeyEvent } from '../api/types';
import { MINUTE } from './time';

export type Weight = 'critical' | 'warning' | 'quiet';

const KINDS: Record<string, { letter: string; weight: Weight }> = {
  created: { letter: 'C', weight: 'quiet' },
  rotated: { letter: 'R', weight: 'quiet' },
  expired: { letter: 'E', weight: 'warning' },
  revoked: { letter: 'V', weight: 'warning' },
  removed: { letter: 'X', weight: 'quiet' },
  accessed: { letter: 'U', weight: 'quiet' },
  denied: { letter: 'D', weight: 'warning' },
  policy_violation: { letter: 'P', weight: 'warning' },
  coverage_lost: { letter: 'L', weight: 'warning' },
  coverage_restored: { letter: 'S', weight: 'quiet' },
  auth_failure: { letter: 'F', weight: 'warning' },
  unreadable: { letter: 'N', weight: 'quiet' },
  data_lost: { letter: 'G', weight: 'critical' },
  agent_started: { letter: 'A', weight: 'quiet' },
};

const WEIGHTS: readonly Weight[] = ['quiet', 'warning', 'critical'];

export function eventLetter(kind: string): string {
  return KINDS[kind]?.letter ?? '?';
}

export function eventWeight(kind: string): Weight {
  return KINDS[kind]?.weight ?? 'quiet';
}

export interface Folded {
  /** Newest event of the group. */
  event: KeyEvent;
  count: number;
  /** Time of the oldest. */
  from: number;
}

/** Neighbours of one kind on one host within a minute of each other become one line: a first scan makes hundreds. */
export function fold(events: readonly KeyEvent[]): Folded[] {
  const out: Folded[] = [];
  for (const event of events) {
    const open = out[out.length - 1];
    if (open && open.event.kind === event.kind && open.event.host === event.host && open.from - event.time <= MINUTE) {
      open.count += 1;
      open.from = event.time;
    } else {
      out.push({ event, count: 1, from: event.time });
    }
  }
  return out;
}

export interface Mark {
  time: number;
  letter: string;
  weight: Weight;
  text: string;
}

/** Marks for a time axis: those closer together than `apart` ms become one, with the letter of the gravest. */
export function marks(events: readonly KeyEvent[], apart: number): Mark[] {
  const sorted = [...events].sort((a, b) => a.time - b.time);
  const out: { mark: Mark; counts: Map<string, number> }[] = [];
  for (const event of sorted) {
    const open = out[out.length - 1];
    if (!open || event.time - open.mark.time > apart) {
      out.push({
        mark: { time: event.time, letter: eventLetter(event.kind), weight: eventWeight(event.kind), text: '' },
        counts: new Map([[event.kind, 1]]),
      });
      continue;
    }
    open.counts.set(event.kind, (open.counts.get(event.kind) ?? 0) + 1);
    if (WEIGHTS.indexOf(eventWeight(event.kind)) > WEIGHTS.indexOf(open.mark.weight)) {
      open.mark.weight = eventWeight(event.kind);
      open.mark.letter = eventLetter(event.kind);
    }
  }
  return out.map(({ mark, counts }) => ({
    ...mark,
    text: [...counts].map(([kind, count]) => `${count} ${kind.replaceAll('_', ' ')}`).join(', '),
  }));
}
