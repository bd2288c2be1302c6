// Columns of the inventory, and how a key's end and status look wherever they are shown.
import type { JSX } from 'preact';
import type { Key, KeyStatus } from '../../api/types';
import type { Badge } from '../../lib/alerts';
import { findingWord, severityBadge, toldFindings } from '../../lib/findings';
import { sentence, words } from '../../lib/format';
import { algorithmText, expiryUrgency, hostsOf, isUsable, keyName, livePlaces } from '../../lib/keys';
import { notUsed } from '../../lib/usage';
import { now } from '../../state/refresh';
import { Fingerprint } from '../../ui/Copy';
import { Shape, StateBadge } from '../../ui/StateBadge';
import type { Column } from '../../ui/Table';
import { Time } from '../../ui/Time';

const BADGES: Record<KeyStatus, Badge> = {
  active: 'ok',
  superseded: 'silenced',
  expired: 'unknown',
  revoked: 'critical',
  removed: 'unknown',
};

/** "Active" is the usual case and stays plain: colour is for what differs. */
export function KeyStatusView({ value }: { value: Key }): JSX.Element {
  const word = sentence(value.status);
  if (value.status === 'active') return <span>{word}</span>;
  const recent = value.status === 'expired' && expiryUrgency(value, now.value) === 'critical';
  return <StateBadge kind={recent ? 'critical' : BADGES[value.status]} word={word} />;
}

export function Expiry({ value }: { value: Key }): JSX.Element {
  if (value.not_after === null) {
    return (
      <span class="dim" title="No end is stated">
        –
      </span>
    );
  }
  const urgency = expiryUrgency(value, now.value);
  if (urgency !== 'critical' && urgency !== 'warning') return <Time at={value.not_after} />;
  return (
    <span class={`badge ${urgency}`}>
      <Shape kind={urgency} />
      <Time at={value.not_after} />
    </span>
  );
}

function Purpose({ value }: { value: Key }): JSX.Element {
  const name = keyName(value);
  const path = livePlaces(value)[0]?.path ?? '';
  return (
    <span class="purpose" title={[name, value.subject, path].filter(Boolean).join('\n')}>
      <span class="purpose-name">{name}</span>
      <code class="purpose-path">{path}</code>
    </span>
  );
}

/** The worst in a word, and how many more there are. */
function Findings({ value }: { value: Key }): JSX.Element {
  const [first, ...more] = toldFindings(value);
  if (first === undefined) return <span class="dim">–</span>;
  const title = [first, ...more].map(findingWord).join('\n');
  const word = more.length > 0 ? `${findingWord(first)} +${more.length}` : findingWord(first);
  return <StateBadge kind={severityBadge(value.severity ?? 'info')} word={word} title={title} />;
}

function Hosts({ value }: { value: Key }): JSX.Element {
  const hosts = hostsOf(value);
  const first = hosts[0] ?? '–';
  const more = Math.max(hosts.length, value.hosts_total) - 1;
  return more > 0 ? (
    <span title={hosts.join('\n')}>
      {first} <span class="dim">+{more}</span>
    </span>
  ) : (
    <>{first}</>
  );
}

/** When it was used, and by whom; not used is said only where somebody looked. */
export function LastUsed({ value: key }: { value: Key }): JSX.Element {
  const by = key.last_used_by;
  switch (notUsed(key)) {
    case 'unknown':
      return <span class="dim">unknown: no sensor observes use</span>;
    case 'never':
      return (
        <span class="dim">
          not since <Time at={key.observed_since} />, when observation began
        </span>
      );
    default:
      return (
        <>
          <Time at={key.last_used} />
          {by !== null && (
            <span class="dim">{` by ${[by.exe ?? 'an unknown program', by.user && `as ${by.user}`, `on ${by.host}`].filter(Boolean).join(' ')}`}</span>
          )}
        </>
      );
  }
}

/** Only what the server can sort by is offered for sorting: the table holds a part of the inventory. */
export const KEY_COLUMNS: readonly Column<Key>[] = [
  { id: 'subject', title: 'Purpose', cell: (key) => <Purpose value={key} />, sort: (key) => key.subject, grow: true },
  { id: 'kind', title: 'Kind', cell: (key) => sentence(words(key.kind)) },
  { id: 'algorithm', title: 'Algorithm', cell: (key) => algorithmText(key) },
  { id: 'hosts', title: 'Hosts', cell: (key) => <Hosts value={key} />, wide: true },
  { id: 'not_after', title: 'Expires', cell: (key) => <Expiry value={key} />, sort: (key) => key.not_after },
  { id: 'status', title: 'Status', cell: (key) => <KeyStatusView value={key} /> },
  { id: 'findings', title: 'Findings', cell: (key) => <Findings value={key} /> },
  { id: 'first_seen', title: 'First seen', cell: (key) => <Time at={key.first_seen} />, sort: (key) => key.first_seen, optional: true },
  { id: 'last_seen', title: 'Last seen', cell: (key) => <Time at={key.last_seen} />, sort: (key) => key.last_seen, optional: true },
  {
    id: 'last_used',
    title: 'Last used',
    cell: (key) =>
      isUsable(key) ? (
        <Time at={key.last_used} none={notUsed(key) === 'never' ? 'not since observed' : 'unknown'} />
      ) : (
        <span class="dim" title="Its private half does not lie there">
          –
        </span>
      ),
    sort: (key) => key.last_used,
    optional: true,
  },
  { id: 'fingerprint', title: 'Fingerprint', cell: (key) => <Fingerprint value={key.fingerprint} />, optional: true },
  { id: 'issuer', title: 'Issuer', cell: (key) => key.issuer ?? '–', optional: true },
];
