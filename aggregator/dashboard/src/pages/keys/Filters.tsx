// What narrows the inventory: text, kind, status, finding, public CAs, and what the expiry strip chose. All of it lives in the URL;
// typing asks once the hand rests.
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { KEY_KINDS, KEY_STATUSES } from '../../api/types';
import { FINDINGS } from '../../lib/findings';
import { sentence, thousands, words } from '../../lib/format';
import { publicCas } from '../../lib/keys';
import { param, setParams } from '../../routes';
import { Icon } from '../../ui/Icon';
import { statusAsked, type Counts } from './asked';

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
  options: readonly (readonly [value: string, word: string])[];
  /** What it is when nobody chose. */
  usual: string;
}

function Choice({ name, label, value, options, usual }: ChoiceProps): JSX.Element {
  const choose = (chosen: string): void => setParams({ [name]: chosen === usual ? undefined : chosen });
  return (
    <label class={`select ${value === usual ? '' : 'chosen'}`}>
      <span class="hidden">{label}</span>
      <select value={value} title={label} onChange={(event) => choose(event.currentTarget.value)}>
        {options.map(([one, word]) => (
          <option key={one} value={one}>
            {word}
          </option>
        ))}
      </select>
    </label>
  );
}

const named = (value: string): [string, string] => [value, sentence(words(value))];
const KINDS = [['', 'All kinds'] as const, ...KEY_KINDS.map(named)];
const WRONG = [['', 'All findings'] as const, ...FINDINGS];
const USED = [
  ['', 'Used or not'],
  ['1d', 'Used within a day'],
  ['90d', 'Not used for 90 d'],
  ['never', 'Never since observed'],
  ['unknown', 'Use unknown'],
] as const;
const STATUSES = [['all', 'All statuses'] as const, ...KEY_STATUSES.map(named)];

export function Filters({ counts }: { counts: Counts | undefined }): JSX.Element {
  const expires = param('expires');
  return (
    <>
      <Search />
      <Choice name="kind" label="Kind" value={param('kind') ?? ''} options={KINDS} usual="" />
      <Choice
        name="status"
        label="Status"
        value={statusAsked() ?? 'all'}
        options={STATUSES}
        usual={expires === 'past' ? 'expired' : 'active'}
      />
      <Choice name="finding" label="Finding" value={param('finding') ?? ''} options={WRONG} usual="" />
      <Choice name="used" label="Use" value={param('used') ?? ''} options={USED} usual="" />
      <Choice
        name="cas"
        label="Public CA certificates that the system ships"
        value={publicCas(param('cas'))}
        options={[
          ['hidden', `Public CAs hidden${counts && counts.cas > 0 ? ` (${thousands(counts.cas)})` : ''}`],
          ['shown', 'Public CAs shown'],
          ['only', 'Only public CAs'],
        ]}
        usual="hidden"
      />
      {expires !== undefined && (
        <button type="button" class="button chip" onClick={() => setParams({ expires: undefined })} title="Remove this filter">
          {expires === 'past' ? 'Expired lately' : `Expires within ${expires.replace('d', ' d')}`} <Icon name="close" />
        </button>
      )}
    </>
  );
}
