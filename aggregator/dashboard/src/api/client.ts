// Talks to the HTTP API and to nothing else: one place for timeouts, tokens and the words of errors.
// Holds no data; what was fetched belongs to who asked for it.
import type {
  Alert,
  AlertDetail,
  AlertsStatus,
  Usage,
  EventsAnswer,
  GapsAnswer,
  Host,
  KeyAnswer,
  KeysAnswer,
  KeysSummary,
  Problem,
  QueryAnswer,
  Rule,
  Status,
} from './types';

const TIMEOUT_MS = 15_000;
const TOKEN_KEY = 'keyvigil.token';

export class ApiError extends Error {
  /** HTTP status; 0 when there was no answer. */
  readonly status: number;
  /** What to do about it. */
  readonly hint: string;

  constructor(message: string, status: number, hint: string) {
    super(message);
    this.status = status;
    this.hint = hint;
  }
}

export function storedToken(): string | null {
  return sessionStorage.getItem(TOKEN_KEY);
}

export function storeToken(token: string | null): void {
  if (token === null) sessionStorage.removeItem(TOKEN_KEY);
  else sessionStorage.setItem(TOKEN_KEY, token);
}

function hintFor(status: number): string {
  if (status === 401) return 'Enter the admin token that `keyvigil up` printed.';
  if (status === 403) return 'This token may not do that. Use one with more rights.';
  if (status === 404) return 'It may have been removed since the page was loaded.';
  if (status === 429) return 'The aggregator limits how often it is asked. It is tried again with the next refresh.';
  if (status >= 500) return "See the aggregator's log. It is tried again with the next refresh.";
  return 'Check the address of this page, or start from the overview.';
}

async function problemOf(response: Response): Promise<ApiError> {
  let problem: Problem = {};
  try {
    problem = (await response.json()) as Problem;
  } catch {
    // A proxy in between answers in HTML: the status line then has to do.
  }
  const said = problem.detail ?? problem.title ?? response.statusText;
  return new ApiError(`${response.status}: ${said || 'no reason given'}`, response.status, hintFor(response.status));
}

interface Options {
  method?: 'GET' | 'PUT' | 'POST' | 'DELETE';
  body?: unknown;
  signal?: AbortSignal | undefined;
}

async function call<T>(path: string, options: Options = {}): Promise<T> {
  const abort = new AbortController();
  const forward = (): void => abort.abort();
  options.signal?.addEventListener('abort', forward, { once: true });
  if (options.signal?.aborted) abort.abort();
  const timer = setTimeout(forward, TIMEOUT_MS);
  const headers: Record<string, string> = { Accept: 'application/json' };
  const token = storedToken();
  if (token !== null) headers['Authorization'] = `Bearer ${token}`;
  if (options.body !== undefined) headers['Content-Type'] = 'application/json';
  try {
    const init: RequestInit = {
      method: options.method ?? 'GET',
      headers,
      signal: abort.signal,
      cache: 'no-store',
      credentials: 'same-origin',
    };
    if (options.body !== undefined) init.body = JSON.stringify(options.body);
    const response = await fetch(`/api/v1${path}`, init);
    if (!response.ok) throw await problemOf(response);
    return (await response.json()) as T;
  } catch (cause) {
    if (cause instanceof ApiError || options.signal?.aborted) throw cause;
    if (abort.signal.aborted)
      throw new ApiError(
        `No answer within ${TIMEOUT_MS / 1000} s`,
        0,
        'The aggregator is busy or the network slow. It is tried again with the next refresh.',
      );
    if (cause instanceof SyntaxError)
      throw new ApiError('The answer is not JSON', 0, 'Something between this page and the aggregator answers in its place.');
    throw new ApiError(
      'The aggregator does not answer',
      0,
      'Check that `keyvigil up` or keyvigil-aggregator is running. It is tried again with the next refresh.',
    );
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', forward);
  }
}

type Params = Record<string, string | number | undefined | readonly string[]>;

export function queryString(params: Params): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value === undefined || value === '') continue;
    for (const one of Array.isArray(value) ? (value as readonly string[]) : [String(value)]) search.append(name, one);
  }
  const text = search.toString();
  return text === '' ? '' : `?${text}`;
}

export interface QueryParams {
  metric_pattern: string;
  start_time: string;
  end_time: string;
  aggregation: string;
  interval: string;
  tag?: readonly string[] | undefined;
  group_by?: string | undefined;
  limit?: number | undefined;
}

export interface KeysParams {
  host?: string | undefined;
  kind?: string | undefined;
  status?: string | undefined;
  finding?: string | undefined;
  expires_before?: string | undefined;
  /** `false` leaves out the public CAs of the system's trust store, `true` shows only them. */
  trust_store?: 'true' | 'false' | undefined;
  /** never, unknown, before:TIME, since:TIME */
  used?: string | undefined;
  search?: string | undefined;
  sort?: string | undefined;
  limit?: number | undefined;
  cursor?: string | undefined;
}

export interface EventsParams {
  kind?: string | undefined;
  host?: string | undefined;
  start_time?: string | undefined;
  end_time?: string | undefined;
  limit?: number | undefined;
}

const id = encodeURIComponent;

export const api = {
  status: (signal?: AbortSignal) => call<Status>('/status', { signal }),
  hosts: (signal?: AbortSignal) => call<{ hosts: Host[] }>('/hosts', { signal }),
  gaps: (params: { host?: string | undefined; limit?: number }, signal?: AbortSignal) =>
    call<GapsAnswer>(`/gaps${queryString({ ...params })}`, { signal }),
  query: (params: QueryParams, signal?: AbortSignal) => call<QueryAnswer>(`/query${queryString({ ...params })}`, { signal }),
  keys: (params: KeysParams, signal?: AbortSignal) => call<KeysAnswer>(`/keys${queryString({ ...params })}`, { signal }),
  keysSummary: (signal?: AbortSignal) => call<KeysSummary>('/keys/summary', { signal }),
  key: (key: string, signal?: AbortSignal) => call<KeyAnswer>(`/keys/${id(key)}`, { signal }),
  usage: (key: string, signal?: AbortSignal) => call<Usage>(`/keys/${id(key)}/usage`, { signal }),
  events: (params: EventsParams, signal?: AbortSignal) => call<EventsAnswer>(`/events${queryString({ ...params })}`, { signal }),
  alerts: (params: { state?: string; limit?: number }, signal?: AbortSignal) =>
    call<{ alerts: Alert[] }>(`/alerts${queryString(params)}`, { signal }),
  alertsStatus: (signal?: AbortSignal) => call<AlertsStatus>('/alerts/status', { signal }),
  alert: (alert: string, signal?: AbortSignal) => call<AlertDetail>(`/alerts/${id(alert)}`, { signal }),
  rules: (signal?: AbortSignal) => call<{ rules: Rule[] }>('/alerts/rules', { signal }),
  acknowledge: (alert: string, body: { by: string; note: string }) =>
    call<Alert>(`/alerts/${id(alert)}/acknowledge`, { method: 'PUT', body }),
};
