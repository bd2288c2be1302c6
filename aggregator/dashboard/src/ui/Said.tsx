// A sentence in which `backticks` set off what is typed into a terminal.
import type { JSX } from 'preact';

export function Said({ text }: { text: string }): JSX.Element {
  return <>{text.split('`').map((part, index) => (index % 2 === 1 ? <code key={index}>{part}</code> : part))}</>;
}
