// What a person chose for this browser: theme, UTC or local time, columns. Kept in localStorage, never sent anywhere.
import { computed, effect, signal } from '@preact/signals';
import type { Theme } from '../lib/color';

export type ThemeChoice = 'system' | Theme;

function recall(name: string): string | null {
  try {
    return localStorage.getItem(`keyvigil.${name}`);
  } catch {
    // Storage may be forbidden; the page works without.
    return null;
  }
}

export function remember(name: string, value: string): void {
  try {
    localStorage.setItem(`keyvigil.${name}`, value);
  } catch {
    // As above.
  }
}

export function recalled(name: string): string | undefined {
  return recall(name) ?? undefined;
}

function choiceOf(text: string | null): ThemeChoice {
  return text === 'light' || text === 'dark' ? text : 'system';
}

export const themeChoice = signal<ThemeChoice>(choiceOf(recall('theme')));
export const utc = signal<boolean>(recall('utc') === 'yes');

const darkSystem = matchMedia('(prefers-color-scheme: dark)');
const systemTheme = signal<Theme>(darkSystem.matches ? 'dark' : 'light');
darkSystem.addEventListener('change', (event) => {
  systemTheme.value = event.matches ? 'dark' : 'light';
});

export const theme = computed<Theme>(() => (themeChoice.value === 'system' ? systemTheme.value : themeChoice.value));

effect(() => {
  const root = document.documentElement;
  if (themeChoice.value === 'system') root.removeAttribute('data-theme');
  else root.setAttribute('data-theme', themeChoice.value);
});

export function setTheme(choice: ThemeChoice): void {
  themeChoice.value = choice;
  remember('theme', choice);
}

export function setUtc(on: boolean): void {
  utc.value = on;
  remember('utc', on ? 'yes' : 'no');
}
