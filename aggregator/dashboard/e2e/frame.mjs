// What all pages must do alike: obey the keyboard, be readable in both themes, fit a phone.
import { assert, equal } from './harness.mjs';

export async function keyboard(h) {
  const page = await h.page();
  await h.open(page, '/');
  await h.check('keyboard: g and a letter go to each page', async () => {
    for (const [letter, path] of [
      ['k', '/keys'],
      ['a', '/alerts'],
      ['o', '/'],
    ]) {
      await page.keyboard.press('g');
      await page.keyboard.press(letter);
      await page.waitForURL((url) => url.pathname === path);
    }
  });
  await h.check('keyboard: / searches, from any page', async () => {
    await page.keyboard.press('/');
    await page.waitForURL((url) => url.pathname === '/keys');
    await page.waitForFunction(() => document.activeElement?.matches('input[type="search"]'));
    await page.keyboard.press('Tab');
  });
  await h.check('keyboard: ? shows the keys, Escape hides them', async () => {
    await page.keyboard.press('Escape');
    await page.evaluate(() => document.activeElement?.blur());
    await page.keyboard.press('?');
    await page.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
  });
  await h.check('keyboard: r asks again', async () => {
    const asked = page.waitForRequest((request) => request.url().endsWith('/api/v1/status'), { timeout: 5000 });
    await page.keyboard.press('r');
    await asked;
  });
  await h.check('keyboard: asking again does not pile up, and leaving gives up', async () => {
    await h.open(page, '/alerts');
    let asked = 0;
    let gone = 0;
    page.on('requestfailed', (request) => {
      if (request.url().endsWith('/api/v1/keys/summary')) gone += 1;
    });
    // Never answered: as a slow aggregator would.
    await page.route('**/api/v1/keys/summary', () => {
      asked += 1;
    });
    const first = page.waitForRequest('**/api/v1/keys/summary');
    await page.keyboard.press('g');
    await page.keyboard.press('k');
    await first;
    for (let again = 0; again < 3; again += 1) {
      const other = page.waitForResponse((response) => response.url().endsWith('/api/v1/status'));
      await page.keyboard.press('r');
      await other;
    }
    // One that was given up for another is not under way any more.
    equal(asked - gone, 1, 'requests under way');
    const dropped = page.waitForEvent('requestfailed', (request) => request.url().endsWith('/api/v1/keys/summary'));
    await page.keyboard.press('g');
    await page.keyboard.press('a');
    await dropped;
    await page.unroute('**/api/v1/keys/summary');
  });
  await h.check('keyboard: Tab reaches the skip link first, and it works', async () => {
    await h.open(page, '/alerts');
    await page.keyboard.press('Tab');
    equal(await page.evaluate(() => document.activeElement?.textContent?.trim()), 'Skip to content', 'first stop');
    await page.keyboard.press('Enter');
    equal(await page.evaluate(() => document.activeElement?.id), 'main', 'focus after it');
  });
  await page.context().close();
}

async function pagesToLookAt(page) {
  const key = await page.evaluate(async () => (await (await fetch('/api/v1/keys?limit=1')).json()).keys[0]?.id);
  return [['overview', '/'], ['keys', '/keys'], ['alerts', '/alerts'], ...(key === undefined ? [] : [['key', `/keys/${key}`]])];
}

export async function appearance(h) {
  for (const theme of ['light', 'dark']) {
    const page = await h.page({ colorScheme: theme });
    await h.open(page, '/');
    for (const [name, path] of await pagesToLookAt(page)) {
      await h.check(`${name}, ${theme}: no accessibility violation`, async () => {
        await h.open(page, path);
        await h.shot(page, `${name}-${theme}`);
        const found = await h.violations(page);
        assert(found.length === 0, found.join(' | '));
      });
    }
    await page.context().close();
  }
  await h.check('theme: the switch overrides the system and is remembered', async () => {
    const page = await h.page({ colorScheme: 'light' });
    await h.open(page, '/alerts');
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await ground();
    await page.getByRole('button', { name: 'Dark', exact: true }).click();
    await page.locator('html[data-theme="dark"]').waitFor();
    assert((await ground()) !== light, 'the ground stayed light');
    await page.reload();
    await page.locator('html[data-theme="dark"]').waitFor();
    await page.getByRole('button', { name: 'As the system' }).click();
    await page.locator('html:not([data-theme])').waitFor();
    await page.context().close();
  });
  const phone = await h.page({ viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 });
  await h.open(phone, '/');
  for (const [name, path] of await pagesToLookAt(phone)) {
    await h.check(`${name}, 390 px: no sideways scroll`, async () => {
      await h.open(phone, path);
      await h.shot(phone, `${name}-390`);
      const { wide, widest } = await phone.evaluate(() => ({
        wide: document.documentElement.scrollWidth,
        widest: [...document.querySelectorAll('body *')]
          .filter((element) => element.getBoundingClientRect().right > 391 && !element.closest('.chart-table'))
          .map((element) => `${element.tagName}.${element.getAttribute('class') ?? ''}`)
          .slice(0, 3),
      }));
      assert(wide <= 390 && widest.length === 0, `${wide} px wide: ${widest.join(', ')}`);
    });
  }
  await phone.context().close();
}
