// A table that holds a lot: sticky head, whole row clickable, sort in the URL, columns choosable, cards when narrow.
// Knows nothing of what the rows are.
import type { ComponentChildren, JSX } from 'preact';
import { Fragment } from 'preact';
import { Link, go, param, setParams } from '../routes';
import { sortRows, type SortValue } from '../lib/sort';
import { useColumns } from './columns';

export interface Column<T> {
  id: string;
  title: string;
  cell: (row: T) => ComponentChildren;
  /** What the column sorts by; without it, it does not. */
  sort?: (row: T) => SortValue;
  align?: 'right';
  /** Takes the room that is left, and cuts what does not fit. */
  grow?: boolean;
  /** Cut at a fixed width. */
  bounded?: boolean;
  /** Left out until chosen. */
  optional?: boolean;
  /** Left out where the window is narrower than about 1100 px, unless as a card. */
  wide?: boolean;
}

interface Props<T> {
  id: string;
  caption: string;
  columns: readonly Column<T>[];
  rows: readonly T[];
  rowKey: (row: T) => string;
  /** Where a row leads. */
  to?: (row: T) => string;
  /** What is shown below the row that `to` has opened. */
  expanded?: (row: T) => ComponentChildren | undefined;
  rowClass?: (row: T) => string | undefined;
  sort: { param: string; initial: string; byServer?: boolean };
}

function cellClass<T>(column: Column<T>): string {
  return [column.align, column.wide && 'wide-only', column.grow && 'grow', column.bounded && 'bounded'].filter(Boolean).join(' ');
}

function SortHead<T>({ column, sort, current }: { column: Column<T>; sort: Props<T>['sort']; current: string }): JSX.Element {
  const down = current === `-${column.id}`;
  const up = current === column.id;
  const name = cellClass(column);
  if (!column.sort) {
    return (
      <th role="columnheader" scope="col" class={name}>
        {column.title}
      </th>
    );
  }
  const next = up ? `-${column.id}` : column.id;
  return (
    <th role="columnheader" scope="col" class={name} aria-sort={up ? 'ascending' : down ? 'descending' : 'none'}>
      <button
        type="button"
        class="sort"
        onClick={() => setParams({ [sort.param]: next === sort.initial ? undefined : next }, { replace: true })}
      >
        {column.title}
        <span class="arrow" aria-hidden="true">
          {up ? '↑' : down ? '↓' : ''}
        </span>
      </button>
    </th>
  );
}

/** A click anywhere on the row opens it, but not one that ends a selection or hits a control of its own. */
function rowClick(event: MouseEvent, target: string): void {
  const inner = event.target instanceof Element ? event.target.closest('a, button, input, label, time[title]') : null;
  if (inner && !inner.matches('time')) return;
  if ((getSelection()?.toString() ?? '') !== '') return;
  if (event.metaKey || event.ctrlKey) window.open(target, '_blank', 'noopener');
  else go(target, { keepScroll: target.startsWith(location.pathname + '?') });
}

export function Table<T>({ id, caption, columns, rows, rowKey, to, expanded, rowClass, sort }: Props<T>): JSX.Element {
  const shown = useColumns(id, columns);
  const current = param(sort.param) ?? sort.initial;
  const by = columns.find((column) => column.id === current.replace(/^-/, ''));
  const ordered = sort.byServer || !by?.sort ? rows : sortRows(rows, by.sort, current.startsWith('-'));
  return (
    <table role="table" class="table" data-table={id}>
      <caption class="hidden">{caption}</caption>
      <thead role="rowgroup">
        <tr role="row">
          {shown.map((column) => (
            <SortHead key={column.id} column={column} sort={sort} current={current} />
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {ordered.map((row) => {
          const target = to?.(row);
          const below = expanded?.(row);
          return (
            <Fragment key={rowKey(row)}>
              <tr
                role="row"
                class={`${target !== undefined ? 'opens' : ''} ${rowClass?.(row) ?? ''} ${below !== undefined ? 'open' : ''}`}
                onClick={target === undefined ? undefined : (event) => rowClick(event, target)}
              >
                {shown.map((column, index) => (
                  <td key={column.id} role="cell" data-label={column.title} class={cellClass(column)}>
                    {index === 0 && target !== undefined ? <Link to={target}>{column.cell(row)}</Link> : column.cell(row)}
                  </td>
                ))}
              </tr>
              {below !== undefined && (
                <tr role="row" class="below">
                  <td role="cell" colSpan={shown.length}>
                    {below}
                  </td>
                </tr>
              )}
            </Fragment>
          );
        })}
      </tbody>
    </table>
  );
}
