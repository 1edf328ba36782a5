// The tests in a page, isolated and not: `node test/page.mjs [FILTER]` in headless Chromium, with `--firefox` all in Firefox.

import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { serve } from '../../../tools/serve.mjs';
import { launch, launchFirefox, visit } from './browser.mjs';

const folder = dirname(dirname(fileURLToPath(import.meta.url)));
const firefox = process.argv[2] === '--firefox';
const browser = await (firefox ? launchFirefox() : launch());
let [passed, failed] = [0, 0];
try {
    for (const isolated of [true, false]) {
        const server = await serve(folder, 0, { isolated });
        console.log(`in a page${firefox ? ' of Firefox' : ''}${isolated ? '' : ' without isolation'}`);
        // Without isolation only what has to do with Workers and frames may differ.
        const filter = (firefox ? '' : process.argv[2]) ?? (isolated ? '' : '^pool:|^page:');
        const url = `http://localhost:${server.address().port}/test/page.html?filter=${encodeURIComponent(filter)}`;
        const say = (line) => line.startsWith('test ') || line.includes('Error') ? console.log(line) : undefined;
        const results = await (firefox ? browser.visit(url, 180_000) : visit(browser, url, say, 180_000));
        // Its console is not heard.
        if (firefox) for (const { name, error } of results) console.log(`test ${name} ... ${error ? `FAILED\n${error}` : 'ok'}`);
        passed += results.filter(({ error }) => !error).length;
        failed += results.filter(({ error }) => error).length;
        server.close();
    }
} finally {
    await browser.close();
}
console.log(`test result: ${failed ? 'FAILED' : 'ok'}. ${passed} passed; ${failed} failed; 0 ignored`);
process.exitCode = failed ? 1 : 0;
