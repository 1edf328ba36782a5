// The tests in Node: `node test/node.mjs [FILTER]`.

import { Worker } from 'node:worker_threads';
// As a user has it: a package may import itself by name.
import * as selkie from 'selkie';
import * as testing from 'selkie/testing';
import { tests as behaviour } from './behaviour.js';
import { equal, rejection, runAll } from './harness.js';
import { tests as pool } from './pool.js';

const host = {
    selkie, testing,
    worker: (name) => new Worker(new URL(`./workers/${name}.node.mjs`, import.meta.url)),
    listen: (worker, f) => worker.once('message', f),
    uncaught: () => new Promise((resolve) => process.once('uncaughtException', resolve)),
};
/** What only Workers of Node can do. */
const own = [{
    name: 'pool: a Worker that exits rejects its job',
    async run({ selkie, worker }) {
        const loop = await selkie.createLoop();
        const pool = selkie.createPool(loop, () => worker('exit'), { max: 1 });
        const error = await rejection(pool.run('exit', []));
        equal([error.code, error.message.includes('3'), await pool.run('add', [1, 2])], ['worker-crashed', true, 3]);
        await pool.close();
        await loop.close();
    },
}];

const results = await runAll([...behaviour, ...pool, ...own], host, console.log, process.argv[2]);
const failed = results.filter(({ error }) => error).length;
console.log(`test result: ${failed ? 'FAILED' : 'ok'}. ${results.length - failed} passed; ${failed} failed; 0 ignored`);
process.exitCode = failed ? 1 : 0;
