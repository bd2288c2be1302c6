// Alerts in words: what a rule watches, where an alert is, how many were firing at a time. Pure.
import type { Alert, AlertState, Priority, Rule } from '../api/types';
import { secondsWords, withUnit } from './format';
import { PRIORITIES } from '../api/types';
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
  const rest = Object.entries(tags).filter(([name]) => name !== 'host').map(([name, value]) => `${name} ${value}`);
  return [tags['host'], ...rest].filter((part) => part !== undefined && part !== '').join(', ') || 'everywhere';
}

/** `97.2 % > 90 %`. */
export function againstText(alert: Pick<Alert, 'value' | 'threshold' | 'comparison' | 'metric_id'>): string {
  const unit = unitOfMetric(alert.metric_id);
  if (alert.threshold === null) return withUnit(alert.value, unit);
  return `${withUnit(alert.value, unit)} ${alert.comparison} ${withUnit(alert.threshold, unit)}`;
}

/** `avg of system.cpu.usage_total over 1 min > 90 % for 5 min`. */
export function conditionText(rule: Rule): string {
  const window = rule.window_seconds > 0 ? ` over ${secondsWords(rule.window_seconds)}` : '';
  const duration = rule.duration_seconds > 0 ? ` for ${secondsWords(rule.duration_seconds)}` : '';
  return `${rule.aggregation} of ${rule.metric_pattern}${window} ${rule.comparison} ${withUnit(rule.threshold_value, unitOfMetric(rule.metric_pattern))}${duration}`;
}

/** How many alerts were firing at the end of each of `buckets` equal parts of the time before now. */
export function firingHistory(alerts: readonly Alert[], now: number, length: number, buckets: number): number[] {
  return Array.from({ length: buckets }, (_, index) => {
    const at = now - length + ((index + 1) * length) / buckets;
    return alerts.filter((alert) => alert.fired_at !== null && alert.fired_at <= at && (alert.resolved_at === null || alert.resolved_at > at)).length;
  });
}
