// What was lost lately, from the newest declared losses. Pure.
import type { Gap } from '../api/types';

export interface Losses {
  /** Items lost as far as anybody can say. */
  known: number;
  /** More was lost than is known: of a loss nobody can say how much, or there are more losses than were asked for. */
  more: boolean;
  /** Where, the newest loss first. */
  hosts: string[];
  /** Why, of the newest loss; none where nothing was lost. */
  cause: string | undefined;
}

/** `gaps` are the newest ones; `all` says that there are no older ones. */
export function lossesSince(gaps: readonly Gap[], all: boolean, since: number): Losses {
  const newestFirst = [...gaps].sort((a, b) => b.time - a.time);
  const recent = newestFirst.filter((gap) => gap.time > since);
  return {
    known: recent.reduce((sum, gap) => sum + (gap.items ?? 0), 0),
    more: recent.some((gap) => gap.items === null) || (!all && recent.length === gaps.length),
    hosts: [...new Set(recent.map((gap) => gap.host))],
    cause: recent[0]?.cause,
  };
}
