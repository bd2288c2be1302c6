// What the page of a key says of its use, where that is observed and where it is not.
import { FIRST_DATA_MS, assert } from './harness.mjs';

const use = (page) => page.locator('[data-panel="use"]');

async function checked(h, page, name) {
  await h.shot(page, name);
  const found = await h.violations(page);
  assert(found.length === 0, found.join(' | '));
}

/** `used` and `unobserved` are ids of keys; `by` is the program that used the first. */
export async function usage(h, { used, by, unobserved }) {
  for (const colorScheme of ['light', 'dark']) {
    const page = await h.page({ colorScheme });
    if (used !== undefined)
      await h.check(`use, ${colorScheme}: the page of a key says who used it, and since when that is observed`, async () => {
        await h.open(page, `/keys/${used}`);
        const row = use(page).locator('[data-table="actors"] tbody tr', { hasText: by }).first();
        await row.waitFor({ timeout: FIRST_DATA_MS });
        assert((await row.innerText()).includes('root'), 'the user is missing');
        await use(page)
          .getByText(/observed since/)
          .waitFor();
        await page.locator('[data-panel="facts"]').getByText(by).waitFor();
        await checked(h, page, `key-use-${colorScheme}`);
      });
    if (unobserved !== undefined)
      await h.check(`use, ${colorScheme}: of a key that nobody observes it is unknown`, async () => {
        await h.open(page, `/keys/${unobserved}`);
        await use(page)
          .getByText(/^Unknown: /)
          .waitFor({ timeout: FIRST_DATA_MS });
        await page
          .locator('[data-panel="facts"]')
          .getByText(/^unknown: /)
          .waitFor();
        assert(!/\b0\b|never|none/.test(await use(page).innerText()), 'it is shown as not used');
        await checked(h, page, `key-unobserved-${colorScheme}`);
      });
    await page.context().close();
  }
  const phone = await h.page({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 });
  for (const id of [used, unobserved].filter((one) => one !== undefined))
    await h.check(`use, 390 px: no sideways scroll (${id === used ? 'used' : 'unobserved'})`, async () => {
      await h.open(phone, `/keys/${id}`);
      await use(phone).waitFor({ timeout: FIRST_DATA_MS });
      const wide = await phone.evaluate(() => document.documentElement.scrollWidth);
      assert(wide <= 390, `${wide} px wide`);
    });
  await phone.context().close();
}
