// What every page needs to know of the fleet: hosts, the state of alerts, the aggregator itself. Asked for once per
// beat by the frame around the pages and handed down.
import { createContext } from 'preact';
import { useContext, useEffect } from 'preact/hooks';
import { api } from '../api/client';
import type { AlertsStatus, Host, Status } from '../api/types';
import { DEFAULT_RANGE, usualRange } from '../lib/time';
import { usual } from '../routes';
import { serverClock } from './refresh';
import { useResource, type Resource } from './resource';

export interface Fleet {
  status: Resource<Status>;
  hosts: Resource<Host[]>;
  alerts: Resource<AlertsStatus>;
}

export const FleetContext = createContext<Fleet | undefined>(undefined);

export function useFleetSource(): Fleet {
  const status = useResource('status', api.status);
  const hosts = useResource('hosts', async (signal) => (await api.hosts(signal)).hosts);
  const alerts = useResource('alerts/status', api.alertsStatus);
  const time = status.data?.now;
  useEffect(() => {
    if (time !== undefined) serverClock(time);
  }, [time]);
  const failed = status.error ?? hosts.error;
  useEffect(() => {
    // Decided once: a range that changed by itself would take the page from under its reader.
    if (usual.peek() !== undefined) return;
    if (hosts.data !== undefined && time !== undefined)
      usual.value = usualRange(time - Math.min(...hosts.data.map((host) => host.enrolled)));
    else if (failed !== undefined) usual.value = DEFAULT_RANGE;
  }, [hosts.data, time, failed]);
  return { status, hosts, alerts };
}

export function useFleet(): Fleet {
  const fleet = useContext(FleetContext);
  if (!fleet) throw new Error('a page was rendered outside the frame');
  return fleet;
}

/** Whether any host reports; while none does, silence says nothing about keys. Undefined: not known yet. */
export function anyReports(fleet: Fleet): boolean | undefined {
  return fleet.hosts.data?.some((host) => host.state === 'up');
}

/** Names of all known hosts, for colours and the filter. */
export function hostNames(fleet: Fleet): string[] {
  return (fleet.hosts.data ?? []).map((host) => host.host).sort();
}
