// Checks the order of rows.
import { expect, it } from 'vitest';
import { sortRows } from './sort';

it('sorts numbers by size and texts as people do', () => {
  expect(sortRows([10, 9, 2], (n) => n, false)).toEqual([2, 9, 10]);
  expect(sortRows(['web-10', 'Web-9', 'db'], (s) => s, false)).toEqual(['db', 'Web-9', 'web-10']);
});

it('keeps what is missing last, both ways', () => {
  expect(sortRows([null, 1, 2, undefined], (n) => n, false)).toEqual([1, 2, null, undefined]);
  expect(sortRows([null, 1, 2], (n) => n, true)).toEqual([2, 1, null]);
});
