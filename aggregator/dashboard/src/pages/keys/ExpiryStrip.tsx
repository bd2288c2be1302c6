// What ends when: counts from the aggregator, the soonest names beside them, each box a filter of the table below.
import type { JSX } from 'preact';
import { api } from '../../api/client';
import type { Key, KeysSummary } from '../../api/types';
import type { Badge } from '../../lib/alerts';
import { expiryMatters, keyName } from '../../lib/keys';
import { DAY, relative } from '../../lib/time';
import { Link, hostFilter, href, param } from '../../routes';
import { now } from '../../state/refresh';
import { useResource, type Resource } from '../../state/resource';
import { Shown } from '../../ui/Panel';
import { Shape } from '../../ui/StateBadge';

interface Box {
  id: string;
  word: string;
  /** Undefined while it is not known. */
  count: number | undefined;
  names: Key[];
  badge: Badge | undefined;
  /** What the box says when it counts none. */
  none: string;
}

/** The summary is of all hosts: with one host chosen, its own keys are counted instead. */
function boxes(
  summary: KeysSummary,
  soon: readonly Key[] | undefined,
  past: readonly Key[] | undefined,
  at: number,
  host: string | undefined,
): Box[] {
  const ending = (soon ?? []).filter(expiryMatters);
  const between = (from: number, to: number): Key[] =>
    ending.filter((key) => (key.not_after ?? 0) > at + from * DAY && (key.not_after ?? 0) <= at + to * DAY);
  const recently = (past ?? []).filter((key) => expiryMatters(key) && (key.not_after ?? 0) > at - 30 * DAY && (key.not_after ?? 0) <= at);
  const today = between(0, 1);
  const within = (days: 7 | 30 | 90): number | undefined =>
    host === undefined ? summary.expiring[`${days}d`] : soon && between(0, days).length;
  const week = within(7);
  return [
    {
      id: 'past',
      word: 'Expired, last 30 d',
      count: past && recently.length,
      names: recently,
      badge: recently.length > 0 ? 'critical' : undefined,
      none: 'nothing expired',
    },
    {
      id: '1d',
      word: 'Within 24 h',
      count: soon && today.length,
      names: today,
      badge: today.length > 0 ? 'critical' : undefined,
      none: 'nothing today',
    },
    {
      id: '7d',
      word: 'Within 7 d',
      count: week,
      names: between(1, 7),
      badge: week !== undefined && week > 0 ? 'warning' : undefined,
      none: 'nothing this week',
    },
    { id: '30d', word: 'Within 30 d', count: within(30), names: between(7, 30), badge: undefined, none: 'nothing this month' },
    { id: '90d', word: 'Within 90 d', count: within(90), names: between(30, 90), badge: undefined, none: 'nothing for 90 d' },
  ];
}

function BoxView({ box, chosen, nothing }: { box: Box; chosen: boolean; nothing: boolean }): JSX.Element {
  const shown = box.count === 0 || box.count === undefined ? [] : box.names.slice(0, 2);
  const more = box.names.length - shown.length;
  return (
    <Link
      to={href('/keys', { expires: chosen ? undefined : box.id })}
      class={`tile ${chosen ? 'chosen' : ''} ${box.badge ?? ''}`}
      aria-current={chosen ? 'true' : undefined}
    >
      <span class="tile-word">{box.word}</span>
      <span class={`tile-figure ${box.badge ?? ''}`}>
        {box.badge !== undefined && <Shape kind={box.badge} />}
        {box.count ?? '–'}
      </span>
      <span class="tile-names">
        {shown.map((key) => (
          <span key={key.id} class="tile-name">
            <span class="cut">{keyName(key)}</span>
            <span class="dim"> {relative(key.not_after ?? 0, now.value)}</span>
          </span>
        ))}
        {shown.length === 0 && (
          <span class="tile-note">
            {box.count === undefined ? 'not known yet' : box.count === 0 ? (nothing ? 'no keys seen yet' : box.none) : 'all named before'}
          </span>
        )}
        {more > 0 && <span class="tile-note">and {more} more</span>}
      </span>
    </Link>
  );
}

export function ExpiryStrip({ summary }: { summary: Resource<KeysSummary> }): JSX.Element {
  const host = hostFilter.value;
  const soon = useResource(
    `soon/${host ?? ''}`,
    async (signal) =>
      (
        await api.keys(
          { host, status: 'active', trust_store: 'false', expires_before: String(now.peek() + 90 * DAY), sort: 'not_after', limit: 200 },
          signal,
        )
      ).keys,
  );
  const past = useResource(
    `past/${host ?? ''}`,
    async (signal) => (await api.keys({ host, status: 'expired', trust_store: 'false', sort: '-not_after', limit: 50 }, signal)).keys,
  );
  const chosen = param('expires');
  return (
    <section aria-label="When keys and certificates expire" data-panel="expiry">
      <Shown resource={summary} what="The expiry summary" height={104}>
        {(data) => (
          <div class="tiles strip">
            {boxes(data, soon.data, past.data, now.value, host).map((box) => (
              <BoxView key={box.id} box={box} chosen={chosen === box.id} nothing={data.total === 0} />
            ))}
          </div>
        )}
      </Shown>
    </section>
  );
}
