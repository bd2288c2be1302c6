// One key: what it is, everywhere it lies, what belongs to it, what happened to it. Decision: rotate, retire, or leave.
import type { ComponentChildren, JSX } from 'preact';
import { api } from '../../api/client';
import type { Finding, Key, KeyAnswer, Place } from '../../api/types';
import { ordered, severityBadge } from '../../lib/findings';
import { plural, sentence, words } from '../../lib/format';
import { algorithmText, isUsable, keyName, relationWord, worldReadable } from '../../lib/keys';
import { absolute, dateOnly } from '../../lib/time';
import { Link, href } from '../../routes';
import { utc } from '../../state/prefs';
import { useResource } from '../../state/resource';
import { Copy, Fingerprint } from '../../ui/Copy';
import { EventRows } from '../../ui/EventRows';
import { Icon } from '../../ui/Icon';
import { EmptyState, ErrorNote, Panel, Skeleton } from '../../ui/Panel';
import { Said } from '../../ui/Said';
import { StateBadge } from '../../ui/StateBadge';
import { Table, type Column } from '../../ui/Table';
import { Time } from '../../ui/Time';
import { Expiry, KeyStatusView, LastUsed } from './columns';
import { UsagePanel } from './Usage';

function Fact({ name, children }: { name: string; children: ComponentChildren }): JSX.Element | null {
  if (children === null || children === undefined || children === '') return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function encryption(key: Key): string | null {
  if (key.encrypted === null) return null;
  if (!key.encrypted) return 'not encrypted';
  return key.kdf === null ? 'encrypted with a password' : `encrypted, ${key.kdf}`;
}

function Facts({ value: key }: { value: Key }): JSX.Element {
  const link = (id: string | null): ComponentChildren =>
    id === null ? null : (
      <Link to={href(`/keys/${id}`)}>
        <code>{id.slice(0, 12)}</code>
      </Link>
    );
  return (
    <Panel title="Facts" name="facts">
      <dl class="facts">
        <Fact name="Status">
          <KeyStatusView value={key} />
        </Fact>
        <Fact name="Revoked">
          {key.revoked === null ? null : (
            <>
              <Time at={key.revoked} />
              {key.revocation !== null && <span class="dim"> {key.revocation}</span>}
            </>
          )}
        </Fact>
        <Fact name="Expires">
          <Expiry value={key} />
          {key.not_after !== null && <span class="dim"> {absolute(key.not_after, utc.value)}</span>}
        </Fact>
        <Fact name="Valid from">{key.not_before === null ? null : dateOnly(key.not_before, utc.value)}</Fact>
        <Fact name="Kind">{sentence(words(key.kind)) + (key.is_ca ? ', may sign others' : '')}</Fact>
        <Fact name="Trust">{key.trust_store ? 'public CA that the system ships; its end raises no alert' : null}</Fact>
        <Fact name="Algorithm">{algorithmText(key)}</Fact>
        <Fact name="Signed with">{key.signature_algorithm}</Fact>
        <Fact name="Protection">{encryption(key)}</Fact>
        <Fact name="Subject">{key.subject}</Fact>
        <Fact name="Names">{key.sans.length === 0 ? null : key.sans.join(', ')}</Fact>
        <Fact name="Issuer">{key.issuer}</Fact>
        <Fact name="Serial">
          {key.serial === null ? null : (
            <Copy text={key.serial} shown={key.serial.length > 16 ? `${key.serial.slice(0, 16)}…` : key.serial} what="serial number" />
          )}
        </Fact>
        <Fact name="Fingerprint">
          <Fingerprint value={key.fingerprint} />
        </Fact>
        <Fact name="Replaces">{link(key.replaces)}</Fact>
        <Fact name="Replaced by">{link(key.replaced_by)}</Fact>
        <Fact name="First seen">
          <Time at={key.first_seen} />
        </Fact>
        <Fact name="Last seen">
          <Time at={key.last_seen} />
        </Fact>
        <Fact name="Last used">{isUsable(key) ? <LastUsed value={key} /> : null}</Fact>
      </dl>
    </Panel>
  );
}

/** Everyone may read a certificate; a private key that everyone may read is a finding. */
function Mode({ place, secret }: { place: Place; secret: boolean }): JSX.Element {
  if (place.mode === null) return <span class="dim">–</span>;
  if (secret && worldReadable(place.mode)) return <StateBadge kind="warning" word={`${place.mode}, readable by all`} />;
  return <code>{place.mode}</code>;
}

function placeColumns(secret: boolean): readonly Column<Place>[] {
  return [
    {
      id: 'path',
      title: 'Path',
      cell: (place) => (
        <code class="cut" title={place.path}>
          {place.path}
          {place.entry !== null ? ` [${place.entry}]` : place.slot > 0 ? ` (object ${place.slot + 1})` : ''}
        </code>
      ),
      sort: (place) => place.path,
      grow: true,
    },
    { id: 'host', title: 'Host', cell: (place) => place.host, sort: (place) => place.host },
    {
      id: 'owner',
      title: 'Owner',
      cell: (place) => [place.owner, place.group].filter((part) => part !== null).join(':') || '–',
      sort: (place) => place.owner,
    },
    {
      id: 'mode',
      title: 'Mode',
      cell: (place) => <Mode place={place} secret={place.kind === null ? secret : place.kind.endsWith('private_key')} />,
      sort: (place) => place.mode,
    },
    { id: 'modified', title: 'Written', cell: (place) => <Time at={place.modified} />, sort: (place) => place.modified },
    {
      id: 'last_seen',
      title: 'Last seen',
      cell: (place) => (place.gone ? <StateBadge kind="unknown" word="Gone" /> : <Time at={place.last_seen} />),
      sort: (place) => place.last_seen,
    },
  ];
}

function relatedColumns(key: Key): readonly Column<Key>[] {
  return [
    { id: 'name', title: 'Key', cell: (other) => keyName(other), sort: (other) => keyName(other), grow: true },
    { id: 'relation', title: 'Is', cell: (other) => sentence(relationWord(key, other)) },
    { id: 'kind', title: 'Kind', cell: (other) => sentence(words(other.kind)) },
    { id: 'expires', title: 'Expires', cell: (other) => <Expiry value={other} />, sort: (other) => other.not_after },
    { id: 'status', title: 'Status', cell: (other) => <KeyStatusView value={other} /> },
  ];
}

/** What is wrong with it, what supports that, and what to do. */
function Findings({ findings }: { findings: readonly Finding[] }): JSX.Element | null {
  if (findings.length === 0) return null;
  return (
    <Panel title="Findings" name="findings" note={plural(findings.length, 'finding')}>
      <ul class="findings">
        {ordered(findings).map((finding) => (
          <li key={finding.id}>
            <StateBadge kind={severityBadge(finding.severity)} word={sentence(finding.severity)} />
            <div>
              <p>{finding.title}</p>
              <p>
                <Said text={finding.remedy} />
              </p>
              <dl class="evidence">
                {Object.entries(finding.evidence).map(([name, value]) => (
                  <div key={name}>
                    <dt>{sentence(name)}</dt>
                    <dd>{value}</dd>
                  </div>
                ))}
                <div>
                  <dt>Since</dt>
                  <dd>
                    <Time at={finding.since} />
                  </dd>
                </div>
              </dl>
            </div>
          </li>
        ))}
      </ul>
    </Panel>
  );
}

/** The other half of the pair; a public CA keeps its own, so that there nothing is missing. */
function Pair({ value: key, related }: { value: Key; related: readonly Key[] }): JSX.Element | null {
  if (key.trust_store && related.length === 0) return null;
  return (
    <Panel title="Same key pair" name="related" note={related.length > 0 ? plural(related.length, 'key') : undefined}>
      {related.length > 0 ? (
        <Table
          id="related"
          caption="Keys with the same fingerprint"
          columns={relatedColumns(key)}
          rows={related}
          rowKey={(other) => other.id}
          to={(other) => href(`/keys/${other.id}`)}
          sort={{ param: 'related', initial: 'name' }}
        />
      ) : (
        <EmptyState title={key.kind === 'certificate' ? 'Its private key was not found' : 'No other half was found'}>
          Agents look only in their `[keystore] paths`; the other half may lie elsewhere.
        </EmptyState>
      )}
    </Panel>
  );
}

function Detail({ answer }: { answer: KeyAnswer }): JSX.Element {
  const { key, events } = answer;
  const secret = key.kind.endsWith('private_key');
  const related = answer.related.filter((other) => other.id !== key.id);
  return (
    <div class="detail">
      <Facts value={key} />
      <div class="detail-side">
        <Findings findings={answer.findings} />
        {!key.trust_store && <UsagePanel id={key.id} own={isUsable(key)} />}
        <Panel title="Places" name="places" note={plural(key.places.length, 'place')}>
          <Table
            id="places"
            caption="Places where this key lies"
            columns={placeColumns(secret)}
            rows={key.places}
            rowKey={(place) => `${place.host}\n${place.path}\n${place.slot}`}
            rowClass={(place) => (place.gone ? 'past' : undefined)}
            sort={{ param: 'places', initial: 'path' }}
          />
        </Panel>
        <Pair value={key} related={related} />
        <Panel title="History" name="history">
          {events.length > 0 ? (
            <EventRows events={events} most={50} withHost />
          ) : (
            <EmptyState title="Nothing happened since it was first seen" />
          )}
        </Panel>
      </div>
    </div>
  );
}

export function KeyDetail({ id }: { id: string }): JSX.Element {
  const { data, error, reload } = useResource(`key/${id}`, (signal) => api.key(id, signal));
  return (
    <>
      <p class="crumb">
        <Link to={href('/keys')} class="button">
          <Icon name="back" /> All keys
        </Link>
        {data && <strong class="crumb-name">{keyName(data.key)}</strong>}
      </p>
      {data ? (
        <div class={error ? 'aged' : undefined}>
          <Detail answer={data} />
        </div>
      ) : error ? (
        <ErrorNote what="This key" error={error} reload={reload} />
      ) : (
        <Skeleton height={400} />
      )}
    </>
  );
}
