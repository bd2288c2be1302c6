// The frame: rail, header, the page the address names, and what may lie over it. Loads what all pages share.
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { Alerts } from '../pages/alerts/Alerts';
import { KeyDetail } from '../pages/keys/KeyDetail';
import { Keys } from '../pages/keys/Keys';
import { Overview } from '../pages/overview/Overview';
import { Link, PAGES, href, route } from '../routes';
import { FleetContext, useFleetSource } from '../state/fleet';
import { failures } from '../state/resource';
import { EmptyState } from '../ui/Panel';
import { Said } from '../ui/Said';
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

/** One place says why panels fail and what to do; the panels then only show how old they are. */
function Failures(): JSX.Element | null {
  const reasons = new Map([...failures.value.values()].map((error) => [error.message, error]));
  if (reasons.size === 0) return null;
  return (
    <div class="away" role="alert">
      {[...reasons.values()].slice(0, 3).map((error) => (
        <p key={error.message}>
          <strong>{error.message}.</strong> <Said text={error.hint} />
        </p>
      ))}
    </div>
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
        <Failures />
        <Page />
      </main>
      {sheet && <ShortcutSheet onClose={() => setSheet(false)} />}
      <TokenDialog />
    </FleetContext.Provider>
  );
}
