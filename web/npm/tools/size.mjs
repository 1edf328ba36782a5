// What a visitor of a page downloads, against the budgets: `node tools/size.mjs`, after a build.

import { build } from 'esbuild';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { bold, green, red, table } from '../../../tools/lib.mjs';

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(here, 'dist');

/**
 * As [what, the code of an application, limit of gzip in KB]. Tasks stay below 9 KB, which was the aim for everything: that
 * would take a third of what the package can do, as texts are 1.1 KB and no function more than 0.4. The limits are close to
 * what there is, so that nothing grows unseen.
 */
const BUDGETS = [
    ['tasks, timers, gather, wait, groups: createLoop', "export { createLoop } from './index.js'", 8.1],
    ['and queues and locks', "export { createLoop, Queue, Lock, Semaphore, Event, Condition, Barrier } from './index.js'", 9.3],
    ['createLoop and createPool', "export { createLoop, createPool } from './index.js'", 11.4],
    ['everything', "export * from './index.js'", 13.8],
    ["a Worker's side", "export { expose, job } from './worker.js'", 1.95],
    ['loop.wasm', undefined, 33],
    ['createLoop of selkie/inline, with its WebAssembly', "export { createLoop } from './inline.js'", 50.8],
];

/** Answers rows of [what, minified, gzip, brotli, limit], in bytes. */
export async function sizes() {
    const rows = [];
    for (const [what, contents, limit] of BUDGETS) {
        const bytes = contents
            ? (await build({ stdin: { contents, resolveDir: dist }, bundle: true, minify: true, format: 'esm', write: false, logLevel: 'error' })).outputFiles[0].contents
            : readFileSync(join(dist, 'loop.wasm'));
        rows.push([what, bytes.length, gzipSync(bytes, { level: 9 }).length, brotliCompressSync(bytes).length, limit]);
    }
    return rows;
}

/** Prints the table; whether all is within its limit. */
export async function check() {
    const rows = await sizes();
    const kb = (bytes) => (bytes / 1000).toFixed(1);
    const over = rows.filter(([, , gzip, , limit]) => gzip > limit * 1000);
    console.log(table([['', 'minified', 'gzip', 'brotli', 'limit of gzip'].map(bold), ...rows.map(([what, raw, gzip, brotli, limit]) =>
        [what, kb(raw), (gzip > limit * 1000 ? red : green)(kb(gzip)), kb(brotli), `${limit} KB`])]));
    return over.length === 0;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) process.exitCode = (await check()) ? 0 : 1;
