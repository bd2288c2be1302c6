// What happened lately to keys and to the watch over them, newest first; neighbours that say the same are one line.
import type { JSX } from 'preact';
import type { EventsAnswer } from '../../api/types';
import { rangeWords } from '../../lib/time';
import { range } from '../../routes';
import { anyReports, useFleet } from '../../state/fleet';
import { utc } from '../../state/prefs';
import type { Resource } from '../../state/resource';
import { EventRows } from '../../ui/EventRows';
import { EmptyState, Panel, Shown } from '../../ui/Panel';

const ROWS = 12;

export function EventsList({ events }: { events: Resource<EventsAnswer> }): JSX.Element {
  const seeing = anyReports(useFleet());
  const words = rangeWords(range.value, utc.value).toLowerCase();
  return (
    <Panel title="Security events" name="events" note={words}>
      <Shown resource={events} what="The list of events" height={160}>
        {(data) =>
          data.events.length > 0 ? (
            <EventRows events={data.events} most={ROWS} withHost />
          ) : seeing === false ? (
            <EmptyState title="Nothing was heard of">No host reports: what happened to its keys in the {words} is not known.</EmptyState>
          ) : (
            <EmptyState title="Nothing happened">
              In the {words} no key was created, rotated, removed or misused, no login failed, no sensor lost sight and no data was lost. A
              longer range at the top shows what was before.
            </EmptyState>
          )
        }
      </Shown>
    </Panel>
  );
}
