// Checks the dashboard in a real browser against a running aggregator:
//   node e2e/page.mjs BASE_URL [OUT_DIR] [--expect-key-subject CN=...] [--expect-alert NAME] [--token TOKEN]
//     [--used-key ID --used-by PROGRAM] [--unobserved-key ID]
// Prints a line per check and `N passed, N failed`; exit code 1 on a failure. Screenshots go to OUT_DIR.
import { Harness, assert } from './harness.mjs';
import { alerts, keys, overview, served } from './checks.mjs';
import { appearance, keyboard } from './frame.mjs';
import { usage } from './usage.mjs';

function parse(argv) {
  const found = { free: [] };
  for (let index = 0; index < argv.length; index += 1) {
    const word = argv[index];
    if (!word.startsWith('--')) found.free.push(word);
    else if (word.includes('=') && !word.startsWith('--expect-key-subject'))
      found[word.slice(2).split('=')[0]] = word.slice(word.indexOf('=') + 1);
    else found[word.slice(2)] = argv[(index += 1)];
  }
  return found;
}

const options = parse(process.argv.slice(2));
const [base, out] = options.free;
if (base === undefined) {
  console.error('usage: node e2e/page.mjs BASE_URL [OUT_DIR] [--expect-key-subject CN=...] [--expect-alert NAME] [--token TOKEN]');
  process.exit(2);
}

const harness = new Harness(base, out);
await harness.start();
try {
  await harness.part('served', () => served(harness));
  await harness.part('overview', () => overview(harness));
  await harness.part('keys', () => keys(harness, options['expect-key-subject']));
  await harness.part('usage', () =>
    usage(harness, { used: options['used-key'], by: options['used-by'], unobserved: options['unobserved-key'] }),
  );
  await harness.part('alerts', () => alerts(harness, options['expect-alert'], options.token));
  await harness.part('keyboard', () => keyboard(harness));
  await harness.part('appearance', () => appearance(harness));
  await harness.check('no errors or warnings in the console', () =>
    assert(harness.problems.length === 0, harness.problems.slice(0, 5).join(' | ')),
  );
  await harness.check('no requests to other hosts', () => assert(harness.foreign.length === 0, harness.foreign.slice(0, 5).join(' ')));
} finally {
  await harness.stop();
}
process.exit(harness.report());
