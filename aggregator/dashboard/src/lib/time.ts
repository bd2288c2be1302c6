// Lengths of time, ranges and instants: parsing what stands in the URL, choosing bucket widths, writing times for people.
// Pure: never reads the clock or the URL itself.

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

const UNIT_MS: Record<string, number> = { s: SECOND, m: MINUTE, h: HOUR, d: DAY, w: 7 * DAY };

/** `15m` -> ms; undefined when it is not a length of time. */
export function parseLength(text: string): number | undefined {
  const match = /^(\d{1,6})([smhdw])$/.exec(text.trim());
  if (!match) return undefined;
  const unit = UNIT_MS[match[2] ?? ''];
  const value = Number(match[1]);
  return unit === undefined || value === 0 ? undefined : value * unit;
}

/** A range that follows the clock, or one between two fixed instants. */
export type Range = { kind: 'relative'; text: string; length: number } | { kind: 'absolute'; from: number; to: number };

export const PRESETS = ['5m', '15m', '1h', '6h', '24h', '7d'] as const;
export const DEFAULT_RANGE = '1h';

/** What the URL says; a fixed range wins over a relative one, nonsense falls back to the default. */
export function parseRange(
  params: { range?: string | undefined; from?: string | undefined; to?: string | undefined },
  usual: string = DEFAULT_RANGE,
): Range {
  const from = Number(params.from);
  const to = Number(params.to);
  if (params.from && params.to && Number.isFinite(from) && Number.isFinite(to) && to > from) {
    return { kind: 'absolute', from, to };
  }
  const text = params.range ?? usual;
  const length = parseLength(text);
  if (length !== undefined) return { kind: 'relative', text, length };
  return { kind: 'relative', text: DEFAULT_RANGE, length: HOUR };
}

/** What to show first: an hour, or less where there is not that much yet, so that the first minutes are no sliver. */
export function usualRange(age: number): string {
  return ['5m', '15m'].find((preset) => (parseLength(preset) ?? 0) >= age) ?? DEFAULT_RANGE;
}

export function rangeLength(range: Range): number {
  return range.kind === 'relative' ? range.length : range.to - range.from;
}

/** Query parameters of a range. A relative one is resolved by the server, so that a wrong clock here does no harm. */
export function rangeParams(range: Range): { start_time: string; end_time: string } {
  if (range.kind === 'absolute') return { start_time: String(range.from), end_time: String(range.to) };
  return { start_time: `-${intervalText(range.length)}`, end_time: 'now' };
}

const NICE = [10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400].map((s) => s * SECOND);

/** Width of a bucket so that a chart has at most about 120 of them. */
export function chartInterval(length: number): number {
  const wanted = length / 120;
  const found = NICE.find((width) => width >= wanted);
  return found ?? Math.ceil(wanted / DAY) * DAY;
}

/** `30000` -> `30s`, as the API's `interval` takes it. */
export function intervalText(ms: number): string {
  for (const [unit, size] of [
    ['d', DAY],
    ['h', HOUR],
    ['m', MINUTE],
  ] as const) {
    if (ms >= size && ms % size === 0) return `${ms / size}${unit}`;
  }
  return `${Math.round(ms / SECOND)}s`;
}

/** `90000` -> `90 s`, `5400000` -> `90 min`: one unit, no more digits than are true. */
export function lengthWords(ms: number): string {
  const abs = Math.abs(ms);
  if (abs < 100 * SECOND) return `${Math.round(abs / SECOND)} s`;
  if (abs < 100 * MINUTE) return `${Math.round(abs / MINUTE)} min`;
  if (abs < 48 * HOUR) return `${Math.round(abs / HOUR)} h`;
  if (abs < 100 * DAY) return `${Math.round(abs / DAY)} d`;
  if (abs < 730 * DAY) return `${Math.round(abs / (30.44 * DAY))} months`;
  const years = abs / (365.25 * DAY);
  return `${years < 99.5 ? years.toFixed(1) : Math.round(years)} years`;
}

/** `4 min ago`, `in 6 d`, `now`. */
export function relative(time: number, now: number): string {
  const difference = time - now;
  if (Math.abs(difference) < 2 * SECOND) return 'now';
  return difference < 0 ? `${lengthWords(difference)} ago` : `in ${lengthWords(difference)}`;
}

interface Parts {
  year: string;
  month: string;
  day: string;
  hour: string;
  minute: string;
  second: string;
}

function parts(time: number, utc: boolean): Parts {
  const date = new Date(time);
  const two = (value: number): string => String(value).padStart(2, '0');
  // Moved by its offset, a local time can be read with the same calls as one in UTC.
  const shown = utc ? date : new Date(time - date.getTimezoneOffset() * MINUTE);
  return {
    year: String(shown.getUTCFullYear()),
    month: two(shown.getUTCMonth() + 1),
    day: two(shown.getUTCDate()),
    hour: two(shown.getUTCHours()),
    minute: two(shown.getUTCMinutes()),
    second: two(shown.getUTCSeconds()),
  };
}

function offset(time: number, utc: boolean): string {
  if (utc) return 'UTC';
  const minutes = -new Date(time).getTimezoneOffset();
  if (minutes === 0) return 'UTC';
  const sign = minutes < 0 ? '-' : '+';
  const abs = Math.abs(minutes);
  return `UTC${sign}${String(Math.floor(abs / 60)).padStart(2, '0')}:${String(abs % 60).padStart(2, '0')}`;
}

/** `2026-11-22 18:00:00 UTC`. */
export function absolute(time: number, utc: boolean): string {
  const p = parts(time, utc);
  return `${p.year}-${p.month}-${p.day} ${p.hour}:${p.minute}:${p.second} ${offset(time, utc)}`;
}

/** `2026-11-22`. */
export function dateOnly(time: number, utc: boolean): string {
  const p = parts(time, utc);
  return `${p.year}-${p.month}-${p.day}`;
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** Label of a tick on a time axis whose ticks stand `step` ms apart: midnight shows the day. */
export function axisLabel(time: number, step: number, utc: boolean): string {
  const p = parts(time, utc);
  const day = `${Number(p.day)} ${MONTHS[Number(p.month) - 1] ?? ''}`;
  if (step >= DAY || (p.hour === '00' && p.minute === '00' && p.second === '00')) return day;
  return step < MINUTE ? `${p.hour}:${p.minute}:${p.second}` : `${p.hour}:${p.minute}`;
}

/** `18:00:30`, with the day in front when the range is longer than one. */
export function cursorLabel(time: number, length: number, utc: boolean): string {
  const p = parts(time, utc);
  const clock = `${p.hour}:${p.minute}:${p.second}`;
  return length > 20 * HOUR ? `${Number(p.day)} ${MONTHS[Number(p.month) - 1] ?? ''} ${clock}` : clock;
}

/** Value of an `<input type="datetime-local">`. */
export function inputValue(time: number, utc: boolean): string {
  const p = parts(time, utc);
  return `${p.year}-${p.month}-${p.day}T${p.hour}:${p.minute}`;
}

export function parseInput(text: string, utc: boolean): number | undefined {
  if (text === '') return undefined;
  const time = Date.parse(utc ? `${text}Z` : text);
  return Number.isFinite(time) ? time : undefined;
}

/** `Last 1 h`, or both ends of a fixed range. */
export function rangeWords(range: Range, utc: boolean): string {
  if (range.kind === 'relative')
    return `Last ${range.text.replace(/(\d+)([smhdw])/, (_, n: string, u: string) => `${n} ${u === 'm' ? 'min' : u}`)}`;
  const from = parts(range.from, utc);
  const to = parts(range.to, utc);
  const sameDay = dateOnly(range.from, utc) === dateOnly(range.to, utc);
  const short = (p: Parts): string => `${p.month}-${p.day} ${p.hour}:${p.minute}`;
  return `${short(from)} – ${sameDay ? `${to.hour}:${to.minute}` : short(to)}`;
}

/** The range moved by a part of its own length, or made longer or shorter around its middle; never beyond now. */
export function shiftRange(range: Range, now: number, move: number, scale: number): Range {
  const to = range.kind === 'relative' ? now : range.to;
  const length = rangeLength(range);
  const middle = to - length / 2 + move * length;
  const wanted = Math.max(MINUTE, length * scale);
  const end = Math.min(now, middle + wanted / 2);
  return { kind: 'absolute', from: Math.round(end - wanted), to: Math.round(end) };
}
