// The tests in a page, without a bundler; test/page.mjs opens it.

import * as selkie from '../dist/index.js';
import * as testing from '../dist/testing.js';
import { job } from '../dist/worker.js';
import { tests as behaviour } from './behaviour.js';
import { runAll } from './harness.js';
import { tests as frames } from './frames.js';
import { tests as pool } from './pool.js';

const host = {
    selkie, testing, job,
    worker: (name) => new Worker(new URL(`./workers/${name}.page.js`, import.meta.url), { type: 'module' }),
    listen: (worker, f) => worker.addEventListener('message', ({ data }) => f(data), { once: true }),
    address: new URL('../dist/loop.wasm', import.meta.url),
    bytes: async () => (await fetch(new URL('../dist/loop.wasm', import.meta.url))).arrayBuffer(),
    uncaught: () => new Promise((resolve) => addEventListener('error', (event) => (event.preventDefault(), resolve(event.error)), { once: true })),
};
const filter = new URLSearchParams(location.search).get('filter') ?? '';
const results = await runAll([...behaviour, ...pool, ...frames], host, (line) => console.log(line), filter);
document.body.dataset.result = JSON.stringify(results);
