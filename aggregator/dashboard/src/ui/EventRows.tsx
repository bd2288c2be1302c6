// Events as lines: when, what, where, said in one sentence. Each leads to its key.
import type { JSX } from 'preact';
import type { KeyEvent } from '../api/types';
import { eventWeight, eventWord, fold, foldedText, type Folded } from '../lib/events';
import { thousands, words } from '../lib/format';
import { Link, href } from '../routes';
import { Shape } from './StateBadge';
import { Time } from './Time';

interface Props {
  events: readonly KeyEvent[];
  most: number;
  withHost?: boolean;
}

function who(event: KeyEvent): string | undefined {
  const actor = event.actor;
  if (!actor) return undefined;
  const user = event.evidence['user'];
  const parts = [
    actor.exe,
    user !== undefined ? `user ${user}` : actor.uid === null ? undefined : `uid ${actor.uid}`,
    actor.unit,
    actor.peer,
  ].filter((part) => part !== null && part !== undefined);
  return parts.length > 0 ? `by ${parts.join(', ')}` : undefined;
}

/** What supports an event that stands for itself. */
function evidence({ event, count }: Folded): string[] {
  return count > 1 ? [] : Object.entries(event.evidence).map(([name, value]) => `${words(name)}: ${value}`);
}

export function EventRows({ events, most, withHost }: Props): JSX.Element {
  const folded = fold(events);
  return (
    <>
      <ul class="events">
        {folded.slice(0, most).map((group) => {
          const { event } = group;
          const weight = eventWeight(event.kind);
          const text = foldedText(group);
          return (
            <li key={event.id}>
              <span class="event-when">
                <Time at={event.time} />
              </span>
              <span class={`event-kind ${weight}`}>
                {weight !== 'quiet' && <Shape kind={weight} />}
                {eventWord(event.kind)}
              </span>
              <span class="event-what" title={[text, event.path, who(event), ...evidence(group)].filter(Boolean).join('\n')}>
                {event.key !== null && group.count === 1 ? <Link to={href(`/keys/${encodeURIComponent(event.key)}`)}>{text}</Link> : text}
                {group.count === 1 && who(event) !== undefined && <span class="dim"> {who(event)}</span>}
              </span>
              {withHost && <span class="event-host dim">{event.host}</span>}
            </li>
          );
        })}
      </ul>
      {folded.length > most && <p class="more dim">and {thousands(folded.length - most)} earlier</p>}
    </>
  );
}
