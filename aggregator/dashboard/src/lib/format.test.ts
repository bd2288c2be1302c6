// Checks of numbers and words.
import { describe, expect, it } from 'vitest';
import { axisNumber, plural, secondsWords, sentence, shortFingerprint, sig3, thousands, withUnit, words } from './format';
import { scaleFor, unitOfMetric } from './units';

describe('sig3', () => {
  it.each([
    [0, '0'],
    [12.345, '12.3'],
    [97.2, '97.2'],
    [9.996, '10.0'],
    [0.12345, '0.123'],
    [0.00012345, '0.000123'],
    [99.96, '100'],
    [123.4, '123'],
    [1234.5, '1,235'],
    [-3.14159, '-3.14'],
    [4, '4'],
    [NaN, '–'],
  ])('%d -> %s', (value, text) => {
    expect(sig3(value)).toBe(text);
  });
});

it('keeps axis labels short', () => {
  expect([0, 0.5, 1.5, 2, 100, 2500].map(axisNumber)).toEqual(['0', '0.5', '1.5', '2', '100', '2,500']);
});

describe('withUnit', () => {
  it.each([
    [97.2, 'percent', '97.2 %'],
    [1536, 'bytes', '1.50 KiB'],
    [5 * 1024 ** 2, 'bytes/s', '5 MiB/s'],
    [1023.7, 'bytes', '1.00 KiB'],
    [0.0042, 'seconds', '4.20 ms'],
    [12500, 'count', '12.5k'],
    [7, 'none', '7'],
  ] as const)('%d %s -> %s', (value, unit, text) => {
    expect(withUnit(value, unit)).toBe(text);
  });
  it('says nothing where there is nothing', () => {
    expect(withUnit(null, 'percent')).toBe('–');
    expect(withUnit(undefined, 'bytes')).toBe('–');
  });
  it('moves to the next unit before a fourth digit', () => {
    expect(scaleFor('count', 999.6).suffix).toBe('k');
    expect(scaleFor('count', 999).suffix).toBe('');
  });
  it('knows units by metric name', () => {
    expect(unitOfMetric('system.cpu.usage_total')).toBe('percent');
    expect(unitOfMetric('system.disk.usage_percent')).toBe('percent');
    expect(unitOfMetric('system.network.bytes_sent')).toBe('bytes');
    expect(unitOfMetric('system.load.1m')).toBe('none');
  });
});

describe('words', () => {
  it('counts', () => {
    expect(plural(1, 'host')).toBe('1 host');
    expect(plural(1204, 'sample')).toBe('1,204 samples');
    expect(plural(2, 'key is', 'keys are')).toBe('2 keys are');
    expect(thousands(1234567)).toBe('1,234,567');
  });
  it('names', () => {
    expect(words('ssh_private_key')).toBe('SSH private key');
    expect(sentence('policy violation')).toBe('Policy violation');
    expect(shortFingerprint('SHA256:AbCdEfGhIjKlMnOp')).toBe('AbCdEfGhIjKl');
    expect(secondsWords(300)).toBe('5 min');
    expect(secondsWords(90)).toBe('90 s');
  });
});
