// The last hour of one number as a line without axes. Gaps stay gaps; a line that never moves is drawn in the middle.
import type { JSX } from 'preact';

const WIDTH = 96;
const HEIGHT = 24;

function path(values: readonly (number | null)[]): string {
  const known = values.filter((value): value is number => value !== null);
  const low = Math.min(...known);
  const high = Math.max(...known);
  const step = WIDTH / Math.max(1, values.length - 1);
  let pen = false;
  return values
    .map((value, index) => {
      if (value === null) {
        pen = false;
        return '';
      }
      const y = high === low ? HEIGHT / 2 : 2 + (1 - (value - low) / (high - low)) * (HEIGHT - 4);
      const command = pen ? 'L' : 'M';
      pen = true;
      return `${command}${(index * step).toFixed(1)} ${y.toFixed(1)}`;
    })
    .join('');
}

export function Sparkline({ values, title }: { values: readonly (number | null)[]; title: string }): JSX.Element | null {
  if (values.filter((value) => value !== null).length < 2) return null;
  return (
    <svg class="spark" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} width={WIDTH} height={HEIGHT} role="img" aria-label={title}>
      <title>{title}</title>
      <path d={path(values)} fill="none" stroke="currentColor" stroke-width="1.5" stroke-linejoin="round" />
    </svg>
  );
}
