// Alerts in words: what a rule watches, where an alert is, how many were firing at a time. Pure.
import type { Alert, AlertState, Priority, Rule } from '../api/types';
import { eventWord } from './events';
import { findingWord } from './findings';
import { listWords, secondsWords, withUnit } from './format';
import { PRIORITIES } from '../api/types';
import { SECOND, dateOnly, lengthWords } from './time';
import { unitOfMetric } from './units';

export type Badge = 'critical' | 'warning' | 'ok' | 'unknown' | 'acknowledged' | 'silenced';

/** Firing alerts are red only when they are critical; what waits or is over is grey. */
export function alertBadge(state: AlertState, priority: Priority): Badge {
  if (state === 'acknowledged') return 'acknowledged';
  if (state === 'resolved') return 'ok';
  if (state === 'pending') return 'unknown';
  return priority === 'critical' ? 'critical' : 'warning';
}

export function priorityRank(priority: Priority): number {
  const at = PRIORITIES.indexOf(priority);
  return at < 0 ? PRIORITIES.length : at;
}

/** Where it is: the host first, then what tells it from others on that host. */
export function whereText(tags: Record<string, string>): string {
  const rest = Object.entries(tags)
    .filter(([name]) => name !== 'host')
    .map(([name, value]) => `${name} ${value}`);
  return [tags['host'], ...rest].filter((part) => part !== undefined && part !== '').join(', ') || 'everywhere';
}

/** A value of a metric with its unit; an instant as its day, the time left to one as a length. */
export function valueText(value: number | null, metric: string): string {
  if (value === null || !metric.endsWith('timestamp_seconds')) return withUnit(value, unitOfMetric(metric));
  return Math.abs(value) > 1e9 ? dateOnly(value * SECOND, true) : lengthWords(value * SECOND);
}

/** `97.2 % > 90 %`; where no metric is compared, how much there is of it. */
export function againstText(alert: Pick<Alert, 'value' | 'threshold' | 'comparison' | 'metric_id'>): string {
  const value = valueText(alert.value, alert.metric_id);
  return alert.threshold === null ? value : `${value} ${alert.comparison} ${valueText(alert.threshold, alert.metric_id)}`;
}

/** `system.cpu.usage_total > 90 % for 5 min (avg over 1 min)`, `a certificate ends within 7 or 1 days`. */
export function conditionText(rule: Rule): string {
  if (rule.kind === 'key_expiry') {
    const days = rule.days ?? [];
    return `a certificate ends within ${listWords(days, 'or')} ${days.length === 1 && days[0] === 1 ? 'day' : 'days'}`;
  }
  if (rule.kind === 'finding')
    return `a key has a finding: ${listWords(
      (rule.findings ?? []).map((kind) => findingWord(kind).toLowerCase()),
      'or',
    )}`;
  if (rule.kind === 'event')
    return `an event comes in: ${listWords(
      (rule.events ?? []).map((kind) => eventWord(kind).toLowerCase()),
      'or',
    )}`;
  const duration = rule.duration_seconds > 0 ? ` for ${secondsWords(rule.duration_seconds)}` : '';
  if (rule.kind === 'blind') return `a host delivers and does not see all that it should${duration}`;
  if (rule.kind === 'silent') return `nothing comes of a host${duration}`;
  const window = rule.window_seconds > 0 ? ` (${rule.aggregation} over ${secondsWords(rule.window_seconds)})` : ` (${rule.aggregation})`;
  return `${rule.metric_pattern} ${rule.comparison} ${valueText(rule.threshold_value, rule.metric_pattern)}${duration}${window}`;
}

/** How many alerts were firing at the end of each of `buckets` equal parts of the time before now. */
export function firingHistory(alerts: readonly Alert[], now: number, length: number, buckets: number): number[] {
  return Array.from({ length: buckets }, (_, index) => {
    const at = now - length + ((index + 1) * length) / buckets;
    return alerts.filter(
      (alert) => alert.fired_at !== null && alert.fired_at <= at && (alert.resolved_at === null || alert.resolved_at > at),
    ).length;
  });
}
