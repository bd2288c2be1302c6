// Order of table rows: numbers by size, texts as people sort them, what is missing last either way. Pure.

export type SortValue = string | number | boolean | null | undefined;

const collator = new Intl.Collator('en', { numeric: true, sensitivity: 'base' });

function compare(a: SortValue, b: SortValue): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  return collator.compare(String(a), String(b));
}

export function sortRows<T>(rows: readonly T[], by: (row: T) => SortValue, reverse: boolean): T[] {
  const missing = (value: SortValue): boolean => value === null || value === undefined || value === '';
  return [...rows].sort((rowA, rowB) => {
    const a = by(rowA);
    const b = by(rowB);
    if (missing(a) || missing(b)) return Number(missing(a)) - Number(missing(b));
    return reverse ? compare(b, a) : compare(a, b);
  });
}
