// Shows whether the page is live, and why not when it is not; a click asks at once or stops asking.
import type { JSX } from 'preact';
import { lengthWords } from '../lib/time';
import { REFRESH_MS, lastLoaded, live, now, paused, refreshNow } from '../state/refresh';
import { Icon } from '../ui/Icon';

const WHY = { off: 'stopped by you', hidden: 'the page is not visible', reading: 'a chart is being read' } as const;

export function RefreshControl(): JSX.Element {
  void now.value;
  const why = paused.value;
  const age = lastLoaded.value === undefined ? 0 : Date.now() - lastLoaded.value;
  const behind = age > REFRESH_MS + 2000 ? `, ${lengthWords(age)} behind` : '';
  const words = why === undefined ? `Live, every ${REFRESH_MS / 1000} s` : `Paused: ${WHY[why]}${behind}`;
  return (
    <div class="refresh" role="group" aria-label="Refresh">
      <button
        type="button"
        class={`button ${why === undefined ? 'live' : 'paused'}`}
        aria-pressed={live.value}
        aria-label={words}
        title={`${words}. Click to ${live.value ? 'pause' : 'go live'}.`}
        onClick={() => (live.value = !live.value)}
      >
        <Icon name={why === undefined ? 'play' : 'pause'} />
        <span class="refresh-word">{why === undefined ? 'Live' : `Paused${behind.replace(',', ' –')}`}</span>
      </button>
      <button type="button" class="icon-button" aria-label="Refresh now" title="Refresh now (r)" onClick={refreshNow}>
        <Icon name="refresh" />
      </button>
    </div>
  );
}
