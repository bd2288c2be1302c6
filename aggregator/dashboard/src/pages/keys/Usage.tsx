// Who uses a key, and how much, as far as that is observed. Decision: may it go, and does somebody use it who should not?
import type { JSX } from 'preact';
import { api } from '../../api/client';
import type { UseActor, Usage } from '../../api/types';
import { Sparkline } from '../../charts/Sparkline';
import { listWords, plural, thousands } from '../../lib/format';
import { lengthWords } from '../../lib/time';
import { lastUse, observedWord, refusedText, totalText, useSeries, usesText } from '../../lib/usage';
import { useResource } from '../../state/resource';
import { EmptyState, Panel, Shown } from '../../ui/Panel';
import { StateBadge } from '../../ui/StateBadge';
import { Table, type Column } from '../../ui/Table';
import { Time } from '../../ui/Time';

/** Reasons that are told at once; more of them say nothing else. */
const REASONS = 5;

const COLUMNS: readonly Column<UseActor>[] = [
  {
    id: 'exe',
    title: 'Program',
    cell: (actor) => (
      <code class="cut" title={actor.exe ?? undefined}>
        {actor.exe ?? 'unknown'}
      </code>
    ),
    sort: (actor) => actor.exe,
    grow: true,
  },
  { id: 'user', title: 'User', cell: (actor) => actor.user ?? '–', sort: (actor) => actor.user },
  { id: 'unit', title: 'Unit', cell: (actor) => actor.unit ?? '–', sort: (actor) => actor.unit, wide: true },
  {
    id: 'total',
    title: 'Uses',
    cell: (actor) => <span title={usesText(actor.count)}>{thousands(actor.count.total)}</span>,
    sort: (actor) => actor.count.total,
    align: 'right',
  },
  {
    id: 'refused',
    title: 'Denied or not allowed',
    cell: ({ count }) => {
      const refused = refusedText(count);
      return refused === '' ? (
        <span class="dim">–</span>
      ) : (
        <StateBadge kind={count.unauthorized > 0 ? 'critical' : 'warning'} word={refused} />
      );
    },
    sort: (actor) => actor.count.denied + actor.count.unauthorized,
  },
  { id: 'last', title: 'Last use', cell: (actor) => <Time at={actor.count.last_use} />, sort: (actor) => actor.count.last_use },
  { id: 'hosts', title: 'Hosts', cell: (actor) => listWords(actor.hosts.slice(0, 3), 'and'), wide: true },
];

function Figures({ usage }: { usage: Usage }): JSX.Element {
  const { count } = usage;
  const values = useSeries(usage);
  const span = lengthWords(usage.interval_ms * Math.max(1, values.length));
  return (
    <div class="figures">
      <dl>
        <div>
          <dt>Uses in 30 d</dt>
          <dd title={count === null ? undefined : usesText(count)}>{totalText(usage)}</dd>
        </div>
        <div>
          <dt>Last use</dt>
          <dd>
            <Time at={lastUse(usage)} none={usage.observed_since === null ? 'unknown' : 'not since then'} />
          </dd>
        </div>
        {count !== null && count.denied > 0 && (
          <div>
            <dt>Denied</dt>
            <dd>{thousands(count.denied)}</dd>
          </div>
        )}
        {count !== null && count.unauthorized > 0 && (
          <div>
            <dt>Not allowed</dt>
            <dd>
              <StateBadge kind="critical" word={thousands(count.unauthorized)} />
            </dd>
          </div>
        )}
      </dl>
      <Sparkline values={values} title={`Uses in the last ${span}`} />
    </div>
  );
}

function Reasons({ usage }: { usage: Usage }): JSX.Element | null {
  if (usage.reasons.length === 0) return null;
  const more = usage.reasons.length - REASONS;
  return (
    <ul class="plain dim">
      {usage.reasons.slice(0, REASONS).map(({ host, reason }) => (
        <li key={`${host}\n${reason}`}>{reason.includes(host) ? reason : `${host}: ${reason}`}</li>
      ))}
      {more > 0 && <li>and {plural(more, 'reason')} more</li>}
    </ul>
  );
}

function Body({ usage }: { usage: Usage }): JSX.Element {
  const first = usage.reasons[0];
  if (usage.count === null && usage.last_used === null) {
    return (
      <EmptyState
        title={first === undefined ? 'Unknown: no sensor observes use' : `Unknown: ${first.reason}`}
        command="systemctl enable --now keyvigil-probe"
      >
        Whether anybody uses this key is not known. Who uses it, and how often, is seen once the helper runs on its host.
      </EmptyState>
    );
  }
  const actors = usage.actors;
  return (
    <>
      <Figures usage={usage} />
      {actors.length > 0 && (
        <Table
          id="actors"
          caption="Who uses this key"
          columns={COLUMNS}
          rows={actors}
          rowKey={(actor) => [actor.exe, actor.user, actor.unit].join('\n')}
          sort={{ param: 'actors', initial: '-total' }}
        />
      )}
      {usage.actors_total > actors.length && <p class="more dim">and {thousands(usage.actors_total - actors.length)} more</p>}
      <Reasons usage={usage} />
    </>
  );
}

/** Of what has no private half at its places (`own` false) nothing is said, unless that half lies elsewhere: a certificate has its key. */
export function UsagePanel({ id, own }: { id: string; own: boolean }): JSX.Element | null {
  const resource = useResource(`usage/${id}`, (signal) => api.usage(id, signal));
  const usage = resource.data;
  if (!own && (usage === undefined || usage.observed === 'none')) return null;
  const since = usage?.observed_since ?? null;
  const note = usage && (
    <>
      {!own && 'of its private key: '}
      {observedWord(usage.observed)}
      {since !== null && (
        <>
          , observed since <Time at={since} />
        </>
      )}
    </>
  );
  return (
    <Panel title="Use" name="use" note={note}>
      <Shown resource={resource} what="Use of this key" height={96}>
        {(data) => <Body usage={data} />}
      </Shown>
    </Panel>
  );
}
