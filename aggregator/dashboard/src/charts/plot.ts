// How a chart is set up for uPlot: scales, axes, lines, cursor. Draws nothing by itself and holds no data.
import uPlot from 'uplot';
import { CHART, dashPattern, seriesColor, type Theme } from '../lib/color';
import { axisNumber } from '../lib/format';
import { axisLabel } from '../lib/time';
import { lonely, type Cell } from '../lib/series';
import { scaleFor, type Scaled, type Unit } from '../lib/units';
import { drawMarks, drawPartial, drawThreshold } from './draw';
import type { Mark } from '../lib/events';

/** All charts of a page move their cursors together. */
export const SYNC_KEY = 'page';

export interface Line {
  label: string;
  /** Colour and dash, by number. */
  color: number;
  dash: number;
}

/** What is drawn; a new one is read at every redraw, so that live data needs no new plot. */
export interface Model {
  lines: readonly Line[];
  rows: readonly (readonly Cell[])[];
  /** Window in ms. */
  start: number;
  end: number;
  interval: number;
  unit: Unit;
  /** Upper end of the scale, when the quantity has one. */
  full: number | undefined;
  threshold: { value: number; label: string } | undefined;
  marks: readonly Mark[];
}

const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';
const BINARY = Array.from({ length: 50 }, (_, power) => 2 ** power);
const DECIMAL = [
  1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1, 2, 2.5, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1e3, 2e3,
  2500, 5e3, 1e4, 2e4, 25e3, 5e4, 1e5, 1e6, 1e7, 1e8, 1e9,
];

/** Ends of the value axis: from zero, or below where values are, to a little above the highest. */
export function valueRange(model: Model): [number, number] {
  let low = 0;
  let high = -Infinity;
  for (const row of model.rows) {
    for (const cell of row) {
      if (typeof cell !== 'number') continue;
      low = Math.min(low, cell);
      high = Math.max(high, cell);
    }
  }
  if (model.full !== undefined && high <= model.full) return [low, model.full];
  if (high <= low) return [low, low + 1];
  return [low, high * 1.08];
}

/** One unit for all labels of the value axis. */
export function axisScale(model: Model): Scaled {
  return scaleFor(model.unit, valueRange(model)[1] / 1.08);
}

function lineOptions(line: Line, index: number, theme: Theme, model: () => Model): uPlot.Series {
  const stroke = seriesColor(line.color, theme);
  return {
    label: line.label,
    stroke,
    width: 1.5,
    dash: [...dashPattern(line.dash)],
    spanGaps: false,
    points: {
      show: true,
      size: 4,
      fill: stroke,
      stroke,
      // Only samples that stand alone get a dot: the line shows the others.
      filter: () => lonely(model().rows[index] ?? []),
    },
  };
}

interface Handlers {
  onCursor: (plot: uPlot) => void;
  onSelect: (from: number, to: number) => void;
}

/** Steps between the labels of time, s: also two minutes, so that five of them have more than one label. */
const TIME_STEPS = [1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200].concat(
  [1, 2, 5, 10, 30, 90, 365].map((days) => days * 86400),
);

/** Time below, values at the left. */
function axes(model: () => Model, colors: (typeof CHART)[Theme], utc: boolean): uPlot.Axis[] {
  return [
    {
      stroke: colors.text,
      font: FONT,
      // Room between the axis and its labels for the letters of events.
      size: 36,
      gap: 14,
      space: 72,
      grid: { show: false },
      incrs: TIME_STEPS,
      ticks: { stroke: colors.axis, width: 1, size: 4 },
      values: (_plot, splits, _axis, _space, step) => splits.map((seconds) => axisLabel(seconds * 1000, step * 1000, utc)),
    },
    {
      stroke: colors.text,
      font: FONT,
      size: 44,
      gap: 6,
      space: 26,
      grid: { stroke: colors.grid, width: 1 },
      ticks: { show: false },
      incrs: model().unit.startsWith('bytes') ? BINARY : DECIMAL,
      values: (_plot, splits) => splits.map((value) => axisNumber(value / axisScale(model()).divisor)),
    },
  ];
}

export function options(
  model: () => Model,
  theme: Theme,
  utc: boolean,
  size: { width: number; height: number },
  handlers: Handlers,
): uPlot.Options {
  const colors = CHART[theme];
  return {
    ...size,
    padding: [8, 18, 0, 0],
    legend: { show: false },
    tzDate: (seconds) => (utc ? uPlot.tzDate(new Date(seconds * 1000), 'Etc/UTC') : new Date(seconds * 1000)),
    cursor: {
      y: false,
      sync: { key: SYNC_KEY, setSeries: false, scales: ['x', null] },
      drag: { x: true, y: false, setScale: false },
      points: {
        size: 6,
        width: 0,
        fill: (plot, index) => String((plot.series[index]?.stroke as (() => unknown) | undefined)?.() ?? colors.text),
      },
      bind: { dblclick: () => null },
    },
    scales: {
      x: { time: true, range: () => [model().start / 1000, model().end / 1000] },
      y: { range: () => valueRange(model()) },
    },
    series: [{}, ...model().lines.map((line, index) => lineOptions(line, index, theme, model))],
    axes: axes(model, colors, utc),
    hooks: {
      drawClear: [(plot) => drawPartial(plot, model(), colors)],
      draw: [(plot) => drawThreshold(plot, model(), colors, FONT), (plot) => drawMarks(plot, model(), colors, theme)],
      setCursor: [handlers.onCursor],
      setSelect: [
        (plot) => {
          if (plot.select.width < 4) return;
          handlers.onSelect(
            Math.round(plot.posToVal(plot.select.left, 'x') * 1000),
            Math.round(plot.posToVal(plot.select.left + plot.select.width, 'x') * 1000),
          );
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
    },
  };
}

/** The table of columns uPlot wants: times in seconds first. */
export function columns(times: readonly number[], rows: readonly (readonly Cell[])[]): uPlot.AlignedData {
  return [times.map((time) => time / 1000), ...rows.map((row) => [...row])] as uPlot.AlignedData;
}

/** Puts the cursor of this chart, and with it of all others, at a place; its types leave out that this can be told on. */
export function pointAt(plot: uPlot, left: number, top: number): void {
  (plot.setCursor as (place: { left: number; top: number }, fire: boolean, publish: boolean) => void)({ left, top }, true, true);
}
