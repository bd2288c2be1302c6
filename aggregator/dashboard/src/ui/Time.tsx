// An instant or a length of time beside now, with the absolute time on hover.
import type { JSX } from 'preact';
import { absolute, relative } from '../lib/time';
import { utc } from '../state/prefs';
import { now } from '../state/refresh';

export function Time({ at, none = '–' }: { at: number | null | undefined; none?: string }): JSX.Element {
  if (at === null || at === undefined) return <span class="dim">{none}</span>;
  return (
    <time dateTime={new Date(at).toISOString()} title={absolute(at, utc.value)}>
      {relative(at, now.value)}
    </time>
  );
}
