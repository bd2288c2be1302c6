// What the parts of the alerts page say and choose alike.
import type { Alert, Rule } from '../../api/types';
import { plural } from '../../lib/format';
import { hostFilter } from '../../routes';

/** Alerts of the page's host; those without a host concern every one. */
export function ofHost(alerts: readonly Alert[]): Alert[] {
  const wanted = hostFilter.value;
  return alerts.filter((alert) => wanted === undefined || alert.tags['host'] === undefined || alert.tags['host'] === wanted);
}

/** `4 rules watch CPU, memory and keys`: what the silence of the page is worth. */
export function watchedWords(rules: readonly Rule[]): string {
  const enabled = rules.filter((rule) => rule.enabled);
  if (enabled.length === 0) return 'No rule is enabled, so nothing is watched.';
  const names = enabled.slice(0, 4).map((rule) => rule.name);
  const more = enabled.length - names.length;
  return `${plural(enabled.length, 'rule watches', 'rules watch')}: ${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}.`;
}
