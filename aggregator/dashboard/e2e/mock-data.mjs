// For development only: the made-up fleet behind mock-server.mjs, in the shapes of docs/reference/api.md.
import { D, H, M, NAMES, S, STARTED, hash, instant, length, noise } from './mock-base.mjs';
import { acknowledge, alertDetail, alerts, alertsStatus, rules } from './mock-alerts.mjs';
import { events, keys, keysAnswer, summary, usage } from './mock-keys.mjs';

const VALUES = {
  'system.cpu.usage_total': (i, t) =>
    [18, 41, 62, 30][i] + 9 * Math.sin(t / (11 * M) + i) + 6 * noise(`c${i}`, t) + (i === 2 && Date.now() - t < 14 * M ? 30 : 0),
  'system.memory.usage_percent': (i, t) => [71, 38, 54, 52][i] + 3 * Math.sin(t / (47 * M) + i) + 0.4 * noise(`m${i}`, t),
  'system.disk.usage_percent': (i, t, m) =>
    [
      [44, 82],
      [31, 12],
      [67, 20],
      [66, 21],
    ][i][m] +
    (t - STARTED) / (40 * H),
  'system.load.1m': (i, t) => Math.max(0.02, [0.6, 1.4, 3.1, 0.9][i] + 0.5 * Math.sin(t / (9 * M) + i) + 0.3 * noise(`l${i}`, t)),
  'system.network.bytes_recv': (i, t) =>
    Math.max(0, ([0.4, 3.6, 1.2, 1.1][i] + 0.3 * Math.sin(t / (7 * M) + i) + 0.3 * noise(`r${i}`, t)) * 1048576),
  'system.network.bytes_sent': (i, t) =>
    Math.max(0, ([1.9, 2.1, 0.5, 0.6][i] + 0.2 * Math.sin(t / (8 * M) + i) + 0.2 * noise(`s${i}`, t)) * 1048576),
};

function query(url) {
  const metric = url.searchParams.get('metric_pattern');
  const make = VALUES[metric];
  const start = instant(url.searchParams.get('start_time'), Date.now() - H);
  const end = instant(url.searchParams.get('end_time'), Date.now());
  const interval = length(url.searchParams.get('interval'));
  const aggregation = url.searchParams.get('aggregation');
  const host = url.searchParams
    .getAll('tag')
    .find((tag) => tag.startsWith('host:'))
    ?.replace('host:', '');
  const first = Math.floor(start / interval) * interval;
  const points = (i, m) => {
    const out = [];
    for (let t = first; t < end; t += interval) {
      const missing =
        t < STARTED - interval || (NAMES[i] === 'web-2' && (t > Date.now() - 5 * M || Math.abs(t - Date.now() + 33 * M) < 2.5 * M));
      out.push([
        t,
        missing
          ? null
          : aggregation === 'count'
            ? interval / (10 * S)
            : Math.min(make(i, t, m), /percent|usage/.test(metric) ? 99.6 : Infinity),
      ]);
    }
    return out;
  };
  const series = !make
    ? []
    : NAMES.flatMap((name, i) => {
        if (host && name !== host) return [];
        const mounts = metric.includes('disk') ? ['/', '/var'] : [undefined];
        return mounts.map((mount, m) => ({
          metric_id: metric,
          metric_type: 'gauge',
          tags: mount ? { host: name, mount, device: `vda${m + 1}` } : { host: name },
          points: points(i, m),
        }));
      });
  return { start_time: start, end_time: end, aggregation, interval_ms: interval, truncated: false, samples_read: 4000, series };
}

function hosts() {
  const now = Date.now();
  const one = (host, over) => ({
    host,
    agent: hash(host).slice(0, 32),
    state: 'up',
    last_seen: now - 4 * S,
    last_sample: now - 6 * S,
    os: 'Debian GNU/Linux 12 (bookworm)',
    kernel: '6.1.0-28-amd64',
    arch: 'x86_64',
    cpus: 4,
    memory_bytes: 16 * 2 ** 30,
    agent_version: '0.1.0',
    enrolled: now - 30 * 86_400_000,
    certificate_expires: now + 6 * D,
    cursor: 123,
    blind: 0,
    keys: 210,
    alerts: 0,
    ...over,
  });
  return [
    one('web-1', { alerts: 1 }),
    one('web-2', { state: 'silent', last_seen: now - 5 * M, last_sample: now - 5 * M, alerts: 1 }),
    one('db-1', { blind: 2, cpus: 16, memory_bytes: 128 * 2 ** 30 }),
    one('edge-fra-2', { os: 'Ubuntu 24.04.1 LTS', arch: 'aarch64' }),
  ];
}

const NOTHING = {
  hosts: () => ({ hosts: [] }),
  gaps: () => ({ next_cursor: null, gaps: [] }),
  keys: () => ({ total: 0, next_cursor: null, keys: [] }),
  'keys/summary': () => ({
    total: 0,
    by_kind: {},
    by_status: {},
    by_algorithm: {},
    expiring: { '7d': 0, '30d': 0, '90d': 0 },
    expired: 0,
    hosts: 0,
  }),
  events: () => ({ next_cursor: null, events: [] }),
  alerts: () => ({ alerts: [] }),
  'alerts/status': () => ({
    ...alertsStatus(),
    firing: 0,
    acknowledged: 0,
    by_priority: {},
    channels: [],
    notifications: { sent: 0, failed: 0, waiting: 0, last_error: null },
  }),
  query: (url) => ({ ...query(url), series: [] }),
  status: () => ({ ...FULL.status(), series: 0, samples_stored: 0, samples_per_second: 0 }),
};

const FULL = {
  status: () => ({
    version: '0.1.0',
    started: STARTED,
    now: Date.now(),
    uptime_seconds: (Date.now() - STARTED) / S,
    series: 812,
    samples_stored: 2_911_204 + Math.round((Date.now() - STARTED) / 12),
    samples_per_second: 81.4 + 3 * noise('i', Math.floor(Date.now() / (10 * S))),
    hosts: { up: 3, silent: 1, unknown: 0 },
    bytes_on_disk: 21_000_000,
    level0_batches: 3,
    agents: 4,
    tenant: 'default',
    read_only_without_token: true,
    dashboard: true,
  }),
  hosts: () => ({ hosts: hosts() }),
  gaps: () => ({
    next_cursor: null,
    gaps: [
      { host: 'web-2', class: 'detail', cause: 'buffer full', first_seq: 812, last_seq: 830, items: 2310, time: Date.now() - 40 * M },
      { host: 'db-1', class: 'sample', cause: 'corrupt', first_seq: 1, last_seq: 9, items: null, time: Date.now() - 5 * H },
    ],
  }),
  query,
  keys: keysAnswer,
  'keys/summary': summary,
  events: (url) => ({
    next_cursor: null,
    events: events().filter(
      (e) =>
        e.time >= instant(url.searchParams.get('start_time'), 0) &&
        (!url.searchParams.get('host') || e.host === url.searchParams.get('host')),
    ),
  }),
  alerts: (url) => {
    const wanted = (url.searchParams.get('state') ?? 'pending,firing,acknowledged').split(',');
    return { alerts: alerts().filter((a) => wanted.includes(a.state)) };
  },
  'alerts/status': alertsStatus,
  'alerts/rules': () => ({ rules: rules() }),
};

function one(path) {
  const [kind, id, verb] = path.split('/');
  const found = kind === 'keys' ? keys().find((k) => k.id === id || k.fingerprint === id) : undefined;
  if (verb === 'usage') return found && usage(found);
  if (verb !== undefined) return undefined;
  if (kind === 'alerts') return alertDetail(id);
  return (
    found && {
      key: found,
      findings: found.findings.map((kind) => ({
        id: `${found.id.slice(0, 8)}${kind.length}`,
        kind,
        severity: kind === 'not_quantum_safe' ? 'info' : found.severity,
        hosts: [...new Set(found.places.map((p) => p.host))],
        places: found.places.map((p) => ({ host: p.host, path: p.path })),
        places_total: found.places.length,
        title: `${found.places[0].path}: ${kind.replaceAll('_', ' ')}`,
        evidence: { mode: found.places[0].mode },
        remedy: 'Make a new key, replace what carries this one, then remove it.',
        since: found.first_seen,
      })),
      related: keys().filter((k) => k.fingerprint === found.fingerprint),
      events: events().filter((e) => e.key === found.id),
    }
  );
}

/** What the API would say. */
export function answer(mode, method, url, headers, body) {
  const path = url.pathname.slice('/api/v1/'.length);
  if (mode === 'error' && path !== 'status')
    return {
      status: 503,
      body: {
        type: 'about:blank',
        title: 'Service Unavailable',
        status: 503,
        detail: 'the store is not ready: disk I/O error on metrics.db',
      },
    };
  if (method === 'PUT') return acknowledge(path.split('/')[1], headers, body);
  const route = (mode === 'empty' ? NOTHING[path] : undefined) ?? FULL[path];
  const said = route ? route(url) : mode === 'empty' ? undefined : one(path);
  return said
    ? { status: 200, body: said }
    : { status: 404, body: { type: 'about:blank', title: 'Not Found', status: 404, detail: `there is no ${path}` } };
}
