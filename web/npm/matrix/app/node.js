// In Node: the same, and nothing left that keeps the process.

import { createLoop, createPool } from 'selkie';
import { createTestLoop } from 'selkie/testing';
import { Worker } from 'node:worker_threads';

const loop = await createLoop();
const task = await loop.spawn(async (ctx) => {
    await ctx.sleep(5);
    return 'task';
});
await new Promise((resolve) => loop.later(5, resolve));
const pool = createPool(loop, () => new Worker(new URL('./jobs.js', import.meta.url)), { max: 1 });
const job = await pool.run('job', ['j', 'ob']);
const virtual = await createTestLoop();
await virtual.run((ctx) => ctx.sleep(1e6));
console.log(JSON.stringify([task, 'timer', job]));
// Neither the pool nor the loops are closed: they hold nobody.
