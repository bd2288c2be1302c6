// One chart of lines over time: owns its uPlot instance, its cursor, its legend and its twin as a table.
// Does not fetch; what it shows is given to it.
import type { JSX } from 'preact';
import { useCallback, useEffect, useMemo, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { summarize, toGrid, type Point } from '../lib/series';
import { rangeWords, shiftRange } from '../lib/time';
import { range, setParams, setRange } from '../routes';
import { theme, utc } from '../state/prefs';
import { now, reading } from '../state/refresh';
import { ChartTable } from './ChartTable';
import { Legend } from './Legend';
import { columns, options, pointAt, type Line, type Model } from './plot';
import { Tooltip } from './Tooltip';

export interface ChartData {
  lines: readonly Line[];
  points: readonly (readonly Point[])[];
  start: number;
  end: number;
  interval: number;
}

interface Props extends Pick<Model, 'unit' | 'full' | 'threshold' | 'marks'> {
  title: string;
  data: ChartData;
  asTable: boolean;
}

export interface Cursor {
  index: number;
  left: number;
  /** Whether this chart is the one being pointed at. */
  own: boolean;
}

export const CHART_HEIGHT = 176;

export function TimeSeries({ title, data, asTable, unit, full, threshold, marks }: Props): JSX.Element {
  const grid = useMemo(() => toGrid(data.points, data.interval), [data]);
  const model: Model = {
    lines: data.lines,
    rows: grid.rows,
    start: data.start,
    end: data.end,
    interval: data.interval,
    unit,
    full,
    threshold,
    marks,
  };
  const words = rangeWords(range.value, utc.value).toLowerCase();
  const [cursor, setCursor] = useState<Cursor | undefined>(undefined);
  const moveTo = useCallback((next: Cursor | undefined) => setCursor((old) => (same(old, next) ? old : next)), []);
  return (
    <>
      {asTable ? (
        <ChartTable title={title} lines={data.lines} grid={grid} unit={unit} />
      ) : (
        <Plot
          label={summarize(
            title,
            words,
            data.lines.map((line) => line.label),
            grid.rows,
            unit,
          )}
          model={model}
          times={grid.times}
          cursor={cursor}
          setCursor={moveTo}
        />
      )}
      <Legend lines={data.lines} rows={grid.rows} cursor={asTable ? undefined : cursor} unit={unit} />
    </>
  );
}

function same(a: Cursor | undefined, b: Cursor | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && a.index === b.index && a.left === b.left && a.own === b.own);
}

interface PlotProps {
  label: string;
  model: Model;
  times: readonly number[];
  cursor: Cursor | undefined;
  setCursor: (cursor: Cursor | undefined) => void;
}

/** The canvas part. A new uPlot is made only when lines, theme or time zone change; new data goes into the old one. */
function Plot({ label, model, times, cursor, setCursor }: PlotProps): JSX.Element {
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const current = useRef({ model, times });
  current.current = { model, times };
  const own = useRef(false);
  const shape = JSON.stringify([theme.value, utc.value, model.unit, model.lines]);

  useEffect(() => {
    const element = holder.current;
    if (!element) return undefined;
    const onCursor = (made: uPlot): void => {
      const index = made.cursor.idx;
      const left = made.cursor.left ?? -1;
      setCursor(
        index === null || index === undefined || left < 0 ? undefined : { index, left: left + made.over.offsetLeft, own: own.current },
      );
    };
    const onSelect = (from: number, to: number): void => setRange({ kind: 'absolute', from, to });
    const size = { width: Math.max(120, element.clientWidth), height: CHART_HEIGHT };
    const made = new uPlot(
      options(() => current.current.model, theme.value, utc.value, size, { onCursor, onSelect }),
      columns(current.current.times, current.current.model.rows),
      element,
    );
    plot.current = made;
    const observer = follow(element, made);
    return () => {
      observer.disconnect();
      reading(holder, false);
      made.destroy();
      plot.current = undefined;
    };
  }, [shape, setCursor]);

  // Only for new data: setting it moves the cursor, which renders this again.
  useEffect(
    () => plot.current?.setData(columns(times, model.rows)),
    [times, model.rows, model.start, model.end, model.marks, model.threshold?.value],
  );

  const enter = useCallback((event: PointerEvent): void => {
    own.current = true;
    // A finger does not leave: it would hold the page still for ever.
    if (event.pointerType === 'mouse') reading(holder, true);
  }, []);
  const leave = useCallback((): void => {
    own.current = false;
    reading(holder, false);
    setCursor(undefined);
  }, [setCursor]);

  return (
    <div class="plot">
      <div
        ref={holder}
        class="plot-canvas"
        role="img"
        tabIndex={0}
        aria-label={label}
        onPointerEnter={enter}
        onPointerLeave={leave}
        onKeyDown={(event) => moveCursor(event, plot.current, times, cursor, own, holder)}
        onBlur={() => clearCursor(plot.current, leave)}
        onDblClick={() => zoomOut()}
      />
      {cursor?.own && <Tooltip model={model} times={times} cursor={cursor} width={holder.current?.clientWidth ?? 0} />}
    </div>
  );
}

/** Keeps the plot as wide as its element. */
function follow(element: HTMLElement, plot: uPlot): ResizeObserver {
  const observer = new ResizeObserver(() => {
    if (element.clientWidth > 0 && element.clientWidth !== plot.width) plot.setSize({ width: element.clientWidth, height: CHART_HEIGHT });
  });
  observer.observe(element);
  return observer;
}

function clearCursor(plot: uPlot | undefined, leave: () => void): void {
  if (plot) pointAt(plot, -10, -10);
  leave();
}

/** Back to the range that follows the clock, where there was a zoom; else twice as long. */
function zoomOut(): void {
  if (range.value.kind === 'absolute') setParams({ from: undefined, to: undefined });
  else setRange(shiftRange(range.value, now.value, 0, 2));
}

/** Arrow keys move the cursor of a focused chart by one bucket, with Shift by ten. */
function moveCursor(
  event: KeyboardEvent,
  plot: uPlot | undefined,
  times: readonly number[],
  cursor: Cursor | undefined,
  own: { current: boolean },
  holder: object,
): void {
  if (!plot || times.length === 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  const last = times.length - 1;
  const at = cursor?.index ?? last + 1;
  const far = event.shiftKey ? 10 : 1;
  const moves: Record<string, number> = { ArrowLeft: at - far, ArrowRight: at + far, Home: 0, End: last };
  const wanted = moves[event.key];
  if (event.key === 'Escape' && cursor) {
    clearCursor(plot, () => {
      own.current = false;
      reading(holder, false);
    });
    return;
  }
  if (wanted === undefined) return;
  event.preventDefault();
  own.current = true;
  reading(holder, true);
  const time = times[Math.max(0, Math.min(last, wanted))] ?? 0;
  pointAt(plot, plot.valToPos(time / 1000, 'x'), CHART_HEIGHT / 3);
}
