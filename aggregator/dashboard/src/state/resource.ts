// Something loaded from the API and kept fresh: asked for again with every beat, never twice at a time, aborted when
// nobody wants it any more. On failure the old data stays, with the reason beside it.
import { signal } from '@preact/signals';
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { ApiError } from '../api/client';
import { beat, lastLoaded } from './refresh';

export interface Resource<T> {
  data: T | undefined;
  /** Why the newest attempt failed; undefined once one succeeded. */
  error: ApiError | undefined;
  /** When `data` came, by this machine's clock. */
  loadedAt: number | undefined;
  /** Whether what is shown belongs to an older question than the one asked now. */
  stale: boolean;
  reload: () => void;
}

/** What fails now, by who asked: the head of the page says it once for all panels. */
export const failures = signal<ReadonlyMap<object, ApiError>>(new Map());

function report(who: object, error: ApiError | undefined): void {
  if (failures.value.get(who) === error) return;
  const next = new Map(failures.value);
  if (error) next.set(who, error);
  else next.delete(who);
  failures.value = next;
}

interface State<T> {
  data: T | undefined;
  error: ApiError | undefined;
  loadedAt: number | undefined;
  key: string | undefined;
}

function asApiError(cause: unknown): ApiError {
  return cause instanceof ApiError
    ? cause
    : new ApiError(
        'The page failed to read an answer',
        0,
        'Reload the page; if it stays, the page and the aggregator are of different versions.',
      );
}

/** `key` names the question: when it changes, the old one is aborted. `null` asks nothing. */
export function useResource<T>(key: string | null, load: (signal: AbortSignal) => Promise<T>): Resource<T> {
  const [state, setState] = useState<State<T>>({ data: undefined, error: undefined, loadedAt: undefined, key: undefined });
  const flight = useRef<AbortController | undefined>(undefined);
  const loader = useRef(load);
  loader.current = load;

  const ask = useCallback((question: string) => {
    if (flight.current) return;
    const abort = new AbortController();
    flight.current = abort;
    loader
      .current(abort.signal)
      .then((data) => {
        if (abort.signal.aborted) return;
        const loadedAt = Date.now();
        lastLoaded.value = loadedAt;
        report(loader, undefined);
        setState({ data, error: undefined, loadedAt, key: question });
      })
      .catch((cause: unknown) => {
        if (abort.signal.aborted) return;
        const error = asApiError(cause);
        report(loader, error);
        setState((old) => ({ ...old, error }));
      })
      .finally(() => {
        if (flight.current === abort) flight.current = undefined;
      });
  }, []);

  useEffect(
    () => () => {
      flight.current?.abort();
      flight.current = undefined;
    },
    [key],
  );

  useEffect(() => () => report(loader, undefined), []);

  const now = beat.value;
  useEffect(() => {
    if (key !== null) ask(key);
  }, [key, now, ask]);

  const reload = useCallback(() => {
    flight.current?.abort();
    flight.current = undefined;
    if (key !== null) ask(key);
  }, [key, ask]);

  return { data: state.data, error: state.error, loadedAt: state.loadedAt, stale: state.data !== undefined && state.key !== key, reload };
}
