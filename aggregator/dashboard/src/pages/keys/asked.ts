// What the address asks of the inventory, as parameters of the API.
import { api, type KeysParams } from '../../api/client';
import { publicCas, trustStoreParam } from '../../lib/keys';
import { DAY } from '../../lib/time';
import { hostFilter, param } from '../../routes';
import { now } from '../../state/refresh';

const HORIZONS: Record<string, number> = { '1d': DAY, '7d': 7 * DAY, '30d': 30 * DAY, '90d': 90 * DAY };
/** What the address says of use, and the API's word for it. */
const USED: Record<string, string> = { never: 'never', unknown: 'unknown', '90d': 'before:-90d', '1d': 'since:-1d' };
export const SORT = 'not_after';
/** Parameters that narrow what is shown. */
export const FILTERS = ['search', 'kind', 'status', 'finding', 'used', 'cas', 'expires'] as const;

/** What is looked at first is what is in use; everything else is one choice away. */
export function statusAsked(): string | undefined {
  const chosen = param('status');
  if (chosen === 'all') return undefined;
  if (chosen !== undefined) return chosen;
  return param('expires') === 'past' ? 'expired' : 'active';
}

export function usualSort(): string {
  return param('expires') === 'past' ? `-${SORT}` : SORT;
}

/** Changes exactly when the question does. */
export function questionKey(): string {
  return JSON.stringify([hostFilter.value, ...FILTERS.map(param), param('sort')]);
}

export function question(rows: number): KeysParams {
  const horizon = HORIZONS[param('expires') ?? ''];
  return {
    host: hostFilter.peek(),
    kind: param('kind'),
    status: statusAsked(),
    finding: param('finding'),
    used: USED[param('used') ?? ''],
    search: param('search'),
    trust_store: trustStoreParam(publicCas(param('cas'))),
    expires_before: horizon === undefined ? undefined : String(now.peek() + horizon),
    sort: param('sort') ?? usualSort(),
    limit: rows,
  };
}

/** How many keys there are at all, on the page's host: one's own, and public CAs. */
export interface Counts {
  own: number;
  cas: number;
}

async function total(params: KeysParams, signal: AbortSignal): Promise<number> {
  return (await api.keys({ ...params, limit: 1 }, signal)).total;
}

export async function loadCounts(signal: AbortSignal): Promise<Counts> {
  const host = hostFilter.peek();
  const [own, cas] = await Promise.all([total({ host, trust_store: 'false' }, signal), total({ host, trust_store: 'true' }, signal)]);
  return { own, cas };
}

/** How many public CAs the question would find if they were not hidden. */
export function loadHidden(signal: AbortSignal): Promise<number> {
  return total({ ...question(1), trust_store: 'true' }, signal);
}
