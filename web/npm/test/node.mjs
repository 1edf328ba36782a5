// The tests in Node: `node test/node.mjs [FILTER]`.

import { readFile } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
// As a user has it: a package may import itself by name.
import * as selkie from 'selkie';
import * as testing from 'selkie/testing';
import { tests as behaviour } from './behaviour.js';
import { runAll } from './harness.js';
import { tests as pool } from './pool.js';

const host = {
    selkie, testing,
    worker: (name) => new Worker(new URL(`./workers/${name}.node.mjs`, import.meta.url)),
    listen: (worker, f) => worker.once('message', f),
    address: new URL('../dist/loop.wasm', import.meta.url),
    bytes: () => readFile(new URL('../dist/loop.wasm', import.meta.url)),
    uncaught: () => new Promise((resolve) => process.once('uncaughtException', resolve)),
};
const results = await runAll([...behaviour, ...pool], host, console.log, process.argv[2]);
const failed = results.filter(({ error }) => error).length;
console.log(`test result: ${failed ? 'FAILED' : 'ok'}. ${results.length - failed} passed; ${failed} failed; 0 ignored`);
process.exitCode = failed ? 1 : 0;
