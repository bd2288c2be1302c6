// The list of keys, opened by `?`.
import type { JSX } from 'preact';
import { Dialog } from '../ui/Dialog';
import { SHORTCUTS } from './keyboard';

export function ShortcutSheet({ onClose }: { onClose: () => void }): JSX.Element {
  return (
    <Dialog title="Keyboard shortcuts" onClose={onClose}>
      <dl class="shortcuts">
        {SHORTCUTS.map(({ keys, what }) => (
          <div key={keys}>
            <dt>
              {keys.split(' ').map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <p class="dim">On a chart: drag to zoom, double-click to go back.</p>
    </Dialog>
  );
}
