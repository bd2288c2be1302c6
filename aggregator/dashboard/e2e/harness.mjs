// Starts Chromium, counts checks, and keeps watch over what no page may do: write errors, ask foreign hosts.
// Knows nothing of what the pages show. Waits for conditions, never for time.
import { mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const ARGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

/** The first samples and keys of a fresh aggregator are there within 15 s; slow machines get four times that. */
export const FIRST_DATA_MS = 60_000;

export class Harness {
  constructor(base, out) {
    this.base = base.replace(/\/+$/, '');
    this.out = out;
    this.passed = 0;
    this.failed = 0;
    this.problems = [];
    this.foreign = [];
    this.tolerated = undefined;
  }

  async start() {
    if (this.out) await mkdir(this.out, { recursive: true });
    this.axe = await readFile(AXE, 'utf8');
    this.browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ARGS });
  }

  async stop() {
    await this.browser?.close();
  }

  /** A fresh profile: no token, no choices. */
  async page(options = {}) {
    const context = await this.browser.newContext({
      viewport: { width: 1440, height: 900 },
      colorScheme: 'light',
      reducedMotion: 'reduce',
      ...options,
    });
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    page.on('console', (message) => {
      if (message.type() !== 'error' && message.type() !== 'warning') return;
      if (!this.tolerated?.test(message.text())) this.problems.push(`${message.text()} (${message.location().url})`);
    });
    page.on('pageerror', (error) => this.problems.push(error.message));
    page.on('request', (request) => {
      const url = new URL(request.url());
      if (url.protocol !== 'data:' && url.protocol !== 'blob:' && url.origin !== new URL(this.base).origin)
        this.foreign.push(request.url());
    });
    return page;
  }

  /** Runs a check; what it throws is why it is not ok. */
  async check(name, run) {
    try {
      await run();
      this.passed += 1;
      console.log(`ok ${name}`);
      return true;
    } catch (cause) {
      this.failed += 1;
      console.log(
        `not ok ${name}: ${String(cause?.message ?? cause)
          .split('\n')
          .slice(0, 6)
          .join(' | ')}`,
      );
      return false;
    }
  }

  /** A part whose preparation fails is a failure like any other, and the parts after it still run. */
  async part(name, run) {
    try {
      await run();
    } catch (cause) {
      await this.check(`${name}: could be checked`, () => {
        throw cause;
      });
    }
  }

  async open(page, path) {
    await page.goto(this.base + path, { waitUntil: 'domcontentloaded' });
    await settled(page);
  }

  async shot(page, name) {
    if (this.out) await page.screenshot({ path: join(this.out, `${name}.png`), fullPage: true });
  }

  /** Accessibility rules of WCAG 2 A and AA that the page breaks. */
  async violations(page) {
    await page.evaluate(this.axe);
    const found = await page.evaluate(async () => {
      const result = await globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa'] });
      return result.violations.map(
        (violation) =>
          `${violation.id}: ${violation.nodes
            .slice(0, 3)
            .map((node) => `${node.target.join(' ')} ${node.any[0]?.message ?? ''}`)
            .join('; ')}`,
      );
    });
    return found;
  }

  report() {
    console.log(`${this.passed} passed, ${this.failed} failed`);
    return this.failed === 0 && this.passed > 0 ? 0 : 1;
  }
}

/** Nothing is being loaded for the first time any more. */
export async function settled(page, timeout = 20_000) {
  await page.locator('main h1').waitFor({ state: 'attached', timeout });
  await page.waitForFunction(() => document.querySelector('.skeleton') === null, undefined, { timeout });
}

export function assert(condition, message) {
  if (!condition) throw new Error(message);
}

export function equal(found, wanted, what) {
  assert(found === wanted, `${what}: ${JSON.stringify(found)} instead of ${JSON.stringify(wanted)}`);
}
