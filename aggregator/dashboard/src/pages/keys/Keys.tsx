// Key management: "What breaks next, and what is out of policy?" Decision: what to rotate by when, what to retire.
import type { JSX } from 'preact';
import { api } from '../../api/client';
import { hostFilter } from '../../routes';
import { useResource } from '../../state/resource';
import { loadCounts } from './asked';
import { ExpiryStrip } from './ExpiryStrip';
import { Inventory } from './Inventory';

export function Keys(): JSX.Element {
  const summary = useResource('keys/summary', api.keysSummary);
  const counts = useResource(`keys/counts/${hostFilter.value ?? ''}`, loadCounts);
  return (
    <>
      <ExpiryStrip summary={summary} />
      <Inventory counts={counts.data} />
    </>
  );
}
