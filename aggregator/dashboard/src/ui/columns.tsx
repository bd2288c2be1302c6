// Which columns of a table are shown: a choice kept per table in this browser.
import { signal } from '@preact/signals';
import type { JSX } from 'preact';
import { recalled, remember } from '../state/prefs';
import { Icon } from './Icon';
import { Popover } from './Popover';
import type { Column } from './Table';

type Choice = Record<string, boolean>;

function load(): Record<string, Choice> {
  try {
    const parsed: unknown = JSON.parse(recalled('columns') ?? '{}');
    return typeof parsed === 'object' && parsed !== null ? (parsed as Record<string, Choice>) : {};
  } catch {
    return {};
  }
}

const choices = signal<Record<string, Choice>>(load());

function isShown<T>(choice: Choice | undefined, column: Column<T>): boolean {
  return choice?.[column.id] ?? !column.optional;
}

/** The first column names the row and always stays. */
export function useColumns<T>(table: string, columns: readonly Column<T>[]): Column<T>[] {
  const choice = choices.value[table];
  return columns
    .filter((column, index) => index === 0 || isShown(choice, column))
    .map((column) => (choice?.[column.id] ? { ...column, wide: false } : column));
}

export function ColumnChooser<T>({ table, columns }: { table: string; columns: readonly Column<T>[] }): JSX.Element {
  const choice = choices.value[table];
  const set = (column: Column<T>, on: boolean): void => {
    choices.value = { ...choices.value, [table]: { ...choice, [column.id]: on } };
    remember('columns', JSON.stringify(choices.value));
  };
  return (
    <Popover name="Choose columns" class="from-right" label={<Icon name="columns" />}>
      {() =>
        columns.slice(1).map((column) => (
          <label key={column.id} class="check">
            <input type="checkbox" checked={isShown(choice, column)} onChange={(event) => set(column, event.currentTarget.checked)} />
            {column.title}
          </label>
        ))
      }
    </Popover>
  );
}
