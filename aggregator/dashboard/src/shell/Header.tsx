// The strip at the top: which product, which hosts, which time, how fresh, what rings.
import type { JSX } from 'preact';
import { plural } from '../lib/format';
import { Link, href, hostFilter, setParams } from '../routes';
import { hostNames, useFleet } from '../state/fleet';
import { setTheme, themeChoice, type ThemeChoice } from '../state/prefs';
import { Icon, type IconName } from '../ui/Icon';
import { RefreshControl } from './RefreshControl';
import { TimePicker } from './TimePicker';

function HostFilter(): JSX.Element {
  const names = hostNames(useFleet());
  const chosen = hostFilter.value;
  // A host that is in the address but unknown stays visible, or the page would seem to show all.
  const all = chosen !== undefined && !names.includes(chosen) ? [chosen, ...names] : names;
  return (
    <label class={`select ${chosen === undefined ? '' : 'chosen'}`}>
      <Icon name="host" />
      <span class="hidden">Host</span>
      <select
        value={chosen ?? ''}
        onChange={(event) => setParams({ host: event.currentTarget.value || undefined })}
        title="Show one host only"
      >
        <option value="">All hosts</option>
        {all.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

const THEMES: readonly { id: ThemeChoice; word: string; icon: IconName }[] = [
  { id: 'system', word: 'As the system', icon: 'system' },
  { id: 'light', word: 'Light', icon: 'sun' },
  { id: 'dark', word: 'Dark', icon: 'moon' },
];

function ThemeSwitch(): JSX.Element {
  return (
    <div class="switch" role="group" aria-label="Theme">
      {THEMES.map(({ id, word, icon }) => (
        <button key={id} type="button" aria-pressed={themeChoice.value === id} aria-label={word} title={word} onClick={() => setTheme(id)}>
          <Icon name={icon} />
        </button>
      ))}
    </div>
  );
}

function Bell(): JSX.Element {
  const alerts = useFleet().alerts.data;
  const firing = alerts?.firing ?? 0;
  const critical = alerts?.by_priority.critical ?? 0;
  const words = firing === 0 ? 'No alert is firing' : `${plural(firing, 'alert is', 'alerts are')} firing, ${critical} critical`;
  return (
    <Link to={href('/alerts')} class={`bell ${firing === 0 ? '' : critical > 0 ? 'critical' : 'warning'}`} aria-label={words} title={words}>
      <Icon name="alerts" />
      {firing > 0 && <span>{firing}</span>}
    </Link>
  );
}

export function Header({ onHelp }: { onHelp: () => void }): JSX.Element {
  return (
    <header class="top">
      <Link to={href('/')} class="product">
        <svg viewBox="0 0 32 32" width="20" height="20" aria-hidden="true">
          <path
            d="M2 16C6 8.5 10.8 5.5 16 5.5S26 8.5 30 16c-4 7.5-8.8 10.5-14 10.5S6 23.5 2 16Z"
            fill="none"
            stroke="currentColor"
            stroke-width="2.6"
            stroke-linejoin="round"
          />
          <circle cx="16" cy="14" r="3.8" fill="currentColor" />
          <path d="M16 15.5v6" stroke="currentColor" stroke-width="3" stroke-linecap="round" />
        </svg>
        <span>Keyvigil</span>
      </Link>
      <div class="controls">
        <HostFilter />
        <TimePicker />
        <RefreshControl />
      </div>
      <div class="corner">
        <ThemeSwitch />
        <button type="button" class="icon-button" aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)" onClick={onHelp}>
          <Icon name="help" />
        </button>
        <Bell />
      </div>
    </header>
  );
}
