// What is drawn on a chart besides its lines: the bucket that still fills, the threshold, events on the time axis.
import type uPlot from 'uplot';
import { CHART, type Theme } from '../lib/color';
import type { Model } from './plot';

type Colors = (typeof CHART)[Theme];

/** uPlot draws in device pixels; lengths here are in CSS pixels times this. */
function ratio(plot: uPlot): number {
  return plot.bbox.width / Math.max(1, plot.over.clientWidth);
}

function lastFilled(model: Model): number {
  let last = -1;
  for (const row of model.rows) {
    for (let index = row.length - 1; index > last; index -= 1) if (typeof row[index] === 'number') last = index;
  }
  return last;
}

/** A tint over the last bucket while it is not complete: its value may still change. */
export function drawPartial(plot: uPlot, model: Model, colors: Colors): void {
  const times = plot.data[0];
  const begin = times[lastFilled(model)];
  if (begin === undefined || begin * 1000 + model.interval <= model.end) return;
  const left = Math.max(plot.bbox.left, plot.valToPos(begin, 'x', true));
  const right = plot.bbox.left + plot.bbox.width;
  if (right <= left) return;
  plot.ctx.save();
  plot.ctx.fillStyle = colors.partial;
  plot.ctx.fillRect(left, plot.bbox.top, right - left, plot.bbox.height);
  plot.ctx.restore();
}

/** A dashed line with its value at the edge, when it lies within the scale. */
export function drawThreshold(plot: uPlot, model: Model, colors: Colors, font: string): void {
  const { threshold } = model;
  const scale = plot.scales['y'];
  if (!threshold || scale?.max === undefined || scale.min === undefined || threshold.value > scale.max || threshold.value < scale.min)
    return;
  const px = ratio(plot);
  const y = Math.round(plot.valToPos(threshold.value, 'y', true));
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = colors.threshold;
  ctx.lineWidth = px;
  ctx.setLineDash([4 * px, 4 * px]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.font = font.replace(/^\d+/, String(Math.round(12 * px)));
  ctx.textAlign = 'left';
  ctx.textBaseline = 'bottom';
  // A halo keeps the words readable where a line crosses them.
  ctx.setLineDash([]);
  ctx.lineWidth = 4 * px;
  ctx.strokeStyle = colors.ground;
  ctx.strokeText(threshold.label, bbox.left + 4 * px, y - 2 * px);
  ctx.fillStyle = colors.threshold;
  ctx.fillText(threshold.label, bbox.left + 4 * px, y - 2 * px);
  ctx.restore();
}

/** Events as ticks that hang from the time axis, each with the letter of its kind, in the lane above the labels. */
export function drawMarks(plot: uPlot, model: Model, colors: Colors, theme: Theme): void {
  const px = ratio(plot);
  const { ctx, bbox } = plot;
  const foot = bbox.top + bbox.height;
  ctx.save();
  ctx.font = `600 ${Math.round(10 * px)}px system-ui, sans-serif`;
  ctx.textAlign = 'center';
  ctx.textBaseline = 'top';
  for (const mark of model.marks) {
    const x = Math.round(plot.valToPos(mark.time / 1000, 'x', true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    const color = mark.weight === 'critical' ? CHART[theme].threshold : colors.event;
    ctx.fillStyle = color;
    ctx.fillRect(x - px / 2, foot - 4 * px, px, 8 * px);
    ctx.fillText(mark.letter, x, foot + 5 * px);
  }
  ctx.restore();
}
