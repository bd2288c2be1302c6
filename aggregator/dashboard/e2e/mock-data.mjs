// For development only: the made-up fleet behind mock-server.mjs, in the shapes of docs/reference/api.md.
import { createHash } from 'node:crypto';

const S = 1000;
const M = 60 * S;
const H = 60 * M;
const D = 24 * H;
const STARTED = Date.now() - 9 * H;
const TOKEN = 'kva1_mock';
const NAMES = ['db-1', 'edge-fra-2', 'web-1', 'web-2'];
const LENGTHS = { s: S, m: M, h: H, d: D };

const hash = (text) => createHash('sha256').update(text).digest('hex');

/** The same for the same arguments: a reload shows the same past. */
function noise(seed, time) {
  return (parseInt(hash(`${seed}${time}`).slice(0, 8), 16) / 0xffffffff) * 2 - 1;
}

function instant(text, fallback) {
  if (!text) return fallback;
  if (text === 'now') return Date.now();
  const ago = /^-(\d+)([smhd])$/.exec(text);
  if (ago) return Date.now() - Number(ago[1]) * LENGTHS[ago[2]];
  return /^\d+$/.test(text) ? Number(text) : Date.parse(text);
}

function length(text) {
  const match = /^(\d+)([smhd])$/.exec(text ?? '');
  return match ? Number(match[1]) * LENGTHS[match[2]] : M;
}

const VALUES = {
  'system.cpu.usage_total': (i, t) => [18, 41, 62, 30][i] + 9 * Math.sin(t / (11 * M) + i) + 6 * noise(`c${i}`, t) + (i === 2 && Date.now() - t < 14 * M ? 30 : 0),
  'system.memory.usage_percent': (i, t) => [71, 38, 54, 52][i] + 3 * Math.sin(t / (47 * M) + i) + 0.4 * noise(`m${i}`, t),
  'system.disk.usage_percent': (i, t, m) => [[44, 82], [31, 12], [67, 20], [66, 21]][i][m] + (t - STARTED) / (40 * H),
  'system.load.1m': (i, t) => Math.max(0.02, [0.6, 1.4, 3.1, 0.9][i] + 0.5 * Math.sin(t / (9 * M) + i) + 0.3 * noise(`l${i}`, t)),
  'system.network.bytes_recv': (i, t) => Math.max(0, ([0.4, 3.6, 1.2, 1.1][i] + 0.3 * Math.sin(t / (7 * M) + i) + 0.3 * noise(`r${i}`, t)) * 1048576),
  'system.network.bytes_sent': (i, t) => Math.max(0, ([1.9, 2.1, 0.5, 0.6][i] + 0.2 * Math.sin(t / (8 * M) + i) + 0.2 * noise(`s${i}`, t)) * 1048576),
};

function query(url) {
  const metric = url.searchParams.get('metric_pattern');
  const make = VALUES[metric];
  const start = instant(url.searchParams.get('start_time'), Date.now() - H);
  const end = instant(url.searchParams.get('end_time'), Date.now());
  const interval = length(url.searchParams.get('interval'));
  const aggregation = url.searchParams.get('aggregation');
  const host = url.searchParams.get('tag')?.replace('host:', '');
  const first = Math.floor(start / interval) * interval;
  const points = (i, m) => {
    const out = [];
    for (let t = first; t < end; t += interval) {
      const missing = t < STARTED - interval || (NAMES[i] === 'web-2' && (t > Date.now() - 5 * M || Math.abs(t - Date.now() + 33 * M) < 2.5 * M));
      out.push([t, missing ? null : aggregation === 'count' ? interval / (10 * S) : Math.min(make(i, t, m), /percent|usage/.test(metric) ? 99.6 : Infinity)]);
    }
    return out;
  };
  const series = !make
    ? []
    : NAMES.flatMap((name, i) => {
        if (host && name !== host) return [];
        const mounts = metric.includes('disk') ? ['/', '/var'] : [undefined];
        return mounts.map((mount, m) => ({ metric_id: metric, metric_type: 'gauge', tags: mount ? { host: name, mount, device: `vda${m + 1}` } : { host: name }, points: points(i, m) }));
      });
  return { start_time: start, end_time: end, aggregation, interval_ms: interval, truncated: false, samples_read: 4000, series };
}

function place(host, path, over = {}) {
  return { host, path, slot: 0, owner: 'root', group: 'root', mode: '0644', modified: STARTED - 40 * D, first_seen: STARTED, last_seen: Date.now() - 8 * S, gone: false, ...over };
}

function key(name, over) {
  const id = over.id ?? hash(name);
  return {
    id, fingerprint: hash(over.pair ?? name), kind: 'certificate', algorithm: 'rsa', bits: 2048, curve: null, signature_algorithm: 'sha256WithRSAEncryption', not_before: Date.now() - 80 * D, not_after: null,
    subject: `CN=${name}`, issuer: 'CN=Example Issuing CA 2,O=Example', sans: [`DNS:${name}`], serial: hash(`serial${name}`).slice(0, 34), is_ca: false, encrypted: null, kdf: null, status: 'active',
    first_seen: STARTED, last_seen: Date.now() - 8 * S, last_used: null, replaces: null, replaced_by: null, places: [place('web-1', `/etc/ssl/private/${name}.pem`)], ...over,
  };
}

const EC = { algorithm: 'ec', bits: 256, curve: 'P-256', signature_algorithm: 'ecdsa-with-SHA256' };
const secret = (path, host = 'web-1', mode = '0600') => [place(host, path, { mode })];

function keys() {
  const now = Date.now();
  const list = [
    key('api.example.org', { pair: 'api', not_after: now + 19 * H, places: [place('web-1', '/etc/nginx/tls/api.example.org.pem'), place('web-2', '/etc/nginx/tls/api.example.org.pem', { last_seen: now - 5 * M }), place('edge-fra-2', '/etc/haproxy/certs/api.pem', { gone: true })] }),
    key('shop.example.org', { not_after: now + 4.2 * D, ...EC }),
    key('mail.example.org', { not_after: now + 6.4 * D, places: [place('db-1', '/etc/postfix/mail.pem')] }),
    key('intranet.example.org', { not_after: now + 22 * D }),
    key('ldap.example.org', { not_after: now + 27 * D, places: [place('db-1', '/etc/ldap/ldap.crt')] }),
    key('grafana.example.org', { not_after: now + 61 * D, ...EC }),
    key('vpn.example.org', { not_after: now + 83 * D, places: [place('edge-fra-2', '/etc/openvpn/server.crt')] }),
    key('Example Issuing CA 2', { not_after: now + 4.1 * 365 * D, is_ca: true, bits: 4096, sans: [], subject: 'CN=Example Issuing CA 2,O=Example,C=DE', issuer: 'CN=Example Root,O=Example,C=DE' }),
    key('old.example.org', { not_after: now - 9 * D, status: 'expired' }),
    key('legacy.example.org', { not_after: now - 410 * D, status: 'expired', bits: 1024, signature_algorithm: 'sha1WithRSAEncryption' }),
    key('cdn.example.org', { not_after: now + 2 * D, status: 'superseded' }),
    key('api key', { pair: 'api', kind: 'private_key', subject: null, issuer: null, sans: [], serial: null, signature_algorithm: null, encrypted: false, places: secret('/etc/nginx/tls/api.example.org.key', 'web-1', '0644') }),
    key('backup key', { kind: 'private_key', subject: null, issuer: null, sans: [], serial: null, signature_algorithm: null, encrypted: true, kdf: 'pbkdf2-hmac-sha256, 600000 iterations', places: secret('/var/lib/backup/very/long/path/that/does/not/fit/into/a/column/backup-signing-2026.key', 'db-1') }),
    ...NAMES.map((host) => key(`host ${host}`, { kind: 'ssh_private_key', algorithm: 'ed25519', bits: 256, subject: `root@${host}`, issuer: null, sans: [], serial: null, fingerprint: `SHA256:${Buffer.from(hash(host)).toString('base64').slice(0, 43)}`, encrypted: false, places: secret('/etc/ssh/ssh_host_ed25519_key', host) })),
  ];
  for (let i = 0; i < 195; i += 1) list.push(key(`Public Root ${String(i).padStart(3, '0')}`, { is_ca: true, bits: 4096, sans: [], not_after: now + (200 + i * 31) * D, issuer: `CN=Public Root ${i}`, places: NAMES.map((host) => place(host, `/etc/ssl/certs/Public_Root_${i}.pem`)) }));
  return list;
}

function keysAnswer(url) {
  const p = url.searchParams;
  const before = instant(p.get('expires_before'), Infinity);
  const search = (p.get('search') ?? '').toLowerCase();
  const sort = p.get('sort') ?? 'not_after';
  const field = sort.replace('-', '');
  const found = keys().filter(
    (k) =>
      (!p.get('kind') || k.kind === p.get('kind')) &&
      (!p.get('status') || k.status === p.get('status')) &&
      (!p.get('host') || k.places.some((one) => one.host === p.get('host'))) &&
      (before === Infinity || (k.not_after !== null && k.not_after < before)) &&
      [k.subject, k.fingerprint, ...k.sans, ...k.places.map((one) => one.path)].join(' ').toLowerCase().includes(search),
  );
  found.sort((a, b) => (a[field] === null) - (b[field] === null) || (a[field] > b[field] ? 1 : -1) * (sort.startsWith('-') ? -1 : 1));
  const limit = Number(p.get('limit') ?? 100);
  return { total: found.length, next_cursor: found.length > limit ? 'MTAw' : null, keys: found.slice(0, limit) };
}

function summary() {
  const list = keys();
  const within = (days) => list.filter((k) => k.status === 'active' && k.not_after !== null && k.not_after > Date.now() && k.not_after < Date.now() + days * D).length;
  return { total: list.length, by_kind: {}, by_status: {}, by_algorithm: {}, expiring: { '7d': within(7), '30d': within(30), '90d': within(90) }, expired: 2, hosts: 4, expiring_excluded: 196 };
}

function events() {
  const now = Date.now();
  const list = keys();
  const one = (id, kind, ago, host, k, message, actor = {}) => ({ id, kind, time: now - ago, host, key: k?.id ?? null, path: k?.places[0]?.path ?? null, actor: { exe: null, pid: null, uid: null, login_uid: null, unit: null, peer: null, ...actor }, message, evidence: {} });
  return [
    one('9', 'coverage_lost', 5 * M, 'web-2', undefined, 'agent silent: nothing heard for 3 intervals'),
    one('8', 'rotated', 21 * M, 'web-1', list[1], 'shop.example.org was renewed, valid until 26 November'),
    one('7', 'policy_violation', 26 * M, 'web-1', list[11], 'private key readable by others: mode 0644'),
    one('6', 'accessed', 38 * M, 'db-1', list[12], 'opened for reading', { exe: '/usr/bin/rsync', uid: 34 }),
    one('5', 'denied', 44 * M, 'db-1', list[12], 'open refused', { exe: '/usr/bin/python3', uid: 1004 }),
    ...Array.from({ length: 40 }, (_, i) => one(`c${i}`, 'created', 52 * M + i * 40, 'edge-fra-2', list[20 + i], 'found')),
    one('1', 'agent_started', 53 * M, 'edge-fra-2', undefined, 'agent 0.1.0 started'),
  ];
}

function hosts() {
  const now = Date.now();
  const one = (host, over) => ({ host, agent: hash(host).slice(0, 32), state: 'up', last_seen: now - 4 * S, last_sample: now - 6 * S, os: 'Debian GNU/Linux 12 (bookworm)', kernel: '6.1.0-28-amd64', arch: 'x86_64', cpus: 4, memory_bytes: 16 * 2 ** 30, agent_version: '0.1.0', certificate_expires: now + 6 * D, cursor: 123, keys: 210, alerts: 0, ...over });
  return [one('web-1', { alerts: 1 }), one('web-2', { state: 'silent', last_seen: now - 5 * M, last_sample: now - 5 * M, alerts: 1 }), one('db-1', { cpus: 16, memory_bytes: 128 * 2 ** 30 }), one('edge-fra-2', { os: 'Ubuntu 24.04.1 LTS', arch: 'aarch64' })];
}

const acknowledged = new Map();

function alerts() {
  const now = Date.now();
  const one = (id, over) => ({ id, rule_id: 'high-cpu', name: 'High CPU', priority: 'high', state: 'firing', value: 93.1, threshold: 90, comparison: '>', metric_id: 'system.cpu.usage_total', tags: { host: 'web-1' }, since: now - 13 * M, fired_at: now - 8 * M, resolved_at: null, acknowledged_at: null, acknowledged_by: null, note: null, last_evaluated: now - 4 * S, stale: false, summary: 'system.cpu.usage_total on web-1 is 93.1 %, above 90 % for 5 min', runbook: null, ...over, ...acknowledged.get(id) });
  return [
    one('a1', {}),
    one('a2', { rule_id: 'certificate-expiry', name: 'Certificate expires', priority: 'critical', metric_id: 'crypto.key.not_after_timestamp_seconds', value: 68400, threshold: 86400, comparison: '<', tags: { host: 'web-1', path: '/etc/nginx/tls/api.example.org.pem' }, summary: 'api.example.org on web-1 and web-2 expires in 19 h' , since: now - 5 * H, fired_at: now - 5 * H }),
    one('a3', { rule_id: 'agent-silent', name: 'Agent silent', priority: 'medium', metric_id: 'crypto.keystore.up', value: null, threshold: null, tags: { host: 'web-2' }, stale: true, summary: 'web-2 was not heard of for 5 min; its samples wait there', since: now - 5 * M, fired_at: now - 4 * M }),
    one('a4', { state: 'resolved', since: now - 2 * H, fired_at: now - 2 * H, resolved_at: now - 42 * M, tags: { host: 'web-2' }, summary: 'system.cpu.usage_total on web-2 was above 90 %' }),
    one('a5', { rule_id: 'memory', name: 'Memory exhaustion', priority: 'critical', state: 'acknowledged', metric_id: 'system.memory.usage_percent', value: 88.2, threshold: 85, tags: { host: 'db-1' }, since: now - 3 * H, fired_at: now - 3 * H, acknowledged_at: now - 2 * H, acknowledged_by: 'ana', note: 'cache warm-up, falls by itself', summary: 'system.memory.usage_percent on db-1 is 88.2 %, above 85 % for 5 min' }),
  ];
}

function rules() {
  const one = (rule_id, name, metric_pattern, threshold_value, priority, over = {}) => ({ rule_id, name, description: `${name}.`, metric_pattern, aggregation: 'avg', window_seconds: 60, threshold_value, comparison: '>', duration_seconds: 300, priority, enabled: true, tags: {}, labels: {}, annotations: {}, runbook: null, origin: 'shipped', ...over });
  return [
    one('high-cpu', 'High CPU', 'system.cpu.usage_total', 90, 'high'),
    one('memory', 'Memory exhaustion', 'system.memory.usage_percent', 85, 'critical'),
    one('auth', 'Authentication failures', 'crypto.key.unauthorized_access', 10, 'critical', { aggregation: 'increase', window_seconds: 300, duration_seconds: 0 }),
    one('certificate-expiry', 'Certificate expires', 'crypto.key.not_after_timestamp_seconds', 86400, 'critical', { comparison: '<', aggregation: 'last', duration_seconds: 0 }),
    one('agent-silent', 'Agent silent', 'crypto.keystore.up', 1, 'medium', { comparison: '<' }),
    one('disk', 'Disk nearly full', 'system.disk.usage_percent', 95, 'medium', { origin: 'file', enabled: false }),
  ];
}

function alertsStatus() {
  const firing = alerts().filter((a) => a.state === 'firing');
  const by = {};
  for (const alert of firing) by[alert.priority] = (by[alert.priority] ?? 0) + 1;
  return { firing: firing.length, acknowledged: alerts().filter((a) => a.state === 'acknowledged').length, pending: 0, by_priority: by, rules: 5, notifications: { sent: 14, failed: 1, waiting: 0, last_error: 'smtp.example.org:587: connection timed out' } };
}

function alertDetail(id) {
  const alert = alerts().find((a) => a.id === id);
  return alert && { ...alert, history: [{ time: alert.since, from: null, to: 'pending', value: 91 }, { time: alert.fired_at, from: 'pending', to: 'firing', value: 92.4 }], notifications: [{ channel: 'email ops', state: 'sent', attempts: 2, last_error: 'connection timed out', time: alert.fired_at + 40 * S, transition: 'firing' }] };
}

function acknowledge(id, headers, body) {
  if (headers.authorization !== `Bearer ${TOKEN}`) return { status: 401, body: { title: 'Unauthorized', status: 401, detail: 'a change needs the admin token' } };
  acknowledged.set(id, { state: 'acknowledged', acknowledged_at: Date.now(), acknowledged_by: body.by, note: body.note });
  return { status: 200, body: alertDetail(id) };
}

const NOTHING = {
  hosts: () => ({ hosts: [] }),
  gaps: () => ({ gaps: [] }),
  keys: () => ({ total: 0, next_cursor: null, keys: [] }),
  'keys/summary': () => ({ total: 0, by_kind: {}, by_status: {}, by_algorithm: {}, expiring: { '7d': 0, '30d': 0, '90d': 0 }, expired: 0, hosts: 0 }),
  events: () => ({ next_cursor: null, events: [] }),
  alerts: () => ({ alerts: [] }),
  'alerts/status': () => ({ ...alertsStatus(), firing: 0, acknowledged: 0, by_priority: {}, notifications: { sent: 0, failed: 0, waiting: 0, last_error: null } }),
  query: (url) => ({ ...query(url), series: [] }),
  status: () => ({ ...FULL.status(), series: 0, samples_stored: 0, samples_per_second: 0 }),
};

const FULL = {
  status: () => ({ version: '0.1.0', started: STARTED, now: Date.now(), uptime_seconds: (Date.now() - STARTED) / S, series: 812, samples_stored: 2_911_204 + Math.round((Date.now() - STARTED) / 12), samples_per_second: 81.4 + 3 * noise('i', Math.floor(Date.now() / (10 * S))), hosts: { up: 3, silent: 1, unknown: 0 }, bytes_on_disk: 21_000_000, level0_batches: 3, agents: 4, tenant: 'default', read_only_without_token: true, dashboard: true }),
  hosts: () => ({ hosts: hosts() }),
  gaps: () => ({ gaps: [] }),
  query,
  keys: keysAnswer,
  'keys/summary': summary,
  events: (url) => ({ next_cursor: null, events: events().filter((e) => e.time >= instant(url.searchParams.get('start_time'), 0) && (!url.searchParams.get('host') || e.host === url.searchParams.get('host'))) }),
  alerts: (url) => {
    const wanted = (url.searchParams.get('state') ?? 'pending,firing,acknowledged').split(',');
    return { alerts: alerts().filter((a) => wanted.includes(a.state)) };
  },
  'alerts/status': alertsStatus,
  'alerts/rules': () => ({ rules: rules() }),
};

function one(path) {
  const [kind, id, verb] = path.split('/');
  if (verb !== undefined) return undefined;
  if (kind === 'alerts') return alertDetail(id);
  const found = kind === 'keys' ? keys().find((k) => k.id === id || k.fingerprint === id) : undefined;
  return found && { key: found, related: keys().filter((k) => k.fingerprint === found.fingerprint), events: events().filter((e) => e.key === found.id) };
}

/** What the API would say. */
export function answer(mode, method, url, headers, body) {
  const path = url.pathname.slice('/api/v1/'.length);
  if (mode === 'error' && path !== 'status') return { status: 503, body: { type: 'about:blank', title: 'Service Unavailable', status: 503, detail: 'the store is not ready: disk I/O error on metrics.db' } };
  if (method === 'PUT') return acknowledge(path.split('/')[1], headers, body);
  const route = (mode === 'empty' ? NOTHING[path] : undefined) ?? FULL[path];
  const said = route ? route(url) : mode === 'empty' ? undefined : one(path);
  return said ? { status: 200, body: said } : { status: 404, body: { type: 'about:blank', title: 'Not Found', status: 404, detail: `there is no ${path}` } };
}
