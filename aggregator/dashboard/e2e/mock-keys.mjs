// For development only: the made-up keys and what happened to them, for mock-data.mjs.
import { D, H, M, NAMES, S, STARTED, hash, instant } from './mock-base.mjs';

function place(host, path, over = {}) {
  return {
    host,
    path,
    slot: 0,
    entry: null,
    owner: 'root',
    group: 'root',
    mode: '0644',
    modified: STARTED - 40 * D,
    first_seen: STARTED,
    last_seen: Date.now() - 8 * S,
    gone: false,
    kind: null,
    role: 'held',
    ...over,
  };
}

function key(name, over) {
  const id = over.id ?? hash(name);
  return {
    id,
    name,
    fingerprint: hash(over.pair ?? name),
    kind: 'certificate',
    algorithm: 'rsa',
    bits: 2048,
    curve: null,
    signature_algorithm: 'sha256WithRSAEncryption',
    not_before: Date.now() - 80 * D,
    not_after: null,
    subject: `CN=${name}`,
    issuer: 'CN=Example Issuing CA 2,O=Example',
    sans: [`DNS:${name}`],
    serial: hash(`serial${name}`).slice(0, 34),
    is_ca: false,
    trust_store: false,
    encrypted: null,
    kdf: null,
    status: 'active',
    revoked: null,
    revocation: null,
    findings: ['not_quantum_safe'],
    severity: 'info',
    first_seen: STARTED,
    last_seen: Date.now() - 8 * S,
    last_used: null,
    last_used_by: null,
    observed_since: null,
    replaces: null,
    replaced_by: null,
    places: [place('web-1', `/etc/ssl/private/${name}.pem`)],
    ...over,
  };
}

const EC = { algorithm: 'ec', bits: 256, curve: 'P-256', signature_algorithm: 'ecdsa-with-SHA256' };
const secret = (path, host = 'web-1', mode = '0600') => [place(host, path, { mode })];

export function keys() {
  const now = Date.now();
  const list = [
    key('api.example.org', {
      pair: 'api',
      not_after: now + 19 * H,
      places: [
        place('web-1', '/etc/nginx/tls/api.example.org.pem'),
        place('web-2', '/etc/nginx/tls/api.example.org.pem', { last_seen: now - 5 * M }),
        place('edge-fra-2', '/etc/haproxy/certs/api.pem', { gone: true }),
      ],
    }),
    key('shop.example.org', { not_after: now + 4.2 * D, ...EC }),
    key('mail.example.org', { not_after: now + 6.4 * D, places: [place('db-1', '/etc/postfix/mail.pem')] }),
    key('intranet.example.org', { not_after: now + 22 * D }),
    key('ldap.example.org', { not_after: now + 27 * D, places: [place('db-1', '/etc/ldap/ldap.crt')] }),
    key('grafana.example.org', { not_after: now + 61 * D, ...EC }),
    key('vpn.example.org', { not_after: now + 83 * D, places: [place('edge-fra-2', '/etc/openvpn/server.crt')] }),
    key('Example Issuing CA 2', {
      not_after: now + 4.1 * 365 * D,
      is_ca: true,
      bits: 4096,
      sans: [],
      subject: 'CN=Example Issuing CA 2,O=Example,C=DE',
      issuer: 'CN=Example Root,O=Example,C=DE',
    }),
    key('old.example.org', { not_after: now - 9 * D, status: 'expired' }),
    key('legacy.example.org', { not_after: now - 410 * D, status: 'expired', bits: 1024, signature_algorithm: 'sha1WithRSAEncryption' }),
    key('cdn.example.org', { not_after: now + 2 * D, status: 'superseded' }),
    key('gone.example.org', { status: 'revoked', revoked: now - 3 * D, revocation: 'by the list /etc/ssl/crl/ca.crl: key compromise' }),
    key('api key', {
      pair: 'api',
      kind: 'private_key',
      subject: null,
      issuer: null,
      sans: [],
      serial: null,
      signature_algorithm: null,
      encrypted: false,
      places: secret('/etc/nginx/tls/api.example.org.key', 'web-1', '0644'),
      findings: ['private_key_readable', 'not_quantum_safe'],
      severity: 'critical',
    }),
    key('backup key', {
      kind: 'private_key',
      subject: null,
      issuer: null,
      sans: [],
      serial: null,
      signature_algorithm: null,
      encrypted: true,
      kdf: 'pbkdf2-hmac-sha256, 600000 iterations',
      places: secret('/var/lib/backup/very/long/path/that/does/not/fit/into/a/column/backup-signing-2026.key', 'db-1'),
    }),
    ...NAMES.map((host) =>
      key(`host ${host}`, {
        kind: 'ssh_private_key',
        algorithm: 'ed25519',
        bits: 256,
        subject: `root@${host}`,
        issuer: null,
        sans: [],
        serial: null,
        fingerprint: `SHA256:${Buffer.from(hash(host)).toString('base64').slice(0, 43)}`,
        encrypted: false,
        places: secret('/etc/ssh/ssh_host_ed25519_key', host),
      }),
    ),
  ];
  for (let i = 0; i < 195; i += 1)
    list.push(
      key(`Public Root ${String(i).padStart(3, '0')}`, {
        is_ca: true,
        trust_store: true,
        bits: 4096,
        sans: [],
        not_after: now + (200 + i * 31) * D,
        issuer: `CN=Public Root ${i}`,
        places: NAMES.map((host) => place(host, `/etc/ssl/certs/Public_Root_${i}.pem`)),
      }),
    );
  return list;
}

export function keysAnswer(url) {
  const p = url.searchParams;
  const before = instant(p.get('expires_before'), Infinity);
  const search = (p.get('search') ?? '').toLowerCase();
  const sort = p.get('sort') ?? 'not_after';
  const field = sort.replace('-', '');
  const found = keys().filter(
    (k) =>
      (!p.get('kind') || k.kind === p.get('kind')) &&
      (!p.get('trust_store') || String(k.trust_store) === p.get('trust_store')) &&
      (!p.get('status') || k.status === p.get('status')) &&
      (!p.get('host') || k.places.some((one) => one.host === p.get('host'))) &&
      (before === Infinity || (k.not_after !== null && k.not_after < before)) &&
      [k.subject, k.fingerprint, ...k.sans, ...k.places.map((one) => one.path)].join(' ').toLowerCase().includes(search),
  );
  found.sort((a, b) => (a[field] === null) - (b[field] === null) || (a[field] > b[field] ? 1 : -1) * (sort.startsWith('-') ? -1 : 1));
  const limit = Number(p.get('limit') ?? 100);
  return { total: found.length, next_cursor: found.length > limit ? 'MTAw' : null, keys: found.slice(0, limit) };
}

/** Of two thirds of the hosts use is observed. */
export function usage(k) {
  const now = Date.now();
  const host = k.places[0]?.host ?? 'web-1';
  const dark = host.startsWith('db');
  const count = (uses, denied = 0, unauthorized = 0) => ({
    uses,
    total: Object.entries(uses).reduce((a, [word, n]) => (word === 'handshake' ? a : a + n), 0),
    denied,
    unauthorized,
    first_use: now - 29 * D,
    last_use: now - 40 * S,
  });
  const actor = (exe, user, unit, of) => ({ exe, user, unit, hosts: [host], count: of });
  const points = Array.from({ length: 30 }, (_, i) => [now - (30 - i) * D, Math.round(40_000 + 9_000 * Math.sin(i / 3) + i * 200)]);
  const actors = dark
    ? []
    : [
        actor('/usr/sbin/nginx', 'www-data', 'nginx.service', count({ open: 12, sign: 1_290_114, handshake: 1_290_110 })),
        actor('/usr/bin/openssl', 'deploy', null, count({ open: 3, sign: 7 })),
        actor('/usr/bin/python3.11', 'ana', 'user@1004.service', count({}, 4, 2)),
      ];
  return {
    key: k.id,
    interval_ms: D,
    observed: dark ? 'unknown' : 'at_least',
    observed_since: dark ? null : now - 41 * D,
    reasons: [
      { host, reason: dark ? `no sensor observes use on ${host}` : 'the operations sensor cannot see /usr/local/bin/vault: a Go program' },
    ],
    last_used: dark ? null : now - 40 * S,
    last_used_by: dark ? null : { host, exe: '/usr/sbin/nginx', user: 'www-data', unit: 'nginx.service' },
    count: dark ? null : count({ open: 15, sign: 1_290_121, handshake: 1_290_110 }, 4, 2),
    actors,
    actors_total: actors.length,
    series: dark ? {} : { sign: points },
  };
}

export function summary() {
  const list = keys();
  const within = (days) =>
    list.filter(
      (k) =>
        k.status === 'active' && !k.trust_store && k.not_after !== null && k.not_after > Date.now() && k.not_after < Date.now() + days * D,
    ).length;
  return {
    total: list.length,
    by_kind: {},
    by_status: {},
    by_algorithm: {},
    expiring: { '7d': within(7), '30d': within(30), '90d': within(90) },
    expired: 2,
    hosts: 4,
    expiring_excluded: 0,
  };
}

export function events() {
  const now = Date.now();
  const list = keys();
  const one = (id, kind, ago, host, k, message, actor = {}) => ({
    id,
    kind,
    time: now - ago,
    host,
    key: k?.id ?? null,
    path: k?.places[0]?.path ?? null,
    actor: { exe: null, pid: null, uid: null, login_uid: null, unit: null, peer: null, ...actor },
    message,
    evidence: {},
  });
  return [
    one('12', 'data_lost', 3 * M, 'web-2', undefined, '1204 sample items were given up: buffer full'),
    one('11', 'auth_failure', 4 * M, 'edge-fra-2', undefined, 'login as root failed', { peer: '203.0.113.7' }),
    one('10', 'unreadable', 5 * M, 'db-1', undefined, '/etc/ssl/broken.pem cannot be read: not base64. What to do: write it again'),
    one('9', 'coverage_lost', 5 * M, 'web-2', undefined, 'the disk sensor cannot see /srv: permission denied'),
    one('8', 'rotated', 21 * M, 'web-1', list[1], 'shop.example.org was renewed, valid until 26 November'),
    one('7', 'policy_violation', 26 * M, 'web-1', list[11], 'private key readable by others: mode 0644'),
    one('6', 'accessed', 38 * M, 'db-1', list[12], 'opened for reading', { exe: '/usr/bin/rsync', uid: 34 }),
    one('5', 'denied', 44 * M, 'db-1', list[12], 'open refused', { exe: '/usr/bin/python3', uid: 1004 }),
    ...Array.from({ length: 40 }, (_, i) => one(`c${i}`, 'created', 52 * M + i * 40, 'edge-fra-2', list[20 + i], 'found')),
    one('1', 'agent_started', 53 * M, 'edge-fra-2', undefined, 'agent 0.1.0 started'),
  ];
}
