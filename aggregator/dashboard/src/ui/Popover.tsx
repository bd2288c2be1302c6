// A button with a small panel below it; closes on Escape, on a click elsewhere, and when its content says so.
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';

interface Props {
  label: ComponentChildren;
  /** Name for those who do not see the label. */
  name: string;
  class?: string;
  children: (close: () => void) => ComponentChildren;
}

export function Popover({ label, name, class: extra, children }: Props): JSX.Element {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (!open) return undefined;
    const outside = (event: Event): void => {
      if (event.target instanceof Node && !root.current?.contains(event.target)) setOpen(false);
    };
    const key = (event: KeyboardEvent): void => {
      if (event.key !== 'Escape') return;
      setOpen(false);
      button.current?.focus();
    };
    document.addEventListener('pointerdown', outside);
    document.addEventListener('keydown', key);
    return () => {
      document.removeEventListener('pointerdown', outside);
      document.removeEventListener('keydown', key);
    };
  }, [open]);
  const close = (): void => {
    setOpen(false);
    button.current?.focus();
  };
  return (
    <div class={`popover ${extra ?? ''}`} ref={root}>
      <button type="button" class="button" ref={button} aria-expanded={open} aria-label={name} title={name} onClick={() => setOpen(!open)}>
        {label}
      </button>
      {open && (
        <div class="popover-panel" role="group" aria-label={name}>
          {children(close)}
        </div>
      )}
    </div>
  );
}
