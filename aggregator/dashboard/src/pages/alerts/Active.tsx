// What is pending, firing or acknowledged, gravest first; a row opens to its history and who was told.
import type { JSX } from 'preact';
import { api } from '../../api/client';
import type { Alert, Rule } from '../../api/types';
import { againstText, alertBadge, priorityRank, whereText } from '../../lib/alerts';
import { plural, sentence } from '../../lib/format';
import { hostFilter, href, param } from '../../routes';
import { anyReports, useFleet } from '../../state/fleet';
import { useResource, type Resource } from '../../state/resource';
import { EmptyState, Panel, Shown } from '../../ui/Panel';
import { StateBadge } from '../../ui/StateBadge';
import { Table, type Column } from '../../ui/Table';
import { Time } from '../../ui/Time';
import { ofHost, watchedWords } from './words';

const STATE_RANK = { firing: 0, pending: 1, acknowledged: 2, resolved: 3 } as const;

function columns(onAcknowledge: (alert: Alert) => void): readonly Column<Alert>[] {
  return [
    { id: 'name', title: 'Alert', cell: (alert) => alert.name, sort: (alert) => alert.name },
    {
      id: 'state',
      title: 'State',
      cell: (alert) => (
        <StateBadge
          kind={alertBadge(alert.state, alert.priority)}
          word={sentence(alert.state) + (alert.stale ? ', no data' : '')}
          {...(alert.stale ? { title: 'The data this rule looks at is missing; the alert stays until it is back' } : {})}
        />
      ),
      sort: (alert) => STATE_RANK[alert.state] * 10 + priorityRank(alert.priority),
    },
    { id: 'priority', title: 'Priority', cell: (alert) => sentence(alert.priority), sort: (alert) => priorityRank(alert.priority) },
    {
      id: 'where',
      title: 'Where',
      bounded: true,
      cell: (alert) => <span title={whereText(alert.tags)}>{whereText(alert.tags)}</span>,
      sort: (alert) => whereText(alert.tags),
    },
    { id: 'value', title: 'Value', align: 'right', cell: (alert) => againstText(alert), sort: (alert) => alert.value },
    { id: 'since', title: 'Since', cell: (alert) => <Time at={alert.since} />, sort: (alert) => alert.since },
    {
      id: 'summary',
      title: 'Summary',
      cell: (alert) => (
        <span class="cut" title={alert.summary}>
          {alert.summary}
        </span>
      ),
      grow: true,
      wide: true,
    },
    {
      id: 'action',
      title: 'Acknowledged',
      cell: (alert) =>
        alert.acknowledged_at !== null ? (
          <span title={alert.note ?? undefined}>
            {alert.acknowledged_by ?? 'somebody'}, <Time at={alert.acknowledged_at} />
          </span>
        ) : (
          <button type="button" class="button" onClick={() => onAcknowledge(alert)}>
            Acknowledge
          </button>
        ),
    },
  ];
}

function AlertMore({ alert }: { alert: Alert }): JSX.Element {
  const detail = useResource(`alert/${alert.id}`, (signal) => api.alert(alert.id, signal));
  return (
    <Shown resource={detail} what="This alert's history" height={96}>
      {(data) => (
        <div class="more-grid">
          <div>
            <h3>What</h3>
            <p>{data.summary}</p>
            {data.note !== null && data.note !== '' && (
              <p>
                Note of {data.acknowledged_by ?? 'somebody'}: {data.note}
              </p>
            )}
            <p class="dim">
              <code>{data.metric_id}</code>, evaluated <Time at={data.last_evaluated} />
            </p>
            {data.runbook !== null && /^https?:\/\//.test(data.runbook) && (
              <p>
                <a href={data.runbook} rel="noreferrer">
                  Runbook
                </a>
              </p>
            )}
          </div>
          <div>
            <h3>History</h3>
            <ul class="plain">
              {data.history.map((step) => (
                <li key={`${step.time}${step.to}`}>
                  <Time at={step.time} /> <span>{step.from === null ? step.to : `${step.from} → ${step.to}`}</span>
                </li>
              ))}
              {data.history.length === 0 && <li class="dim">No change yet</li>}
            </ul>
          </div>
          <div>
            <h3>Told</h3>
            <ul class="plain">
              {data.notifications.map((sent) => (
                <li key={`${sent.channel}${sent.time}${sent.transition}`} title={sent.last_error ?? undefined}>
                  <Time at={sent.time} /> {sent.channel}: {sent.state}
                  {sent.last_error !== null && (
                    <span class="dim">
                      {' '}
                      after {plural(sent.attempts, 'attempt')}, {sent.last_error}
                    </span>
                  )}
                </li>
              ))}
              {data.notifications.length === 0 && <li class="dim">Nobody was told</li>}
            </ul>
          </div>
        </div>
      )}
    </Shown>
  );
}

interface Props {
  active: Resource<Alert[]>;
  resolved: readonly Alert[] | undefined;
  rules: readonly Rule[] | undefined;
  onAcknowledge: (alert: Alert) => void;
}

/** Since when it is quiet: the end of the last alert, else the start of the aggregator. */
function Quiet({ resolved, rules }: Pick<Props, 'resolved' | 'rules'>): JSX.Element {
  const fleet = useFleet();
  const started = fleet.status.data?.started;
  const seeing = anyReports(fleet);
  const ends = (resolved ?? []).flatMap((alert) => (alert.resolved_at === null ? [] : [alert.resolved_at]));
  const last = ends.length > 0 ? Math.max(...ends) : undefined;
  const host = hostFilter.value;
  return (
    <div class="empty">
      <p class="empty-title">
        <StateBadge kind={seeing ? 'ok' : 'unknown'} word={host === undefined ? 'Nothing is firing' : `Nothing is firing on ${host}`} />
      </p>
      <p>
        {seeing === false && 'No host reports, so nothing is known of its keys. '}
        {last !== undefined ? (
          <>
            The last alert ended <Time at={last} />.{' '}
          </>
        ) : started !== undefined ? (
          <>
            Nothing has fired since the aggregator started <Time at={started} />.{' '}
          </>
        ) : null}
        {rules !== undefined && watchedWords(rules)}
      </p>
    </div>
  );
}

export function Active({ active, resolved, rules, onAcknowledge }: Props): JSX.Element {
  const shown = ofHost(active.data ?? []);
  const opened = param('alert');
  return (
    <Panel title="Active" name="active-alerts" note={shown.length > 0 ? plural(shown.length, 'alert') : undefined}>
      <Shown resource={active} what="The list of alerts" height={120}>
        {() =>
          shown.length === 0 ? (
            rules !== undefined && rules.length === 0 ? (
              <EmptyState title="Nothing is watched">
                No rule is loaded, so no alert can fire. Shipped rules come with the aggregator; your own go to rules.d.
              </EmptyState>
            ) : (
              <Quiet resolved={resolved} rules={rules} />
            )
          ) : (
            <Table
              id="active-alerts"
              caption="Active alerts"
              columns={columns(onAcknowledge)}
              rows={shown}
              rowKey={(alert) => alert.id}
              rowClass={(alert) => (alert.state === 'firing' && alert.priority === 'critical' ? 'grave' : undefined)}
              to={(alert) =>
                href('/alerts', { sort: param('sort'), rules: param('rules'), alert: opened === alert.id ? undefined : alert.id })
              }
              expanded={(alert) => (opened === alert.id ? <AlertMore alert={alert} /> : undefined)}
              sort={{ param: 'sort', initial: 'state' }}
            />
          )
        }
      </Shown>
    </Panel>
  );
}
