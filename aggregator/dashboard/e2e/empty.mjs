// Checks the pages of an aggregator that no host has joined: they say what to do, and nothing on them looks fine.
//   node e2e/empty.mjs BASE_URL [OUT_DIR]
import { Harness, assert } from './harness.mjs';

const [base, out] = process.argv.slice(2);
if (base === undefined) {
  console.error('usage: node e2e/empty.mjs BASE_URL [OUT_DIR]');
  process.exit(2);
}

const PAGES = [
  ['/', 'overview', 'No samples yet'],
  ['/keys', 'keys', 'No keys yet'],
  ['/alerts', 'alerts', 'No host reports'],
];

const harness = new Harness(base, out);
await harness.start();
try {
  for (const [path, name, words] of PAGES) {
    for (const colorScheme of ['light', 'dark']) {
      const page = await harness.page({ colorScheme });
      await harness.open(page, path);
      await harness.check(`${name}, ${colorScheme}: says what is missing`, () => page.getByText(words).first().waitFor());
      await harness.check(`${name}, ${colorScheme}: nothing that is not known looks fine`, async () => {
        const fine = await page.locator('.shape.ok').count();
        assert(fine === 0, `${fine} states say ok`);
      });
      await harness.check(`${name}, ${colorScheme}: accessible`, async () => {
        const found = await harness.violations(page);
        assert(found.length === 0, found.join(' | '));
      });
      await harness.shot(page, `empty-${name}-${colorScheme}`);
      await page.context().close();
    }
  }
  await harness.check('no errors or warnings in the console', () =>
    assert(harness.problems.length === 0, harness.problems.slice(0, 5).join(' | ')),
  );
} finally {
  await harness.stop();
}
process.exit(harness.report());
