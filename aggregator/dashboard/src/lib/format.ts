// Numbers and names as people read them: three significant digits, units beside, thousands set apart. Pure.
import { scaleFor, type Unit } from './units';

/** Three significant digits without an exponent; whole numbers stay whole. */
export function sig3(value: number): string {
  if (!Number.isFinite(value)) return '–';
  if (value === 0) return '0';
  const abs = Math.abs(value);
  if (abs >= 99.95) return thousands(Math.round(value));
  const digits = abs >= 9.995 ? 1 : abs >= 0.9995 ? 2 : Math.min(8, 2 - Math.floor(Math.log10(abs)));
  const text = value.toFixed(digits);
  return Number.isInteger(value) ? String(value) : text;
}

/** As `sig3`, without zeros that say nothing: on an axis every label is exact. */
export function axisNumber(value: number): string {
  const text = sig3(value);
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

/** `1204` -> `1,204`. */
export function thousands(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+(?!\d))/g, ',');
}

/** Number and unit: `12.5 %`, `3.40 MiB/s`. */
export function withUnit(value: number | null | undefined, unit: Unit): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  const { divisor, suffix } = scaleFor(unit, value);
  const text = sig3(value / divisor);
  if (suffix === '') return text;
  return unit === 'count' ? `${text}${suffix}` : `${text} ${suffix}`;
}

/** `1 host`, `2 hosts`; an irregular plural is given. */
export function plural(count: number, word: string, many = `${word}s`): string {
  return `${thousands(count)} ${count === 1 ? word : many}`;
}

/** `a, b and c`. */
export function listWords(items: readonly (string | number)[], last: 'and' | 'or'): string {
  return items.length < 2 ? items.join('') : `${items.slice(0, -1).join(', ')} ${last} ${items[items.length - 1]}`;
}

/** First 12 characters of a fingerprint, without the name of its hash. */
export function shortFingerprint(fingerprint: string): string {
  return fingerprint.replace(/^SHA256:/, '').slice(0, 12);
}

/** `private_key` -> `private key`. */
export function words(name: string): string {
  return name
    .replaceAll('_', ' ')
    .replace(/\bssh\b/g, 'SSH')
    .replace(/\bopenpgp\b/g, 'OpenPGP')
    .replace(/\bcrl\b/g, 'CRL');
}

export function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** `0.8` of a second and more, for how long rules wait. */
export function secondsWords(seconds: number): string {
  if (seconds % 86400 === 0 && seconds > 0) return `${seconds / 86400} d`;
  if (seconds % 3600 === 0 && seconds > 0) return `${seconds / 3600} h`;
  if (seconds % 60 === 0 && seconds > 0) return `${seconds / 60} min`;
  return `${seconds} s`;
}
