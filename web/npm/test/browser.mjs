// Headless Chromium for the tests of the package, by playwright-core and the browser that is installed.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { root, which } from '../../../tools/lib.mjs';

/** Starts the browser. */
export function launch() {
    const executablePath = process.env.CHROME ?? which('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome');
    if (!executablePath) throw new Error('Chromium is missing: run `npx -y rust-just setup`');
    const flags = JSON.parse(readFileSync(join(root, 'webdriver.json'), 'utf8'))['goog:chromeOptions'].args;
    return chromium.launch({ executablePath, args: flags.filter((flag) => !flag.startsWith('--headless')) });
}

/** Opens `url` and resolves to what the page puts into `document.body.dataset.result`, parsed; `said` gets its console. */
export async function visit(browser, url, said = () => {}, ms = 60_000) {
    const page = await browser.newPage();
    page.on('console', (message) => said(message.text()));
    page.on('pageerror', (error) => said(`uncaught: ${error.message}`));
    page.on('requestfailed', (request) => said(`not loaded: ${request.url()} ${request.failure()?.errorText}`));
    try {
        await page.goto(url);
        // Asked from outside: a page may forbid what the library would poll it with.
        for (const end = Date.now() + ms; Date.now() < end; await new Promise((again) => setTimeout(again, 50))) {
            const result = await page.evaluate('document.body?.dataset.result').catch(() => undefined);
            if (result !== undefined) return JSON.parse(result);
        }
        throw new Error(`${url} gave no result within ${ms} ms`);
    } finally {
        await page.close();
    }
}
