// The tests in a page of headless Chromium, isolated and not: `node test/page.mjs [FILTER]`.

import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { serve } from '../../../tools/serve.mjs';
import { launch, visit } from './browser.mjs';

const folder = dirname(dirname(fileURLToPath(import.meta.url)));
const browser = await launch();
let [passed, failed] = [0, 0];
try {
    for (const isolated of [true, false]) {
        const server = await serve(folder, 0, { isolated });
        console.log(isolated ? 'in a page' : 'in a page without isolation');
        // Without isolation only what has to do with Workers and frames may differ.
        const filter = process.argv[2] ?? (isolated ? '' : '^pool:|^page:');
        const url = `http://localhost:${server.address().port}/test/page.html?filter=${encodeURIComponent(filter)}`;
        const results = await visit(browser, url, (line) => line.startsWith('test ') || line.includes('Error') ? console.log(line) : undefined, 180_000);
        passed += results.filter(({ error }) => !error).length;
        failed += results.filter(({ error }) => error).length;
        server.close();
    }
} finally {
    await browser.close();
}
console.log(`test result: ${failed ? 'FAILED' : 'ok'}. ${passed} passed; ${failed} failed; 0 ignored`);
process.exitCode = failed ? 1 : 0;
