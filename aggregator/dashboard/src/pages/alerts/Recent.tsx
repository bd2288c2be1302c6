// What ended lately, so that a short alert is not missed.
import type { JSX } from 'preact';
import type { Alert } from '../../api/types';
import { whereText } from '../../lib/alerts';
import { lengthWords } from '../../lib/time';
import type { Resource } from '../../state/resource';
import { EmptyState, Panel, Shown } from '../../ui/Panel';
import { Time } from '../../ui/Time';
import { ofHost } from './words';

const ROWS = 12;

export function Recent({ resolved }: { resolved: Resource<Alert[]> }): JSX.Element {
  return (
    <Panel title="Recently resolved" name="resolved">
      <Shown resource={resolved} what="The list of resolved alerts" height={96}>
        {(data) => {
          const shown = ofHost(data)
            .sort((a, b) => (b.resolved_at ?? 0) - (a.resolved_at ?? 0))
            .slice(0, ROWS);
          if (shown.length === 0) return <EmptyState title="No alert has ended yet" />;
          return (
            <ul class="events">
              {shown.map((alert) => (
                <li key={alert.id} title={alert.summary}>
                  <span class="event-when">
                    <Time at={alert.resolved_at} />
                  </span>
                  <span class="event-what">
                    {alert.name} <span class="dim">{whereText(alert.tags)}</span>
                  </span>
                  <span class="dim">{alert.resolved_at === null ? '' : `lasted ${lengthWords(alert.resolved_at - alert.since)}`}</span>
                </li>
              ))}
            </ul>
          );
        }}
      </Shown>
    </Panel>
  );
}
