// The inventory: every key the agents found, filtered and sorted by the aggregator, paged by cursor.
// Filters live in the URL; typing asks once the hand rests.
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { api } from '../../api/client';
import { KEY_KINDS, KEY_STATUSES, type Key, type KeysAnswer } from '../../api/types';
import { plural, sentence, thousands, words } from '../../lib/format';
import { DAY } from '../../lib/time';
import { hostFilter, href, param, setParams } from '../../routes';
import { useFleet } from '../../state/fleet';
import { now } from '../../state/refresh';
import { useResource } from '../../state/resource';
import { ColumnChooser } from '../../ui/columns';
import { Icon } from '../../ui/Icon';
import { EmptyState, Panel, Shown } from '../../ui/Panel';
import { Table } from '../../ui/Table';
import { KEY_COLUMNS } from './columns';

const PAGE = 100;
const HORIZONS: Record<string, number> = { '1d': DAY, '7d': 7 * DAY, '30d': 30 * DAY, '90d': 90 * DAY };
const SORT = 'not_after';
/** Parameters that say which keys are listed. */
const QUESTION = ['kind', 'status', 'cas', 'search', 'expires', 'sort'];

/** What is looked at first is what is in use; everything else is one choice away. */
function statusAsked(): string | undefined {
  const chosen = param('status');
  if (chosen === 'all') return undefined;
  if (chosen !== undefined) return chosen;
  return param('expires') === 'past' ? 'expired' : 'active';
}

/** The system's own trust store is hidden at first: hundreds of public CAs would bury the keys that somebody here made. */
function trustStoreAsked(): string | undefined {
  if (param('cas') === 'all') return undefined;
  return param('cas') === 'only' ? 'true' : 'false';
}

async function load(rows: number, signal: AbortSignal): Promise<KeysAnswer> {
  const horizon = HORIZONS[param('expires') ?? ''];
  const past = param('expires') === 'past';
  return api.keys(
    {
      host: hostFilter.peek(),
      kind: param('kind'),
      status: statusAsked(),
      search: param('search'),
      trust_store: trustStoreAsked(),
      expires_before: horizon === undefined ? undefined : String(now.peek() + horizon),
      sort: param('sort') ?? (past ? `-${SORT}` : SORT),
      limit: rows,
    },
    signal,
  );
}

function Search(): JSX.Element {
  const inUrl = param('search') ?? '';
  const [text, setText] = useState(inUrl);
  useEffect(() => setText(inUrl), [inUrl]);
  useEffect(() => {
    if (text === inUrl) return undefined;
    const timer = setTimeout(() => setParams({ search: text.trim() || undefined }, { replace: true }), 200);
    return () => clearTimeout(timer);
  }, [text, inUrl]);
  return (
    <label class="search">
      <Icon name="search" />
      <span class="hidden">Search keys</span>
      <input
        type="search"
        value={text}
        placeholder="Subject, path, name or fingerprint"
        onInput={(event) => setText(event.currentTarget.value)}
      />
      <kbd title="Press / to search">/</kbd>
    </label>
  );
}

interface ChoiceProps {
  name: string;
  label: string;
  value: string;
  values: readonly string[];
  all: { value: string; word: string };
  /** What it is when nobody chose. */
  usual: string;
}

function Choice({ name, label, value, values, all, usual }: ChoiceProps): JSX.Element {
  return (
    <label class={`select ${value === usual ? '' : 'chosen'}`}>
      <span class="hidden">{label}</span>
      <select value={value} title={label} onChange={(event) => setParams({ [name]: event.currentTarget.value || undefined })}>
        <option value={all.value}>{all.word}</option>
        {values.map((one) => (
          <option key={one} value={one}>
            {sentence(words(one))}
          </option>
        ))}
      </select>
    </label>
  );
}

function PublicCas(): JSX.Element {
  const value = param('cas') ?? '';
  return (
    <label class={`select ${value === '' ? '' : 'chosen'}`}>
      <span class="hidden">Public CA certificates</span>
      <select value={value} title="Public CA certificates" onChange={(event) => setParams({ cas: event.currentTarget.value || undefined })}>
        <option value="">Public CAs hidden</option>
        <option value="all">Public CAs shown</option>
        <option value="only">Public CAs only</option>
      </select>
    </label>
  );
}

function NoKeys(): JSX.Element {
  const hosts = useFleet().hosts.data ?? [];
  const filters = ['search', 'kind', 'status', 'expires'].filter((name) => param(name) !== undefined);
  if (filters.length > 0 || hostFilter.value !== undefined) {
    return (
      <EmptyState title="No key matches">
        <button
          type="button"
          class="button"
          onClick={() => setParams({ search: undefined, kind: undefined, status: 'all', cas: 'all', expires: undefined, host: undefined })}
        >
          Show all keys
        </button>
      </EmptyState>
    );
  }
  if (hosts.length === 0) {
    return (
      <EmptyState title="No keys yet" command="keyvigil-agent join TOKEN">
        Certificates, private keys and SSH keys of every host appear here within 15 s of its agent joining.
      </EmptyState>
    );
  }
  return (
    <EmptyState title="No keys of your own found yet">
      {`${plural(hosts.length, 'host reports', 'hosts report')}, but only the system's public CA certificates were found where agents look. Name more directories under \`[keystore] paths\` in agent.toml. `}
      <button type="button" class="button" onClick={() => setParams({ cas: 'all', status: 'all' })}>
        Show public CAs
      </button>
    </EmptyState>
  );
}

export function Inventory({ note }: { note: string | undefined }): JSX.Element {
  const question = JSON.stringify([hostFilter.value, ...QUESTION.map(param)]);
  const [pages, setPages] = useState({ question, count: 1 });
  const count = pages.question === question ? pages.count : 1;
  // More rows are asked for in one answer rather than page by page, so that a refresh cannot tear the list apart.
  const resource = useResource(`${question} ${count}`, (signal) => load(count * PAGE, signal));
  const initial = param('expires') === 'past' ? `-${SORT}` : SORT;
  return (
    <Panel title="Inventory" name="inventory" note={note} actions={<ColumnChooser table="keys" columns={KEY_COLUMNS} />}>
      <div class="filters">
        <Search />
        <Choice name="kind" label="Kind" value={param('kind') ?? ''} values={KEY_KINDS} all={{ value: '', word: 'All kinds' }} usual="" />
        <Choice
          name="status"
          label="Status"
          value={statusAsked() ?? 'all'}
          values={KEY_STATUSES}
          all={{ value: 'all', word: 'All statuses' }}
          usual="active"
        />
        <PublicCas />
        {param('expires') !== undefined && (
          <button type="button" class="button chip" onClick={() => setParams({ expires: undefined })} title="Remove this filter">
            {param('expires') === 'past' ? 'Expired lately' : `Expires within ${(param('expires') ?? '').replace('d', ' d')}`}{' '}
            <Icon name="close" />
          </button>
        )}
        <span class="dim filter-count" role="status">
          {resource.data && resource.data.total > 0 ? plural(resource.data.total, 'match', 'matches') : ''}
        </span>
      </div>
      <Shown resource={resource} what="The key inventory" height={320}>
        {(data) =>
          data.keys.length === 0 ? (
            <NoKeys />
          ) : (
            <>
              <Table
                id="keys"
                caption="Keys and certificates"
                columns={KEY_COLUMNS}
                rows={data.keys}
                rowKey={(key: Key) => key.id}
                to={(key) => href(`/keys/${key.id}`)}
                sort={{ param: 'sort', initial, byServer: true }}
              />
              {data.next_cursor !== null && (
                <div class="load-more">
                  <button type="button" class="button" onClick={() => setPages({ question, count: count + 1 })}>
                    Load more
                  </button>
                  <span class="dim">
                    {thousands(data.keys.length)} of {thousands(data.total)}
                  </span>
                </div>
              )}
            </>
          )
        }
      </Shown>
    </Panel>
  );
}
