// Checks how keys are named and how urgent their end is.
import { describe, expect, it } from 'vitest';
import type { Key } from '../api/types';
import {
  algorithmText,
  expiryMatters,
  expiryUrgency,
  hostsOf,
  keyName,
  publicCas,
  relationWord,
  trustStoreParam,
  worldReadable,
} from './keys';
import { DAY } from './time';

const NOW = Date.UTC(2026, 10, 22);

function key(over: Partial<Key>): Key {
  return {
    id: 'a',
    name: '/etc/ssl/a.pem',
    fingerprint: 'f',
    kind: 'certificate',
    algorithm: 'rsa',
    bits: 2048,
    curve: null,
    signature_algorithm: null,
    not_before: null,
    not_after: null,
    subject: null,
    issuer: null,
    sans: [],
    serial: null,
    trust_store: false,
    is_ca: null,
    encrypted: null,
    kdf: null,
    status: 'active',
    revoked: null,
    revocation: null,
    findings: [],
    severity: null,
    first_seen: 0,
    last_seen: 0,
    last_used: null,
    last_used_by: null,
    observed_since: null,
    replaces: null,
    replaced_by: null,
    places: [
      {
        host: 'web-1',
        kind: null,
        role: 'held',
        path: '/etc/ssl/a.pem',
        slot: 0,
        entry: null,
        owner: null,
        group: null,
        mode: null,
        modified: null,
        first_seen: 0,
        last_seen: 0,
        gone: false,
      },
    ],
    places_total: 1,
    hosts_total: 1,
    ...over,
  };
}

describe('names', () => {
  it('goes by purpose', () => {
    expect(keyName(key({ name: 'a.example.org/x' }))).toBe('a.example.org/x');
    expect(keyName(key({ name: '/etc/ssl/a.pem' }))).toBe('a.pem');
    expect(keyName(key({ name: '/srv/store.jks [a/b]' }))).toBe('store.jks [a/b]');
  });
  it('says what it is made of', () => {
    expect(algorithmText(key({}))).toBe('rsa 2048');
    expect(algorithmText(key({ algorithm: 'ec', bits: 256, curve: 'P-256' }))).toBe('ec P-256');
    expect(algorithmText(key({ algorithm: 'ed25519', bits: 256 }))).toBe('ed25519');
  });
  it('counts a host once, and only where the key still lies', () => {
    const place = key({}).places[0];
    if (!place) throw new Error('no place');
    expect(hostsOf(key({ places: [place, { ...place, slot: 1 }, { ...place, host: 'b', gone: true }] }))).toEqual(['web-1']);
  });
});

describe('urgency', () => {
  it.each([
    [-400, 'past'],
    [-3, 'critical'],
    [0.5, 'critical'],
    [3, 'warning'],
    [20, 'none'],
  ] as const)('%d days -> %s', (days, wanted) => {
    expect(expiryUrgency(key({ not_after: NOW + days * DAY }), NOW)).toBe(wanted);
  });
  it('is quiet for what was replaced or never ends', () => {
    expect(expiryUrgency(key({ not_after: NOW, status: 'superseded' }), NOW)).toBe('none');
    expect(expiryUrgency(key({ not_after: NOW, trust_store: true }), NOW)).toBe('none');
    expect(expiryUrgency(key({}), NOW)).toBe('none');
  });
});

describe('whose end matters', () => {
  it('is what is in use and of this house', () => {
    const soon = { not_after: NOW + DAY / 2 };
    expect(expiryMatters(key(soon))).toBe(true);
    expect(expiryMatters(key({ ...soon, kind: 'ssh_certificate' }))).toBe(true);
    expect(expiryMatters(key({ ...soon, status: 'revoked' }))).toBe(true);
    for (const over of [{ trust_store: true }, { status: 'removed' }, { kind: 'crl' }, { kind: 'ssh_public_key' }] as const) {
      expect(expiryMatters(key({ ...soon, ...over }))).toBe(false);
      expect(expiryUrgency(key({ ...soon, ...over }), NOW)).toBe('none');
    }
  });
});

describe('public CAs', () => {
  it.each([
    [undefined, 'hidden', 'false'],
    ['nonsense', 'hidden', 'false'],
    ['shown', 'shown', undefined],
    ['only', 'only', 'true'],
  ] as const)('%s -> %s', (text, choice, asked) => {
    expect(publicCas(text)).toBe(choice);
    expect(trustStoreParam(choice)).toBe(asked);
  });
});

describe('relations and modes', () => {
  it('names the other half', () => {
    expect(relationWord(key({}), key({ id: 'b', kind: 'private_key' }))).toBe('private key');
    expect(relationWord(key({ kind: 'private_key' }), key({ id: 'b' }))).toBe('its certificate');
    expect(relationWord(key({ replaces: 'old' }), key({ id: 'old' }))).toBe('replaced by this');
  });
  it('sees who may read', () => {
    expect(worldReadable('0644')).toBe(true);
    expect(worldReadable('0640')).toBe(false);
    expect(worldReadable(null)).toBe(false);
  });
});
