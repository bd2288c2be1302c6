// What the hosts are doing: the five charts of the overview, with the thresholds of the rules that watch them.
import type { JSX } from 'preact';
import { api } from '../../api/client';
import type { KeyEvent } from '../../api/types';
import { MetricChart, type Query } from '../../charts/MetricChart';
import { useFleet } from '../../state/fleet';
import { useResource } from '../../state/resource';
import { EmptyState, Panel } from '../../ui/Panel';

const CPU: Query[] = [{ metric: 'system.cpu.usage_total', aggregation: 'avg', group_by: 'host' }];
const MEMORY: Query[] = [{ metric: 'system.memory.usage_percent', aggregation: 'avg', group_by: 'host' }];
const DISKS: Query[] = [{ metric: 'system.disk.usage_percent', aggregation: 'max' }];
const LOAD: Query[] = [{ metric: 'system.load.1m', aggregation: 'avg', group_by: 'host' }];
/** What a host says to itself crosses no wire. */
const NOT_LOOPBACK = 'interface:!lo';
const NETWORK: Query[] = [
  { metric: 'system.network.bytes_recv', aggregation: 'rate', group_by: 'host', tag: NOT_LOOPBACK, word: 'in' },
  { metric: 'system.network.bytes_sent', aggregation: 'rate', group_by: 'host', tag: NOT_LOOPBACK, word: 'out' },
];
const MOUNT = ['mount', 'mountpoint', 'path', 'device'];

export function Charts({ events }: { events: readonly KeyEvent[] }): JSX.Element {
  const rules = useResource('rules', async (signal) => (await api.rules(signal)).rules);
  const hosts = useFleet().hosts.data;
  if (hosts?.every((host) => host.last_sample === null)) {
    return (
      <Panel title="CPU, memory, network, disks" name="no-samples">
        <EmptyState title="No samples yet" command="keyvigil-agent join TOKEN">
          The first agent's data appears here within 15 s of `keyvigil up` or `keyvigil-agent join TOKEN`.
        </EmptyState>
      </Panel>
    );
  }
  const shared = { rules: rules.data ?? [], events };
  return (
    <div class="charts">
      <MetricChart title="CPU" queries={CPU} unit="percent" full={100} {...shared} />
      <MetricChart title="Memory" queries={MEMORY} unit="percent" full={100} {...shared} />
      <MetricChart title="Network" queries={NETWORK} unit="bytes/s" {...shared} />
      <MetricChart title="Disk space used" queries={DISKS} unit="percent" full={100} detail={MOUNT} {...shared} />
      <MetricChart title="Load, 1 min" queries={LOAD} unit="none" {...shared} />
    </div>
  );
}
