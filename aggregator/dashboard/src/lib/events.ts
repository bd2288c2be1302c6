// Events in few words: letters for the time axis, neighbours that say the same folded into one line. Pure.
import type { KeyEvent } from '../api/types';
import { sentence, thousands, words } from './format';
import { MINUTE } from './time';

export type Weight = 'critical' | 'warning' | 'quiet';

interface Kind {
  letter: string;
  weight: Weight;
  word: string;
  /** What several are called, of the quiet ones. */
  many?: string;
}

const KINDS: Record<string, Kind> = {
  created: { letter: 'C', weight: 'quiet', word: 'Created', many: 'keys created' },
  rotated: { letter: 'R', weight: 'quiet', word: 'Rotated', many: 'keys rotated' },
  expired: { letter: 'E', weight: 'warning', word: 'Expired' },
  revoked: { letter: 'V', weight: 'warning', word: 'Revoked' },
  removed: { letter: 'X', weight: 'quiet', word: 'Removed', many: 'keys removed' },
  accessed: { letter: 'U', weight: 'quiet', word: 'Accessed', many: 'accesses to keys' },
  denied: { letter: 'D', weight: 'warning', word: 'Access denied' },
  policy_violation: { letter: 'P', weight: 'warning', word: 'Policy violation' },
  coverage_lost: { letter: 'L', weight: 'warning', word: 'Coverage lost' },
  coverage_restored: { letter: 'S', weight: 'quiet', word: 'Coverage back', many: 'things in sight again' },
  auth_failure: { letter: 'F', weight: 'warning', word: 'Login failed' },
  unreadable: { letter: 'N', weight: 'quiet', word: 'Unreadable', many: 'key files cannot be read' },
  data_lost: { letter: 'G', weight: 'critical', word: 'Data lost' },
  served_stale: { letter: 'T', weight: 'warning', word: 'Served stale' },
  served_fresh: { letter: 'H', weight: 'quiet', word: 'Served fresh', many: 'servers reloaded their certificate' },
  revocation_lifted: { letter: 'W', weight: 'warning', word: 'Revocation lifted' },
  first_use: { letter: 'Y', weight: 'warning', word: 'First use' },
  agent_started: { letter: 'A', weight: 'quiet', word: 'Agent started', many: 'starts of the agent' },
};

const WEIGHTS: readonly Weight[] = ['quiet', 'warning', 'critical'];

export function eventLetter(kind: string): string {
  return KINDS[kind]?.letter ?? '?';
}

export function eventWeight(kind: string): Weight {
  return KINDS[kind]?.weight ?? 'quiet';
}

export function eventWord(kind: string): string {
  return KINDS[kind]?.word ?? sentence(words(kind));
}

export interface Folded {
  /** Newest event of the group. */
  event: KeyEvent;
  count: number;
  /** Time of the oldest. */
  from: number;
  /** Program that did all of it; `null` where none is known, or several did. */
  exe: string | null;
}

/** Neighbours of one kind on one host within a minute of each other become one line: a first scan makes hundreds. */
export function fold(events: readonly KeyEvent[]): Folded[] {
  const out: Folded[] = [];
  for (const event of events) {
    const open = out[out.length - 1];
    if (open && open.event.kind === event.kind && open.event.host === event.host && open.from - event.time <= MINUTE) {
      open.count += 1;
      open.from = event.time;
      if (open.exe !== (event.actor?.exe ?? null)) open.exe = null;
    } else {
      out.push({ event, count: 1, from: event.time, exe: event.actor?.exe ?? null });
    }
  }
  return out;
}

/** What is said of a line: of many quiet events their number, of others what the newest says. */
export function foldedText({ event, count, exe }: Folded): string {
  const message = event.message || eventWord(event.kind);
  if (count === 1) return message;
  if (eventWeight(event.kind) !== 'quiet') return `${message}, and ${thousands(count - 1)} more`;
  return `${thousands(count)} ${KINDS[event.kind]?.many ?? `× ${words(event.kind)}`}${exe === null ? '' : ` by ${exe}`}`;
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
    text: [...counts].map(([kind, count]) => `${count} ${eventWord(kind).toLowerCase()}`).join(', '),
  }));
}
