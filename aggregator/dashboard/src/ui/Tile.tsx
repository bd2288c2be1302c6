// One question, one figure: a word, a number, what it compares to, and its last hour as a line.
import type { ComponentChildren, JSX } from 'preact';
import type { Badge } from '../lib/alerts';
import { Link } from '../routes';
import { Sparkline } from '../charts/Sparkline';
import { Shape } from './StateBadge';

interface Props {
  word: string;
  figure: ComponentChildren;
  /** The comparison below the figure. */
  note: ComponentChildren;
  /** State of the figure; none when there is nothing to look at. */
  state?: Badge | undefined;
  to?: string;
  spark?: readonly (number | null)[] | undefined;
  /** What the line shows, in words. */
  sparkTitle?: string;
  aged?: boolean;
}

export function Tile({ word, figure, note, state, to, spark, sparkTitle, aged }: Props): JSX.Element {
  const body = (
    <>
      <span class="tile-word">{word}</span>
      <span class={`tile-figure ${state ?? ''}`}>
        {state !== undefined && <Shape kind={state} />}
        {figure}
      </span>
      <span class="tile-note">{note}</span>
      {spark !== undefined && <Sparkline values={spark} title={sparkTitle ?? ''} />}
    </>
  );
  const name = `tile ${state ?? ''} ${aged ? 'aged' : ''}`;
  return to === undefined ? (
    <div class={name}>{body}</div>
  ) : (
    <Link class={name} to={to}>
      {body}
    </Link>
  );
}

export function TileSkeleton({ word }: { word: string }): JSX.Element {
  return (
    <div class="tile">
      <span class="tile-word">{word}</span>
      <span class="skeleton tile-wait" role="status" aria-label={`Loading ${word}`} />
    </div>
  );
}
