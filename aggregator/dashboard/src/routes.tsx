// Which pages exist, and the address as state: path and parameters live in the URL and nowhere else.
// Knows nothing of what the pages show.
import { computed, signal } from '@preact/signals';
import type { ComponentChildren, JSX } from 'preact';
import { parseRange, type Range } from './lib/time';

export type PageId = 'overview' | 'keys' | 'alerts';

export const PAGES: readonly { id: PageId; path: string; title: string; key: string }[] = [
  { id: 'overview', path: '/', title: 'System overview', key: 'o' },
  { id: 'keys', path: '/keys', title: 'Key management', key: 'k' },
  { id: 'alerts', path: '/alerts', title: 'Alerts', key: 'a' },
];

/** Parameters that go along from page to page: what is looked at, and when. */
const GLOBAL = ['host', 'range', 'from', 'to'] as const;

interface Address {
  path: string;
  params: URLSearchParams;
}

function read(): Address {
  return { path: location.pathname.replace(/(.)\/+$/, '$1'), params: new URLSearchParams(location.search) };
}

export const address = signal<Address>(read());

export interface Route {
  page: PageId | 'missing';
  /** Of a key, on its detail page. */
  id?: string;
}

export const route = computed<Route>(() => {
  const { path } = address.value;
  const page = PAGES.find((candidate) => candidate.path === path);
  if (page) return { page: page.id };
  const key = /^\/keys\/([^/]+)$/.exec(path)?.[1];
  if (key === undefined) return { page: 'missing' };
  try {
    return { page: 'keys', id: decodeURIComponent(key) };
  } catch {
    return { page: 'missing' };
  }
});

export function param(name: string): string | undefined {
  return address.value.params.get(name) ?? undefined;
}

export const hostFilter = computed<string | undefined>(() => param('host'));
/** The range where the address names none; undefined until it is known how old the data is, then set once. */
export const usual = signal<string | undefined>(undefined);
/** Before that nothing is asked for that would be thrown away at once. */
export const rangeKnown = computed(() => usual.value !== undefined || param('range') !== undefined || param('from') !== undefined);
export const range = computed<Range>(() => parseRange({ range: param('range'), from: param('from'), to: param('to') }, usual.value));

/** Address of a path with the parameters that go along, and others that replace them. */
export function href(path: string, params: Record<string, string | undefined> = {}): string {
  const search = new URLSearchParams();
  for (const name of GLOBAL) {
    const value = address.value.params.get(name);
    if (value !== null) search.set(name, value);
  }
  for (const [name, value] of Object.entries(params)) {
    if (value === undefined || value === '') search.delete(name);
    else search.set(name, value);
  }
  const text = search.toString();
  return text === '' ? path : `${path}?${text}`;
}

export function go(to: string, options: { replace?: boolean; keepScroll?: boolean } = {}): void {
  if (to !== location.pathname + location.search) {
    if (options.replace) history.replaceState(null, '', to);
    else history.pushState(null, '', to);
  }
  const before = address.value.path;
  address.value = read();
  if (before !== address.value.path && !options.keepScroll) window.scrollTo(0, 0);
}

/** Sets parameters of this page; typing replaces the entry in the history, a choice adds one. */
export function setParams(params: Record<string, string | undefined>, options: { replace?: boolean } = {}): void {
  const search = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(params)) {
    if (value === undefined || value === '') search.delete(name);
    else search.set(name, value);
  }
  const text = search.toString();
  go(text === '' ? location.pathname : `${location.pathname}?${text}`, { ...options, keepScroll: true });
}

export function setRange(next: Range): void {
  if (next.kind === 'relative') setParams({ range: next.text, from: undefined, to: undefined });
  else setParams({ from: String(next.from), to: String(next.to) });
}

export function listen(): void {
  window.addEventListener('popstate', () => {
    address.value = read();
  });
}

interface LinkProps extends Omit<JSX.AnchorHTMLAttributes<HTMLAnchorElement>, 'href'> {
  to: string;
  children: ComponentChildren;
}

/** An ordinary link that opens in place; with a modifier key the browser does what it always does. */
export function Link({ to, children, ...rest }: LinkProps): JSX.Element {
  const click = (event: MouseEvent): void => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    go(to);
  };
  return (
    <a {...rest} href={to} onClick={click}>
      {children}
    </a>
  );
}
