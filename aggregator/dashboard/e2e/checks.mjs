// What the dashboard must do, page by page. Each check stands on a page it opened itself, so that one failure stays one.
import { FIRST_DATA_MS, assert, equal, settled } from './harness.mjs';

const panel = (page, name) => page.locator(`[data-panel="${name}"]`);
const params = (page) => new URL(page.url()).searchParams;

export async function served(h) {
  await h.check('the page is served under a strict content security policy', async () => {
    const response = await fetch(`${h.base}/`);
    const policy = response.headers.get('content-security-policy') ?? '';
    equal(response.status, 200, 'status');
    for (const directive of ["default-src 'self'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"])
      assert(policy.includes(directive), `the policy lacks ${directive}: ${policy}`);
    assert(!policy.includes('unsafe'), policy);
  });
  await h.check('every path of the page is the page', async () => {
    const response = await fetch(`${h.base}/keys/0123?range=6h`);
    equal(response.status, 200, 'status');
    assert((await response.text()).includes('id="app"'), 'not the page');
  });
}

/** Values of a chart's twin table; leaves the chart as a chart. */
async function chartValues(page, metric, title) {
  const chart = panel(page, metric);
  await chart.locator('.plot-canvas canvas').first().waitFor({ timeout: FIRST_DATA_MS });
  const toggle = chart.getByRole('button', { name: `Show ${title} as table` });
  await toggle.click();
  await chart.locator('td[data-value]').first().waitFor({ timeout: FIRST_DATA_MS });
  const values = await chart.locator('td[data-value]').evaluateAll((cells) => cells.map((cell) => Number(cell.dataset.value)));
  await toggle.click();
  await chart.locator('.plot-canvas canvas').first().waitFor();
  return values;
}

const CHARTS = [
  ['system.cpu.usage_total', 'CPU', 100],
  ['system.memory.usage_percent', 'Memory', 100],
  ['system.disk.usage_percent', 'Disk space used', 100],
  ['system.network.bytes_recv', 'Network', Infinity],
];

export async function overview(h) {
  const page = await h.page();
  await page.goto(`${h.base}/?range=15m`);
  await h.check('overview: a host is up', async () => {
    await panel(page, 'hosts').locator('.badge.ok', { hasText: 'Up' }).first().waitFor({ timeout: FIRST_DATA_MS });
    const figure = await page.locator('.tile', { hasText: 'Hosts up' }).locator('.tile-figure').innerText();
    assert(/^[1-9]\d* \/ [1-9]\d*$/.test(figure.trim()), `the tile says ${figure}`);
  });
  await h.check('overview: the network is asked without the loopback interface', async () => {
    const asked = page.waitForRequest((request) => request.url().includes('system.network.bytes_recv'));
    await page.keyboard.press('r');
    assert(new URL((await asked).url()).searchParams.getAll('tag').includes('interface:!lo'), 'loopback is in it');
  });
  for (const [metric, title, most] of CHARTS) {
    await h.check(`overview: ${title} has data`, async () => {
      const values = await chartValues(page, metric, title);
      assert(values.length > 0, 'the table has no values');
      assert(
        values.every((value) => Number.isFinite(value) && value >= 0 && value <= most),
        `values out of range: ${values.slice(0, 5)}`,
      );
    });
  }
  await h.check('overview: a chart describes itself in words', async () => {
    const label = await panel(page, 'system.cpu.usage_total').locator('[role="img"]').first().getAttribute('aria-label');
    assert(/^CPU, last 15 min, \d+ series\. .*last [\d.]+ %/.test(label ?? ''), String(label));
  });
  await h.check('overview: arrow keys read a chart, which holds the page still', async () => {
    const plot = panel(page, 'system.cpu.usage_total').locator('.plot-canvas');
    await plot.focus();
    await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('ArrowLeft');
    await page.locator('.tooltip .tooltip-row').first().waitFor();
    await page.locator('.button.paused').waitFor();
    await page.keyboard.press('Escape');
    await page.locator('.tooltip').waitFor({ state: 'detached' });
    await page.locator('.button.live').waitFor();
  });
  await h.check('overview: the pointer over a chart shows all its lines', async () => {
    const plot = panel(page, 'system.memory.usage_percent').locator('.plot-canvas');
    await plot.scrollIntoViewIfNeeded();
    await plot.hover();
    await page.locator('.tooltip').waitFor();
    await page.mouse.move(0, 0);
    await page.locator('.tooltip').waitFor({ state: 'detached' });
  });
  await h.check('overview: dragging zooms, and the address keeps it', async () => {
    const plot = panel(page, 'system.cpu.usage_total').locator('.plot-canvas');
    await plot.scrollIntoViewIfNeeded();
    const box = await plot.boundingBox();
    await page.mouse.move(box.x + box.width * 0.4, box.y + 60);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.8, box.y + 60, { steps: 5 });
    await page.mouse.up();
    await page.waitForURL((url) => url.searchParams.has('from') && url.searchParams.has('to'));
    equal(params(page).get('range'), '15m', 'the range to go back to');
    await page.keyboard.press('t');
    await page.waitForURL((url) => !url.searchParams.has('from'));
  });
  await h.check('overview: a range is chosen and survives a reload', async () => {
    await page.getByRole('button', { name: /^Time range/ }).click();
    await page.getByRole('button', { name: '6h', exact: true }).click();
    await page.waitForURL((url) => url.searchParams.get('range') === '6h');
    await page.reload();
    await page.getByRole('button', { name: 'Time range: Last 6 h' }).waitFor();
  });
  await h.check('overview: choosing a host keeps to that host', async () => {
    await settled(page);
    const name = (await panel(page, 'hosts').locator('tbody tr td:first-child').first().innerText()).trim();
    await page.locator('.top select').selectOption(name);
    await page.waitForURL((url) => url.searchParams.get('host') === name);
    await page.waitForFunction(() => document.querySelectorAll('[data-table="hosts"] tbody tr').length === 1);
  });
  await h.check('overview: without a range in the address, one that the data can fill is shown', async () => {
    await h.open(page, '/');
    await page.getByRole('button', { name: /^Time range: Last (5 min|15 min|1 h)$/ }).waitFor();
    assert(!params(page).has('range'), 'the address has a range');
  });
  await page.context().close();
}

export async function keys(h, subject) {
  const page = await h.page();
  await page.goto(`${h.base}/keys?status=all&cas=shown`);
  const rows = panel(page, 'inventory').locator('tbody tr');
  const wanted = subject?.replace(/^CN=/, '');
  const found = await h.check('keys: the inventory lists keys', async () => {
    await rows.first().waitFor({ timeout: FIRST_DATA_MS });
    // The strip and the table are two requests: either may be the first to be there.
    await panel(page, 'expiry').locator('.tile').first().waitFor({ timeout: FIRST_DATA_MS });
    equal(await panel(page, 'expiry').locator('.tile').count(), 5, 'boxes of the expiry strip');
  });
  if (wanted !== undefined) {
    await h.check(`keys: typing finds ${subject}`, async () => {
      await page.getByRole('searchbox').fill(wanted);
      await page.waitForURL((url) => url.searchParams.get('search') === wanted);
      await rows.filter({ hasText: wanted }).first().waitFor({ timeout: FIRST_DATA_MS });
      await rows.filter({ hasText: 'Certificate' }).first().waitFor();
    });
  }
  if (found) {
    await h.check('keys: the order is in the address', async () => {
      await panel(page, 'inventory')
        .getByRole('button', { name: /^Expires/ })
        .click();
      await page.waitForURL((url) => url.searchParams.get('sort') === '-not_after');
      await page.locator('th[aria-sort="descending"]').waitFor();
    });
    await h.check('keys: a row opens its key, and back returns', async () => {
      const before = page.url();
      const row = wanted === undefined ? rows.first() : rows.filter({ hasText: wanted }).filter({ hasText: 'Certificate' }).first();
      await row.locator('td').nth(1).click();
      await page.waitForURL(/\/keys\/[^?]+/);
      await panel(page, 'facts').waitFor();
      await panel(page, 'places').locator('tbody tr td:first-child', { hasText: '/' }).first().waitFor();
      await panel(page, 'facts')
        .getByRole('button', { name: /^Copy fingerprint [0-9A-Za-z+/]{12}$/ })
        .waitFor();
      if (wanted !== undefined) assert((await page.locator('.crumb-name').innerText()).includes(wanted), 'another key was opened');
      await page.goBack();
      await rows.first().waitFor();
      equal(page.url(), before, 'the address after going back');
    });
  }
  await h.check('keys: public CAs are hidden until asked for, and the address keeps it', async () => {
    await h.open(page, '/keys?status=all');
    const choice = page.getByLabel(/^Public CA/);
    equal(await choice.inputValue(), 'hidden', 'at first');
    const asked = page.waitForRequest((request) => /\/keys\?.*trust_store=true/.test(request.url()));
    await choice.selectOption('only');
    await asked;
    await page.waitForURL((url) => url.searchParams.get('cas') === 'only');
    await page.reload();
    await settled(page);
    equal(await choice.inputValue(), 'only', 'after a reload');
    await choice.selectOption('hidden');
    await page.waitForURL((url) => !url.searchParams.has('cas'));
  });
  await h.check('keys: a search that finds nothing says so', async () => {
    await h.open(page, '/keys?search=no-such-key-anywhere');
    await page.getByText('No key matches').waitFor();
  });
  await page.context().close();
}

export async function alerts(h, name, token) {
  const page = await h.page();
  await h.open(page, '/alerts');
  await h.check('alerts: what is firing, or that nothing is', async () => {
    const active = panel(page, 'active-alerts');
    await active
      .locator('tbody tr')
      .or(active.getByText(/Nothing is (firing|watched)/))
      .first()
      .waitFor();
  });
  await h.check('alerts: rules and notifications are shown', async () => {
    await panel(page, 'rules').locator('tbody tr').first().waitFor();
    const notifications = panel(page, 'notifications');
    await notifications
      .getByText('Sent', { exact: true })
      .or(notifications.getByText(/^No channel is set up/))
      .first()
      .waitFor();
  });
  if (name !== undefined) {
    await h.check(`alerts: ${name} is active, and opens`, async () => {
      const row = panel(page, 'active-alerts').locator('tbody tr', { hasText: name }).first();
      await row.waitFor({ timeout: FIRST_DATA_MS });
      await row.locator('td').nth(1).click();
      await page.waitForURL((url) => url.searchParams.has('alert'));
      await page.locator('.below').getByRole('heading', { name: 'History' }).waitFor();
    });
    if (token !== undefined)
      await h.check(`alerts: ${name} is acknowledged, after asking for the token`, () => acknowledge(h, page, name, token));
  }
  await page.context().close();
}

async function acknowledge(h, page, name, token) {
  // The browser itself writes the first refusal to the console; that one is wanted.
  h.tolerated = /status of 401/;
  const row = panel(page, 'active-alerts').locator('tbody tr', { hasText: name }).first();
  await row.getByRole('button', { name: 'Acknowledge' }).click();
  await page.getByLabel('By', { exact: true }).fill('page test');
  await page.getByLabel('Note', { exact: true }).fill('seen by the page test');
  await page.locator('dialog').getByRole('button', { name: 'Acknowledge' }).click();
  await page.getByLabel('Token', { exact: true }).fill(token);
  await page.getByRole('button', { name: 'Use token' }).click();
  await page.locator('dialog').first().waitFor({ state: 'detached' });
  await row.locator('.badge.acknowledged').waitFor();
  h.tolerated = undefined;
}
