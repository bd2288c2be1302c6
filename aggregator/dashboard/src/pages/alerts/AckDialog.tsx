// Acknowledging: who looks at it, and a note for the others. Asks for the token only when the answer is 401.
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { ApiError, api, storeToken } from '../../api/client';
import type { Alert } from '../../api/types';
import { recalled, remember } from '../../state/prefs';
import { askForToken } from '../../state/token';
import { Dialog } from '../../ui/Dialog';

interface Props {
  alert: Alert;
  onClose: () => void;
  onDone: () => void;
}

/** Tries, and tries once more with the token that a person gives; `false` when none was given. */
async function acknowledge(id: string, body: { by: string; note: string }): Promise<boolean> {
  try {
    await api.acknowledge(id, body);
    return true;
  } catch (cause) {
    if (!(cause instanceof ApiError) || cause.status !== 401) throw cause;
  }
  if (!(await askForToken('Acknowledging'))) return false;
  try {
    await api.acknowledge(id, body);
    return true;
  } catch (cause) {
    // A wrong token is forgotten, so that the next try asks again.
    if (cause instanceof ApiError && cause.status === 401) storeToken(null);
    throw cause;
  }
}

export function AckDialog({ alert, onClose, onDone }: Props): JSX.Element {
  const [by, setBy] = useState(recalled('by') ?? '');
  const [note, setNote] = useState('');
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | undefined>(undefined);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    const name = by.trim();
    if (name === '' || busy) return;
    setBusy(true);
    setProblem(undefined);
    try {
      if (await acknowledge(alert.id, { by: name, note: note.trim() })) {
        remember('by', name);
        onDone();
        return;
      }
    } catch (cause) {
      setProblem(cause instanceof ApiError ? `Not acknowledged. ${cause.message}. ${cause.hint}` : 'Not acknowledged.');
    }
    setBusy(false);
  };
  return (
    <Dialog title={`Acknowledge: ${alert.name}`} onClose={onClose}>
      <form class="form" onSubmit={(event) => void submit(event)}>
        <p>{alert.summary}</p>
        <label>
          By
          <input type="text" required autocomplete="name" value={by} onInput={(event) => setBy(event.currentTarget.value)} />
        </label>
        <label>
          Note
          <textarea rows={3} value={note} placeholder="What is being done" onInput={(event) => setNote(event.currentTarget.value)} />
        </label>
        {problem !== undefined && (
          <p class="field-error" role="alert">
            {problem}
          </p>
        )}
        <div class="form-actions">
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="button primary" disabled={busy || by.trim() === ''}>
            {busy ? 'Acknowledging' : 'Acknowledge'}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
