import { describe, expect, it } from 'vitest';
import { findingWord, severityBadge, toldFindings } from './findings';

describe('findings', () => {
  it('tell no news of what is true of every key', () => {
    expect(toldFindings({ findings: ['weak', 'expiring', 'not_quantum_safe'] })).toEqual(['weak', 'expiring']);
  });

  it('have a word, also those of a newer aggregator', () => {
    expect(findingWord('served_stale')).toBe('Old one served');
    expect(findingWord('some_new_kind')).toBe('some new kind');
    expect(severityBadge('info')).not.toBe('warning');
  });
});
