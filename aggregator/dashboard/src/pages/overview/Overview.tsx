// System overview: "Is anything wrong, and where?" Decision: open what is wrong, or go home.
import type { JSX } from 'preact';
import { api } from '../../api/client';
import { hostFilter, range, rangeKnown } from '../../routes';
import { rangeParams } from '../../lib/time';
import { useResource } from '../../state/resource';
import { Charts } from './Charts';
import { EventsList } from './EventsList';
import { HostsTable } from './HostsTable';
import { Tiles } from './Tiles';

/** Enough for the list and for the marks on the charts; more would only be folded away. */
const EVENTS = 300;

export function Overview(): JSX.Element {
  const host = hostFilter.value;
  const asked = range.value;
  const events = useResource(rangeKnown.value ? JSON.stringify(['events', host, asked]) : null, (signal) =>
    api.events({ host, limit: EVENTS, ...rangeParams(asked) }, signal),
  );
  return (
    <>
      <Tiles />
      <Charts events={events.data?.events ?? []} />
      <div class="columns">
        <HostsTable />
        <EventsList events={events} />
      </div>
    </>
  );
}
