// The keys that work everywhere on the page, except while something is being typed.
import { PRESETS, shiftRange, parseRange } from '../lib/time';
import { PAGES, go, href, range, setParams, setRange } from '../routes';
import { now, refreshNow } from '../state/refresh';

export const SHORTCUTS: readonly { keys: string; what: string }[] = [
  ...PAGES.map((page) => ({ keys: `g ${page.key}`, what: page.title })),
  { keys: 'r', what: 'Refresh now' },
  { keys: '/', what: 'Search' },
  { keys: '[ ]', what: 'Earlier, later' },
  { keys: '- +', what: 'Longer, shorter range' },
  { keys: 't', what: 'Follow the clock again' },
  { keys: '← →', what: 'Move the cursor of a focused chart' },
  { keys: '?', what: 'This sheet' },
];

/** How long a `g` waits for the letter of a page. */
const CHORD_MS = 1500;

function typing(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

function zoom(scale: number): void {
  const current = range.peek();
  if (current.kind === 'relative') {
    const at = (PRESETS as readonly string[]).indexOf(current.text);
    const next = PRESETS[at + (scale > 1 ? 1 : -1)];
    if (at >= 0 && next !== undefined) setRange(parseRange({ range: next }));
    if (at >= 0) return;
  }
  setRange(shiftRange(current, now.peek(), 0, scale));
}

function focusSearch(): boolean {
  const field = document.querySelector<HTMLInputElement>('input[type="search"]');
  field?.focus();
  field?.select();
  return field !== null;
}

/** Returns how to stop listening. */
export function listenKeys(toggleSheet: () => void): () => void {
  let chord = 0;
  const single: Record<string, () => void> = {
    r: refreshNow,
    '?': toggleSheet,
    '[': () => setRange(shiftRange(range.peek(), now.peek(), -0.5, 1)),
    ']': () => setRange(shiftRange(range.peek(), now.peek(), 0.5, 1)),
    '-': () => zoom(2),
    '+': () => zoom(0.5),
    t: () => setParams({ from: undefined, to: undefined }),
    '/': () => {
      if (focusSearch()) return;
      go(href('/keys'));
      requestAnimationFrame(() => requestAnimationFrame(focusSearch));
    },
  };
  const listener = (event: KeyboardEvent): void => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    if (document.querySelector('dialog[open]') && event.key !== '?') return;
    const afterG = Date.now() - chord < CHORD_MS;
    chord = 0;
    const page = afterG ? PAGES.find((candidate) => candidate.key === event.key) : undefined;
    if (page) {
      event.preventDefault();
      go(href(page.path));
    } else if (event.key === 'g') {
      chord = Date.now();
    } else if (single[event.key]) {
      event.preventDefault();
      single[event.key]?.();
    }
  };
  document.addEventListener('keydown', listener);
  return () => document.removeEventListener('keydown', listener);
}
