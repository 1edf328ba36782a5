// Pools and loops elsewhere: what happens when something goes wrong. `worker(name)` makes a Worker of test/workers.

import { equal, ok, rejection, thrown } from './harness.js';

export const tests = [];
const test = (name, run) => tests.push({ name: `pool: ${name}`, run });

/** A test with a loop and a pool of the usual functions. */
const pooled = (name, options, run) =>
    test(name, async (host) => {
        const loop = await host.selkie.createLoop();
        let made = 0;
        const pool = host.selkie.createPool(loop, () => (made += 1, host.worker('jobs')), options);
        await run({ ...host, loop, pool, made: () => made });
        pool.terminate();
        await loop.close();
    });

pooled('a job is called with its arguments and gives its result', { max: 1 }, async ({ pool }) => {
    equal(await pool.run('add', [1, 2]), 3);
    equal(await pool.run('later', [{ a: [1] }]), { a: [1] });
    equal([pool.size, pool.running, pool.queued], [1, 0, 0]);
});

pooled('no Worker is started before it is needed, and no more than allowed', { max: 2 }, async ({ pool, loop, made }) => {
    equal(made(), 0);
    equal(await loop.gather([1, 2, 3, 4, 5, 6].map((n) => pool.run('add', [n, n]))), [2, 4, 6, 8, 10, 12]);
    ok(made() <= 2, `${made()} Workers`);
});

pooled('an error comes back with its name, message, code, cause and errors', { max: 1 }, async ({ pool }) => {
    const error = await rejection(pool.run('fail', []));
    equal([error.name, error instanceof RangeError, error.message, error.code, error.cause.message, error.stack.includes('functions')], ['RangeError', true, 'no', 'E_NO', 'inner', true]);
    equal((await rejection(pool.run('failValue', []))), { a: 1 });
    const many = await rejection(pool.run('failMany', []));
    equal([many.name, many instanceof AggregateError, many.errors.map(({ message }) => message)], ['AggregateError', true, ['a', 'b']]);
    equal((await rejection(pool.run('failCustom', []))).name, 'CustomError');
});

pooled('what cannot be cloned is a WorkerError, both ways, and the pool goes on', { max: 1 }, async ({ pool, selkie }) => {
    for (const error of [await rejection(pool.run('add', [() => 1, 2])), await rejection(pool.run('closure', []))]) {
        equal([error.name, error.code, error instanceof selkie.WorkerError], ['WorkerError', 'not-cloneable', true]);
    }
    equal(await pool.run('add', [1, 1]), 2);
});

pooled('a function that is not exposed is named', { max: 1 }, async ({ pool }) => {
    const error = await rejection(pool.run('missing', []));
    equal([error.code, error.message.includes('missing') && error.message.includes('add')], ['unknown-function', true]);
    equal((await rejection(pool.run('toString', []))).code, 'unknown-function');
});

pooled('a crash rejects the job, and the next one has another Worker', { max: 1 }, async ({ pool, made }) => {
    const error = await rejection(pool.run('crash', []));
    equal([error.name, error.code], ['WorkerError', 'worker-crashed']);
    equal([await pool.run('add', [2, 2]), made()], [4, 2]);
});

test('a module that is not there rejects the job, and those behind it', async ({ selkie, worker }) => {
    const loop = await selkie.createLoop();
    const pool = selkie.createPool(loop, () => worker('not-there'), { max: 1 });
    for (const error of await Promise.all([rejection(pool.run('add', [1, 2])), rejection(pool.run('add', [3, 4]))])) equal([error.name, error.code], ['WorkerError', 'worker-start']);
    await pool.close();
    await loop.close();
});

test('a module that throws while it loads rejects the job', async ({ selkie, worker }) => {
    const loop = await selkie.createLoop();
    const pool = selkie.createPool(loop, () => worker('throws'), { max: 1 });
    const error = await rejection(pool.run('add', [1, 2]));
    equal([error.code, error.message.includes('while loading')], ['worker-start', true]);
    await pool.close();
    await loop.close();
});

test('a module that never calls expose is given up', async ({ selkie, worker }) => {
    const loop = await selkie.createLoop();
    const pool = selkie.createPool(loop, () => worker('silent'), { max: 1, readyMs: 300 });
    const error = await rejection(pool.run('add', [1, 2]));
    equal([error.code, error.message.includes('expose')], ['worker-start', true]);
    await pool.close();
    await loop.close();
});

test('a factory that throws, or makes no Worker, rejects the job', async ({ selkie }) => {
    const loop = await selkie.createLoop();
    const broken = selkie.createPool(loop, () => { throw new Error('no Worker here'); });
    equal((await rejection(broken.run('add', []))).code, 'worker-start');
    const odd = selkie.createPool(loop, () => ({}));
    equal((await rejection(odd.run('add', []))).code, 'worker-start');
    await loop.close();
});

pooled('a cancel reaches a job that listens, and its Worker stays', { max: 1, killAfterMs: 5000 }, async ({ pool, made }) => {
    const reason = new Error('enough');
    let began;
    const beginning = new Promise((resolve) => (began = resolve));
    const job = pool.run('listen', [], { onProgress: began });
    await beginning;
    job.cancel(reason);
    equal([(await rejection(job)) === reason, job.state], [true, 'cancelled']);
    equal([await pool.run('add', [1, 1]), made()], [2, 1]);
});

pooled('a job that does not listen is ended with its Worker', { max: 1, killAfterMs: 50 }, async ({ pool, made }) => {
    let began;
    const beginning = new Promise((resolve) => (began = resolve));
    const job = pool.run('spin', [], { onProgress: began });
    await beginning;
    const reason = new Error('enough');
    job.cancel(reason);
    equal((await rejection(job)) === reason, true);
    equal([await pool.run('add', [1, 1]), made()], [2, 2]);
});

pooled('with kill: "now" the Worker is ended at once', { max: 1, killAfterMs: 60_000 }, async ({ pool }) => {
    const controller = new AbortController();
    const job = pool.run('spin', [], { signal: controller.signal, kill: 'now', onProgress: () => controller.abort('now') });
    equal(await rejection(job), 'now');
    equal(await pool.run('add', [1, 1]), 2);
});

pooled('the kill of a job that ended in time does not meet the next one', { max: 1, killAfterMs: 60 }, async ({ pool, loop, made }) => {
    const job = pool.run('listen', [], { onProgress: () => job.cancel() });
    await rejection(job);
    const next = pool.run('wait', [150]);
    equal([await next, made()], ['waited', 1]);
    await loop.sleep(1);
});

pooled('a timeout counts from when the job begins', { max: 1, killAfterMs: 50 }, async ({ pool }) => {
    const first = pool.run('wait', [200]);
    const second = pool.run('wait', [1], { timeoutMs: 150 });
    equal([await first, await second], ['waited', 'waited']);
    equal((await rejection(pool.run('spin', [], { timeoutMs: 30 }))).name, 'TimeoutError');
});

pooled('a job that is cancelled while it waits is never begun', { max: 1 }, async ({ pool }) => {
    const first = pool.run('wait', [60]);
    const second = pool.run('count', []);
    const third = pool.run('count', []);
    equal(pool.queued, 2);
    second.cancel('no');
    equal([await rejection(second), await first, await third], ['no', 'waited', 1]);
});

pooled('jobs get their Worker by priority, and then in order', { max: 1 }, async ({ pool }) => {
    const log = [];
    const first = pool.run('wait', [40]);
    const rest = [['visible', 'user-visible'], ['blocking', 'user-blocking'], ['visible 2', 'user-visible'], ['background', 'background']].map(([name, priority]) =>
        pool.run('later', [name], { priority }).then((done) => log.push(done)));
    await Promise.all([first, ...rest]);
    equal(log, ['blocking', 'visible', 'visible 2', 'background']);
});

pooled('a queue that is full refuses', { max: 1, maxQueue: 1 }, async ({ pool }) => {
    const [first, second] = [pool.run('wait', [40]), pool.run('add', [1, 2])];
    equal((await rejection(pool.run('add', [1, 2]))).code, 'queue-full');
    equal([await first, await second], ['waited', 3]);
});

pooled('progress of a job that waits arrives while it does', { max: 1 }, async ({ pool }) => {
    let heard;
    const hearing = new Promise((resolve) => (heard = resolve));
    const job = pool.run('twoSteps', [], { onProgress: (n) => n === 2 && heard() });
    await hearing;
    job.cancel();
    equal((await rejection(job)).name, 'AbortError');
});

pooled('progress arrives in order and in whole', { max: 1 }, async ({ pool }) => {
    const seen = [];
    const result = await pool.run('steps', [100], { onProgress: (n) => seen.push(n) });
    equal([result, seen], [100, Array.from({ length: 100 }, (_, n) => n)]);
});

pooled('buffers are moved both ways', { max: 1 }, async ({ pool }) => {
    const bytes = new Uint8Array([1, 2, 3]);
    const result = await pool.run('reverse', [bytes], { transfer: [bytes.buffer] });
    equal([bytes.byteLength, [...result]], [0, [3, 2, 1]]);
});

pooled('Workers that have nothing to do are ended, down to the least', { min: 1, max: 3, idleMs: 60 }, async ({ pool, loop, made }) => {
    equal(pool.size, 1);
    await loop.gather([1, 2, 3].map(() => pool.run('wait', [30])));
    equal(made(), 3);
    for (let tries = 0; tries < 100 && pool.size > 1; tries += 1) await loop.sleep(20);
    equal([pool.size, await pool.run('add', [1, 1])], [1, 2]);
});

pooled('one Worker does several jobs at once, if allowed', { max: 1, concurrencyPerWorker: 4 }, async ({ pool, loop, made }) => {
    // Each waits until all four are there.
    equal(await loop.gather([1, 2, 3, 4].map(() => pool.run('meet', [4]))), [4, 4, 4, 4]);
    equal(made(), 1);
});

pooled('close waits for the jobs, and then takes none', { max: 1 }, async ({ pool }) => {
    const jobs = [pool.run('wait', [30]), pool.run('add', [1, 2])];
    await pool.close();
    equal([await jobs[0], await jobs[1], pool.size, thrown(() => pool.run('add', [1, 2])).code], ['waited', 3, 0, 'pool-closed']);
});

pooled('terminate rejects all jobs', { max: 1 }, async ({ pool }) => {
    const jobs = [pool.run('spin', []), pool.run('add', [1, 2])].map(rejection);
    pool.terminate();
    for (const error of await Promise.all(jobs)) equal(error.code, 'pool-closed');
});

pooled('arguments that cannot be meant are refused by name', { max: 1 }, async ({ pool }) => {
    for (const [argument, f] of [['args', () => pool.run('add', 1)], ['name', () => pool.run(() => 1, [])], ['options.timeout', () => pool.run('add', [], { timeout: 1 })], ['options.kill', () => pool.run('add', [], { kill: 'always' })], ['options.timeoutMs', () => pool.run('add', [], { timeoutMs: NaN })]]) {
        equal(thrown(f).argument, argument);
    }
});

// ---- Loops elsewhere

test('a loop in a Worker is called by its port, and cancelled through it', async ({ selkie, worker, listen }) => {
    const loop = await selkie.createLoop();
    const there = worker('loop');
    const port = await new Promise((resolve) => listen(there, resolve));
    const remote = selkie.connectLoop(loop, port);
    equal(await remote.submit('twice', [21]), 42);
    const seen = [];
    equal(await remote.submit('steps', [3], { onProgress: (n) => seen.push(n) }), 3);
    equal(seen, [0, 1, 2]);
    const error = await rejection(remote.submit('fail', []));
    equal([error.name, error.message], ['TypeError', 'there']);
    const reason = new Error('stop');
    const slow = remote.submit('sleep', [60_000]);
    slow.cancel(reason);
    equal((await rejection(slow)) === reason, true);
    for (let tries = 0; tries < 100 && (await remote.submit('cancelled', [])) === 0; tries += 1) await loop.sleep(5);
    equal(await remote.submit('cancelled', []), 1);
    const open = rejection(remote.submit('sleep', [60_000]));
    remote.close();
    equal([(await open).name, thrown(() => remote.submit('twice', [1])).name], ['WorkerError', 'WorkerError']);
    there.terminate();
    await loop.close();
});
