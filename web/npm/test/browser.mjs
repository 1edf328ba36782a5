// Headless browsers for the tests of the package: the Chromium that is installed, by playwright-core, and the Firefox, by its
// WebDriver.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { geckodriver, root, which } from '../../../tools/lib.mjs';

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

/** Starts Firefox with its driver, on a port that is free. */
export async function launchFirefox() {
    const program = geckodriver();
    if (!program) throw new Error('geckodriver is missing: run `npx -y rust-just setup deep`');
    const driver = spawn(program, ['--port', '0'], { stdio: ['ignore', 'pipe', 'ignore'] });
    const ended = new Promise((_, reject) => {
        driver.on('error', reject);
        driver.on('exit', (code) => reject(new Error(`geckodriver ended with ${code}`)));
    });
    ended.catch(() => {});
    const listening = new Promise((resolve) => {
        let said = '';
        driver.stdout.on('data', (text) => {
            const found = /Listening on \S+:(\d+)/.exec((said += text));
            if (found) resolve(`http://127.0.0.1:${found[1]}/session`);
        });
    });
    const address = await Promise.race([listening, ended]);
    const call = async (method, path, body) => {
        const response = await fetch(`${address}${path}`, { method, body: body && JSON.stringify(body), headers: { 'content-type': 'application/json' } });
        const { value } = await response.json();
        if (!response.ok) throw new Error(`geckodriver: ${value.message}`);
        return value;
    };
    try {
        const headless = { 'moz:firefoxOptions': { args: ['-headless'] } };
        const { sessionId } = await call('POST', '', { capabilities: { alwaysMatch: headless } });
        return {
            visit: async (url, ms = 60_000) => {
                await call('POST', `/${sessionId}/url`, { url });
                return resultOf(url, () => call('POST', `/${sessionId}/execute/sync`, { script: 'return document.body?.dataset.result', args: [] }), ms);
            },
            close: async () => {
                await call('DELETE', `/${sessionId}`).catch(() => {});
                driver.kill();
            },
        };
    } catch (error) {
        driver.kill();
        throw error;
    }
}
