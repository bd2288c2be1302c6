// What a key is called, what it is made of, and how urgent its end is. Pure.
import type { Key, KeyKind, Place, Role } from '../api/types';
import { DAY } from './time';

/** Places where the key still lies; where it lies nowhere, those where it lay. */
export function livePlaces(key: Key): Place[] {
  const live = key.places.filter((place) => !place.gone);
  return live.length > 0 ? live : key.places;
}

/** The key's name, of a path its last part: `shop.key`, `store.jks [tomcat]`. */
export function keyName(key: Pick<Key, 'name'>): string {
  const entry = key.name.indexOf(' [');
  const path = entry < 0 ? key.name : key.name.slice(0, entry);
  return key.name.startsWith('/') ? path.slice(path.lastIndexOf('/') + 1) + key.name.slice(path.length) : key.name;
}

/** `rsa 2048`, `ec P-256`, `ed25519`. */
export function algorithmText(key: Key): string {
  if (key.algorithm === '' || key.algorithm === 'none') return '–';
  // Behind a password: of it no more is known, and "Protection" says why.
  if (key.algorithm === 'unknown (encrypted)') return 'unknown';
  const size = key.curve ?? (key.bits === null ? undefined : String(key.bits));
  const fixed = key.algorithm.toLowerCase().startsWith('ed');
  return size === undefined || fixed || key.algorithm.includes(size) ? key.algorithm : `${key.algorithm} ${size}`;
}

export function hostsOf(key: Key): string[] {
  return [...new Set(livePlaces(key).map((place) => place.host))].sort();
}

export type Urgency = 'critical' | 'warning' | 'none' | 'past';

/** Whether somebody should act before it ends, as the aggregator counts it: a credential in use that the system did not ship. */
export function expiryMatters(key: EndOfKey): boolean {
  const used = key.status === 'active' || key.status === 'expired' || key.status === 'revoked';
  const relied = key.places.some((place) => !place.gone && reliesOnEnd(key.kind, place.role));
  return used && key.not_after !== null && !key.trust_store && relied;
}

type EndOfKey = Pick<Key, 'kind' | 'not_after' | 'status' | 'trust_store' | 'places'>;

/** Whether something stops working when a key of that kind ends, as far as a place of that role goes. */
function reliesOnEnd(kind: KeyKind, role: Role): boolean {
  switch (kind) {
    case 'certificate':
    case 'ssh_certificate':
      return role !== 'peer';
    case 'openpgp_private_key':
      return true;
    case 'openpgp_public_key':
      return role === 'trusted';
    case 'ssh_private_key':
    case 'ssh_public_key':
      return role === 'authorized';
    case 'kernel_key':
      return role === 'held';
    default:
      return false;
  }
}

/** Red is for now: what ended long ago is past. */
export function expiryUrgency(key: EndOfKey, now: number): Urgency {
  if (key.not_after === null || !expiryMatters(key)) return 'none';
  const left = key.not_after - now;
  if (left < -30 * DAY) return 'past';
  if (left < DAY) return 'critical';
  return left < 7 * DAY ? 'warning' : 'none';
}

/** Whether public CAs are among the keys shown: not unless asked for, because hundreds of them would bury the others. */
export type PublicCas = 'hidden' | 'shown' | 'only';

export function publicCas(text: string | undefined): PublicCas {
  return text === 'shown' || text === 'only' ? text : 'hidden';
}

/** The API's `trust_store` for it. */
export function trustStoreParam(choice: PublicCas): 'true' | 'false' | undefined {
  if (choice === 'shown') return undefined;
  return choice === 'only' ? 'true' : 'false';
}

/** Key pairs whose halves are both known: a certificate's private key, or the other way round. */
export function relationWord(key: Key, other: Key): string {
  const isPrivate = (kind: string): boolean => kind.endsWith('private_key');
  if (other.id === key.replaces) return 'replaced by this';
  if (other.id === key.replaced_by) return 'replaces this';
  if (isPrivate(other.kind)) return 'private key';
  if (other.kind === 'certificate_request') return 'request';
  if (other.kind.endsWith('certificate')) return isPrivate(key.kind) ? 'its certificate' : 'same key';
  return 'public half';
}

/** Whether a file mode lets everyone read: the one thing about a mode that needs an eye. */
export function worldReadable(mode: string | null): boolean {
  if (mode === null) return false;
  const last = Number.parseInt(mode.slice(-1), 8);
  return Number.isFinite(last) && (last & 4) !== 0;
}

/** Whether what lies there is a secret: only of that is use observed. */
function holdsSecret(kind: KeyKind): boolean {
  return kind.endsWith('private_key') || kind === 'symmetric_key';
}

/** Whether its secret half lies anywhere: what has none has no use of its own to speak of. */
export function isUsable(key: Pick<Key, 'kind' | 'places'>): boolean {
  return key.places.some((place) => !place.gone && holdsSecret(place.kind ?? key.kind));
}
