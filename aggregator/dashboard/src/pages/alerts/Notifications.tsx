// Whether anybody hears the alerts: who is told, what was sent, what failed, what still waits.
import type { JSX } from 'preact';
import type { AlertsStatus } from '../../api/types';
import { listWords, thousands } from '../../lib/format';
import type { Resource } from '../../state/resource';
import { Panel, Shown } from '../../ui/Panel';
import { Said } from '../../ui/Said';
import { Shape, StateBadge } from '../../ui/StateBadge';

/** Only while something fires is it wrong that nobody is told. */
function NoChannel({ firing }: { firing: boolean }): JSX.Element {
  return (
    <div class={firing ? 'nobody warning' : 'nobody'}>
      {firing && <Shape kind="warning" />}
      <div>
        <p>No channel is set up: alerts are only shown here.</p>
        <p class="dim">
          <Said text="Set `[smtp]` or `[slack]` in `aggregator.toml`." />
        </p>
      </div>
    </div>
  );
}

export function Notifications({ status }: { status: Resource<AlertsStatus> }): JSX.Element {
  return (
    <Panel title="Notifications" name="notifications">
      <Shown resource={status} what="The state of notifications" height={72}>
        {({ channels, firing, notifications: { sent, failed, waiting, last_error } }) =>
          channels.length === 0 ? (
            <NoChannel firing={firing > 0} />
          ) : (
            <>
              <p>Alerts go to {listWords(channels, 'and')}.</p>
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
            </>
          )
        }
      </Shown>
    </Panel>
  );
}
