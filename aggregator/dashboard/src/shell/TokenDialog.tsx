// Asks for the admin token when an answer was 401. It is kept for this tab only and never shown again.
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { tokenQuestion } from '../state/token';
import { Dialog } from '../ui/Dialog';
import { Said } from '../ui/Said';

export function TokenDialog(): JSX.Element | null {
  const question = tokenQuestion.value;
  const [token, setToken] = useState('');
  if (!question) return null;
  const finish = (given: string | null): void => {
    setToken('');
    question.answer(given);
  };
  const submit = (event: Event): void => {
    event.preventDefault();
    const trimmed = token.trim();
    if (trimmed !== '') finish(trimmed);
  };
  return (
    <Dialog title="Admin token" onClose={() => finish(null)}>
      <form class="form" onSubmit={submit}>
        <p>
          <Said
            text={`${question.why} needs the admin token. \`keyvigil up\` printed it when it first started. It is kept until this tab is closed.`}
          />
        </p>
        <label>
          Token
          <input type="password" autocomplete="off" value={token} onInput={(event) => setToken(event.currentTarget.value)} />
        </label>
        <div class="form-actions">
          <button type="button" class="button" onClick={() => finish(null)}>
            Cancel
          </button>
          <button type="submit" class="button primary" disabled={token.trim() === ''}>
            Use token
          </button>
        </div>
      </form>
    </Dialog>
  );
}
