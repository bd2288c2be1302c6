// A titled part of a page, and the states its content can be in: being loaded, failed, old, empty.
import type { ComponentChildren, JSX } from 'preact';
import { useId } from 'preact/hooks';
import type { ApiError } from '../api/client';
import { lengthWords } from '../lib/time';
import { now } from '../state/refresh';
import type { Resource } from '../state/resource';
import { askForToken } from '../state/token';
import { Copy } from './Copy';
import { Said } from './Said';

interface PanelProps {
  title: string;
  /** Beside the title: a unit, a count. */
  note?: ComponentChildren;
  actions?: ComponentChildren;
  children: ComponentChildren;
  class?: string;
  /** For tests to find it by. */
  name?: string;
}

export function Panel({ title, note, actions, children, class: extra, name }: PanelProps): JSX.Element {
  const id = useId();
  return (
    <section class={`panel ${extra ?? ''}`} aria-labelledby={id} data-panel={name}>
      <header class="panel-head">
        <h2 id={id}>{title}</h2>
        {note !== undefined && <span class="note">{note}</span>}
        {actions !== undefined && <span class="actions">{actions}</span>}
      </header>
      {children}
    </section>
  );
}

/** Holds the place of what is being loaded, so that nothing moves when it comes. */
export function Skeleton({ height }: { height: number }): JSX.Element {
  return <div class="skeleton" style={{ height: `${height}px` }} role="status" aria-label="Loading" />;
}

/** Says what would be here and the one command that makes it appear. */
export function EmptyState({ title, children, command }: { title: string; children?: ComponentChildren; command?: string }): JSX.Element {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children !== undefined && <p>{typeof children === 'string' ? <Said text={children} /> : children}</p>}
      {command !== undefined && <Copy text={command} what="command" />}
    </div>
  );
}

/** What failed and why; what to do about it stands once, at the head of the page. */
export function ErrorNote({ what, error, reload }: { what: string; error: ApiError; reload: () => void }): JSX.Element {
  return (
    <div class="error" role="alert">
      <p>
        <strong>{what} could not be loaded.</strong> {error.message}.
      </p>
      {error.status === 401 ? (
        <button type="button" class="button" onClick={() => void askForToken(what).then((given) => given && reload())}>
          Enter token
        </button>
      ) : (
        <button type="button" class="button" onClick={reload}>
          Try again
        </button>
      )}
    </div>
  );
}

function OldNote({ error, loadedAt }: { error: ApiError; loadedAt: number | undefined }): JSX.Element {
  void now.value;
  return (
    <p class="old" title={`${error.message}. ${error.hint}`}>
      Not refreshed{loadedAt === undefined ? '' : `, ${lengthWords(Date.now() - loadedAt)} old`}
    </p>
  );
}

interface ShownProps<T> {
  resource: Resource<T>;
  /** What it is, as a sentence's subject: "Key inventory". */
  what: string;
  /** Height in px while there is nothing. */
  height: number;
  children: (data: T) => ComponentChildren;
}

export function Shown<T>({ resource, what, height, children }: ShownProps<T>): JSX.Element {
  const { data, error, loadedAt, stale, reload } = resource;
  if (data === undefined) return error ? <ErrorNote what={what} error={error} reload={reload} /> : <Skeleton height={height} />;
  return (
    <>
      {error && <OldNote error={error} loadedAt={loadedAt} />}
      <div class={error ? 'aged' : stale ? 'stale' : undefined}>{children(data)}</div>
    </>
  );
}
