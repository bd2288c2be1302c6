// For development only: clock, names and chance of the made-up fleet.
import { createHash } from 'node:crypto';

export const S = 1000;
export const M = 60 * S;
export const H = 60 * M;
export const D = 24 * H;
export const STARTED = Date.now() - 9 * H;
export const TOKEN = 'kva1_mock';
export const NAMES = ['db-1', 'edge-fra-2', 'web-1', 'web-2'];
const LENGTHS = { s: S, m: M, h: H, d: D };

export const hash = (text) => createHash('sha256').update(text).digest('hex');

/** The same for the same arguments: a reload shows the same past. */
export function noise(seed, time) {
  return (parseInt(hash(`${seed}${time}`).slice(0, 8), 16) / 0xffffffff) * 2 - 1;
}

export function instant(text, fallback) {
  if (!text) return fallback;
  if (text === 'now') return Date.now();
  const ago = /^-(\d+)([smhd])$/.exec(text);
  if (ago) return Date.now() - Number(ago[1]) * LENGTHS[ago[2]];
  return /^\d+$/.test(text) ? Number(text) : Date.parse(text);
}

export function length(text) {
  const match = /^(\d+)([smhd])$/.exec(text ?? '');
  return match ? Number(match[1]) * LENGTHS[match[2]] : M;
}
