// Units a number can have and how it is brought to a size people can read. Pure.

export type Unit = 'percent' | 'bytes' | 'bytes/s' | 'count' | 'seconds' | 'none';

export interface Scaled {
  /** What the number is divided by. */
  divisor: number;
  /** What stands behind it: `%`, `MiB/s`, `k`. */
  suffix: string;
}

const IEC = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
const SI = ['', 'k', 'M', 'G', 'T'];

function step(magnitude: number, base: number, names: string[]): { divisor: number; name: string } {
  let divisor = 1;
  let index = 0;
  // 999.5 would be written 1000 with three digits, so it already belongs to the next unit.
  while (magnitude / divisor >= (base === 1000 ? 999.5 : 1023.5) && index < names.length - 1) {
    divisor *= base;
    index += 1;
  }
  return { divisor, name: names[index] ?? '' };
}

/** Divisor and suffix for numbers of about this size; a chart's axis uses one for all its labels. */
export function scaleFor(unit: Unit, magnitude: number): Scaled {
  const abs = Math.abs(magnitude);
  switch (unit) {
    case 'percent':
      return { divisor: 1, suffix: '%' };
    case 'bytes':
    case 'bytes/s': {
      const { divisor, name } = step(abs, 1024, IEC);
      return { divisor, suffix: unit === 'bytes' ? name : `${name}/s` };
    }
    case 'seconds':
      if (abs !== 0 && abs < 1e-3) return { divisor: 1e-6, suffix: 'µs' };
      if (abs !== 0 && abs < 1) return { divisor: 1e-3, suffix: 'ms' };
      return { divisor: 1, suffix: 's' };
    case 'count': {
      const { divisor, name } = step(abs, 1000, SI);
      return { divisor, suffix: name };
    }
    case 'none':
      return { divisor: 1, suffix: '' };
  }
}

/** The unit of a metric, from its name, for alerts whose answer names only the metric. */
export function unitOfMetric(metric: string): Unit {
  if (/(usage_percent|usage_total|percent)$/.test(metric)) return 'percent';
  if (/seconds$/.test(metric)) return 'seconds';
  if (/bytes/.test(metric)) return 'bytes';
  return 'none';
}
