// Names of the lines with their values: at the cursor of whichever chart is pointed at, else the newest.
import type { JSX } from 'preact';
import { dashPattern, seriesColor } from '../lib/color';
import { withUnit } from '../lib/format';
import { lastValue, valueAt, type Cell } from '../lib/series';
import type { Unit } from '../lib/units';
import { theme } from '../state/prefs';
import type { Line } from './plot';
import type { Cursor } from './TimeSeries';

export function Swatch({ line }: { line: Line }): JSX.Element {
  return (
    <svg class="swatch" width="16" height="8" viewBox="0 0 16 8" aria-hidden="true">
      <path
        d="M0 4h16"
        stroke={seriesColor(line.color, theme.value)}
        stroke-width="2"
        stroke-dasharray={dashPattern(line.dash).join(' ')}
      />
    </svg>
  );
}

interface Props {
  lines: readonly Line[];
  rows: readonly (readonly Cell[])[];
  cursor: Cursor | undefined;
  unit: Unit;
}

export function Legend({ lines, rows, cursor, unit }: Props): JSX.Element {
  return (
    <ul class="legend">
      {lines.map((line, index) => {
        const row = rows[index] ?? [];
        const value = cursor ? valueAt(row, cursor.index) : lastValue(row);
        return (
          <li key={line.label}>
            <Swatch line={line} />
            <span class="cut" title={line.label}>
              {line.label}
            </span>
            <span class="num">{withUnit(value, unit)}</span>
          </li>
        );
      })}
    </ul>
  );
}
