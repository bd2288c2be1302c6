// What all lines of a chart are worth at the time under the cursor, highest first. Also read out for the keyboard.
import type { JSX } from 'preact';
import { withUnit } from '../lib/format';
import { valueAt } from '../lib/series';
import { cursorLabel } from '../lib/time';
import { utc } from '../state/prefs';
import { Swatch } from './Legend';
import type { Model } from './plot';
import type { Cursor } from './TimeSeries';

const MOST = 10;
const WIDTH = 232;

interface Props {
  model: Model;
  times: readonly number[];
  cursor: Cursor;
  /** Of the chart, to keep the box inside. */
  width: number;
}

export function Tooltip({ model, times, cursor, width }: Props): JSX.Element | null {
  const time = times[cursor.index];
  if (time === undefined) return null;
  const values = model.lines
    .map((line, index) => ({ line, value: valueAt(model.rows[index], cursor.index) }))
    .sort((a, b) => (b.value ?? -Infinity) - (a.value ?? -Infinity));
  const near = model.marks.filter((mark) => Math.abs(mark.time - time) <= Math.max(model.interval, (model.end - model.start) / 60));
  const filling = time + model.interval > model.end;
  const left = cursor.left + 16 + WIDTH > width ? cursor.left - WIDTH - 16 : cursor.left + 16;
  return (
    <div class="tooltip" style={{ left: `${Math.max(0, left)}px`, width: `${WIDTH}px` }} role="status">
      <div class="tooltip-time">
        {cursorLabel(time, model.end - model.start, utc.value)}
        {filling && <span class="dim"> still filling</span>}
      </div>
      {values.slice(0, MOST).map(({ line, value }) => (
        <div class="tooltip-row" key={line.label}>
          <Swatch line={line} />
          <span class="cut">{line.label}</span>
          <span class="num">{value === null ? 'no sample' : withUnit(value, model.unit)}</span>
        </div>
      ))}
      {values.length > MOST && <div class="dim">and {values.length - MOST} lower</div>}
      {near.map((mark) => (
        <div class="tooltip-row" key={mark.time}>
          <b>{mark.letter}</b>
          <span class="cut">{mark.text}</span>
        </div>
      ))}
    </div>
  );
}
