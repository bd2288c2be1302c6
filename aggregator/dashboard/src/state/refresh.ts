// When the page asks again: a beat every ten seconds that stops while nobody looks or somebody reads a chart.
// Also keeps the server's clock, because "4 s ago" must be true where clocks differ.
import { computed, effect, signal } from '@preact/signals';

export const REFRESH_MS = 10_000;

/** Grows with every beat; whoever shows data depends on it. */
export const beat = signal(0);
/** Whether the person wants live data at all. */
export const live = signal(true);
/** Charts that are being read, by pointer or keyboard. */
const readers = signal<ReadonlySet<object>>(new Set());
const hidden = signal(document.hidden);
/** When data last came in, by this machine's clock. */
export const lastLoaded = signal<number | undefined>(undefined);

export type Pause = 'off' | 'hidden' | 'reading' | undefined;

export const paused = computed<Pause>(() => {
  if (!live.value) return 'off';
  if (hidden.value) return 'hidden';
  return readers.value.size > 0 ? 'reading' : undefined;
});

export function reading(who: object, on: boolean): void {
  if (readers.value.has(who) === on) return;
  const next = new Set(readers.value);
  if (on) next.add(who);
  else next.delete(who);
  readers.value = next;
}

export function refreshNow(): void {
  beat.value += 1;
}

/** Milliseconds the server's clock is ahead of this one. */
const skew = signal(0);

export function serverClock(now: number): void {
  const measured = now - Date.now();
  // Below two seconds it is the network's delay, not the clock.
  skew.value = Math.abs(measured) < 2000 ? 0 : measured;
}

/** The server's time, moved on while the page is looked at: seldom enough not to draw the eye. */
const CLOCK_MS = 5000;
const local = signal(Date.now());
export const now = computed(() => Math.max(local.value, lastLoaded.value ?? 0) + skew.value);

export function start(): void {
  document.addEventListener('visibilitychange', () => {
    hidden.value = document.hidden;
  });
  setInterval(() => {
    if (!hidden.value) local.value = Date.now();
  }, CLOCK_MS);
  let timer: ReturnType<typeof setInterval> | undefined;
  let first = true;
  effect(() => {
    clearInterval(timer);
    if (paused.value !== undefined) return;
    // Coming back after longer than a beat: show what is true now, at once.
    const behind = Date.now() - (lastLoaded.peek() ?? Date.now());
    if (!first && behind > REFRESH_MS) refreshNow();
    first = false;
    timer = setInterval(() => refreshNow(), REFRESH_MS);
  });
}
