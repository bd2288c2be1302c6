// Key management: "What breaks next, and what is out of policy?" Decision: what to rotate by when, what to retire.
import type { JSX } from 'preact';
import { api } from '../../api/client';
import { plural } from '../../lib/format';
import { useResource } from '../../state/resource';
import { ExpiryStrip } from './ExpiryStrip';
import { Inventory } from './Inventory';

export function Keys(): JSX.Element {
  const summary = useResource('keys/summary', api.keysSummary);
  const total = summary.data?.total;
  return (
    <>
      <ExpiryStrip summary={summary} />
      <Inventory
        note={total === undefined || total === 0 ? undefined : `${plural(total, 'key')} on ${plural(summary.data?.hosts ?? 0, 'host')}`}
      />
    </>
  );
}
