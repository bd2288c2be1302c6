// Every host with what may be wrong with it; a click shows the page for that host alone.
import type { JSX } from 'preact';
import type { Host, HostState } from '../../api/types';
import type { Badge } from '../../lib/alerts';
import { plural, sentence, thousands, withUnit } from '../../lib/format';
import { href, hostFilter, param } from '../../routes';
import { useFleet } from '../../state/fleet';
import { ColumnChooser } from '../../ui/columns';
import { EmptyState, Panel, Shown } from '../../ui/Panel';
import { StateBadge } from '../../ui/StateBadge';
import { Table, type Column } from '../../ui/Table';
import { Time } from '../../ui/Time';

const BADGES: Record<HostState, Badge> = { up: 'ok', silent: 'warning', unknown: 'unknown', revoked: 'silenced' };
const RANK: Record<HostState, number> = { silent: 0, unknown: 1, up: 2, revoked: 3 };

const MEANING: Record<HostState, string> = {
  up: 'Heard of within three intervals',
  silent: 'Not heard of for more than three intervals; its samples wait there',
  unknown: 'Enrolled, never heard of',
  revoked: 'Its certificate was revoked; it cannot send',
};

/** A host that is heard of and does not see its keys is not fine. */
function Standing({ host }: { host: Host }): JSX.Element {
  if (host.state === 'up' && host.blind) {
    const title = `${plural(host.blind, 'thing')} that it should watch cannot be seen: keyvigil-agent status on the host names them`;
    return <StateBadge kind="warning" word="Blind" title={title} />;
  }
  return <StateBadge kind={BADGES[host.state]} word={sentence(host.state)} title={MEANING[host.state]} />;
}

const COLUMNS: readonly Column<Host>[] = [
  { id: 'host', title: 'Host', cell: (host) => host.host, sort: (host) => host.host },
  {
    id: 'state',
    title: 'State',
    cell: (host) => <Standing host={host} />,
    sort: (host) => RANK[host.state] - (host.state === 'up' && host.blind ? 0.5 : 0),
  },
  { id: 'last_seen', title: 'Last seen', cell: (host) => <Time at={host.last_seen} none="never" />, sort: (host) => host.last_seen },
  { id: 'os', title: 'System', cell: (host) => host.os ?? '–', sort: (host) => host.os, grow: true },
  { id: 'cpus', title: 'CPUs', align: 'right', cell: (host) => host.cpus ?? '–', sort: (host) => host.cpus, optional: true },
  {
    id: 'memory',
    title: 'Memory',
    align: 'right',
    cell: (host) => withUnit(host.memory_bytes, 'bytes'),
    sort: (host) => host.memory_bytes,
    optional: true,
  },
  { id: 'agent', title: 'Agent', cell: (host) => host.agent_version ?? '–', sort: (host) => host.agent_version, optional: true },
  { id: 'kernel', title: 'Kernel', cell: (host) => host.kernel ?? '–', sort: (host) => host.kernel, optional: true },
  {
    id: 'certificate',
    title: 'Agent certificate',
    cell: (host) => <Time at={host.certificate_expires} />,
    sort: (host) => host.certificate_expires,
    optional: true,
  },
  { id: 'keys', title: 'Keys', align: 'right', cell: (host) => thousands(host.keys), sort: (host) => host.keys },
  {
    id: 'alerts',
    title: 'Alerts',
    align: 'right',
    cell: (host) => (host.alerts > 0 ? <b>{host.alerts}</b> : <span class="dim">0</span>),
    sort: (host) => host.alerts,
  },
];

export function HostsTable(): JSX.Element {
  const { hosts } = useFleet();
  const wanted = hostFilter.value;
  const shown = (hosts.data ?? []).filter((host) => wanted === undefined || host.host === wanted);
  return (
    <Panel
      title="Hosts"
      name="hosts"
      note={shown.length > 0 ? plural(shown.length, 'host') : undefined}
      actions={shown.length > 0 ? <ColumnChooser table="hosts" columns={COLUMNS} /> : undefined}
    >
      <Shown resource={hosts} what="The list of hosts" height={160}>
        {() =>
          shown.length > 0 ? (
            <Table
              id="hosts"
              caption="Hosts"
              columns={COLUMNS}
              rows={shown}
              rowKey={(host) => host.agent || host.host}
              to={(host) => href('/', { hosts: param('hosts'), host: wanted === host.host ? undefined : host.host })}
              sort={{ param: 'hosts', initial: 'state' }}
            />
          ) : wanted !== undefined ? (
            <EmptyState title={`No host is called ${wanted}`}>
              It may have been removed, or not enrolled yet. Choose "All hosts" at the top to see the others.
            </EmptyState>
          ) : (
            <EmptyState title="No hosts yet" command="keyvigil-agent join TOKEN">
              Each host appears here when its agent has joined. The aggregator's own host joins by itself with `keyvigil up`.
            </EmptyState>
          )
        }
      </Shown>
    </Panel>
  );
}
