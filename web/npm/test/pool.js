// Pools and loops elsewhere: what happens when something goes wrong. `worker(name)` makes a Worker of test/workers.

import { equal, ok, rejection, thrown, until } from './harness.js';

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
    const nameless = await rejection(pool.run('failNameless', []));
    equal([nameless instanceof Error, nameless?.message], [true, 'nameless']);
});

pooled('what cannot be cloned is a WorkerError, both ways, and the pool goes on', { max: 1 }, async ({ pool, selkie }) => {
    for (const error of [await rejection(pool.run('add', [() => 1, 2])), await rejection(pool.run('closure', [])), await rejection(pool.run('thrower', []))]) {
        equal([error.name, error.code, error instanceof selkie.WorkerError], ['WorkerError', 'not-cloneable', true]);
    }
    equal(await pool.run('add', [1, 1]), 2);
});

pooled('what cannot be cloned and throws what has no text harms no other job', { max: 1 }, async ({ pool, made }) => {
    const odd = { get bad() { throw { message: Symbol('none') }; } };
    const jobs = [pool.run('add', [odd, 1]), pool.run('odd', []), pool.run('later', [{}], { transfer: [odd, odd] }), pool.run('later', [globalThis.document?.body ?? odd])];
    for (const job of jobs) equal((await rejection(job)).code, 'not-cloneable');
    equal([await pool.run('add', [1, 1]), made()], [2, 1]);
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

pooled('a crash says what was thrown, whatever that is', { max: 1 }, async ({ pool }) => {
    for (const value of [null, undefined, 'a text', 5]) {
        const error = await rejection(pool.run('crashWith', [value]));
        equal([error.code, error.message.includes('failed: ') && error.message.includes(String(value))], ['worker-crashed', true], error.message);
    }
});

test('a module that is not there rejects the job, and those behind it', async ({ selkie, worker }) => {
    const loop = await selkie.createLoop();
    const pool = selkie.createPool(loop, () => worker('not-there'), { max: 1 });
    for (const error of await Promise.all([rejection(pool.run('add', [1, 2])), rejection(pool.run('add', [3, 4]))])) equal([error.name, error.code], ['WorkerError', 'worker-start']);
    await pool.close();
    await loop.close();
});

test('a module that throws while it loads rejects the job, also after an await', async ({ selkie, worker }) => {
    const loop = await selkie.createLoop();
    for (const name of ['throws', 'throwsLate']) {
        const pool = selkie.createPool(loop, () => worker(name), { max: 1 });
        const error = await rejection(pool.run('add', [1, 2]));
        equal([error.code, error.message.includes('while loading')], ['worker-start', true], name);
        await pool.close();
    }
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

pooled('a job that never awaits sees a cancel, where there is shared memory', { max: 1, killAfterMs: 60_000 }, async ({ pool, made }) => {
    if (globalThis.crossOriginIsolated === false) return;
    const job = pool.run('until', [], { onProgress: () => job.cancel('stop') });
    // It gave a result all the same, as it may.
    equal([await job, await pool.run('add', [1, 1]), made()], ['saw it', 2, 1]);
});

pooled('functions that are added or replaced after expose are those that are called', { max: 1 }, async ({ pool }) => {
    equal([await pool.run('later', [1]), await pool.run('count', []), (await rejection(pool.run('added', [1]))).code], [1, 1, 'unknown-function']);
    await pool.run('change', []);
    equal([await pool.run('later', [1]), await pool.run('count', []), await pool.run('added', [1])], [[1, false, false], 'replaced', 2]);
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
    const first = pool.run('wait', [1500]);
    const second = pool.run('wait', [1], { timeoutMs: 1000 });
    equal([await first, await second], ['waited', 'waited']);
    const third = pool.run('spin', [], { timeoutMs: 30 });
    equal([(await rejection(third)).name, third.state], ['TimeoutError', 'cancelled']);
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

pooled('a job is asked to end also if the reason can be neither cloned nor shown', { max: 1, killAfterMs: 50 }, async ({ pool, made }) => {
    for (const name of ['listen', 'deaf']) {
        const reason = Object.assign(Object.create(null), { f() {} });
        const job = pool.run(name, [], { onProgress: () => job.cancel(reason) });
        equal([(await rejection(job)) === reason, job.state, pool.running], [true, 'cancelled', 0]);
    }
    equal(made(), 1);
});

pooled('progress that cannot be cloned is the error of its job, and the Worker stays', { max: 1, concurrencyPerWorker: 2 }, async ({ pool, made }) => {
    const beside = pool.run('wait', [150]);
    for (const ms of [0, 60]) equal((await rejection(pool.run('oddStep', [ms]))).code, 'not-cloneable');
    equal([await beside, made()], ['waited', 1]);
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

pooled('what is moved may be a part of what a job gives', { max: 1 }, async ({ pool }) => {
    const { bytes, left } = await pool.run('part', [new Uint8Array([1, 2, 3])]);
    equal([[...bytes], left], [[1, 2, 3], 3]);
    const halves = await pool.run('halves', [new Uint8Array([1, 2, 3, 4])]);
    equal(halves.map((half) => [...half]), [[1, 2], [3, 4]], 'of one memory');
});

pooled('Workers that have nothing to do are ended, down to the least', { min: 1, max: 3, idleMs: 60 }, async ({ pool, loop, made }) => {
    equal(pool.size, 1);
    await loop.gather([1, 2, 3].map(() => pool.run('wait', [30])));
    equal(made(), 3);
    await until(() => pool.size === 1);
    equal([pool.size, await pool.run('add', [1, 1])], [1, 2]);
});

pooled('a Worker is kept for as long after its last job as it may be idle, and no longer', { max: 1, idleMs: 1000 }, async ({ pool, loop, made }) => {
    // Some of them end when the time since the first one is over, or nearly.
    for (let n = 0; n < 5; n += 1) {
        await pool.run('wait', [170]);
        await loop.sleep(170);
    }
    await pool.run('wait', [1150]);
    const ended = performance.now();
    equal([pool.size, made()], [1, 1]);
    while (pool.size && performance.now() - ended < 10_000) await loop.sleep(5);
    const kept = performance.now() - ended;
    ok(kept >= 990 && kept < 10_000, `ended after ${kept} ms`);
});

pooled('a long queue costs each job what a short one does', { max: 1 }, async ({ pool, loop, selkie, worker }) => {
    const fill = (pool, count) => {
        const jobs = Array.from({ length: count }, () => pool.run('add', [1, 2]));
        return { jobs, ended: Promise.all(jobs.map((job) => job.ended())) };
    };
    /** What each of so many costs in µs, which are cancelled, and taken from the pool, in order. */
    const measure = async (count) => {
        const first = pool.run('wait', [1]);
        const one = fill(pool, count);
        let began = performance.now();
        for (const job of one.jobs) job.cancel('no');
        await one.ended;
        const cancelled = performance.now() - began;
        await first;
        const other = selkie.createPool(loop, () => worker('jobs'), { max: 1 });
        const two = fill(other, count);
        await loop.sleep(20);
        began = performance.now();
        other.terminate();
        const taken = performance.now() - began;
        await two.ended;
        return [cancelled, taken].map((ms) => ms / count * 1000);
    };
    // The first ones compile it.
    await measure(10_000);
    const [short, long] = [await measure(10_000), await measure(160_000)];
    ok(long.every((cost, which) => cost < 3 * short[which]), `µs each to cancel and to take: ${long}, of fewer ${short}`);
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

pooled('a DOMException comes back as one', { max: 1 }, async ({ pool }) => {
    const error = await rejection(pool.run('failAborted', []));
    equal([error instanceof DOMException, error.name, error.message], [true, 'AbortError', 'there']);
});

pooled('a job is cancelled by its signal, before and while it runs', { max: 1, killAfterMs: 5000 }, async ({ pool, made }) => {
    equal([await rejection(pool.run('add', [1, 2], { signal: AbortSignal.abort('before') })), made()], ['before', 0]);
    const controller = new AbortController();
    const job = pool.run('listen', [], { signal: controller.signal, onProgress: () => controller.abort('while') });
    equal([await rejection(job), job.state, await pool.run('add', [1, 1]), made()], ['while', 'cancelled', 2, 1]);
});

pooled('with kill: "never" the Worker stays, and the job is waited for', { max: 1, killAfterMs: 20 }, async ({ pool, loop, made }) => {
    let began;
    const beginning = new Promise((resolve) => (began = resolve));
    const job = pool.run('listenLate', [60], { kill: 'never', onProgress: began });
    await beginning;
    job.cancel('no');
    equal([await job, await pool.run('add', [1, 1]), made()], ['late', 2, 1]);
    await loop.sleep(1);
});

pooled('a job beside one that does not end loses its Worker, and is told so', { max: 1, concurrencyPerWorker: 2, killAfterMs: 30 }, async ({ pool, selkie, made }) => {
    let began;
    const beginning = new Promise((resolve) => (began = resolve));
    const beside = pool.run('wait', [5000]);
    const deaf = pool.run('deaf', [], { onProgress: began });
    const errors = [rejection(deaf), rejection(beside)];
    await beginning;
    deaf.cancel('stop');
    const [first, second] = await Promise.all(errors);
    equal([first, second.code, second instanceof selkie.WorkerError], ['stop', 'worker-killed', true]);
    equal([await pool.run('add', [1, 1]), made()], [2, 2]);
});

pooled('very many jobs that cannot be sent all say so', { max: 1 }, async ({ pool }) => {
    const errors = await Promise.all(Array.from({ length: 20_000 }, () => rejection(pool.run('add', [() => 1, 2]))));
    equal([errors.every(({ code }) => code === 'not-cloneable'), await pool.run('add', [1, 1])], [true, 2]);
});

pooled('a Worker that ends itself rejects its job', { max: 1 }, async ({ pool, made }) => {
    const error = await rejection(pool.run('leave', []));
    equal([error.name, error.code], ['WorkerError', 'worker-crashed']);
    equal([await pool.run('add', [1, 1]), made()], [2, 2]);
});

pooled('a Worker that is kept at hand is replaced after a crash', { min: 1, max: 2 }, async ({ pool, made }) => {
    await pool.run('add', [1, 1]);
    equal((await rejection(pool.run('crash', []))).code, 'worker-crashed');
    equal([pool.size, made(), await pool.run('add', [1, 1])], [1, 2, 2]);
});

test('a Worker that others have ended is lost to its job, and to the pool', async ({ selkie, worker }) => {
    const loop = await selkie.createLoop();
    let last;
    let made = 0;
    const pool = selkie.createPool(loop, () => (made += 1, last = worker('jobs')), { max: 1 });
    const error = await rejection(pool.run('deaf', [], { onProgress: () => void last.terminate() }));
    equal([error.name, error.code, pool.size], ['WorkerError', 'worker-crashed', 0]);
    equal([await pool.run('add', [1, 1]), made], [2, 2]);
    // Also one that has nothing to do.
    void last.terminate();
    equal([await pool.run('add', [1, 1]), made], [2, 3]);
    pool.terminate();
    await loop.close();
});

test('those that are kept and had failed are made again once one has done a job', async ({ selkie, worker }) => {
    const loop = await selkie.createLoop();
    let name = 'throwsAfter';
    const pool = selkie.createPool(loop, () => worker(name), { min: 3, max: 3 });
    await until(() => !pool.size);
    name = 'jobs';
    equal(await pool.run('steps', [2]), 2);
    await until(() => pool.size === 3);
    equal(await pool.run('add', [1, 1]), 2);
    pool.terminate();
    await loop.close();
});

test('those behind a crash are told if no other Worker can be made', async ({ selkie, worker, uncaught }) => {
    const loop = await selkie.createLoop();
    let made = 0;
    const pool = selkie.createPool(loop, () => {
        if ((made += 1) > 1) throw new Error('no more');
        return worker('jobs');
    }, { min: 1, max: 1 });
    const told = uncaught();
    const ended = ['crash', 'count', 'count'].map((name) => rejection(pool.run(name, [])));
    equal((await Promise.all(ended)).map(({ code }) => code), ['worker-crashed', 'worker-start', 'worker-start']);
    equal((await told).message, 'no more');
    await pool.close();
    await loop.close();
});

test('a Worker that fails before its first job is told to those who wait, and not replaced before one is needed', async ({ selkie, worker }) => {
    const loop = await selkie.createLoop();
    let made = 0;
    const make = () => (made += 1, worker('throwsAfter'));
    const pool = selkie.createPool(loop, make, { max: 1 });
    for (const error of await Promise.all([rejection(pool.run('add', [1, 2])), rejection(pool.run('add', [3, 4]))])) {
        equal([error.code, error.message.includes('after expose')], ['worker-crashed', true], error.message);
    }
    equal([made, pool.size], [2, 0]);
    made = 0;
    const kept = selkie.createPool(loop, make, { min: 1 });
    await until(() => !kept.size);
    await loop.sleep(300);
    equal([made, kept.size, (await rejection(kept.run('add', [1, 2]))).code], [1, 0, 'worker-crashed']);
    await Promise.all([pool.close(), kept.close()]);
    await loop.close();
});

test('a factory that throws for the second Worker leaves none running', async ({ selkie, worker }) => {
    const loop = await selkie.createLoop();
    let [made, ended] = [0, 0];
    const make = () => {
        if ((made += 1) > 1) throw new Error('no more');
        const one = worker('jobs');
        const { terminate } = one;
        one.terminate = () => (ended += 1, terminate.call(one));
        return one;
    };
    equal([thrown(() => selkie.createPool(loop, make, { min: 2 })).message, made, ended], ['no more', 2, 1]);
    await loop.close();
});

pooled('a cancel of a group, or of a gather, reaches the jobs that its functions return', { max: 2, killAfterMs: 60_000 }, async ({ pool, loop, made }) => {
    for (const many of [(f) => loop.withGroup((group) => { group.spawn(f); group.spawn(f); }), (f) => loop.gather([f, f])]) {
        let [began, all] = [0];
        const beginning = new Promise((resolve) => (all = resolve));
        const task = many(() => pool.run('listen', [], { onProgress: () => (began += 1) === 2 && all() }));
        await beginning;
        task.cancel('enough');
        equal(await rejection(task), 'enough');
        // A gather ends with the first of them.
        await until(() => !pool.running);
        equal([pool.running, made()], [0, 2]);
    }
});

test('what is no Worker is said for each job', async ({ selkie }) => {
    const loop = await selkie.createLoop();
    const pool = selkie.createPool(loop, () => ({ postMessage() {}, terminate() {} }), { max: 1 });
    equal([(await rejection(pool.run('add', []))).code, (await rejection(pool.run('add', []))).code, pool.size], ['worker-start', 'worker-start', 0]);
    await pool.close();
    await loop.close();
});

test('a factory that gives the same Worker again is told so at once, and the Worker serves where it is', async ({ selkie, worker }) => {
    const loop = await selkie.createLoop();
    const one = worker('jobs');
    const pool = selkie.createPool(loop, () => one, { max: 2 });
    // The Worker that is not made was to be for the first of the jobs that wait.
    const [first, second] = await Promise.allSettled([pool.run('add', [1, 2]), pool.run('add', [3, 4])]);
    equal([first.reason?.code, first.reason?.message.includes('new Workers'), second.value], ['worker-start', true, 7]);
    const other = selkie.createPool(loop, () => one, { max: 1 });
    equal((await rejection(other.run('add', [5, 6]))).code, 'worker-start');
    equal(thrown(() => selkie.createPool(loop, () => one, { min: 1 })).name, 'ArgumentError');
    equal([await pool.run('add', [7, 8]), pool.size, other.size], [15, 1, 0]);
    await Promise.all([pool.close(), other.close()]);
    await loop.close();
});

pooled('a queue of none takes only what a Worker does at once', { max: 1, maxQueue: 0 }, async ({ pool }) => {
    const first = pool.run('wait', [20]);
    equal([(await rejection(pool.run('add', [1, 2]))).code, await first, await pool.run('add', [1, 2])], ['queue-full', 'waited', 3]);
});

pooled('an error of onProgress is the page\'s, and the job goes on', { max: 1 }, async ({ pool, uncaught }) => {
    const told = uncaught();
    equal(await pool.run('steps', [3], { onProgress: (n) => { if (n === 1) throw new Error('of a listener'); } }), 3);
    equal((await told).message, 'of a listener');
});

pooled('a pool is closed by `await using`, and one that never had a job at once', {}, async ({ selkie, loop, worker, pool }) => {
    const other = selkie.createPool(loop, () => worker('jobs'), { min: 1 });
    equal([await other.run('add', [1, 2]), other.size], [3, 1]);
    await other[Symbol.asyncDispose]();
    await pool.close();
    equal([other.size, pool.size, pool.running], [0, 0, 0]);
});

test('a pool of a loop that is closed takes no job, and ends those that it had', async ({ selkie, worker }) => {
    const loop = await selkie.createLoop();
    const pool = selkie.createPool(loop, () => worker('jobs'), { max: 1, killAfterMs: 20 });
    let began;
    const beginning = new Promise((resolve) => (began = resolve));
    const job = rejection(pool.run('spin', [], { onProgress: began }));
    await beginning;
    await loop.close();
    equal([(await job).code, thrown(() => pool.run('add', [1, 2])).code], ['loop-closed', 'loop-closed']);
    pool.terminate();
});

// ---- Jobs that a Worker has ahead

const SHARED = globalThis.crossOriginIsolated !== false;

/** A test of a pool whose Workers have done many short jobs. `sent` is how many jobs Workers were sent since then. */
const ahead = (name, options, run) =>
    test(name, async (host) => {
        const loop = await host.selkie.createLoop();
        let [made, sent] = [0, 0];
        const pool = host.selkie.createPool(loop, () => {
            const worker = host.worker('jobs');
            const post = worker.postMessage;
            worker.postMessage = (...args) => {
                const [what, runs] = args[0].selkie;
                if (what === 'run') sent += runs.length;
                post.apply(worker, args);
            };
            made += 1;
            return worker;
        }, options);
        // Until all were started, and answer quickly.
        for (let tries = 0; tries < 100; tries += 1) {
            await loop.gather(Array.from({ length: 50 }, () => pool.run('add', [1, 1])));
            if (made < options.max) continue;
            sent = 0;
            const job = pool.run('wait', [1]);
            const more = loop.gather(Array.from({ length: 9 }, () => pool.run('add', [1, 1])));
            const seen = sent;
            await loop.gather([job, more]);
            if (!SHARED || seen === 10) break;
        }
        sent = made = 0;
        await run({ ...host, loop, pool, made: () => made, sent: () => sent });
        pool.terminate();
        await loop.close();
    });

ahead('where memory is shared, a Worker is sent jobs before it has ended others', { max: 1 }, async ({ pool, loop, sent }) => {
    const jobs = [pool.run('wait', [30]), ...Array.from({ length: 5 }, () => pool.run('count', []))];
    equal([sent(), pool.running, pool.queued], [SHARED ? 6 : 1, 1, 5]);
    equal([await loop.gather(jobs), sent()], [['waited', 1, 2, 3, 4, 5], 6]);
});

ahead('a job that is more urgent is next, whatever a Worker was sent', { max: 1 }, async ({ pool, loop, sent }) => {
    const jobs = [pool.run('wait', [1000])];
    for (let n = 0; n < 5; n += 1) jobs.push(pool.run('count', [], { priority: 'background' }));
    await loop.sleep(5);
    jobs.push(pool.run('count', []), pool.run('count', []));
    await loop.sleep(5);
    jobs.push(pool.run('count', [], { priority: 'user-blocking' }));
    equal(await loop.gather(jobs), ['waited', 4, 5, 6, 7, 8, 2, 3, 1]);
    ok(!SHARED || sent() > jobs.length, 'nothing was taken back');
});

ahead('one that is cancelled before it has begun rejects at once and never begins', { max: 1 }, async ({ pool, sent }) => {
    const first = pool.run('wait', [1000]);
    let ended = false;
    void first.then(() => (ended = true));
    const [second, third] = [pool.run('count', []), pool.run('count', [])];
    equal(sent(), SHARED ? 3 : 1);
    second.cancel('no');
    equal([await rejection(second), second.state, ended, pool.queued], ['no', 'cancelled', false, 1]);
    equal([await first, await third], ['waited', 1]);
});

ahead('for thousands that are cancelled in order, a Worker is not sent thousands', { max: 1 }, async ({ pool, sent }) => {
    const first = pool.run('wait', [1500]);
    const jobs = Array.from({ length: 3000 }, () => pool.run('count', []));
    for (const job of jobs) job.cancel('no');
    equal(await Promise.all(jobs.map(rejection)), jobs.map(() => 'no'));
    ok(sent() < 300, `it was sent ${sent()}`);
    equal([await first, await pool.run('count', [])], ['waited', 1]);
});

ahead('a crash rejects the job that runs, and those behind it go to another Worker', { max: 1 }, async ({ pool, loop, made }) => {
    const crash = rejection(pool.run('crash', []));
    const rest = loop.gather([1, 2, 3, 4, 5].map(() => pool.run('count', [])));
    equal([(await crash).code, await rest, made()], ['worker-crashed', [1, 2, 3, 4, 5], 1]);
});

ahead('a job that runs hears of its cancel, whatever has begun after it and ended', { max: 1, concurrencyPerWorker: 2 }, async ({ pool, loop }) => {
    for (let n = 0; n < 10; n += 1) {
        const job = pool.run('stopped', []);
        const some = Array.from({ length: 20 }, () => pool.run('add', [1, 1]));
        await loop.sleep(3);
        const more = Array.from({ length: 20 }, () => pool.run('add', [1, 1]));
        // What has ended is not known here before the job is asked to end.
        for (const end = performance.now() + 5; performance.now() < end;);
        job.cancel('stop');
        equal(await Promise.race([job, loop.sleep(5000)]), 'saw it');
        await loop.gather([...some, ...more]);
    }
});

ahead('what ended before its Worker failed is not rejected with it', { max: 1 }, async ({ pool, loop }) => {
    for (let n = 0; n < 15; n += 1) {
        for (let m = 0; m < 20; m += 1) await loop.gather(Array.from({ length: 10 }, () => pool.run('add', [1, 1])));
        const jobs = Array.from({ length: 30 }, () => pool.run('add', [1, 1]));
        const last = pool.run('litter', []);
        const more = Array.from({ length: 20 }, () => pool.run('add', [1, 1]));
        equal(await loop.gather([...jobs, ...more]), Array(50).fill(2));
        await last.ended();
    }
});

ahead('those behind a job that ends its Worker go to another', { max: 1 }, async ({ pool, loop, made }) => {
    const first = pool.run('wait', [20]);
    const leave = rejection(pool.run('leave', []));
    const rest = loop.gather([1, 2, 3, 4, 5].map(() => pool.run('count', [])));
    equal([await first, (await leave).code, await rest, made()], ['waited', 'worker-crashed', [1, 2, 3, 4, 5], 1]);
});

for (const kill of ['grace', 'now']) {
    ahead(`those behind a job that does not end lose nothing by its Worker's end: ${kill}`, { max: 1, killAfterMs: 30 }, async ({ pool, loop, made }) => {
        let began;
        const beginning = new Promise((resolve) => (began = resolve));
        const deaf = pool.run('deaf', [], { kill, onProgress: began });
        const rest = loop.gather([1, 2, 3].map(() => pool.run('count', [])));
        await beginning;
        deaf.cancel('stop');
        equal([await rejection(deaf), await rest, made()], ['stop', [1, 2, 3], 1]);
    });
}

ahead('none waits behind a long one while another Worker has nothing to do', { max: 2 }, async ({ pool, loop }) => {
    const long = pool.run('wait', [2000]);
    let ended = false;
    void long.then(() => (ended = true));
    equal([await loop.gather(Array.from({ length: 40 }, (_, n) => pool.run('add', [n, 0]))), ended], [Array.from({ length: 40 }, (_, n) => n), false]);
    await long;
});

ahead('none that is behind a long one is passed by all that come later', { max: 2 }, async ({ pool, loop }) => {
    const log = [];
    const long = pool.run('wait', [3000]).then(() => log.push('long'));
    const all = Array.from({ length: 400 }, (_, n) => pool.run('block', [1]).then(() => log.push(n)));
    await Promise.all([long, ...all]);
    const late = log.indexOf('long');
    // What the other Worker has ahead may be between.
    ok(Math.max(...log.slice(0, 200).filter((n) => n !== 'long')) < 350 && (late < 0 || late > 100), log.join());
});

ahead('a timeout counts from when the job begins, also then', { max: 1 }, async ({ pool, loop }) => {
    equal(await loop.gather([pool.run('wait', [1500]), pool.run('wait', [1], { timeoutMs: 1000 }), pool.run('count', [])]), ['waited', 'waited', 1]);
});

ahead('no more run at once than are allowed', { max: 1, concurrencyPerWorker: 2 }, async ({ pool, loop }) => {
    const counts = await loop.gather(Array.from({ length: 20 }, () => pool.run('most', [])));
    equal(Math.max(...counts), 2);
});

ahead('arguments are moved when the job is the next', { max: 1 }, async ({ pool, sent }) => {
    const first = pool.run('wait', [30]);
    const bytes = new Uint8Array([1, 2, 3]);
    const second = pool.run('reverse', [bytes], { transfer: [bytes.buffer] });
    const third = pool.run('count', []);
    equal([bytes.length, sent()], [3, 1]);
    equal([await first, [...await second], await third, bytes.length], ['waited', [3, 2, 1], 1, 0]);
});

ahead('what was moved to a Worker is not sent again, whatever is more urgent or crashes', { max: 1 }, async ({ pool, loop }) => {
    const jobs = [];
    for (let n = 0; n < 20; n += 1) {
        const bytes = new Uint8Array([1, n]);
        jobs.push(pool.run('reverse', [bytes], { transfer: [bytes.buffer] }), pool.run('count', []), pool.run('count', [], { priority: 'user-blocking' }));
        await jobs.at(-1);
        // A Worker that sleeps takes some time to begin.
        await loop.sleep(2);
    }
    equal((await loop.gather(jobs.filter((_, n) => n % 3 === 0))).map(([last]) => last), Array.from({ length: 20 }, (_, n) => n));
    const bytes = new Uint8Array([1, 2]);
    const [crash, moved] = [pool.run('crash', []), pool.run('reverse', [bytes], { transfer: [bytes.buffer] })].map((job) => job.catch((error) => error.code));
    equal([await crash, [...await moved], await pool.run('add', [1, 1])], ['worker-crashed', [2, 1], 2]);
});

ahead('one that cannot be sent fails alone', { max: 1 }, async ({ pool, loop }) => {
    const first = pool.run('wait', [20]);
    const jobs = [1, () => 1, Symbol('s'), 2n, null, undefined, NaN].map((value) => pool.run('later', [value]).catch(({ code }) => code));
    equal([await first, await loop.gather(jobs)], ['waited', [1, 'not-cloneable', 'not-cloneable', 2n, null, undefined, NaN]]);
});

ahead('the array of the arguments may be one that the host cannot copy', { max: 1 }, async ({ pool, loop }) => {
    const first = pool.run('wait', [20]);
    const odd = [new Proxy([1, 2], {}), Object.assign([2, 2], { f() {} })].map((args) => pool.run('add', args));
    equal([await first, await loop.gather(odd), await pool.run('add', [2, 3])], ['waited', [3, 4], 5]);
});

ahead('what two jobs were given is not one object there', { max: 1, concurrencyPerWorker: 2 }, async ({ pool, loop }) => {
    const both = [1];
    equal(await loop.gather([pool.run('grow', [both]), pool.run('grow', [both])]), [[1, 2], [1, 2]]);
});

ahead('what is large is not copied long before it is needed', { max: 1 }, async ({ pool, sent }) => {
    const jobs = [pool.run('wait', [20]), pool.run('later', [{ a: 1 }]), pool.run('later', ['x'.repeat(5000)])];
    equal(sent(), 1);
    await Promise.all(jobs);
});

ahead('a queue that is full refuses, whatever a Worker was sent', { max: 1, maxQueue: 60 }, async ({ pool, loop }) => {
    const first = pool.run('wait', [40]);
    const rest = Array.from({ length: 60 }, () => pool.run('count', []));
    equal([(await rejection(pool.run('count', []))).code, pool.queued], ['queue-full', 60]);
    equal([await first, await loop.gather(rest)], ['waited', Array.from({ length: 60 }, (_, n) => n + 1)]);
});

ahead('close waits for what Workers were sent', { max: 1 }, async ({ pool, loop }) => {
    const jobs = loop.gather([pool.run('wait', [20]), pool.run('count', []), pool.run('count', [])]);
    await pool.close();
    equal(await jobs, ['waited', 1, 2]);
});

ahead('terminate rejects what Workers were sent', { max: 1 }, async ({ pool, made }) => {
    const jobs = [pool.run('wait', [1000]), pool.run('count', []), pool.run('count', [])].map(rejection);
    pool.terminate();
    for (const error of await Promise.all(jobs)) equal(error.code, 'pool-closed');
    equal([pool.size, pool.running, pool.queued, made()], [0, 0, 0, 0]);
});

ahead('terminate makes no Worker for a job that was sent and has not begun', { max: 1 }, async ({ pool, loop, made }) => {
    // One that sleeps takes some time to begin.
    await loop.sleep(20);
    const job = rejection(pool.run('count', []));
    pool.terminate();
    equal([(await job).code, pool.size, made()], ['pool-closed', 0, 0]);
});

ahead('what a job in a row has left to microtasks is done before the next one', { max: 1 }, async ({ pool, loop }) => {
    const [, ...before] = await loop.gather([pool.run('wait', [20]), ...Array.from({ length: 20 }, () => pool.run('aside', []))]);
    equal(before, Array.from({ length: 20 }, (_, n) => n));
});

ahead('jobs in a row leave a Worker its own timers', { max: 1 }, async ({ pool, loop }) => {
    const [, ...fired] = await loop.gather([pool.run('wait', [20]), ...Array.from({ length: 20 }, () => pool.run('block', [2]))]);
    equal([fired[0], fired.at(-1)], [false, true]);
});

test('answers that a host delivers in one macrotask, as Node does, are not all acted on within it', async ({ selkie }) => {
    const loop = await selkie.createLoop();
    const ids = [];
    let tell;
    const worker = {
        on: (type, f) => type === 'message' && (tell = (...message) => f({ selkie: message })),
        postMessage: ({ selkie: [what, runs] }) => what === 'run' && ids.push(...runs.map(([id]) => id)),
        terminate() {},
    };
    const pool = selkie.createPool(loop, () => worker, { max: 1, concurrencyPerWorker: 20 });
    let resumed = 0;
    const all = loop.gather(Array.from({ length: 20 }, () => async (ctx) => {
        await ctx.wait(pool.run('add', []));
        for (const end = performance.now() + 2; performance.now() < end;);
        resumed += 1;
    }));
    await loop.sleep(1);
    tell('ready');
    for (const id of ids) {
        tell('done', id, 0);
        for (let n = 0; n < 50; n += 1) await undefined;
    }
    const within = resumed;
    await all;
    equal([ids.length, resumed, within < 20], [20, 20, true], `${within} within it`);
    pool.terminate();
    await loop.close();
});

pooled('a Worker does hundreds of jobs at once, and each hears of its own cancel', { max: 1, concurrencyPerWorker: 700, killAfterMs: 60_000 }, async ({ pool, loop }) => {
    const jobs = Array.from({ length: 600 }, () => pool.run('stopped', []));
    // Most are ended with the pool, which is of no interest here.
    for (const job of jobs) void job.ended();
    equal(await pool.run('add', [1, 1]), 2);
    for (const job of [...jobs.slice(0, 1), ...jobs.slice(300, 301), ...jobs.slice(-1)]) job.cancel('stop');
    const ended = await Promise.race([Promise.all([jobs[0], jobs[300], jobs[599]]), loop.sleep(10_000)]);
    equal([ended, jobs.filter((job) => job.done()).length], [['saw it', 'saw it', 'saw it'], 3]);
});

/** Calls `f` so deep within tasks that start one another that the next does not begin at once. */
const nested = (loop, f) => loop.spawn(() => (loop.spawn(() => 1).done() ? nested(loop, f) : f()));

test('a job that had not begun when its pool was ended makes no Worker', async ({ selkie, worker }) => {
    const loop = await selkie.createLoop();
    for (const end of ['terminate', 'close']) {
        let made = 0;
        const pool = selkie.createPool(loop, () => (made += 1, worker('jobs')), { max: 1 });
        let job;
        await nested(loop, () => {
            job = rejection(pool.run('add', [1, 1]));
            void pool[end]();
        });
        equal([(await job).code, made, pool.size], ['pool-closed', 0, 0], end);
    }
    await loop.close();
});

test('what a loop that has crashed had in a pool is asked to end, so that the pool ends', async ({ selkie, testing, worker }) => {
    const loop = await selkie.createLoop();
    const pool = selkie.createPool(loop, () => worker('jobs'), { max: 1, killAfterMs: 20 });
    let began;
    const beginning = new Promise((resolve) => (began = resolve));
    const jobs = [rejection(pool.run('deaf', [], { onProgress: began })), rejection(pool.run('deaf', []))];
    await beginning;
    testing.crash(loop);
    equal((await Promise.all(jobs)).map(({ code }) => code), ['loop-crashed', 'loop-crashed']);
    await until(() => !pool.running && !pool.queued);
    await pool.close();
    equal(pool.size, 0);
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
    await until(() => remote.submit('cancelled', []));
    equal(await remote.submit('cancelled', []), 1);
    const open = rejection(remote.submit('sleep', [60_000]));
    remote.close();
    equal([(await open).name, thrown(() => remote.submit('twice', [1])).name], ['WorkerError', 'WorkerError']);
    there.terminate();
    await loop.close();
});

test('what a connection is asked for is refused, times out, or says why it fails', async ({ selkie, worker, listen }) => {
    const loop = await selkie.createLoop();
    const there = worker('loop');
    const remote = selkie.connectLoop(loop, await new Promise((resolve) => listen(there, resolve)));
    for (const [argument, f] of [['args', () => remote.submit('twice', 1)], ['name', () => remote.submit(5, [])], ['options.kill', () => remote.submit('twice', [1], { kill: 'now' })], ['options.onProgress', () => remote.submit('twice', [1], { onProgress: 1 })]]) {
        equal(thrown(f).argument, argument);
    }
    equal([(await rejection(remote.submit('missing', []))).code, (await rejection(remote.submit('twice', [() => 1]))).code], ['unknown-function', 'not-cloneable']);
    const late = remote.submit('sleep', [60_000], { timeoutMs: 20 });
    equal([(await rejection(late)).name, late.state], ['TimeoutError', 'cancelled']);
    const controller = new AbortController();
    const slow = remote.submit('sleep', [60_000], { signal: controller.signal, priority: 'background' });
    controller.abort('enough');
    equal([await rejection(slow), await remote.submit('twice', [2])], ['enough', 4]);
    await remote[Symbol.asyncDispose]();
    there.terminate();
    await loop.close();
});

test('a call of a loop that is closed, or whose Worker has ended, ends by a WorkerError, whenever that was', async ({ selkie, worker, listen }) => {
    const loop = await selkie.createLoop();
    const gone = async (port, ms, end) => {
        await loop.sleep(ms);
        let error;
        try {
            const remote = selkie.connectLoop(loop, port);
            const call = rejection(remote.submit('sleep', [60_000], { timeoutMs: 5000 }));
            await end?.();
            error = await call;
        } catch (why) {
            error = why;
        }
        equal([error.name, error.code], ['WorkerError', 'worker-crashed'], error.message);
    };
    for (const ms of [0, 50]) {
        const there = await selkie.createLoop();
        const port = selkie.endpoint(there, {});
        await there.close();
        await gone(port, ms);
    }
    const closed = selkie.endpoint(loop, {});
    closed.close();
    // Browsers tell nothing of a port whose other side was ended, or that was closed on this one.
    if (closed.hasRef) {
        for (const ms of [0, 50]) await gone(closed, ms);
        const there = worker('loop');
        await gone(await new Promise((resolve) => listen(there, resolve)), 0, () => there.terminate());
        const ended = worker('loop');
        const port = await new Promise((resolve) => listen(ended, resolve));
        await ended.terminate();
        await gone(port, 50);
    }
    await loop.close();
});

test('a connection that is closed ends on its other side too', async ({ selkie }) => {
    const [here, there] = [await selkie.createLoop(), await selkie.createLoop()];
    const { close } = MessagePort.prototype;
    let closed = 0;
    MessagePort.prototype.close = function () {
        closed += 1;
        return close.call(this);
    };
    try {
        const remote = selkie.connectLoop(here, selkie.endpoint(there, { add: (a, b) => a + b }));
        equal([await remote.submit('add', [1, 2]), closed], [3, 0]);
        remote.close();
        await until(() => closed === 2);
        equal([closed, thrown(() => remote.submit('add', [1, 2])).code], [2, 'pool-closed']);
    } finally {
        MessagePort.prototype.close = close;
    }
    await Promise.all([here.close(), there.close()]);
});

test('two loops of one thread talk by a port', async ({ selkie }) => {
    const [here, there] = [await selkie.createLoop(), await selkie.createLoop()];
    let seen;
    const port = selkie.endpoint(there, { name: () => (seen = there.current.name), move: selkie.job((ctx, bytes) => ctx.transfer(bytes, [bytes.buffer])) });
    const remote = selkie.connectLoop(here, port);
    const bytes = new Uint8Array([1, 2]);
    equal([await remote.submit('name', []), seen, [...await remote.submit('move', [bytes], { transfer: [bytes.buffer] })], bytes.length], ['name', 'name', [1, 2], 0]);
    remote.close();
    await Promise.all([here.close(), there.close()]);
});

test('what a connection has under way is cancelled on the other side as it is closed', async ({ selkie }) => {
    const [here, there] = [await selkie.createLoop(), await selkie.createLoop()];
    const heard = [];
    const port = selkie.endpoint(there, {
        job: selkie.job(({ signal }, name) => new Promise((_, failed) => signal.addEventListener('abort', () => (heard.push(name), failed(signal.reason))))),
    });
    const remote = selkie.connectLoop(here, port);
    const jobs = ['one', 'other'].map((name) => rejection(remote.submit('job', [name])));
    while (there.tasks().length < 2) await here.sleep(1);
    remote.close();
    equal((await Promise.all(jobs)).map(({ code }) => code), ['pool-closed', 'pool-closed']);
    while (there.tasks().length) await here.sleep(1);
    equal(heard, ['one', 'other']);
    await Promise.all([here.close(), there.close()]);
});

test('a call that had not begun when its connection was closed ends', async ({ selkie }) => {
    const loop = await selkie.createLoop();
    const remote = selkie.connectLoop(loop, selkie.endpoint(loop, { one: () => 1 }));
    let call;
    await nested(loop, () => {
        call = rejection(remote.submit('one', []));
        remote.close();
    });
    equal((await call).code, 'pool-closed');
    await loop.close();
});

test('a function that was made for a Worker can be given out by a loop', async ({ selkie, job }) => {
    const loop = await selkie.createLoop();
    const remote = selkie.connectLoop(loop, selkie.endpoint(loop, { add: job((ctx, a, b) => [ctx.shouldStop(), a + b]) }));
    equal(await remote.submit('add', [1, 2]), [false, 3]);
    remote.close();
    await loop.close();
});
