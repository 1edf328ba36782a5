// What only a page can show: that it keeps drawing.

import { equal, ok } from './harness.js';

export const tests = [];
const test = (name, run) => tests.push({ name: `page: ${name}`, run });

/** The frames drawn while `run` runs, and the longest time without one. */
async function frames(run) {
    let [count, longest, over, last] = [0, 0, false, undefined];
    const frame = (now) => {
        if (last !== undefined) longest = Math.max(longest, now - last);
        last = now;
        count += 1;
        if (!over) requestAnimationFrame(frame);
    };
    await new Promise((resolve) => requestAnimationFrame((now) => (frame(now), resolve())));
    const began = performance.now();
    await run();
    over = true;
    return { perSecond: (count * 1000) / (performance.now() - began), longest };
}

const busy = (ms) => {
    for (const end = performance.now() + ms; performance.now() < end; );
};

for (const [form, body] of [
    ['generators', function* (ctx) { yield* ctx.yield(); busy(0.02); }],
    ['async functions', async (ctx) => { await ctx.yield(); busy(0.02); }],
]) {
    test(`frames are drawn while 40,000 tasks of ${form} run`, async ({ selkie }) => {
        const loop = await selkie.createLoop();
        let tasks;
        const { perSecond, longest } = await frames(async () => {
            const starter = loop.spawn(async (ctx) => {
                tasks = [];
                for (let n = 0; n < 40_000; n += 1) {
                    tasks.push(loop.spawn(body, { start: 'next' }));
                    if (ctx.shouldYield()) await ctx.yield();
                }
            });
            await starter;
            await loop.wait(tasks);
        });
        // 60 and 20 ms where nothing else runs; a machine may be busy.
        ok(perSecond > 20 && longest < 200, `${perSecond.toFixed(0)} frames a second, the longest gap ${longest.toFixed(0)} ms`);
        equal(tasks.every((task) => task.state === 'done'), true);
        await loop.close();
    });
}

test('shared flags are there only where the page is isolated', async ({ selkie, worker }) => {
    const loop = await selkie.createLoop();
    const pool = selkie.createPool(loop, () => worker('jobs'), { max: 1, killAfterMs: 400 });
    const job = pool.run('until', [], { onProgress: () => job.cancel('stop') });
    const why = await job.then((value) => value, (reason) => reason);
    // Without isolation the job sees nothing, and its Worker is ended.
    equal(why, crossOriginIsolated ? 'saw it' : 'stop');
    pool.terminate();
    await loop.close();
});
