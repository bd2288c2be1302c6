// Why the inventory shows nothing, and the one click or command that changes it.
import type { JSX } from 'preact';
import { plural } from '../../lib/format';
import { publicCas } from '../../lib/keys';
import { hostFilter, param, setParams } from '../../routes';
import { useFleet } from '../../state/fleet';
import { useResource } from '../../state/resource';
import { EmptyState } from '../../ui/Panel';
import { Said } from '../../ui/Said';
import { FILTERS, loadHidden, questionKey, type Counts } from './asked';

const CLEARED = Object.fromEntries(FILTERS.map((name) => [name, undefined]));

function Set({ to, children }: { to: Record<string, string | undefined>; children: string }): JSX.Element {
  return (
    <button type="button" class="button" onClick={() => setParams(to)}>
      {children}
    </button>
  );
}

function cas(count: number): string {
  return plural(count, 'public CA certificate');
}

/** Filters leave nothing over; perhaps only because public CAs are hidden. */
function NoMatch({ counts }: { counts: Counts }): JSX.Element {
  const hides = publicCas(param('cas')) === 'hidden';
  const hidden = useResource(hides ? `hidden ${questionKey()}` : null, loadHidden).data ?? 0;
  return (
    <EmptyState title="No key matches">
      {hides && hidden > 0 && (
        <>{hidden === 1 ? '1 public CA certificate that matches is hidden.' : `${cas(hidden)} that match are hidden.`} </>
      )}
      <span class="buttons">
        {hides && hidden > 0 && <Set to={{ cas: 'shown' }}>Show public CAs</Set>}
        <Set to={{ ...CLEARED, status: 'all', host: undefined }}>{counts.own > 0 ? 'Show all keys of your own' : 'Remove all filters'}</Set>
      </span>
    </EmptyState>
  );
}

export function NoKeys({ counts }: { counts: Counts }): JSX.Element {
  const hosts = useFleet().hosts.data ?? [];
  const host = hostFilter.value;
  if (FILTERS.some((name) => param(name) !== undefined && !(name === 'status' && param(name) === 'all')))
    return <NoMatch counts={counts} />;
  if (counts.own > 0) {
    return (
      <EmptyState title="No key of your own is active">
        {`${plural(counts.own, 'key is', 'keys are')} expired, superseded, revoked or removed.`}{' '}
        <span class="buttons">
          <Set to={{ status: 'all' }}>Show all statuses</Set>
        </span>
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
  const wider = 'Agents look below `[keystore] paths` in agent.toml: add directories there to widen the search.';
  if (counts.cas === 0) {
    const reports = host === undefined ? plural(hosts.length, 'host reports', 'hosts report') : `${host} reports`;
    return <EmptyState title="No keys found yet">{`${reports}, but no key was found where agents look. ${wider}`}</EmptyState>;
  }
  return (
    <EmptyState title={`No keys of your own were found below the watched paths${host === undefined ? '' : ` of ${host}`}`}>
      {`${cas(counts.cas)} ${counts.cas === 1 ? 'is' : 'are'} hidden. `}
      <Said text={wider} />{' '}
      <span class="buttons">
        <Set to={{ cas: 'shown', status: 'all' }}>Show public CAs</Set>
      </span>
    </EmptyState>
  );
}
