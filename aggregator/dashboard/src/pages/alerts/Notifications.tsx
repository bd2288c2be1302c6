// Whether anybody hears the alerts: what was sent, what failed, what still waits.
import type { JSX } from 'preact';
import type { AlertsStatus } from '../../api/types';
import { thousands } from '../../lib/format';
import type { Resource } from '../../state/resource';
import { Panel, Shown } from '../../ui/Panel';
import { StateBadge } from '../../ui/StateBadge';

export function Notifications({ status }: { status: Resource<AlertsStatus> }): JSX.Element {
  return (
    <Panel title="Notifications" name="notifications">
      <Shown resource={status} what="The state of notifications" height={72}>
        {({ channels, firing, notifications: { sent, failed, waiting, last_error } }) => (
          <>
            <dl class="figures">
              <div>
                <dt>Sent</dt>
                <dd>{thousands(sent)}</dd>
              </div>
              <div>
                <dt>Failed</dt>
                <dd>{failed > 0 ? <StateBadge kind="warning" word={thousands(failed)} /> : '0'}</dd>
              </div>
              <div>
                <dt>Waiting</dt>
                <dd>{thousands(waiting)}</dd>
              </div>
            </dl>
            <p class="dim">
              {last_error !== null ? `Last error: ${last_error}` : sent + failed + waiting === 0 ? 'Nothing was sent yet.' : 'No error.'}
            </p>
            <Channels names={channels} firing={firing > 0} />
          </>
        )}
      </Shown>
    </Panel>
  );
}

function Channels({ names, firing }: { names: readonly string[]; firing: boolean }): JSX.Element {
  if (names.length > 0) return <p class="dim">Told: {names.join(', ')}.</p>;
  const words = 'No channel is set up: alerts are shown here only. Set [smtp] or [slack] in aggregator.toml.';
  return <p class={firing ? undefined : 'dim'}>{firing ? <StateBadge kind="warning" word={words} /> : words}</p>;
}
