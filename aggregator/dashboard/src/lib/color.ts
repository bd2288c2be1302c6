// Colours of series: the Okabe-Ito set, tuned per theme so that every line keeps 3:1 against its ground. Pure.
// The order starts at the sky blue: a page with one host is calm, and orange stays free for what is wrong.

export type Theme = 'light' | 'dark';

const SERIES: Record<Theme, readonly string[]> = {
  //       sky        green      yellow     blue       vermillion purple     neutral    orange
  light: ['#1f87c4', '#008a63', '#8f7d00', '#004f8a', '#c24f00', '#b0568a', '#4a4f52', '#b57500'],
  dark: ['#56b4e9', '#16b184', '#f0e442', '#3d8fd1', '#e5743a', '#cc79a7', '#c9ced1', '#e69f00'],
};

/** Colours of what a chart is made of besides its series. */
export const CHART: Record<
  Theme,
  { ground: string; grid: string; axis: string; text: string; threshold: string; cursor: string; event: string; partial: string }
> = {
  light: {
    ground: '#ffffff',
    grid: '#e9edef',
    axis: '#c6ced2',
    text: '#566065',
    threshold: '#b3261e',
    cursor: '#7d888d',
    event: '#566065',
    partial: 'rgba(28,35,38,0.05)',
  },
  dark: {
    ground: '#191f22',
    grid: '#262d31',
    axis: '#3b454a',
    text: '#a0a9ad',
    threshold: '#ff8078',
    cursor: '#7d888d',
    event: '#a0a9ad',
    partial: 'rgba(255,255,255,0.05)',
  },
};

/** Dash patterns that tell series of one host apart, since its colour is taken. */
const DASHES: readonly (readonly number[])[] = [[], [6, 3], [2, 2], [9, 3, 2, 3]];

export function seriesColor(index: number, theme: Theme): string {
  const palette = SERIES[theme];
  return palette[((index % palette.length) + palette.length) % palette.length] ?? '#888888';
}

export function dashPattern(index: number): readonly number[] {
  return DASHES[index % DASHES.length] ?? [];
}

/** Place of a host among all known hosts: the same host has the same colour on every chart of the page. */
export function hostIndex(host: string, hosts: readonly string[]): number {
  const sorted = [...hosts].sort();
  const found = sorted.indexOf(host);
  return found >= 0 ? found : sorted.length;
}
