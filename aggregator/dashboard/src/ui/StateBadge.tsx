// A state by colour, shape and word together, so that none of the three is needed to read it.
import type { JSX } from 'preact';
import type { Badge } from '../lib/alerts';

function shape(kind: Badge): JSX.Element {
  switch (kind) {
    case 'critical':
      return <path d="M6 1 11.5 11H.5Z" fill="currentColor" />;
    case 'warning':
      return <path d="M6 .5 11.5 6 6 11.5.5 6Z" fill="currentColor" />;
    case 'ok':
      return <circle cx="6" cy="6" r="4.5" fill="currentColor" />;
    case 'acknowledged':
      return (
        <>
          <path d="M6 1.5a4.5 4.5 0 0 0 0 9Z" fill="currentColor" />
          <circle cx="6" cy="6" r="4.5" fill="none" stroke="currentColor" stroke-width="1.2" />
        </>
      );
    case 'silenced':
      return <path d="M10.5 6a4.5 4.5 0 1 1-9 0 4.5 4.5 0 0 1 9 0ZM2.8 2.8l6.4 6.4" fill="none" stroke="currentColor" stroke-width="1.3" />;
    case 'unknown':
      return (
        <path
          d="M10.5 6a4.5 4.5 0 1 1-9 0 4.5 4.5 0 0 1 9 0ZM2 7.8 7.8 2M3.6 9.8l6.2-6.2"
          fill="none"
          stroke="currentColor"
          stroke-width="1.1"
        />
      );
  }
}

export function Shape({ kind }: { kind: Badge }): JSX.Element {
  return (
    <svg class={`shape ${kind}`} viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">
      {shape(kind)}
    </svg>
  );
}

export function StateBadge({ kind, word, title }: { kind: Badge; word: string; title?: string }): JSX.Element {
  return (
    <span class={`badge ${kind}`} title={title}>
      <Shape kind={kind} />
      <span>{word}</span>
    </span>
  );
}
