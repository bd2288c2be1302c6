// Alerts: "What needs somebody now?" Decision: act, hand over, or fix the rule.
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { api } from '../../api/client';
import type { Alert } from '../../api/types';
import { useFleet } from '../../state/fleet';
import { useResource } from '../../state/resource';
import { AckDialog } from './AckDialog';
import { Active } from './Active';
import { Notifications } from './Notifications';
import { Recent } from './Recent';
import { Rules } from './Rules';

export function Alerts(): JSX.Element {
  const fleet = useFleet();
  const [acknowledging, setAcknowledging] = useState<Alert | undefined>(undefined);
  const active = useResource('alerts/active', async (signal) => (await api.alerts({ limit: 500 }, signal)).alerts);
  const resolved = useResource('alerts/resolved', async (signal) => (await api.alerts({ state: 'resolved', limit: 50 }, signal)).alerts);
  const rules = useResource('rules', async (signal) => (await api.rules(signal)).rules);
  const done = (): void => {
    setAcknowledging(undefined);
    active.reload();
    fleet.alerts.reload();
  };
  return (
    <>
      <Active active={active} resolved={resolved.data} rules={rules.data} onAcknowledge={setAcknowledging} />
      <div class="columns uneven">
        <Rules rules={rules} active={active.data ?? []} />
        <div>
          <Notifications status={fleet.alerts} />
          <Recent resolved={resolved} />
        </div>
      </div>
      {acknowledging && <AckDialog alert={acknowledging} onClose={() => setAcknowledging(undefined)} onDone={done} />}
    </>
  );
}
