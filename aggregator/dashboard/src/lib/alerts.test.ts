// Checks the words of alerts and the count of those that fired at a time.
import { describe, expect, it } from 'vitest';
import type { Alert, Rule } from '../api/types';
import { againstText, alertBadge, conditionText, firingHistory, priorityRank, whereText } from './alerts';

const RULE: Rule = {
  rule_id: 'high-cpu',
  name: 'High CPU',
  description: '',
  kind: 'threshold',
  metric_pattern: 'system.cpu.usage_total',
  aggregation: 'avg',
  window_seconds: 60,
  threshold_value: 90,
  comparison: '>',
  duration_seconds: 300,
  priority: 'high',
  enabled: true,
  tags: {},
  runbook: null,
  origin: 'shipped',
};

describe('words', () => {
  it('says what a rule watches', () => {
    expect(conditionText(RULE)).toBe('system.cpu.usage_total > 90 % for 5 min (avg over 1 min)');
    expect(conditionText({ ...RULE, duration_seconds: 0, window_seconds: 0 })).toBe('system.cpu.usage_total > 90 % (avg)');
  });
  it('says where and how much', () => {
    expect(whereText({ mount: '/', host: 'web-1' })).toBe('web-1, mount /');
    expect(whereText({})).toBe('everywhere');
    expect(againstText({ value: 97.2, threshold: 90, comparison: '>', metric_id: 'system.cpu.usage_total' })).toBe('97.2 % > 90 %');
    expect(againstText({ value: 68_400, threshold: 86_400, comparison: '<', metric_id: 'crypto.key.not_after_timestamp_seconds' })).toBe(
      '19 h < 24 h',
    );
    expect(
      againstText({ value: 1_795_000_000, threshold: null, comparison: '<', metric_id: 'crypto.key.not_after_timestamp_seconds' }),
    ).toBe('2026-11-18');
    expect(againstText({ value: null, threshold: null, comparison: '', metric_id: 'x' })).toBe('–');
  });
  it('is red only for what is critical now', () => {
    expect(alertBadge('firing', 'critical')).toBe('critical');
    expect(alertBadge('firing', 'high')).toBe('warning');
    expect(alertBadge('acknowledged', 'critical')).toBe('acknowledged');
    expect(priorityRank('critical')).toBeLessThan(priorityRank('info'));
  });
});

it('counts what was firing', () => {
  const alert = (fired_at: number | null, resolved_at: number | null): Alert => ({ fired_at, resolved_at }) as Alert;
  expect(firingHistory([alert(10, 30), alert(25, null), alert(null, null)], 40, 40, 4)).toEqual([1, 1, 1, 1]);
  expect(firingHistory([alert(10, 35), alert(25, null)], 40, 40, 4)).toEqual([1, 1, 2, 1]);
});

it('says in words when a certificate rule fires', () => {
  const rule: Rule = { ...RULE, kind: 'key_expiry', days: [30, 14, 7, 1], threshold_value: null };
  expect(conditionText(rule)).toBe('a certificate ends within 30, 14, 7 or 1 days');
  expect(conditionText({ ...rule, days: [1] })).toBe('a certificate ends within 1 day');
});

it('says in words when a rule about events or hosts fires', () => {
  const rule: Rule = { ...RULE, metric_pattern: '', threshold_value: null };
  expect(conditionText({ ...rule, kind: 'event', events: ['policy_violation', 'denied'] })).toBe(
    'an event comes in: policy violation or access denied',
  );
  expect(conditionText({ ...rule, kind: 'blind', duration_seconds: 0 })).toBe('a host delivers and does not see all that it should');
  expect(conditionText({ ...rule, kind: 'silent', duration_seconds: 240 })).toBe('nothing comes of a host for 4 min');
});
