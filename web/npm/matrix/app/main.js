// What every bundler is given: a task, a timer and a job in a Worker. `SELKIE` stands for the entry of the package.

import { createLoop, createPool } from 'SELKIE';

async function main() {
    const loop = await createLoop();
    const began = performance.now();
    const task = await loop.spawn(function* (ctx) {
        yield* ctx.sleep(5);
        return 'task';
    });
    let timer = 'early';
    await new Promise((resolve) => loop.later(5, resolve));
    if (performance.now() - began >= 10) timer = 'timer';
    const pool = createPool(loop, () => new Worker(new URL('./jobs.js', import.meta.url), { type: 'module' }), { max: 1 });
    const job = await pool.run('job', ['j', 'ob']);
    await pool.close();
    await loop.close();
    return [task, timer, job];
}

main().then(
    (result) => (document.body.dataset.result = JSON.stringify(result)),
    (error) => (document.body.dataset.result = JSON.stringify([String(error?.stack ?? error)])),
);
