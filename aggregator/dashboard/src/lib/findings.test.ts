import { describe, expect, it } from 'vitest';
import { findingWord, severityBadge, toldFindings } from './findings';

describe('findings', () => {
  it('tell what is worst first, and not what is true of every key', () => {
    expect(toldFindings({ findings: ['not_quantum_safe', 'weak', 'private_key_readable'] })).toEqual(['private_key_readable', 'weak']);
  });

  it('have a word, also those of a newer aggregator', () => {
    expect(findingWord('served_stale')).toBe('Old one served');
    expect(findingWord('some_new_kind')).toBe('some new kind');
    expect(severityBadge('info')).not.toBe('warning');
  });
});
