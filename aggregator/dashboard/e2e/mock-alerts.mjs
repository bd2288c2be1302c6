// For development only: the made-up alerts and rules, for mock-data.mjs.
import { H, M, S, TOKEN } from './mock-base.mjs';

const acknowledged = new Map();

export function alerts() {
  const now = Date.now();
  const one = (id, over) => ({
    id,
    rule_id: 'high-cpu',
    name: 'High CPU',
    priority: 'high',
    state: 'firing',
    value: 93.1,
    threshold: 90,
    comparison: '>',
    metric_id: 'system.cpu.usage_total',
    tags: { host: 'web-1' },
    since: now - 13 * M,
    fired_at: now - 8 * M,
    resolved_at: null,
    acknowledged_at: null,
    acknowledged_by: null,
    note: null,
    last_evaluated: now - 4 * S,
    stale: false,
    summary: 'system.cpu.usage_total on web-1 is 93.1 %, above 90 % for 5 min',
    runbook: null,
    ...over,
    ...acknowledged.get(id),
  });
  return [
    one('a1', {}),
    one('a2', {
      rule_id: 'certificate-expiry',
      name: 'Certificate expires',
      priority: 'critical',
      metric_id: 'crypto.key.not_after_timestamp_seconds',
      value: 68400,
      threshold: 86400,
      comparison: '<',
      tags: { host: 'web-1', path: '/etc/nginx/tls/api.example.org.pem' },
      summary: 'api.example.org on web-1 and web-2 expires in 19 h',
      since: now - 5 * H,
      fired_at: now - 5 * H,
    }),
    one('a3', {
      rule_id: 'agent-silent',
      name: 'Agent silent',
      priority: 'medium',
      metric_id: 'crypto.keystore.up',
      value: null,
      threshold: null,
      tags: { host: 'web-2' },
      stale: true,
      summary: 'web-2 was not heard of for 5 min; its samples wait there',
      since: now - 5 * M,
      fired_at: now - 4 * M,
    }),
    one('a4', {
      state: 'resolved',
      since: now - 2 * H,
      fired_at: now - 2 * H,
      resolved_at: now - 42 * M,
      tags: { host: 'web-2' },
      summary: 'system.cpu.usage_total on web-2 was above 90 %',
    }),
    one('a5', {
      rule_id: 'memory',
      name: 'Memory exhaustion',
      priority: 'critical',
      state: 'acknowledged',
      metric_id: 'system.memory.usage_percent',
      value: 88.2,
      threshold: 85,
      tags: { host: 'db-1' },
      since: now - 3 * H,
      fired_at: now - 3 * H,
      acknowledged_at: now - 2 * H,
      acknowledged_by: 'ana',
      note: 'cache warm-up, falls by itself',
      summary: 'system.memory.usage_percent on db-1 is 88.2 %, above 85 % for 5 min',
    }),
  ];
}

export function rules() {
  const one = (rule_id, name, metric_pattern, threshold_value, priority, over = {}) => ({
    rule_id,
    name,
    description: `${name}.`,
    kind: 'threshold',
    metric_pattern,
    aggregation: 'avg',
    window_seconds: 60,
    threshold_value,
    comparison: '>',
    duration_seconds: 300,
    priority,
    enabled: true,
    tags: {},
    labels: {},
    annotations: {},
    runbook: null,
    origin: 'shipped',
    ...over,
  });
  return [
    one('high-cpu', 'High CPU', 'system.cpu.usage_total', 90, 'high'),
    one('memory', 'Memory exhaustion', 'system.memory.usage_percent', 85, 'critical'),
    one('auth', 'Authentication failures', 'crypto.key.unauthorized_access', 10, 'critical', {
      aggregation: 'increase',
      window_seconds: 300,
      duration_seconds: 0,
    }),
    one('certificate-expiry', 'Certificate expires', '', null, 'critical', {
      kind: 'key_expiry',
      days: [30, 14, 7, 1],
      aggregation: 'last',
      duration_seconds: 0,
    }),
    one('agent-silent', 'Agent silent', 'crypto.keystore.up', 1, 'medium', { comparison: '<' }),
    one('disk', 'Disk nearly full', 'system.disk.usage_percent', 95, 'medium', { origin: 'file', enabled: false }),
  ];
}

export function alertsStatus() {
  const firing = alerts().filter((a) => a.state === 'firing');
  const by = {};
  for (const alert of firing) by[alert.priority] = (by[alert.priority] ?? 0) + 1;
  return {
    firing: firing.length,
    acknowledged: alerts().filter((a) => a.state === 'acknowledged').length,
    pending: 0,
    by_priority: by,
    channels: ['email:ops@example.org', 'slack'],
    rules: 5,
    notifications: { sent: 14, failed: 1, waiting: 0, last_error: 'smtp.example.org:587: connection timed out' },
  };
}

export function alertDetail(id) {
  const alert = alerts().find((a) => a.id === id);
  return (
    alert && {
      ...alert,
      history: [
        { time: alert.since, from: null, to: 'pending', value: 91 },
        { time: alert.fired_at, from: 'pending', to: 'firing', value: 92.4 },
      ],
      notifications: [
        {
          channel: 'email ops',
          state: 'sent',
          attempts: 2,
          last_error: 'connection timed out',
          time: alert.fired_at + 40 * S,
          transition: 'firing',
        },
      ],
    }
  );
}

export function acknowledge(id, headers, body) {
  if (headers.authorization !== `Bearer ${TOKEN}`)
    return { status: 401, body: { title: 'Unauthorized', status: 401, detail: 'a change needs the admin token' } };
  acknowledged.set(id, { state: 'acknowledged', acknowledged_at: Date.now(), acknowledged_by: body.by, note: body.note });
  return { status: 200, body: alertDetail(id) };
}
