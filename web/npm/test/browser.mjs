// Headless browsers for the tests of the package: the Chromium that is installed, by playwright-core, and the Firefox, by its
// WebDriver.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { browser } from '../../../tools/browser.mjs';
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
        return await resultOf(url, () => page.evaluate('document.body?.dataset.result').catch(() => undefined), ms);
    } finally {
        await page.close();
    }
}

/** Asked from outside: a page may forbid what a library would poll it with. */
async function resultOf(url, ask, ms) {
    for (const end = Date.now() + ms; Date.now() < end; await new Promise((again) => setTimeout(again, 50))) {
        const result = await ask();
        if (typeof result === 'string') return JSON.parse(result);
    }
    throw new Error(`${url} gave no result within ${ms} ms`);
}

/** Starts Firefox. */
export async function launchFirefox() {
    const firefox = await browser('firefox');
    try {
        const page = await firefox.page('about:blank');
        return {
            visit: async (url, ms = 60_000) => {
                await page.go(url);
                return resultOf(url, () => page.run('return document.body?.dataset.result'), ms);
            },
            close: async () => {
                await page.close().catch(() => {});
                firefox.close();
            },
        };
    } catch (error) {
        firefox.close();
        throw error;
    }
}
