// The twin of a chart for those who read better than they see, and for tests: every bucket, newest first.
import type { JSX } from 'preact';
import { withUnit } from '../lib/format';
import type { Grid } from '../lib/series';
import { absolute } from '../lib/time';
import type { Unit } from '../lib/units';
import { utc } from '../state/prefs';
import type { Line } from './plot';

interface Props {
  title: string;
  lines: readonly Line[];
  grid: Grid;
  unit: Unit;
}

export function ChartTable({ title, lines, grid, unit }: Props): JSX.Element {
  const order = grid.times.map((_, index) => grid.times.length - 1 - index);
  return (
    <div class="chart-table" tabIndex={0} role="region" aria-label={`${title} as a table`}>
      <table>
        <caption class="hidden">{title}, newest first</caption>
        <thead>
          <tr>
            <th scope="col">Time</th>
            {lines.map((line) => (
              <th scope="col" class="right" key={line.label}>
                {line.label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {order.map((index) => (
            <tr key={grid.times[index]}>
              <th scope="row">{absolute(grid.times[index] ?? 0, utc.value).slice(5, 19)}</th>
              {lines.map((line, series) => {
                const value = grid.rows[series]?.[index];
                return (
                  <td class="right" key={line.label} data-value={typeof value === 'number' ? String(value) : undefined}>
                    {withUnit(value, unit)}
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
