// The five figures at the top: each answers one question and leads to where its answer is worked on.
import type { JSX } from 'preact';
import { api } from '../../api/client';
import type { Alert, AlertsStatus, Host, KeysSummary, QueryAnswer, Status } from '../../api/types';
import { firingHistory } from '../../lib/alerts';
import { plural, sig3, thousands } from '../../lib/format';
import { type Losses, lossesSince } from '../../lib/losses';
import { DAY, HOUR, MINUTE, lengthWords } from '../../lib/time';
import { href, hostFilter } from '../../routes';
import { anyReports, useFleet } from '../../state/fleet';
import { now } from '../../state/refresh';
import { useResource, type Resource } from '../../state/resource';
import { ErrorNote } from '../../ui/Panel';
import { Tile, TileSkeleton } from '../../ui/Tile';

/** How many hosts reported in each minute of the last hour; the minute that still runs is left out. */
function reporting(answer: QueryAnswer | undefined): number[] | undefined {
  if (!answer || answer.series.length === 0) return undefined;
  const counts = new Map<number, number>();
  for (const series of answer.series) {
    for (const [time, value] of series.points) counts.set(time, (counts.get(time) ?? 0) + (value !== null && value > 0 ? 1 : 0));
  }
  return [...counts]
    .sort(([a], [b]) => a - b)
    .map(([, count]) => count)
    .slice(0, -1);
}

function HostsTile({ hosts, history }: { hosts: Host[]; history: number[] | undefined }): JSX.Element {
  const enrolled = hosts.filter((host) => host.state !== 'revoked');
  const up = enrolled.filter((host) => host.state === 'up').length;
  const silent = enrolled.filter((host) => host.state === 'silent');
  const first = silent[0];
  const blind = enrolled.filter((host) => host.state === 'up' && host.blind);
  const note =
    enrolled.length === 0
      ? 'none enrolled yet'
      : first && silent.length === 1
        ? `${first.host} silent${first.last_seen === null ? '' : ` for ${lengthWords(now.value - first.last_seen)}`}`
        : silent.length > 1
          ? `${silent.length} silent: ${silent
              .slice(0, 2)
              .map((host) => host.host)
              .join(', ')}${silent.length > 2 ? ', …' : ''}`
          : blind[0]
            ? `${blind[0].host}${blind.length > 1 ? ` and ${blind.length - 1} more` : ''}: not all is seen`
            : up === enrolled.length
              ? enrolled.length === 1
                ? 'reporting'
                : 'all reporting'
              : `${enrolled.length - up} never heard of`;
  const state = silent.length + blind.length > 0 ? 'warning' : enrolled.length > 0 && up === enrolled.length ? 'ok' : 'unknown';
  return (
    <Tile
      word="Hosts up"
      figure={`${up} / ${enrolled.length}`}
      note={note}
      state={state}
      spark={history}
      sparkTitle="Hosts reporting, last hour"
    />
  );
}

/** Some figures are only known for the whole fleet; with one host chosen that must be said. */
function everywhere(): string {
  return hostFilter.value === undefined ? '' : ', all hosts';
}

function AlertsTile({ status, history }: { status: AlertsStatus; history: Alert[] | undefined }): JSX.Element {
  const critical = status.by_priority.critical ?? 0;
  const seeing = anyReports(useFleet());
  const parts = [
    critical > 0 ? `${critical} critical` : undefined,
    status.firing - critical > 0 ? `${status.firing - critical} other` : undefined,
    status.acknowledged > 0 ? `${status.acknowledged} acknowledged` : undefined,
    status.pending > 0 ? `${status.pending} pending` : undefined,
  ].filter((part) => part !== undefined);
  const state = critical > 0 ? 'critical' : status.firing > 0 ? 'warning' : seeing ? 'ok' : 'unknown';
  const spark = history && history.length > 0 ? firingHistory(history, now.value, HOUR, 30) : undefined;
  return (
    <Tile
      word="Alerts firing"
      figure={thousands(status.firing)}
      note={(parts.join(', ') || (seeing === false ? 'no host reports' : `${plural(status.rules, 'rule')} watching`)) + everywhere()}
      state={state}
      to={href('/alerts')}
      spark={spark}
      sparkTitle="Alerts firing, last hour"
    />
  );
}

function CertificatesTile({ summary }: { summary: KeysSummary }): JSX.Element {
  const week = summary.expiring['7d'];
  const month = summary.expiring['30d'];
  const note = summary.total === 0 ? 'no keys seen yet' : `${month} within 30 d, ${summary.expired} expired${everywhere()}`;
  return (
    <Tile
      word="Expire within 7 d"
      figure={thousands(week)}
      note={note}
      state={week > 0 ? 'warning' : undefined}
      to={href('/keys', { expires: '7d' })}
    />
  );
}

/** Kept outside the component: the line should survive a visit to another page. */
const rates: number[] = [];
let ratesOf: number | undefined;

function IngestTile({ status }: { status: Status }): JSX.Element {
  if (ratesOf !== status.now) {
    ratesOf = status.now;
    rates.push(status.samples_per_second);
    if (rates.length > 360) rates.shift();
  }
  return (
    <Tile
      word="Ingest"
      figure={
        <>
          {sig3(status.samples_per_second)} <small>samples/s</small>
        </>
      }
      note={`${plural(status.series, 'series', 'series')}, ${thousands(status.samples_stored)} stored`}
      spark={rates.length >= 6 ? [...rates] : undefined}
      sparkTitle="Samples per second since this page was opened"
    />
  );
}

function LossTile({ losses, hosts }: { losses: Losses; hosts: Host[] }): JSX.Element {
  const { known, more, hosts: from, cause } = losses;
  const waiting = hosts.filter((host) => host.state === 'silent').length;
  const note = cause
    ? `${from.slice(0, 2).join(', ')}${from.length > 2 ? ', …' : ''}: ${cause}`
    : waiting > 0
      ? `data of ${plural(waiting, 'silent host')} waits there`
      : 'nothing was given up';
  return (
    <Tile
      word="Lost, last 24 h"
      figure={
        more && known === 0 ? (
          'how much is unknown'
        ) : (
          <>
            {`${thousands(known)}${more ? '+' : ''}`} <small>{known === 1 ? 'item' : 'items'}</small>
          </>
        )
      }
      note={note}
      state={cause ? 'critical' : undefined}
    />
  );
}

/** A tile that waits, fails or shows, without moving its neighbours. */
function tile<T>(word: string, resource: Resource<T>, show: (data: T) => JSX.Element): JSX.Element {
  const { data, error, reload } = resource;
  if (data === undefined && error) {
    return (
      <div class="tile">
        <span class="tile-word">{word}</span>
        {error.status === 401 ? (
          <ErrorNote what={word} error={error} reload={reload} />
        ) : (
          <span class="tile-note">Not loaded: {error.message}</span>
        )}
      </div>
    );
  }
  if (data === undefined) return <TileSkeleton word={word} />;
  return error ? <div class="aged">{show(data)}</div> : show(data);
}

export function Tiles(): JSX.Element {
  const fleet = useFleet();
  const host = hostFilter.value;
  const summary = useResource('keys/summary', api.keysSummary);
  const gaps = useResource(`gaps?${host ?? ''}`, (signal) => api.gaps({ host, limit: 1000 }, signal));
  const history = useResource(
    'alerts/hour',
    async (signal) => (await api.alerts({ state: 'firing,acknowledged,resolved', limit: 200 }, signal)).alerts,
  );
  const interval = `${MINUTE / 1000}s`;
  const heard = useResource('hosts/hour', (signal) =>
    api.query(
      { metric_pattern: 'system.cpu.usage_total', aggregation: 'count', interval, start_time: '-1h', end_time: 'now', group_by: 'host' },
      signal,
    ),
  );
  const mine = <T extends { host: string }>(items: readonly T[]): T[] => items.filter((item) => host === undefined || item.host === host);
  return (
    <div class="tiles">
      {tile('Hosts up', fleet.hosts, (hosts) => (
        <HostsTile hosts={mine(hosts)} history={host === undefined ? reporting(heard.data) : undefined} />
      ))}
      {tile('Alerts firing', fleet.alerts, (status) => (
        <AlertsTile status={status} history={history.data} />
      ))}
      {tile('Expire within 7 d', summary, (data) => (
        <CertificatesTile summary={data} />
      ))}
      {tile('Lost, last 24 h', gaps, (data) => (
        <LossTile losses={lossesSince(data.gaps, data.next_cursor === null, now.value - DAY)} hosts={mine(fleet.hosts.data ?? [])} />
      ))}
      {tile('Ingest', fleet.status, (status) => (
        <IngestTile status={status} />
      ))}
    </div>
  );
}
