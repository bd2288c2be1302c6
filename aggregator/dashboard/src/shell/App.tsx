// The frame: rail, header, the page the address names, and what may lie over it. Loads what all pages share.
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { lengthWords } from '../lib/time';
import { Alerts } from '../pages/alerts/Alerts';
import { KeyDetail } from '../pages/keys/KeyDetail';
import { Keys } from '../pages/keys/Keys';
import { Overview } from '../pages/overview/Overview';
import { Link, PAGES, href, route } from '../routes';
import { FleetContext, useFleetSource, type Fleet } from '../state/fleet';
import { now } from '../state/refresh';
import { EmptyState } from '../ui/Panel';
import { Header } from './Header';
import { listenKeys } from './keyboard';
import { Rail } from './Rail';
import { ShortcutSheet } from './ShortcutSheet';
import { TokenDialog } from './TokenDialog';

function Page(): JSX.Element {
  const { page, id } = route.value;
  if (page === 'overview') return <Overview />;
  if (page === 'keys') return id === undefined ? <Keys /> : <KeyDetail key={id} id={id} />;
  if (page === 'alerts') return <Alerts />;
  return (
    <EmptyState title="There is no page at this address">
      <Link to={href('/')}>Go to the system overview</Link>
    </EmptyState>
  );
}

/** One place says that the aggregator is away; the panels then only show how old they are. */
function Away({ fleet }: { fleet: Fleet }): JSX.Element | null {
  const { error, loadedAt } = fleet.status;
  if (!error || error.status !== 0) return null;
  void now.value;
  return (
    <p class="away" role="alert">
      <strong>{error.message}.</strong> {loadedAt !== undefined && `What is shown is ${lengthWords(Date.now() - loadedAt)} old. `}
      {error.hint}
    </p>
  );
}

export function App(): JSX.Element {
  const fleet = useFleetSource();
  const [sheet, setSheet] = useState(false);
  useEffect(() => listenKeys(() => setSheet((open) => !open)), []);
  const firing = fleet.alerts.data?.firing ?? 0;
  const { page } = route.value;
  const title = PAGES.find((candidate) => candidate.id === page)?.title ?? 'Not found';
  useEffect(() => {
    document.title = `${firing > 0 ? `(${firing}) ` : ''}${title} – Keyvigil`;
  }, [firing, title]);
  return (
    <FleetContext.Provider value={fleet}>
      <a class="skip" href="#main">
        Skip to content
      </a>
      <Header onHelp={() => setSheet(true)} />
      <Rail />
      <main id="main" tabIndex={-1}>
        <h1>{title}</h1>
        <Away fleet={fleet} />
        <Page />
      </main>
      {sheet && <ShortcutSheet onClose={() => setSheet(false)} />}
      <TokenDialog />
    </FleetContext.Provider>
  );
}
