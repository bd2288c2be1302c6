// The answers of the HTTP API, as docs/reference/api.md describes them. Times are Unix milliseconds.
// Fields the page does not use are left out; nothing here is made up.

export interface QueryAnswer {
  start_time: number;
  end_time: number;
  aggregation: string | null;
  interval_ms: number | null;
  truncated: boolean;
  samples_read: number;
  series: QuerySeries[];
}

export interface QuerySeries {
  metric_id: string;
  metric_type: 'counter' | 'gauge' | 'histogram';
  tags: Record<string, string>;
  points: [number, number | null][];
}

export type KeyKind =
  | 'certificate'
  | 'private_key'
  | 'public_key'
  | 'ssh_private_key'
  | 'ssh_public_key'
  | 'ssh_certificate'
  | 'certificate_request'
  | 'crl'
  | 'openpgp_private_key'
  | 'openpgp_public_key'
  | 'symmetric_key'
  | 'kernel_key';
export const KEY_KINDS: readonly KeyKind[] = [
  'certificate',
  'private_key',
  'public_key',
  'ssh_private_key',
  'ssh_public_key',
  'ssh_certificate',
  'certificate_request',
  'crl',
  'openpgp_private_key',
  'openpgp_public_key',
  'symmetric_key',
  'kernel_key',
];

export type KeyStatus = 'active' | 'superseded' | 'expired' | 'revoked' | 'removed';
export const KEY_STATUSES: readonly KeyStatus[] = ['active', 'superseded', 'expired', 'revoked', 'removed'];

export type Role = 'held' | 'trusted' | 'authorized' | 'peer' | 'served';

export interface Place {
  host: string;
  /** What lies there: a key file and its public half are one key. */
  kind: KeyKind | null;
  role: Role;
  path: string;
  slot: number;
  /** What the file calls it: an alias, a `kid`. */
  entry: string | null;
  owner: string | null;
  group: string | null;
  mode: string | null;
  modified: number | null;
  first_seen: number;
  last_seen: number;
  gone: boolean;
}

export interface Key {
  id: string;
  /** By purpose: subject, alias, or the path of its file. */
  name: string;
  fingerprint: string;
  kind: KeyKind;
  algorithm: string;
  bits: number | null;
  curve: string | null;
  signature_algorithm: string | null;
  not_before: number | null;
  not_after: number | null;
  subject: string | null;
  issuer: string | null;
  sans: string[];
  serial: string | null;
  is_ca: boolean | null;
  /** A CA that the system ships to trust others: its end concerns nobody here. */
  trust_store: boolean;
  encrypted: boolean | null;
  kdf: string | null;
  status: KeyStatus;
  /** Since when it is revoked, and who says so. */
  revoked: number | null;
  revocation: string | null;
  /** Kinds of what is wrong with it, the worst first, and how much that matters. */
  findings: string[];
  severity: Severity | null;
  first_seen: number;
  last_seen: number;
  /** null: not seen to be used, which is no proof of no use where `observed_since` is null */
  last_used: number | null;
  last_used_by: UsedBy | null;
  /** Since when its use is observed on every host where its private half lies. */
  observed_since: number | null;
  replaces: string | null;
  replaced_by: string | null;
  /** Of a list only the first. */
  places: Place[];
  places_total: number;
  /** Hosts where it lies now. */
  hosts_total: number;
}

export interface UsedBy {
  host: string;
  exe?: string;
  user?: string;
  unit?: string;
}

/** How often, by operation: open, sign, decrypt, ... */
export interface Uses {
  uses: Record<string, number>;
  total: number;
  denied: number;
  unauthorized: number;
  first_use: number | null;
  last_use: number | null;
}

export interface UseActor {
  exe: string | null;
  user: string | null;
  unit: string | null;
  hosts: string[];
  count: Uses;
}

export interface Usage {
  key: string;
  interval_ms: number;
  observed: 'exact' | 'at_least' | 'unknown' | 'none';
  observed_since: number | null;
  reasons: { host: string; reason: string }[];
  last_used: number | null;
  last_used_by: UsedBy | null;
  /** null: unknown, and not none */
  count: Uses | null;
  actors: UseActor[];
  actors_total: number;
  series: Record<string, [number, number][]>;
}

export interface KeysAnswer {
  total: number;
  next_cursor: string | null;
  keys: Key[];
}

export type Severity = 'info' | 'warning' | 'critical';

export interface Finding {
  id: string;
  kind: string;
  severity: Severity;
  hosts: string[];
  places: { host: string; path: string }[];
  places_total: number;
  title: string;
  evidence: Record<string, string>;
  remedy: string;
  since: number;
}

export interface KeyAnswer {
  key: Key;
  findings: Finding[];
  related: Key[];
  events: KeyEvent[];
}

export interface KeysSummary {
  total: number;
  by_kind: Record<string, number>;
  by_status: Record<string, number>;
  by_algorithm: Record<string, number>;
  expiring: { '7d': number; '30d': number; '90d': number };
  expired: number;
  hosts: number;
  expiring_excluded?: number;
}

export interface Actor {
  exe: string | null;
  pid: number | null;
  uid: number | null;
  login_uid: number | null;
  unit: string | null;
  peer: string | null;
}

export interface KeyEvent {
  id: string;
  kind: string;
  time: number;
  host: string;
  key: string | null;
  path: string | null;
  actor: Actor | null;
  message: string;
  evidence: Record<string, string>;
}

export interface EventsAnswer {
  next_cursor: string | null;
  events: KeyEvent[];
}

export type HostState = 'up' | 'silent' | 'unknown' | 'revoked';

export interface Host {
  host: string;
  agent: string;
  state: HostState;
  last_seen: number | null;
  last_sample: number | null;
  os: string | null;
  kernel: string | null;
  arch: string | null;
  cpus: number | null;
  memory_bytes: number | null;
  agent_version: string | null;
  certificate_expires: number | null;
  cursor: number;
  /** how many parts of what it should watch its agent cannot see; null: it has not said */
  blind: number | null;
  keys: number;
  alerts: number;
  /** When its agent joined. */
  enrolled: number;
}

export interface Gap {
  host: string;
  class: string;
  cause: string;
  first_seq: number;
  last_seq: number;
  /** null: how much was lost is not known */
  items: number | null;
  time: number;
}

export interface GapsAnswer {
  /** null: there are no older ones */
  next_cursor: string | null;
  /** the newest first */
  gaps: Gap[];
}

export type AlertState = 'pending' | 'firing' | 'acknowledged' | 'resolved';
export type Priority = 'critical' | 'high' | 'medium' | 'low' | 'info';
export const PRIORITIES: readonly Priority[] = ['critical', 'high', 'medium', 'low', 'info'];

export interface Alert {
  id: string;
  rule_id: string;
  name: string;
  priority: Priority;
  state: AlertState;
  value: number | null;
  threshold: number | null;
  comparison: string;
  metric_id: string;
  tags: Record<string, string>;
  since: number;
  fired_at: number | null;
  resolved_at: number | null;
  acknowledged_at: number | null;
  acknowledged_by: string | null;
  note: string | null;
  last_evaluated: number | null;
  stale: boolean;
  summary: string;
  runbook: string | null;
}

export interface AlertDetail extends Alert {
  history: { time: number; from: string | null; to: string; value: number | null }[];
  notifications: { channel: string; state: string; attempts: number; last_error: string | null; time: number; transition: string }[];
}

export interface AlertsStatus {
  firing: number;
  acknowledged: number;
  pending: number;
  by_priority: Partial<Record<Priority, number>>;
  rules: number;
  /** Names of the channels that are set up. */
  channels: string[];
  notifications: { sent: number; failed: number; waiting: number; last_error: string | null };
}

export interface Rule {
  rule_id: string;
  name: string;
  description: string | null;
  metric_pattern: string;
  aggregation: string;
  window_seconds: number;
  threshold_value: number | null;
  kind: 'threshold' | 'key_expiry' | 'finding' | 'event' | 'blind' | 'silent';
  /** Of a `key_expiry` rule: how long before the end it fires. */
  days?: number[];
  /** Of an `event` rule: the kinds of events that it tells of, and what their evidence must say. */
  events?: string[];
  evidence?: Record<string, string>;
  /** Of a `finding` rule: the kinds that it tells of. */
  findings?: string[];
  comparison: string;
  duration_seconds: number;
  priority: Priority;
  enabled: boolean;
  tags: Record<string, string>;
  runbook: string | null;
  origin: string;
}

export interface Status {
  version: string;
  started: number;
  now: number;
  uptime_seconds: number;
  series: number;
  samples_stored: number;
  samples_per_second: number;
  hosts: { up: number; silent: number; unknown: number };
  bytes_on_disk: number;
  agents: number;
  tenant: string;
}

export interface Problem {
  title?: string;
  status?: number;
  detail?: string;
}
