// A fingerprint as its first 12 characters, or a command: a click copies the whole.
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { shortFingerprint } from '../lib/format';
import { Icon } from './Icon';

export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without a secure origin there is no clipboard; the old way still works there.
    const area = document.createElement('textarea');
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}

interface Props {
  text: string;
  /** What is shown; the text itself by default. */
  shown?: string;
  what: string;
}

export function Copy({ text, shown, what }: Props): JSX.Element {
  const [said, setSaid] = useState<'copied' | 'failed' | undefined>(undefined);
  useEffect(() => {
    if (said === undefined) return undefined;
    const timer = setTimeout(() => setSaid(undefined), 1500);
    return () => clearTimeout(timer);
  }, [said]);
  const click = (event: MouseEvent): void => {
    event.stopPropagation();
    event.preventDefault();
    void copyText(text).then((done) => setSaid(done ? 'copied' : 'failed'));
  };
  return (
    <button type="button" class="copy" onClick={click} title={`Copy ${what}: ${text}`} aria-label={`Copy ${what} ${shown ?? text}`}>
      <code>{shown ?? text}</code>
      <Icon name="copy" />
      {said !== undefined && (
        <span class="said" role="status">
          {said === 'copied' ? 'Copied' : 'Not copied'}
        </span>
      )}
    </button>
  );
}

export function Fingerprint({ value }: { value: string }): JSX.Element {
  return <Copy text={value} shown={shortFingerprint(value)} what="fingerprint" />;
}
