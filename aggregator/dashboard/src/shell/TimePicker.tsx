// Chooses the time all charts show: a length before now, or two instants. The choice lives in the URL.
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { PRESETS, inputValue, parseInput, parseRange, rangeLength, rangeWords } from '../lib/time';
import { range, setParams, setRange } from '../routes';
import { setUtc, utc } from '../state/prefs';
import { now } from '../state/refresh';
import { Icon } from '../ui/Icon';
import { Popover } from '../ui/Popover';

function CustomRange({ close }: { close: () => void }): JSX.Element {
  const current = range.peek();
  const end = current.kind === 'absolute' ? current.to : now.peek();
  const [from, setFrom] = useState(inputValue(end - rangeLength(current), utc.value));
  const [to, setTo] = useState(inputValue(end, utc.value));
  const begin = parseInput(from, utc.value);
  const finish = parseInput(to, utc.value);
  const wrong = begin === undefined || finish === undefined ? 'Fill in both.' : finish <= begin ? '"From" must be before "to".' : undefined;
  const submit = (event: Event): void => {
    event.preventDefault();
    if (wrong !== undefined || begin === undefined || finish === undefined) return;
    setRange({ kind: 'absolute', from: begin, to: finish });
    close();
  };
  return (
    <form class="custom-range" onSubmit={submit}>
      <label>
        From
        <input type="datetime-local" value={from} onInput={(event) => setFrom(event.currentTarget.value)} />
      </label>
      <label>
        To
        <input type="datetime-local" value={to} onInput={(event) => setTo(event.currentTarget.value)} />
      </label>
      {wrong !== undefined && <p class="field-error">{wrong}</p>}
      <button type="submit" class="button primary" disabled={wrong !== undefined}>
        Show
      </button>
    </form>
  );
}

export function TimePicker(): JSX.Element {
  const current = range.value;
  const words = rangeWords(current, utc.value);
  const label = (
    <>
      <Icon name="clock" />
      <span class="cut">{words}</span>
      <Icon name="down" />
    </>
  );
  return (
    <>
      <Popover name={`Time range: ${words}`} class={current.kind === 'absolute' ? 'chosen' : ''} label={label}>
        {(close) => (
          <>
            <div class="presets" role="group" aria-label="Length before now">
              {PRESETS.map((preset) => (
                <button
                  key={preset}
                  type="button"
                  class="button"
                  aria-pressed={current.kind === 'relative' && current.text === preset}
                  onClick={() => {
                    setRange(parseRange({ range: preset }));
                    close();
                  }}
                >
                  {preset}
                </button>
              ))}
            </div>
            <CustomRange close={close} key={String(utc.value)} />
            <label class="check">
              <input type="checkbox" checked={utc.value} onChange={(event) => setUtc(event.currentTarget.checked)} />
              Times in UTC
            </label>
          </>
        )}
      </Popover>
      {current.kind === 'absolute' && (
        <button
          type="button"
          class="button"
          onClick={() => setParams({ from: undefined, to: undefined })}
          title="Follow the clock again (t)"
        >
          To now
        </button>
      )}
    </>
  );
}
