// What findings are called and how they look. Pure.
import type { Finding, Key, Severity } from '../api/types';
import type { Badge } from './alerts';
import { words } from './format';

/** Kinds that keys can be narrowed by, each with its word; the two that every key of today has come last. */
export const FINDINGS: readonly (readonly [kind: string, word: string])[] = [
  ['private_key_readable', 'Readable by others'],
  ['private_key_shared', 'Shared key'],
  ['ssh_host_key_shared', 'Shared host key'],
  ['weak', 'Weak'],
  ['expired', 'Expired'],
  ['expiring', 'Expiring'],
  ['not_yet_valid', 'Not yet valid'],
  ['kernel_key_expiring', 'Times out'],
  ['revoked_in_use', 'Revoked, in use'],
  ['authorized_key_revoked', 'Revoked, may log in'],
  ['authorized_key_never_used', 'Login not used'],
  ['served_stale', 'Old one served'],
  ['served_chain_fault', 'Chain broken'],
  ['served_without_file', 'Served, no file'],
  ['self_signed_served', 'Self-signed, served'],
  ['certificate_without_key', 'Key missing'],
  ['key_without_certificate', 'Certificate missing'],
  ['private_key_in_open_directory', 'Open directory'],
  ['unencrypted_key_in_home', 'No password'],
  ['stale_crl', 'List overdue'],
  ['not_quantum_safe', 'Not quantum-safe'],
];

/** True of nearly every key there is: shown where it is asked for, and nowhere as news. */
const EVERYWHERE = 'not_quantum_safe';

export function findingWord(kind: string): string {
  return FINDINGS.find(([one]) => one === kind)?.[1] ?? words(kind);
}

/** Good to know is grey: it is no state of health. */
export function severityBadge(severity: Severity): Badge {
  return severity === 'info' ? 'silenced' : severity;
}

/** Kinds worth telling in a row; the aggregator has the worst first. */
export function toldFindings(key: Pick<Key, 'findings'>): string[] {
  return key.findings.filter((kind) => kind !== EVERYWHERE);
}

/** What is news first. */
export function ordered(findings: readonly Finding[]): Finding[] {
  const rank = (finding: Finding): number =>
    ['critical', 'warning', 'info'].indexOf(finding.severity) + (finding.kind === EVERYWHERE ? 1 : 0);
  return [...findings].sort((a, b) => rank(a) - rank(b));
}
