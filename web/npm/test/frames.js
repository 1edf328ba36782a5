// What only a page can show: that it keeps drawing and hearing.

import { equal, ok, until } from './harness.js';

export const tests = [];
const test = (name, run) => tests.push({ name: `page: ${name}`, run });

const busy = (ms) => {
    for (const end = performance.now() + ms; performance.now() < end; );
};

const WORK = 0.02;

/**
 * How many pieces of work there are, and at most between two messages. A slice of 5 ms has room for 250, and two of them may be in a row.
 * Where the clock has a grain of 1 ms, as in Firefox without isolation, a piece takes that, and a slice is the 32 polls that the
 * loop goes without a look at the clock.
 */
const amount = () => {
    const pieces = [1, 2, 3, 4, 5].map(() => {
        const start = performance.now();
        busy(WORK);
        return performance.now() - start;
    });
    return Math.min(...pieces) < 0.5 ? { count: 10_000, most: 1000 } : { count: 1000, most: 250 };
};

for (const [form, body] of [
    ['generators', (work) => function* (ctx) { yield* ctx.yield(); work(); }],
    ['async functions', (work) => async (ctx) => { await ctx.yield(); work(); }],
]) {
    // Counted in tasks, not in time: that others use the machine as well makes frames late, but no slice longer.
    test(`thousands of tasks of ${form} leave messages and frames their turns`, async ({ selkie }) => {
        const loop = await selkie.createLoop();
        const { count, most } = amount();
        let [worked, seen, longest, frames, over] = [0, 0, 0, 0, false];
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = () => {
            longest = Math.max(longest, worked - seen);
            seen = worked;
            if (over) port1.close();
            else port2.postMessage(0);
        };
        port2.postMessage(0);
        const frame = () => {
            frames += 1;
            if (!over) requestAnimationFrame(frame);
        };
        requestAnimationFrame(frame);
        const run = body(() => {
            busy(WORK);
            worked += 1;
        });
        const tasks = [];
        await loop.spawn(async (ctx) => {
            for (let n = 0; n < count; n += 1) {
                tasks.push(loop.spawn(run, { start: 'next' }));
                if (ctx.shouldYield()) await ctx.yield();
            }
        });
        await loop.wait(tasks);
        over = true;
        equal(worked, count);
        ok(longest <= most, `${longest} tasks between two messages`);
        ok(frames >= 3, `${frames} frames`);
        await loop.close();
    });
}

// They run in microtasks after the turn, two of them in each row. The quarter that waits least, since a moment in which the page gets no
// processor looks as if the loop had been idle.
test('functions that take long leave messages their turns after a slice of their own time', async ({ selkie }) => {
    const loop = await selkie.createLoop();
    const rows = [];
    let [worked, seen, over] = [0, 0, false];
    const look = () => {
        if (worked > seen) rows.push(worked - seen);
        seen = worked;
        if (over) port1.close();
        else post();
    };
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = look;
    // A message comes by another thread, which may have to wait for a processor; a task does not.
    const post = () => (globalThis.scheduler?.postTask ? void scheduler.postTask(look) : port2.postMessage(0));
    post();
    const run = async () => {
        await undefined;
        busy(1);
        worked += 1;
    };
    await loop.gather(Array(200).fill(run), { concurrency: 2 });
    over = true;
    const least = rows.sort((a, b) => a - b)[rows.length >> 2];
    ok(least <= 11, `${least} ms between two messages, of ${rows}`);
    await loop.close();
});

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

test('an argument that a Worker cannot read fails its job alone', async ({ selkie, worker, listen }) => {
    const loop = await selkie.createLoop();
    const pool = selkie.createPool(loop, () => worker('jobs'), { max: 1, concurrencyPerWorker: 2 });
    const there = worker('loop');
    const remote = selkie.connectLoop(loop, await new Promise((resolve) => listen(there, resolve)));
    // What only pages know.
    const odd = await RTCPeerConnection.generateCertificate({ name: 'ECDSA', namedCurve: 'P-256' });
    const beside = pool.run('wait', [100]);
    const calls = [pool.run('later', [odd]), remote.submit('twice', [odd])].map((call) => call.catch(({ code }) => code));
    equal(await Promise.all(calls), ['not-cloneable', 'not-cloneable']);
    equal([await beside, await pool.run('add', [1, 1]), pool.size, await remote.submit('twice', [1])], ['waited', 2, 1, 2]);
    pool.terminate();
    remote.close();
    there.terminate();
    await loop.close();
});

test('a loop in a SharedWorker, which shares no memory, is called by its port, and cancelled through it', async ({ selkie }) => {
    const loop = await selkie.createLoop();
    const there = new SharedWorker(new URL('./workers/shared.page.js', import.meta.url), { type: 'module' });
    const remote = selkie.connectLoop(loop, await new Promise((resolve) => (there.port.onmessage = ({ data }) => resolve(data))));
    equal(await remote.submit('twice', [21], { timeoutMs: 5000 }), 42);
    const slow = remote.submit('sleep', [60_000], { timeoutMs: 20 });
    await slow.ended();
    let cancelled = 0;
    await until(async () => (cancelled = await remote.submit('cancelled', [])));
    equal([slow.state, cancelled], ['cancelled', 1]);
    remote.close();
    await loop.close();
});

test('a loop whose turns are begun by messages asks for no macrotask of its own', async ({ selkie, worker }) => {
    const loop = await selkie.createLoop();
    const pool = selkie.createPool(loop, () => worker('jobs'), { max: 1 });
    const job = async (until) => {
        do equal(await pool.run('add', [1, 2]), 3);
        while (performance.now() < until);
    };
    await job(performance.now() + 200);
    let hops = 0;
    const count = (of, name) => {
        const original = of?.[name];
        if (!original) return () => {};
        of[name] = function (...args) {
            hops += 1;
            return original.apply(this, args);
        };
        return () => (of[name] = original);
    };
    const undo = [count(globalThis.scheduler, 'postTask'), count(MessagePort.prototype, 'postMessage')];
    await job(performance.now() + 200);
    for (const one of undo) one();
    equal(hops, 0);
    pool.terminate();
    await loop.close();
});
