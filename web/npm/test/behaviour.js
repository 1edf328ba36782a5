// What the package promises, as the suite of the Rust crate has it (tests/it), written through the API of JavaScript. Rows are
// those of tests/rows.txt. Each test runs in Node and in a page.

import { equal, ok, rejection, thrown, until } from './harness.js';

export const tests = [];
const test = (name, run) => tests.push({ name, run });

/** A test on virtual time: `log` collects events, and the exact order is asserted. */
const timed = (name, run) =>
    test(name, async (host) => {
        const loop = await host.testing.createTestLoop();
        const log = [];
        await run({ ...host, loop, log });
        await loop.close();
    });

/** A task that says when it starts, ends or is cancelled. */
const worker = (log, name, ms, outcome = name) => async (ctx) => {
    log.push(`${name}: start`);
    try {
        await ctx.sleep(ms);
    } catch (error) {
        log.push(`${name}: ${error.name}`);
        throw error;
    }
    log.push(`${name}: end`);
    if (outcome instanceof Error) throw outcome;
    return outcome;
};

// ---- Starting

// Rows: F12, X24.
timed('spawn runs the body at once up to its first await', async ({ loop, log }) => {
    const task = loop.spawn(async (ctx) => {
        log.push('body');
        await ctx.sleep(1);
    });
    log.push('after');
    equal(task.state, 'running');
    equal(log, ['body', 'after']);
    await loop.runUntilIdle();
    equal(task.state, 'done');
});

timed('a body that never waits is done when spawn returns', async ({ loop }) => {
    const task = loop.spawn(() => 7);
    ok(task.done(), 'done');
    equal(task.result(), 7);
    equal(await task, 7);
});

timed('a task has the methods of a promise', async ({ loop }) => {
    const failed = loop.spawn(worker([], 'a', 1, new Error('no')));
    const caught = failed.catch((error) => error.message);
    const fine = loop.spawn(worker([], 'b', 1));
    const seen = [];
    const passed = fine.finally(() => seen.push(fine.state));
    const failing = rejection(failed.finally(() => seen.push(failed.state)));
    await loop.runUntilIdle();
    equal(await caught, 'no');
    equal(await passed, 'b');
    equal(await fine.catch(() => 'not called'), 'b');
    ok((await failing) === failed.error(), 'the same error');
    equal(seen.sort(), ['done', 'failed']);
});

timed('a task that starts at its next turn keeps the order of the calls', async ({ loop, log }) => {
    for (const name of ['a', 'b', 'c']) loop.spawn(() => log.push(name), { start: 'next' });
    loop.soon(() => log.push('soon'));
    equal(log, []);
    await loop.runUntilIdle();
    equal(log, ['a', 'b', 'c', 'soon']);
});

timed('the urgent run before the others, the background after them', async ({ loop, log }) => {
    for (const priority of ['background', 'user-visible', 'user-blocking']) {
        for (const n of [1, 2]) loop.spawn(() => log.push(`${priority} ${n}`), { priority, start: 'next' });
    }
    await loop.runUntilIdle();
    equal(log, ['user-blocking 1', 'user-blocking 2', 'user-visible 1', 'user-visible 2', 'background 1', 'background 2']);
});

timed('a task of the background never starts at once', async ({ loop, log }) => {
    loop.spawn(() => log.push('body'), { priority: 'background' });
    equal(log, []);
    await loop.runUntilIdle();
    equal(log, ['body']);
});

timed('tasks take turns where they yield', async ({ loop, log }) => {
    const turns = (name) => function* (ctx) {
        for (let n = 1; n <= 3; n += 1) {
            log.push(`${name}${n}`);
            yield* ctx.yield();
        }
    };
    loop.spawn(turns('a'), { start: 'next' });
    loop.spawn(turns('b'), { start: 'next' });
    await loop.runUntilIdle();
    equal(log, ['a1', 'b1', 'a2', 'b2', 'a3', 'b3']);
});

timed('the form of the body does not change the order', async ({ loop, log }) => {
    loop.spawn(async (ctx) => { await ctx.yield(); log.push('async'); }, { start: 'next' });
    loop.spawn(function* (ctx) { yield* ctx.yield(); log.push('generator'); }, { start: 'next' });
    await loop.runUntilIdle();
    equal(log.sort(), ['async', 'generator']);
});

timed('tasks know their names, ids and parents', async ({ loop }) => {
    let child;
    const parent = loop.spawn((ctx) => { child = ctx.spawn(() => loop.current.name, { name: 'child' }); }, { name: 'parent' });
    equal([parent.name, child.name, child.parent === parent, child.id > parent.id], ['parent', 'child', true, true]);
    equal(await child, 'child');
    equal(loop.current, undefined);
    equal(loop.spawn(() => 1).name, 'task 3');
});

// ---- Time

// Rows: F30.
timed('sleeps end in the order of their times, equal ones in the order of the calls', async ({ loop, log }) => {
    for (const [name, ms] of [['late', 20], ['first', 10], ['second', 10], ['early', 5]]) {
        loop.spawn(function* (ctx) {
            yield* ctx.sleep(ms);
            log.push(`${name} ${loop.now()}`);
        });
    }
    await loop.runUntilIdle();
    equal(log, ['early 5', 'first 10', 'second 10', 'late 20']);
});

timed('virtual time passes as far as it is told to', async ({ loop, log }) => {
    loop.later(10, () => log.push(loop.now()));
    loop.later(20, () => log.push(loop.now()));
    await loop.advance(15);
    equal([log, loop.now()], [[10], 15]);
    await loop.advance(5);
    equal([log, loop.now()], [[10, 20], 20]);
});

timed('virtual time passes by decades, where numbers are not exact to the nanosecond', async ({ loop, log }) => {
    const year = 365 * 86_400_000;
    for (const ms of [1 / 3, year, 20 * year]) loop.later(ms, () => log.push(ms));
    await loop.runUntilIdle();
    await loop.run(async (ctx) => { await ctx.sleep(year / 7); log.push('slept'); });
    equal(log, [1 / 3, year, 20 * year, 'slept']);
});

test('a sleep is never early', async ({ selkie }) => {
    const loop = await selkie.createLoop();
    for (const ms of [0, 1, 3.5, 12]) {
        const began = loop.now();
        await loop.sleep(ms);
        ok(loop.now() - began >= ms, `${loop.now() - began} for ${ms}`);
    }
    await loop.close();
});

timed('a callback that was cancelled is not called', async ({ loop, log }) => {
    const soon = loop.soon(() => log.push('soon'));
    const later = loop.later(5, () => log.push('later'));
    const kept = loop.later(6, () => log.push('kept'));
    equal([soon.cancel(), soon.cancel(), later.cancel()], [true, false, true]);
    await loop.runUntilIdle();
    equal([log, kept.cancel()], [['kept'], false]);
});

timed('an interval counts its periods and skips what was missed', async ({ loop, log }) => {
    const task = loop.spawn(async (ctx) => {
        for await (const n of loop.interval(10, { signal: ctx.signal })) {
            log.push([n, loop.now()]);
            if (n === 1) await ctx.sleep(25);
            if (n >= 5) return;
        }
    });
    await loop.runUntilIdle();
    await task;
    equal(log, [[0, 10], [1, 20], [3, 45], [4, 50], [5, 60]]);
});

// Rows: X10.
timed('timeoutMs cancels the task with a TimeoutError, and its cleaning up is waited for', async ({ loop, log }) => {
    const task = loop.spawn(async (ctx) => {
        try {
            await ctx.sleep(100);
        } finally {
            await loop.sleep(5);
            log.push(`cleaned ${loop.now()}`);
        }
    }, { timeoutMs: 10 });
    await loop.runUntilIdle();
    equal([(await rejection(task)).name, task.state, log], ['TimeoutError', 'cancelled', ['cleaned 15']]);
});

timed('a task that is in time is not cancelled', async ({ loop }) => {
    const task = loop.spawn(function* (ctx) { yield* ctx.sleep(5); return 'in time'; }, { timeoutMs: 10 });
    equal(await loop.runUntilIdle(), 5);
    equal(await task, 'in time');
});

timed('timeout rejects on time and aborts the signal of the body', async ({ loop }) => {
    let signal;
    const waiting = rejection(loop.timeout(10, (given) => { signal = given; return new Promise(() => {}); }));
    await loop.advance(10);
    const error = await waiting;
    equal([error.name, signal.aborted, signal.reason === error], ['TimeoutError', true, true]);
    equal(await loop.timeout(10, () => 'quick'), 'quick');
    equal((await rejection(loop.timeout(10, () => { throw new Error('own'); }))).message, 'own');
});

timed('what is scheduled is disposed of by `using`', async ({ loop, log }) => {
    const handle = loop.later(5, () => log.push('called'));
    handle[Symbol.dispose]();
    // One function twice: each call is its own.
    const twice = () => log.push('twice');
    const first = loop.soon(twice);
    await loop.runUntilIdle();
    const second = loop.later(1, twice);
    equal([first.cancel(), log], [false, ['twice']]);
    await loop.runUntilIdle();
    equal([second.cancel(), log], [false, ['twice', 'twice']]);
});

timed('an interval is left by its signal, and by a break', async ({ loop, log }) => {
    const controller = new AbortController();
    const task = loop.spawn(async () => {
        for await (const n of loop.interval(10)) if (n === 1) break;
        log.push(`left ${loop.now()}`);
        for await (const n of loop.interval(10, { signal: controller.signal })) {
            log.push(n);
            controller.abort('enough');
        }
    });
    const failed = rejection(task);
    await loop.runUntilIdle();
    equal([await failed, log], ['enough', ['left 20', 0]]);
});

timed('timeout is left by its signal, with its reason', async ({ loop }) => {
    const controller = new AbortController();
    let inner;
    const waiting = rejection(loop.timeout(10, (signal) => { inner = signal; return new Promise(() => {}); }, { signal: controller.signal }));
    await loop.advance(5);
    controller.abort('gone');
    equal([await waiting, inner.reason, await loop.runUntilIdle()], ['gone', 'gone', 0]);
});

// ---- Cancelling

// Rows: X01, X02.
for (const [form, make] of [
    ['an async function', (log) => async (ctx) => {
        try {
            await ctx.sleep(1000);
        } catch (error) {
            log.push(error.message);
            await ctx.sleep(5);
            log.push('cleaned');
            throw error;
        }
    }],
    ['a generator', (log) => function* (ctx) {
        try {
            yield* ctx.sleep(1000);
        } catch (error) {
            log.push(error.message);
            yield* ctx.sleep(5);
            log.push('cleaned');
            throw error;
        }
    }],
]) {
    timed(`a cancel is raised where ${form} waits, which may clean up`, async ({ loop, log }) => {
        const task = loop.spawn(make(log));
        const reason = new Error('enough');
        ok(task.cancel(reason), 'asked');
        equal(log, [], 'not within the call');
        await loop.advance(4);
        equal([log, task.state], [['enough'], 'running']);
        await loop.advance(1);
        equal([log, task.state, task.error() === reason], [['enough', 'cleaned'], 'cancelled', true]);
        equal((await rejection(task)) === reason, true);
        equal(task.cancel(), false);
    });
}

timed('a task that is asked to end again while it cleans up is cancelled, by either reason', async ({ loop, log }) => {
    const [first, second] = [new Error('first'), new Error('second')];
    const bodies = {
        'an async function': async (ctx) => { try { await ctx.sleep(100); } finally { await loop.sleep(10); } },
        'one that waits for its own': async (ctx) => { try { await ctx.sleep(100); } finally { await ctx.sleep(10); } },
        'a generator': function* (ctx) { try { yield* ctx.sleep(100); } catch (error) { try { yield* ctx.sleep(10); } catch { throw error; } } },
    };
    for (const [name, body] of Object.entries(bodies)) {
        const task = loop.spawn(body);
        void task.ended();
        task.cancel(first);
        await loop.advance(1);
        task.cancel(second);
        await loop.runUntilIdle();
        log.push([name, task.state, task.error().message]);
    }
    equal(log, [['an async function', 'cancelled', 'first'], ['one that waits for its own', 'cancelled', 'second'], ['a generator', 'cancelled', 'first']]);
});

timed('a body that catches the cancel goes on', async ({ loop }) => {
    const task = loop.spawn(function* (ctx) {
        try {
            yield* ctx.sleep(1000);
        } catch {
            return ['refused', ctx.task.uncancel()];
        }
    });
    task.cancel();
    await loop.runUntilIdle();
    equal([await task, task.state, task.cancelling()], [['refused', 0], 'done', 0]);
});

timed('a request that is taken back before the task was told changes nothing', async ({ loop, log }) => {
    const waits = {
        sleep: function* (ctx) { yield* ctx.sleep(10); },
        yield: function* (ctx) { yield* ctx.yield(); },
        promise: function* (ctx) { return yield* ctx.wait(loop.sleep(10).then(() => 'late')); },
        task: function* () { return yield* loop.spawn(async (ctx) => (await ctx.sleep(10), 'late')); },
        async: async (ctx) => { await ctx.sleep(10); },
        own: function* (ctx) { ctx.task.cancel(); ctx.task.uncancel(); yield* ctx.sleep(10); },
        next: function* (ctx) { yield* ctx.sleep(5); ctx.task.cancel(); ctx.task.uncancel(); yield* ctx.sleep(5); },
    };
    for (const [name, wait] of Object.entries(waits)) {
        const task = loop.spawn(function* () {
            const start = loop.now();
            const got = yield* loop.spawn(wait, { name });
            log.push([name, got, loop.now() - start]);
        });
        for (const one of loop.tasks()) {
            one.cancel();
            one.uncancel();
        }
        await loop.runUntilIdle();
        equal(task.state, 'done', name);
    }
    equal(log, [['sleep', undefined, 10], ['yield', undefined, 0], ['promise', 'late', 10], ['task', 'late', 10], ['async', undefined, 10], ['own', undefined, 10], ['next', undefined, 10]]);
});

timed('a request that is taken back as a sleep ends leaves it its end', async ({ loop, log }) => {
    for (const back of [true, false]) {
        // In front of the task's own timer.
        loop.later(10, () => {
            task.cancel();
            if (back) task.uncancel();
        });
        const task = loop.spawn(function* (ctx) { yield* ctx.sleep(10); log.push(loop.now()); yield* ctx.sleep(10); log.push(loop.now()); });
        await loop.runUntilIdle();
    }
    equal(log, [10, 20]);
});

timed('a task that is cancelled before it begins never does', async ({ loop, log }) => {
    const task = loop.spawn(() => log.push('body'), { start: 'next' });
    task.cancel();
    await loop.runUntilIdle();
    equal([(await rejection(task)).name, log, task.state], ['AbortError', [], 'cancelled']);
});

timed('an async body that hears of a cancel elsewhere meets it at its next await', async ({ loop }) => {
    let release;
    const task = loop.spawn(async (ctx) => {
        await new Promise((resolve) => (release = resolve));
        const aborted = ctx.signal.aborted;
        await ctx.sleep(1).catch((error) => { throw Object.assign(error, { aborted }); });
        return 'never';
    });
    const reason = new Error('meanwhile');
    task.cancel(reason);
    await loop.runUntilIdle();
    equal(task.state, 'running');
    release();
    await loop.runUntilIdle();
    equal([(await rejection(task)) === reason, reason.aborted, task.state], [true, true, 'cancelled']);
});

// Rows: X01.
timed('cancelling a task cancels what it waits for, in either form', async ({ loop, log }) => {
    const inner = loop.spawn(worker(log, 'inner', 100));
    const outer = loop.spawn(function* () { return yield* inner; });
    outer.cancel(new Error('stop'));
    const other = loop.spawn(worker(log, 'other', 100));
    const async = loop.spawn((ctx) => ctx.wait(other));
    async.cancel(new Error('stop'));
    await loop.runUntilIdle();
    equal([inner.state, outer.state, other.state, async.state], ['cancelled', 'cancelled', 'cancelled', 'cancelled']);
    equal(log, ['inner: start', 'other: start', 'inner: Error', 'other: Error']);
});

// Rows: F31.
timed('a shield keeps the inner task', async ({ loop, log }) => {
    const inner = loop.spawn(worker(log, 'inner', 10));
    const outer = loop.spawn(function* (ctx) { return yield* ctx.shield(inner); });
    const async = loop.spawn((ctx) => ctx.shield(inner));
    outer.cancel();
    async.cancel();
    await loop.runUntilIdle();
    equal([outer.state, async.state, inner.state, await inner], ['cancelled', 'cancelled', 'done', 'inner']);
});

timed('a signal cancels with its own reason, and an aborted one before anything began', async ({ loop, log }) => {
    const controller = new AbortController();
    const reason = { my: 'reason' };
    const task = loop.spawn(worker(log, 'a', 10), { signal: controller.signal });
    controller.abort(reason);
    await loop.runUntilIdle();
    equal((await rejection(task)) === reason, true);
    const never = loop.spawn(worker(log, 'never', 10), { signal: controller.signal });
    equal([never.state, (await rejection(never)) === reason], ['cancelled', true]);
    equal((await rejection(loop.sleep(1, { signal: controller.signal }))) === reason, true);
    equal(log, ['a: start', 'a: undefined']);
});

timed('a signal may be aborted with any reason, before or while it is waited for', async ({ loop, selkie }) => {
    const queue = new selkie.Queue(loop);
    const waits = [
        (signal) => loop.spawn((ctx) => ctx.sleep(10), { signal }), (signal) => loop.spawn(function* (ctx) { yield* ctx.sleep(10); }, { signal }),
        (signal) => loop.gather([(ctx) => ctx.sleep(10)], { signal }), (signal) => loop.withGroup((_, ctx) => ctx.sleep(10), { signal }),
        (signal) => loop.timeout(10, () => new Promise(() => {}), { signal }), async (signal) => queue.take({ signal }), async (signal) => loop.sleep(10, { signal }),
    ];
    for (const reason of [undefined, null, 0, '', false, NaN, 1n, Symbol('why')]) {
        const [before, controller] = [AbortSignal.abort(reason), new AbortController()];
        const ended = waits.flatMap((wait) => [[before, rejection(wait(before))], [controller.signal, rejection(wait(controller.signal))]]);
        controller.abort(reason);
        await loop.runUntilIdle();
        for (const [signal, error] of ended) ok(Object.is(await error, signal.reason), String(reason));
    }
});

timed('a signal has one listener, however many wait for it', async ({ loop }) => {
    const controller = new AbortController();
    let [added, removed] = [0, 0];
    const { signal } = controller;
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    signal.addEventListener = (...args) => (added += 1, add(...args));
    signal.removeEventListener = (...args) => (removed += 1, remove(...args));
    const tasks = Array.from({ length: 1000 }, () => loop.spawn((ctx) => ctx.sleep(10), { signal }));
    equal([added, removed], [1, 0]);
    await loop.runUntilIdle();
    equal([tasks.every((task) => task.state === 'done'), removed], [true, 1]);
    const again = loop.spawn((ctx) => ctx.sleep(10), { signal });
    controller.abort();
    await loop.runUntilIdle();
    equal([again.state, added], ['cancelled', 2]);
});

timed('whatever waits for a signal shares its one listener', async ({ loop, selkie }) => {
    const controller = new AbortController();
    const { signal } = controller;
    let [added, removed] = [0, 0];
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    signal.addEventListener = (...args) => (added += 1, add(...args));
    signal.removeEventListener = (...args) => (removed += 1, remove(...args));
    const queue = new selkie.Queue(loop, { capacity: 1 });
    const lock = new selkie.Lock(loop);
    const release = await lock.acquire();
    await queue.put(1);
    const waits = [
        loop.sleep(10, { signal }), loop.timeout(10, () => new Promise(() => {}), { signal }), loop.wait([loop.spawn((ctx) => ctx.sleep(5))], { signal }),
        queue.put(2, { signal }), new selkie.Queue(loop).take({ signal }), lock.acquire({ signal }), new selkie.Event(loop).wait({ signal }),
        new selkie.Barrier(loop, 2).wait({ signal }), queue.join({ signal }), loop.withGroup((_, ctx) => ctx.sleep(10), { signal }),
        loop.gather([(ctx) => ctx.sleep(10)], { signal }), loop.interval(10, { signal }).next(), loop.asCompleted([loop.spawn((ctx) => ctx.sleep(5))], { signal }).next(),
    ].map(rejection);
    equal([added, removed], [1, 0]);
    controller.abort('all');
    await loop.runUntilIdle();
    equal([await Promise.all(waits), added], [waits.map(() => 'all'), 1]);
    release();
});

timed('the signal of a task is aborted when it is cancelled, and its promise is one', async ({ loop }) => {
    const task = loop.spawn((ctx) => ctx.sleep(10));
    const { signal } = task;
    equal([signal.aborted, task.signal === signal, task.promise === task.promise, task.promise instanceof Promise], [false, true, true, true]);
    const failed = rejection(task.promise);
    task.cancel('why');
    await loop.runUntilIdle();
    equal([signal.aborted, signal.reason, await failed], [true, 'why', 'why']);
});

timed('await using cancels a task and waits for its end', async ({ loop, log }) => {
    const task = loop.spawn(worker(log, 'a', 100));
    const ended = task[Symbol.asyncDispose]();
    await loop.runUntilIdle();
    await ended;
    equal([task.state, log], ['cancelled', ['a: start', 'a: AbortError']]);
});

// ---- Outcomes

timed('a task that is cancelled before it begins aborts its signal', async ({ loop }) => {
    const task = loop.spawn(() => 1, { start: 'next' });
    const { signal } = task;
    task.cancel('why');
    await loop.runUntilIdle();
    equal([task.state, signal.aborted, signal.reason], ['cancelled', true, 'why']);
});

timed('an outcome may be had before and after the end', async ({ loop, selkie }) => {
    const task = loop.spawn(function* (ctx) { yield* ctx.sleep(1); throw new RangeError('off'); });
    void rejection(task);
    equal(thrown(() => task.result()).code, 'invalid-state');
    equal(task.error(), undefined);
    await loop.runUntilIdle();
    equal([thrown(() => task.result()).message, task.error().name, (await rejection(task)).message, task.state], ['off', 'RangeError', 'off', 'failed']);
    ok(task instanceof selkie.Task, 'class');
    await task.ended();
});

test('a failure that nobody looks at is told, a cancel is not', async ({ selkie }) => {
    const told = [];
    const loop = await selkie.createLoop({ onUnhandled: (error, task) => told.push([error.message, task.name]) });
    loop.spawn(() => { throw new Error('lost'); }, { name: 'silent' });
    const looked = loop.spawn(() => { throw new Error('seen'); });
    await rejection(looked);
    loop.spawn((ctx) => ctx.sleep(1000)).cancel();
    await loop.sleep(20);
    equal(told, [['lost', 'silent']]);
    await loop.close();
});

test('what a task fails with that is waited for no longer is told', async ({ selkie }) => {
    const told = [];
    const loop = await selkie.createLoop({ onUnhandled: (error) => told.push(error) });
    const failing = (what, ms) => loop.spawn(async (ctx) => {
        await ctx.sleep(ms).catch(() => {});
        throw what;
    });
    const bodies = (what, ms) => [(ctx) => ctx.shield(failing(`${what} async`, ms)), function* (ctx) { yield* ctx.shield(failing(`${what} stepwise`, ms)); },
        (ctx) => ctx.wait(failing(`${what} waited`, ms)), function* () { yield* failing(`${what} stepwise waited`, ms); }];
    equal((await loop.gather(bodies('looked at', 1), { returnErrors: true })).map(({ status }) => status), ['rejected', 'rejected', 'rejected', 'rejected']);
    for (const body of bodies('left', 10)) loop.spawn(body).cancel();
    while (told.length < 4) await loop.sleep(1);
    equal(told.sort(), ['left async', 'left stepwise', 'left stepwise waited', 'left waited']);
    await loop.close();
});

test('what fails after it was no longer waited for, by `wait` or by `asCompleted`, is told', async ({ selkie }) => {
    const told = [];
    const loop = await selkie.createLoop({ onUnhandled: (error) => told.push(error) });
    const gates = [];
    const failing = (what) => loop.spawn(async (ctx) => {
        await ctx.wait(new Promise((resolve) => gates.push(resolve)));
        throw what;
    });
    const controller = new AbortController();
    const waits = [
        loop.wait([loop.spawn(() => { throw 'before'; })]),
        loop.wait([failing('first'), failing('left by wait')], { until: 'first-completed' }),
        loop.wait([failing('late')], { timeoutMs: 1 }),
        loop.wait([failing('aborted')], { signal: controller.signal }).catch(() => {}),
        loop.wait([failing('meanwhile'), failing('at last')]),
        (async () => { for await (const _ of loop.asCompleted([failing('one'), failing('left by asCompleted')])) break; })(),
        (async () => { for await (const { task } of loop.asCompleted([failing('each')])) void task; })(),
    ];
    const [first, left, late, aborted, meanwhile, last, one, other, each] = gates;
    controller.abort();
    [first, meanwhile, last, one, each].forEach((open) => open());
    await Promise.all(waits);
    equal(told, []);
    [left, late, aborted, other].forEach((open) => open());
    await until(() => told.length >= 4);
    equal(told.sort(), ['aborted', 'late', 'left by asCompleted', 'left by wait']);
    await loop.close();
});

test('a task that waits for itself is told so', async ({ selkie }) => {
    const loop = await selkie.createLoop();
    const bodies = [(ctx) => ctx.wait(ctx.task), async (ctx) => ctx.shield(ctx.task),
        function* (ctx) { yield* ctx.wait(ctx.task); }, function* (ctx) { yield* ctx.shield(ctx.task); }, function* (ctx) { yield* ctx.task; }];
    for (const body of bodies) {
        const error = await rejection(loop.spawn(body));
        ok(error instanceof selkie.ArgumentError && error.message.includes('another task'), String(error));
    }
    await loop.close();
});

timed('a cancel of tasks that wait for one another ends each of them once', async ({ loop, log }) => {
    const forms = {
        returned: (other) => () => other(),
        waited: (other) => async (ctx) => ctx.wait(other()),
        stepwise: (other) => function* () { return yield* other(); },
        cleaning: (other, name) => function* (ctx) {
            try {
                yield* other();
            } finally {
                yield* ctx.sleep(5);
                log.push(`${name}: cleaned`);
            }
        },
    };
    let turns = 0;
    loop.observe({ stepped() {
        turns += 1;
    } });
    for (const first of Object.keys(forms)) {
        for (const second of Object.keys(forms)) {
            let a, b;
            a = loop.spawn(forms[first](() => b, 'first'), { start: 'next' });
            b = loop.spawn(forms[second](() => loop.spawn(forms.returned(() => a)), 'second'), { start: 'next' });
            await loop.runUntilIdle();
            a.cancel('stop');
            const left = loop.runUntilIdle();
            equal([await rejection(a), await rejection(b), a.state, b.state, turns < 1000], ['stop', 'stop', 'cancelled', 'cancelled', true], `${first}, ${second}`);
            await left;
        }
    }
    // Its own, and what ends with it.
    const own = loop.spawn((ctx) => ctx.task);
    const [group, gather] = [loop.withGroup((group) => void group.spawn(() => group_(), { start: 'next' })), loop.gather([loop.spawn(() => gather_(), { start: 'next' })])];
    function group_() { return group; }
    function gather_() { return gather; }
    turns = 0;
    for (const one of [own, group, gather]) void one.ended(one.cancel('stop'));
    await loop.runUntilIdle();
    equal([own.state, turns < 100], ['cancelled', true], `${turns} turns`);
});

timed('what a body waits for may be no promise: it may throw, or answer on the spot and more than once', async ({ loop, log }) => {
    const thenables = {
        throws: { then() { throw new Error('of then'); } },
        'has a getter that throws': { get then() { throw new Error('of then'); } },
        'answers at once': { then(done) { done(1); } },
        'answers at once, and again': { then(done, failed) { done(1); loop.later(5, () => failed(new Error('again'))); } },
    };
    for (const [name, thenable] of Object.entries(thenables)) {
        const bodies = [() => thenable, async (ctx) => await ctx.wait(thenable), function* (ctx) {
            try {
                return yield* ctx.wait(thenable);
            } finally {
                const start = loop.now();
                yield* ctx.sleep(10);
                equal(loop.now() - start, 10, name);
            }
        }];
        for (const body of bodies) {
            const task = loop.spawn(body);
            const seen = task.promise.catch((error) => error.message);
            await loop.runUntilIdle();
            log.push(await seen);
        }
    }
    const error = 'of then';
    equal(log, [error, error, error, error, error, error, 1, 1, 1, 1, 1, 1]);
});

timed('what a body returns may be like a promise: its first answer counts', async ({ loop }) => {
    const task = loop.spawn(() => ({ then: (done, failed) => (done('first'), failed(new Error('second'))) }));
    void task.ended();
    await loop.runUntilIdle();
    equal([task.state, task.error()], ['done', undefined]);
});

timed('an iterator that a body returns is its result', async ({ loop }) => {
    const task = loop.spawn(() => ['a', 'b'].values());
    void task.ended();
    await loop.runUntilIdle();
    equal([task.error(), [...task.result()]], [undefined, ['a', 'b']]);
});

// ---- gather

// Rows: F23, F28.
timed('gather gives results in the order of its members', async ({ loop, log }) => {
    const all = loop.gather([loop.spawn(worker(log, 'a', 20)), worker(log, 'b', 10), Promise.resolve('c'), function* (ctx) { yield* ctx.sleep(1); return 'd'; }]);
    await loop.runUntilIdle();
    equal(await all, ['a', 'b', 'c', 'd']);
    equal(log, ['a: start', 'b: start', 'b: end', 'a: end']);
    equal(await loop.gather([]), []);
});

// Rows: F24, F25.
timed('gather rejects with the first error, and the others go on', async ({ loop, log }) => {
    const all = loop.gather([worker(log, 'a', 20), worker(log, 'b', 10, new Error('boom')), worker(log, 'c', 30, new Error('later'))]);
    const failed = rejection(all);
    await loop.advance(10);
    equal([all.state, (await failed).message], ['failed', 'boom']);
    await loop.runUntilIdle();
    equal(log.slice(3), ['b: end', 'a: end', 'c: end']);
});

// Rows: F26.
timed('gather gives errors as results on request', async ({ loop, log }) => {
    const all = loop.gather([worker(log, 'a', 2), worker(log, 'b', 1, new Error('boom'))], { returnErrors: true });
    await loop.runUntilIdle();
    const [a, b] = await all;
    equal([a, b.status, b.reason.message], [{ status: 'fulfilled', value: 'a' }, 'rejected', 'boom']);
});

// Rows: F29.
timed('cancelling gather cancels every child once', async ({ loop, log }) => {
    const all = loop.gather([worker(log, 'a', 20), loop.spawn(worker(log, 'b', 20))]);
    all.cancel();
    await loop.runUntilIdle();
    equal(log, ['a: start', 'b: start', 'b: AbortError', 'a: AbortError'].sort((x, y) => log.indexOf(x) - log.indexOf(y)));
    equal([log.length, all.state], [4, 'cancelled']);
});

timed('gather runs at most so many functions at once', async ({ loop }) => {
    let [busy, most] = [0, 0];
    const member = (n) => async (ctx) => {
        most = Math.max(most, (busy += 1));
        await ctx.sleep(10);
        busy -= 1;
        return n;
    };
    const all = loop.gather([1, 2, 3, 4, 5, 6, 7].map(member), { concurrency: 3 });
    equal([await loop.runUntilIdle(), most], [30, 3]);
    equal(await all, [1, 2, 3, 4, 5, 6, 7]);
});

timed('a gather that takes too long is cancelled, with its members', async ({ loop, log }) => {
    const all = loop.gather([worker(log, 'a', 20), worker(log, 'b', 5)], { timeoutMs: 10, name: 'both' });
    equal([all.name, await loop.runUntilIdle()], ['both', 10]);
    equal([(await rejection(all)).name, log.slice(2)], ['TimeoutError', ['b: end', 'a: TimeoutError']]);
});

timed('gather takes what is like a promise by its first answer', async ({ loop }) => {
    const twice = { then: (done) => (done('a'), done('b')) };
    const after = { then: (done) => { done('c'); throw new Error('late'); } };
    const all = loop.gather([twice, after, loop.spawn(async () => 'd')]);
    const broken = loop.gather([{ then: () => { throw new Error('boom'); } }], { returnErrors: true });
    await loop.runUntilIdle();
    equal(await all, ['a', 'c', 'd']);
    equal((await broken)[0].reason.message, 'boom');
});

timed('gather takes any number of functions that end at once', async ({ loop }) => {
    for (const options of [{}, { concurrency: 1 }]) {
        const all = loop.gather(Array.from({ length: 30_000 }, (_, n) => () => n), options);
        void all.ended();
        equal([all.error(), await loop.runUntilIdle(), all.result().length], [undefined, 0, 30_000]);
    }
});

timed('cancelling gather again asks the members again', async ({ loop, log }) => {
    const all = loop.gather([async (ctx) => {
        for (let n = 0; n < 2; n += 1) await ctx.sleep(100).catch((reason) => log.push(`${reason} ${loop.now()}`));
        await ctx.sleep(100);
    }]);
    const failed = rejection(all);
    for (const reason of ['a', 'b', 'c']) {
        all.cancel(reason);
        await loop.advance(1);
    }
    equal([log, await failed, all.state, loop.tasks()], [['a 0', 'b 1'], 'c', 'cancelled', []]);
});

timed('a gather that never begins is cancelled with its members, and has heard of their errors', async ({ loop, log }) => {
    const failing = () => Promise.reject(new Error('of a member'));
    const ways = {
        signal: (members) => loop.gather(members, { signal: AbortSignal.abort('why') }),
        next: (members) => {
            const all = loop.gather(members, { start: 'next' });
            all.cancel('why');
            return all;
        },
    };
    for (const [name, way] of Object.entries(ways)) {
        const member = loop.spawn((ctx) => ctx.sleep(10));
        const all = way([failing(), member, () => log.push('spawned')]);
        const failed = rejection(all);
        await loop.runUntilIdle();
        log.push([name, await failed, member.state, member.error()]);
    }
    equal(log, [['signal', 'why', 'cancelled', 'why'], ['next', 'why', 'cancelled', 'why']]);
});

timed('gather starts no function after a failure', async ({ loop, log }) => {
    const all = loop.gather([worker(log, 'a', 5, new Error('boom')), worker(log, 'b', 10), worker(log, 'c', 10)], { concurrency: 2 });
    const failed = rejection(all);
    await loop.runUntilIdle();
    equal([(await failed).message, log], ['boom', ['a: start', 'b: start', 'a: end', 'b: end']]);
});

// ---- wait

// Rows: F18, F19.
timed('wait splits into what is done and what is pending', async ({ loop, log }) => {
    const [a, b, c] = [loop.spawn(worker(log, 'a', 30)), loop.spawn(worker(log, 'b', 10)), loop.spawn(worker(log, 'c', 20, new Error('c')))];
    const first = loop.wait([a, b, c], { until: 'first-completed' });
    const error = loop.wait([a, b, c], { until: 'first-error' });
    const all = loop.wait([a, b, c]);
    const names = ({ done, pending }) => [[...done].map((task) => task.id - a.id), [...pending].map((task) => task.id - a.id)];
    await loop.runUntilIdle();
    equal([names(await first), names(await error), names(await all)], [[[1], [0, 2]], [[1, 2], [0]], [[0, 1, 2], []]]);
});

timed('wait gives what it has when its time is over, and cancels nothing', async ({ loop, log }) => {
    const [a, b] = [loop.spawn(worker(log, 'a', 10)), loop.spawn(worker(log, 'b', 30))];
    const waiting = loop.wait([a, b], { timeoutMs: 20 });
    await loop.advance(20);
    const { done, pending } = await waiting;
    equal([done.has(a), pending.has(b), b.state], [true, true, 'running']);
    await loop.runUntilIdle();
    equal(await b, 'b');
});

timed('wait is left by its signal, and leaves nothing behind', async ({ loop, log }) => {
    const task = loop.spawn(worker(log, 'a', 10));
    const controller = new AbortController();
    const waiting = rejection(loop.wait([task], { signal: controller.signal }));
    controller.abort('left');
    equal([await waiting, task.state], ['left', 'running']);
    equal(await loop.wait([]), { done: new Set(), pending: new Set() });
    await loop.runUntilIdle();
});

timed('a cancel reaches the task that a body returns, again and again', async ({ loop, log }) => {
    const inner = loop.spawn(async (ctx) => {
        for (let n = 0; n < 2; n += 1) await ctx.sleep(100).catch((reason) => log.push(reason));
        await ctx.sleep(100);
    });
    const outer = loop.spawn(() => inner);
    for (const reason of ['one', 'two', 'three']) {
        outer.cancel(reason);
        await loop.advance(1);
    }
    equal([log, outer.state, outer.error(), inner.state], [['one', 'two'], 'cancelled', 'three', 'cancelled']);
});

timed('asCompleted gives tasks as they end', async ({ loop, log }) => {
    const tasks = [30, 10, 20].map((ms) => loop.spawn(worker(log, `${ms}`, ms)));
    const seen = loop.spawn(async () => {
        const names = [];
        for await (const { task } of loop.asCompleted(tasks)) names.push(task.result());
        return names;
    });
    await loop.runUntilIdle();
    equal(await seen, ['10', '20', '30']);
});

timed('asCompleted ends by a TimeoutError when its time is over, which names the time that was given', async ({ loop, log }) => {
    const tasks = [10, 50].map((ms) => loop.spawn(worker(log, `${ms}`, ms)));
    const seen = loop.spawn(async () => {
        const names = [];
        try {
            for await (const { task } of loop.asCompleted(tasks, { timeoutMs: 20 })) names.push(task.result());
        } catch (error) {
            names.push(error.name, error.message);
        }
        return names;
    });
    await loop.runUntilIdle();
    equal([await seen, tasks[1].state], [['10', 'TimeoutError', 'The time of 20 ms is over.'], 'done']);
});

timed('leaving asCompleted early cancels nothing', async ({ loop, log }) => {
    const tasks = [10, 20].map((ms) => loop.spawn(worker(log, `${ms}`, ms)));
    const seen = loop.spawn(async () => {
        for await (const { task } of loop.asCompleted([...tasks, tasks[0]])) return task.result();
    });
    await loop.runUntilIdle();
    equal([await seen, tasks.map(({ state }) => state)], ['10', ['done', 'done']]);
});

timed('wait is met by tasks that have ended before', async ({ loop }) => {
    const tasks = [loop.spawn(() => 1), loop.spawn((ctx) => ctx.sleep(5)), loop.spawn(() => { throw new Error('early'); })];
    for (const until of ['first-completed', 'first-error']) {
        const { done, pending } = await loop.wait(tasks, { until });
        equal([done.size, pending.size], [2, 1], until);
    }
    const waiting = loop.wait([...tasks, tasks[0]], { timeoutMs: 0 });
    await loop.runUntilIdle();
    const { done, pending } = await waiting;
    equal([done.size, pending.size], [2, 1]);
});

// ---- Groups

// Rows: X12.
timed('a failure in a group cancels the others, and all have ended when it rejects', async ({ loop, log }) => {
    const whole = loop.withGroup(async (group, ctx) => {
        group.spawn(worker(log, 'a', 100));
        group.spawn(worker(log, 'b', 10, new Error('boom')));
        await ctx.sleep(1000);
    });
    whole.ended().then(() => log.push(`over ${loop.now()}`));
    await loop.runUntilIdle();
    const error = await rejection(whole);
    equal([error.name, error.code, error.errors.map(({ message }) => message), error instanceof AggregateError], ['GroupError', 'group-failed', ['boom'], true]);
    equal(log, ['a: start', 'b: start', 'b: end', 'a: AbortError', 'over 10']);
});

timed('a group gives what its body returns when all tasks have ended', async ({ loop, log }) => {
    const whole = loop.withGroup((group) => {
        group.spawn(worker(log, 'a', 20));
        return 'body';
    });
    equal(await loop.runUntilIdle(), 20);
    equal([await whole, log], ['body', ['a: start', 'a: end']]);
});

timed('the body of a group may be a generator', async ({ loop }) => {
    const task = loop.withGroup(function* (group, ctx) {
        yield* ctx.sleep(5);
        return yield* group.spawn(async (inner) => (await inner.sleep(5), 'both'));
    });
    await loop.runUntilIdle();
    equal([await task, loop.now()], ['both', 10]);
});

timed('an error of the body of a group cancels its tasks', async ({ loop, log }) => {
    const whole = loop.withGroup((group) => {
        group.spawn(worker(log, 'a', 100));
        throw new Error('body');
    });
    const failed = rejection(whole);
    equal(await loop.runUntilIdle(), 0);
    equal([(await failed).errors.map(String), log], [['Error: body'], ['a: start', 'a: AbortError']]);
});

timed('cancelling a group cancels its tasks and rejects with the reason', async ({ loop, log }) => {
    const whole = loop.withGroup((group, ctx) => {
        group.spawn(worker(log, 'a', 100));
        return ctx.sleep(50);
    });
    const reason = new Error('outside');
    whole.cancel(reason);
    await loop.runUntilIdle();
    equal([(await rejection(whole)) === reason, log], [true, ['a: start', 'a: Error']]);
});

timed('a group is cancelled again and again, until its body and its tasks end', async ({ loop, log }) => {
    const stubborn = (name, left) => async (ctx) => {
        while (left > 0) {
            try {
                await ctx.sleep(60_000);
            } catch (reason) {
                log.push(`${name}: ${reason}`);
                left -= 1;
                if (!left) throw reason;
            }
        }
    };
    const task = loop.withGroup(async (group, ctx) => {
        group.spawn(stubborn('child', 2));
        await stubborn('body', 3)(ctx);
    });
    for (const reason of ['one', 'two', 'three']) {
        equal([task.cancel(reason), task.done()], [true, false]);
        await loop.advance(1);
    }
    equal([log, task.state, task.error()], [['child: one', 'body: one', 'child: two', 'body: two', 'body: three'], 'cancelled', 'three']);
});

timed('an open group is closed once, and takes nothing after', async ({ loop, log }) => {
    const group = loop.group();
    group.spawn(worker(log, 'a', 10));
    equal(group.size, 1);
    const closed = group.close();
    await loop.runUntilIdle();
    await closed;
    equal([group.size, thrown(() => group.spawn(() => 1)).code], [0, 'invalid-state']);
});

timed('a group waits for what is spawned as its last task ends', async ({ loop, log }) => {
    const group = loop.group();
    const first = group.spawn(worker(log, 'a', 10));
    void first.then(() => group.spawn(worker(log, 'b', 10)));
    const closed = group.close().then(() => log.push('closed'));
    await loop.runUntilIdle();
    await closed;
    equal([log, thrown(() => group.spawn(() => 1)).code], [['a: start', 'a: end', 'b: start', 'b: end', 'closed'], 'invalid-state']);
});

timed('a failure in a group asks the others once, so that none is disturbed as it cleans up', async ({ loop, log }) => {
    const cleans = (ms, error) => async (ctx) => {
        try {
            await ctx.sleep(100);
        } finally {
            await ctx.sleep(ms);
            log.push(`cleaned in ${ms}`);
            if (error) throw error;
        }
    };
    const whole = loop.withGroup((group) => {
        group.spawn(cleans(5));
        group.spawn(cleans(1, new Error('second')));
        group.spawn(worker([], 'a', 10, new Error('first')));
    });
    const failed = rejection(whole);
    await loop.runUntilIdle();
    equal([(await failed).errors.map(String), log], [['Error: first', 'Error: second'], ['cleaned in 1', 'cleaned in 5']]);
});

timed('a task of a group that fails as it cleans up is told, also if the group was cancelled', async ({ loop }) => {
    const whole = loop.withGroup((group) => {
        group.spawn(async (ctx) => {
            try {
                await ctx.sleep(100);
            } catch {
                throw new Error('cleaning');
            }
        });
    });
    whole.cancel();
    const failed = rejection(whole);
    await loop.runUntilIdle();
    const error = await failed;
    equal([error.name, error.errors?.map(String), whole.state], ['GroupError', ['Error: cleaning'], 'failed']);
});

timed('a group is cancelled by its signal, and what comes later never begins', async ({ loop, log }) => {
    const controller = new AbortController();
    const group = loop.group({ signal: controller.signal });
    group.spawn(worker(log, 'a', 10));
    controller.abort('out');
    const late = group.spawn(worker(log, 'late', 10));
    equal([late.state, group.signal.reason], ['cancelled', 'out']);
    const closed = rejection(group.close());
    await loop.runUntilIdle();
    equal([await closed, log], ['out', ['a: start', 'a: undefined']]);
});

timed('await using closes a group', async ({ loop, log }) => {
    const group = loop.group();
    group.spawn(worker(log, 'a', 10));
    group.spawn(worker(log, 'b', 5, new Error('boom')));
    const closed = rejection(group[Symbol.asyncDispose]());
    await loop.runUntilIdle();
    const error = await closed;
    equal([error.name, error.cause.message, log.at(-1)], ['GroupError', 'boom', 'a: AbortError']);
});

timed('groups nest: a failure within cancels the group around it', async ({ loop, log }) => {
    const whole = loop.withGroup(async (outer) => {
        outer.spawn(worker(log, 'outer', 100));
        outer.spawn(() => loop.withGroup((inner) => { inner.spawn(worker(log, 'inner', 10, new Error('deep'))); }));
    });
    const failed = rejection(whole);
    await loop.runUntilIdle();
    const error = await failed;
    equal([error.name, error.errors[0].name, error.errors[0].errors[0].message, log.at(-1)], ['GroupError', 'GroupError', 'deep', 'outer: AbortError']);
});

// ---- Queues

// Rows: F40.
timed('takers are served in the order in which they came', async ({ loop, log, selkie }) => {
    const queue = new selkie.Queue(loop);
    for (const name of ['a', 'b', 'c']) void queue.take().then((item) => log.push(`${name} ${item}`));
    for (const item of [1, 2, 3]) await queue.put(item);
    equal(queue.tryTake(), undefined);
    await loop.runUntilIdle();
    equal(log, ['a 1', 'b 2', 'c 3']);
});

timed('a put waits while the queue is full', async ({ loop, log, selkie }) => {
    const queue = new selkie.Queue(loop, { capacity: 2 });
    const producer = loop.spawn(async () => {
        for (const item of [1, 2, 3, 4]) {
            await queue.put(item);
            log.push(`put ${item}`);
        }
    });
    await loop.runUntilIdle();
    equal([log, queue.size, queue.tryPut(9)], [['put 1', 'put 2'], 2, false]);
    equal(await queue.take(), 1);
    await loop.runUntilIdle();
    equal([log.at(-1), queue.size], ['put 3', 2]);
    equal([queue.tryTake(), queue.tryTake()], [{ value: 2 }, { value: 3 }]);
    await loop.runUntilIdle();
    equal(await producer, undefined);
    equal(queue.tryTake(), { value: 4 });
});

timed('a stack gives the last first, a priority queue the smallest', async ({ loop, selkie }) => {
    const drain = (queue) => Array.from({ length: queue.size }, () => queue.tryTake().value);
    const stack = new selkie.Queue(loop, { order: 'lifo' });
    for (const item of [1, 2, 3]) stack.tryPut(item);
    equal(drain(stack), [3, 2, 1]);
    const sorted = new selkie.Queue(loop, { order: 'priority' });
    for (const [item, priority] of [['e', 1e9], ['c', 0.5], ['d', 2], ['a', -3], ['b', -0.25], ['c2', 0.5]]) sorted.tryPut(item, { priority });
    equal(drain(sorted), ['a', 'b', 'c', 'c2', 'd', 'e']);
    equal(thrown(() => stack.tryPut(1, { priority: 1 })).argument, 'options.priority');
});

timed('a take that is given up loses no item', async ({ loop, log, selkie }) => {
    const queue = new selkie.Queue(loop);
    const controller = new AbortController();
    const first = rejection(queue.take({ signal: controller.signal }));
    void queue.take().then((item) => log.push(item));
    controller.abort('gone');
    await queue.put('kept');
    equal(await first, 'gone');
    await loop.runUntilIdle();
    equal(log, ['kept']);
});

timed('a put that is given up adds nothing', async ({ loop, selkie }) => {
    const queue = new selkie.Queue(loop, { capacity: 1 });
    await queue.put(1);
    const controller = new AbortController();
    const second = rejection(queue.put(2, { signal: controller.signal }));
    controller.abort('gone');
    equal(await second, 'gone');
    equal(await queue.take(), 1);
    await loop.runUntilIdle();
    equal(queue.size, 0);
});

timed('a put that is given up when its item was let in just before has been done', async ({ loop, selkie }) => {
    const queue = new selkie.Queue(loop, { capacity: 1 });
    await queue.put('a');
    const controller = new AbortController();
    const second = queue.put('b', { signal: controller.signal });
    equal(queue.tryTake(), { value: 'a' });
    controller.abort('gone');
    equal([await second, queue.tryTake(), queue.size], [undefined, { value: 'b' }, 0]);
});

timed('a closed queue gives what is there, and ends those who wait', async ({ loop, selkie }) => {
    const queue = new selkie.Queue(loop);
    for (const item of [1, 2]) await queue.put(item);
    queue.close();
    const seen = loop.spawn(async () => {
        const items = [];
        for await (const item of queue) items.push(item);
        return items;
    });
    const empty = new selkie.Queue(loop);
    const waiting = rejection(empty.take());
    empty.close();
    await loop.runUntilIdle();
    equal([await seen, (await waiting).code, (await rejection(queue.put(3))).name, queue.closed], [[1, 2], 'queue-closed', 'QueueClosedError', true]);
});

timed('join waits until all items are worked off', async ({ loop, log, selkie }) => {
    const queue = new selkie.Queue(loop);
    for (const item of [1, 2]) await queue.put(item);
    void queue.join().then(() => log.push('joined'));
    loop.spawn(async (ctx) => {
        for (let n = 0; n < 2; n += 1) {
            log.push(await queue.take());
            await ctx.sleep(10);
            queue.taskDone();
        }
    });
    await loop.runUntilIdle();
    equal([log, thrown(() => queue.taskDone()).code], [[1, 2, 'joined'], 'invalid-state']);
});

timed('a queue is a stream', async ({ loop, selkie }) => {
    const queue = new selkie.Queue(loop);
    for (const item of ['a', 'b']) await queue.put(item);
    queue.close();
    const reader = queue.toReadableStream().getReader();
    const read = [];
    for (let part = await reader.read(); !part.done; part = await reader.read()) read.push(part.value);
    equal(read, ['a', 'b']);
});

timed('a stream that is cancelled while it waits takes no item', async ({ loop, selkie }) => {
    const queue = new selkie.Queue(loop);
    const reader = queue.toReadableStream().getReader();
    const read = reader.read();
    await reader.cancel();
    queue.tryPut('kept');
    await loop.runUntilIdle();
    equal([(await read).done, queue.tryTake()], [true, { value: 'kept' }]);
});

timed('an immediate close drops the items, and the loop lives', async ({ loop, selkie }) => {
    const queue = new selkie.Queue(loop, { capacity: 2 });
    for (const item of [1, 2]) await queue.put(item);
    const third = rejection(queue.put(3));
    const joined = queue.join();
    queue.close({ immediate: true });
    await loop.runUntilIdle();
    await joined;
    equal([(await third).code, queue.size, thrown(() => queue.tryTake()).code, thrown(() => queue.tryPut(1)).code], ['queue-closed', 0, 'queue-closed', 'queue-closed']);
    // None of what was dropped is left to be worked off.
    equal([thrown(() => queue.taskDone()).code, await loop.spawn(() => 'alive')], ['invalid-state', 'alive']);
});

timed('an immediate close leaves an item to whom it was given before', async ({ loop, log, selkie }) => {
    const queue = new selkie.Queue(loop);
    void queue.take().then((item) => {
        log.push(item);
        queue.close({ immediate: true });
    });
    void queue.take().then((item) => log.push(item));
    for (const item of ['a', 'b', 'c']) queue.tryPut(item);
    await loop.runUntilIdle();
    equal([log, queue.size], [['a', 'b'], 0]);
});

timed('a queue says how many fit, and refuses a signal that was aborted before', async ({ loop, selkie }) => {
    const queue = new selkie.Queue(loop, { capacity: 2 });
    equal([queue.capacity, new selkie.Queue(loop).capacity, queue.closed], [2, Infinity, false]);
    const options = { signal: AbortSignal.abort('before') };
    equal([await rejection(queue.put(1, options)), await rejection(queue.take(options)), queue.size], ['before', 'before', 0]);
});

timed('an item that waited to be put can be worked off at once', async ({ loop, log, selkie }) => {
    const queue = new selkie.Queue(loop, { capacity: 1 });
    await queue.put('a');
    void queue.put('b');
    loop.spawn(function* (ctx) {
        for (let n = 0; n < 2; n += 1) {
            log.push(yield* ctx.wait(queue.take()));
            queue.taskDone();
        }
    });
    await loop.runUntilIdle();
    equal(log, ['a', 'b']);
});

// ---- Locks

timed('a lock is given in the order in which it was asked for', async ({ loop, log, selkie }) => {
    const lock = new selkie.Lock(loop);
    const release = await lock.acquire();
    const controller = new AbortController();
    for (const name of ['a', 'b', 'c']) {
        void lock.with(async () => { log.push(name); await loop.sleep(1); }, name === 'b' ? { signal: controller.signal } : {}).catch((why) => log.push(why));
    }
    equal([lock.locked, lock.tryAcquire()], [true, undefined]);
    controller.abort('b gave up');
    release();
    release();
    await loop.runUntilIdle();
    equal([log, lock.locked], [['b gave up', 'a', 'c'], false]);
});

timed('a semaphore lets so many in', async ({ loop, selkie }) => {
    const semaphore = new selkie.Semaphore(loop, 2);
    let [inside, most] = [0, 0];
    const all = loop.gather(Array.from({ length: 6 }, () => () => semaphore.with(async () => {
        most = Math.max(most, (inside += 1));
        await loop.sleep(10);
        inside -= 1;
    })));
    equal([await loop.runUntilIdle(), most, semaphore.available], [30, 2, 2]);
    await all;
});

timed('an event lets all pass once it is set', async ({ loop, log, selkie }) => {
    const event = new selkie.Event(loop);
    for (const name of ['a', 'b']) void event.wait().then(() => log.push(name));
    await loop.runUntilIdle();
    equal(log, []);
    event.set();
    await loop.runUntilIdle();
    equal([log, event.isSet], [['a', 'b'], true]);
    await event.wait();
    event.clear();
    equal((await rejection(event.wait({ signal: AbortSignal.abort('no') }))), 'no');
});

timed('a condition wakes as many as it is told to, with the lock held', async ({ loop, log, selkie }) => {
    const condition = new selkie.Condition(loop);
    for (const name of ['a', 'b', 'c']) {
        void condition.with(async () => {
            await condition.wait();
            log.push(`${name} ${condition.lock.locked}`);
        });
    }
    await loop.runUntilIdle();
    condition.notify(2);
    await loop.runUntilIdle();
    equal(log, ['a true', 'b true']);
    condition.notifyAll();
    await loop.runUntilIdle();
    equal([log.at(-1), condition.lock.locked, (await rejection(condition.wait())).code], ['c true', false, 'invalid-state']);
});

timed('a barrier lets all go when the last has come, or none', async ({ loop, selkie }) => {
    const barrier = new selkie.Barrier(loop, 3);
    const places = Promise.all([barrier.wait(), barrier.wait(), barrier.wait()]);
    await loop.runUntilIdle();
    equal((await places).sort(), [0, 1, 2]);
    const broken = rejection(barrier.wait());
    barrier.abort();
    await loop.runUntilIdle();
    equal([(await broken).code, barrier.broken], ['barrier-broken', true]);
});

timed('a permit is given back by `using`, and when the function fails', async ({ loop, selkie }) => {
    const semaphore = new selkie.Semaphore(loop, 1);
    const release = semaphore.tryAcquire();
    equal(semaphore.available, 0);
    release[Symbol.dispose]();
    equal(semaphore.available, 1);
    equal([(await rejection(semaphore.with(() => { throw new Error('within'); }))).message, semaphore.available], ['within', 1]);
});

timed('a condition is waited for until it holds', async ({ loop, log, selkie }) => {
    const condition = new selkie.Condition(loop, new selkie.Lock(loop));
    let value = 0;
    const waiting = condition.with(async () => {
        await condition.waitFor(() => value >= 2);
        log.push(value);
    });
    for (const next of [1, 2, 3]) {
        await loop.runUntilIdle();
        await condition.with(() => { value = next; condition.notifyAll(); });
        await loop.runUntilIdle();
    }
    await waiting;
    equal(log, [2]);
});

timed('who leaves a condition by its signal has the lock again', async ({ loop, selkie }) => {
    const condition = new selkie.Condition(loop);
    const controller = new AbortController();
    let locked;
    const waiting = condition.with(async () => {
        try {
            await condition.wait({ signal: controller.signal });
        } catch (why) {
            locked = condition.lock.locked;
            throw why;
        }
    });
    const failed = rejection(waiting);
    await loop.runUntilIdle();
    controller.abort('left');
    await loop.runUntilIdle();
    equal([await failed, locked, condition.lock.locked], ['left', true, false]);
});

timed('a wait for a condition that is left alone keeps no lock', async ({ loop, log, selkie }) => {
    const condition = new selkie.Condition(loop);
    const task = loop.spawn((ctx) => condition.with(() => ctx.wait(condition.wait())));
    void task.ended();
    await loop.runUntilIdle();
    task.cancel();
    await loop.runUntilIdle();
    equal([task.state, condition.lock.available], ['cancelled', 1]);
    condition.notifyAll();
    await loop.runUntilIdle();
    await condition.with(() => log.push('next'));
    equal([log, condition.lock.available], [['next'], 1]);
});

timed('a wait outside of its own `with` is refused, also when there was one before', async ({ loop, selkie }) => {
    const lock = new selkie.Lock(loop);
    const [one, other] = [new selkie.Condition(loop, lock), new selkie.Condition(loop, lock)];
    await other.with(() => {});
    equal([(await rejection(one.with(() => other.wait()))).code, lock.locked], ['invalid-state', false]);
});

timed('a second wait beside the first is refused, also while another has the lock', async ({ loop, selkie, log }) => {
    const condition = new selkie.Condition(loop);
    const waits = condition.with(async () => {
        const first = condition.wait();
        const other = await condition.lock.acquire();
        log.push((await rejection(condition.wait())).code);
        other();
        await first;
        log.push(condition.lock.locked);
    });
    await loop.advance(1);
    condition.notifyAll();
    await loop.advance(1);
    log.push(await Promise.race([waits, 'waits']));
    equal([log, condition.lock.locked], [['invalid-state', true, undefined], false]);
});

timed('a barrier serves round after round, and a reset sends only those away who wait', async ({ loop, selkie }) => {
    const barrier = new selkie.Barrier(loop, 2);
    for (let round = 0; round < 2; round += 1) {
        const places = Promise.all([barrier.wait(), barrier.wait()]);
        await loop.runUntilIdle();
        equal((await places).sort(), [0, 1], `round ${round}`);
    }
    const sent = rejection(barrier.wait());
    barrier.reset();
    await loop.runUntilIdle();
    const places = Promise.all([barrier.wait(), barrier.wait()]);
    await loop.runUntilIdle();
    equal([(await sent).code, (await places).length, barrier.broken, barrier.parties], ['barrier-broken', 2, false, 2]);
});

// ---- Arguments

timed('what cannot be meant is refused by name', async ({ loop, selkie }) => {
    const task = loop.spawn((ctx) => ctx.sleep(5));
    const cases = [
        ['ms', () => loop.sleep(-1)], ['ms', () => loop.sleep(NaN)], ['ms', () => loop.sleep(Infinity)], ['ms', () => loop.sleep('5')],
        ['ms', () => loop.later(-0.1, () => {})], ['f', () => loop.later(1)], ['f', () => loop.soon(7)], ['body', () => loop.spawn(loop.sleep(1))],
        ['body', () => loop.spawn()], ['body', () => loop.timeout(5)], ['ms', () => loop.timeout(-5, () => {})],
        ['options.timeout', () => loop.spawn(() => 1, { timeout: 5 })], ['options.timeoutMs', () => loop.spawn(() => 1, { timeoutMs: -5 })],
        ['options.priority', () => loop.spawn(() => 1, { priority: 3 })], ['options.start', () => loop.spawn(() => 1, { start: 'later' })],
        ['options.signal', () => loop.spawn(() => 1, { signal: 'x' })], ['options', () => loop.spawn(() => 1, 5)],
        ['members[1]', () => loop.gather([task, 5])], ['options.concurrency', () => loop.gather([], { concurrency: 0 })],
        ['tasks[0]', () => loop.wait([loop.sleep(0)])], ['tasks[1]', () => loop.asCompleted([task, 5])], ['ms', () => loop.interval(-1)], ['options.until', () => loop.wait([task], { until: 'some' })],
        ['options.capacity', () => new selkie.Queue(loop, { capacity: -1 })], ['options.capacity', () => new selkie.Queue(loop, { capacity: 1.5 })],
        ['options.order', () => new selkie.Queue(loop, { order: 'random' })], ['permits', () => new selkie.Semaphore(loop, -1)],
        ['loop', () => new selkie.Queue()], ['loop', () => new selkie.Queue({ capacity: 1 })], ['loop', () => new selkie.Semaphore(3)],
        ['loop', () => selkie.createPool(() => {})], ['loop', () => selkie.endpoint({})],
        ['parties', () => new selkie.Barrier(loop, 0)], ['spawn', () => selkie.createPool(loop, 'jobs.js')],
        ['options.max', () => selkie.createPool(loop, () => {}, { max: 0 })], ['port', () => selkie.connectLoop(loop, {})],
        ['functions', () => selkie.endpoint(loop)], ['options.name', () => loop.spawn(() => 1, { name: 7 })], ['options.toString', () => loop.spawn(() => 1, { toString: 1 })], ['options.signal', () => loop.sleep(1, { signal: null })],
        ['options.priority', () => new selkie.Queue(loop, { order: 'priority' }).tryPut(1, { priority: NaN })], ['options.timeoutMs', () => loop.wait([], { timeoutMs: Infinity })],
        ['options.ms', () => loop.group({ ms: 5 })], ['waiters', () => new selkie.Condition(loop).notify(-1)], ['options.min', () => selkie.createPool(loop, () => {}, { min: 2, max: 1 })],
        ['options.idleMs', () => selkie.createPool(loop, () => {}, { idleMs: -1 })], ['options.timeoutMs', () => loop.close({ timeoutMs: 'long' })],
        ['the `then` of what to wait for', () => loop.spawn((ctx) => ctx.wait(5)).result()], ['f', () => selkie.job(1)], ['module', () => selkie.createLoopSync({})],
    ];
    for (const [argument, f] of cases) {
        const error = thrown(f);
        equal([error.name, error.code, error.argument, error instanceof TypeError], ['ArgumentError', 'invalid-argument', argument, true], String(f));
    }
    equal((await rejection(selkie.createLoop({ sliceMs: 5 }))).argument, 'options.sliceMs');
    await loop.runUntilIdle();
});

timed('a body that is both async and a generator, or what a call of a generator gave, is refused', async ({ loop }) => {
    async function* both() {}
    function* one() {}
    const refused = [thrown(() => loop.spawn(both)), thrown(() => loop.timeout(5, both)), thrown(() => loop.withGroup(both)), thrown(() => loop.gather([both]))];
    equal(refused.map(({ message }) => message), Array(4).fill('body: async or a generator, not [object AsyncGeneratorFunction]'));
    equal([thrown(() => loop.spawn(one())).message, thrown(() => loop.spawn(both())).message].map((text) => text.includes('later, not [object ')), [true, true]);
});

timed('a member of a gather that no task could have is refused before any other begins', async ({ loop, log }) => {
    async function* both() {}
    const running = loop.spawn(worker(log, 'a', 10));
    equal(thrown(() => loop.gather([running, () => log.push('begun'), both], { concurrency: 1 })).message, 'body: async or a generator, not [object AsyncGeneratorFunction]');
    await loop.runUntilIdle();
    equal([running.state, log], ['done', ['a: start', 'a: end']]);
});

timed('what is refused is shown, whatever it is', async ({ loop, selkie }) => {
    const shown = [5n, '5', [], {}, Object.create(null), Symbol('s'), undefined, null, true, -1].map((value) => thrown(() => loop.sleep(value)).message.split('not ')[1]);
    equal(shown, ['[object BigInt]', '"5"', '[object Array]', '[object Object]', '[object Object]', '[object Symbol]', 'undefined', 'null', '[object Boolean]', '-1']);
    const { message } = thrown(() => new selkie.Queue(loop, { capacity: 2 ** 31 }));
    ok(message.includes('from 1 to 2147483647, not 2147483648'), message);
});

timed('a generator is told of a yield that means nothing', async ({ loop }) => {
    const task = loop.spawn(function* () { yield 5; });
    equal((await rejection(task)).argument, 'yield');
});

// ---- The end of a loop

test('close cancels all tasks, waits for them, and rejects what is left', async ({ selkie }) => {
    const loop = await selkie.createLoop();
    const log = [];
    const queue = new selkie.Queue(loop);
    const task = loop.spawn(async (ctx) => {
        try {
            await ctx.sleep(10_000);
        } finally {
            await loop.sleep(1).catch(() => {});
            log.push('cleaned');
        }
    });
    const stubborn = loop.spawn(() => new Promise(() => {}));
    const taking = rejection(queue.take());
    const closing = loop.close({ timeoutMs: 50 });
    ok(closing === loop.close(), 'once');
    await closing;
    equal([log, (await rejection(task)).code, (await rejection(stubborn)).code, (await taking).code, loop.closed], [['cleaned'], 'loop-closed', 'loop-closed', 'loop-closed', true]);
    for (const f of [() => loop.spawn(() => 1), () => loop.sleep(1), () => loop.soon(() => {}), () => loop.now(), () => queue.tryTake()]) equal(thrown(f).name, 'LoopClosedError', String(f));
});

test('what a task fails with as it cleans up is told, also if it was cancelled by the end of its loop or of a block', async ({ selkie }) => {
    const told = [];
    const loop = await selkie.createLoop({ onUnhandled: (error) => told.push(error) });
    const failing = (what) => loop.spawn(async (ctx) => {
        try {
            await ctx.sleep(60_000);
        } catch {
            throw what;
        }
    });
    await failing('block')[Symbol.asyncDispose]();
    failing('loop');
    failing('looked at').ended();
    await loop.close();
    await new Promise((resolve) => setTimeout(resolve, 20));
    equal(told, ['block', 'loop']);
});

test('what a body does after the end of its loop is refused, and meets no other loop', async ({ selkie }) => {
    const loop = await selkie.createLoop();
    let release;
    const refused = new Promise((resolve) => {
        loop.spawn(async (ctx) => {
            await new Promise((go) => (release = go));
            const errors = [];
            for (const f of [() => ctx.sleep(1), () => ctx.yield(), () => ctx.wait(Promise.resolve()), () => ctx.spawn(() => 1)]) errors.push(await rejection(new Promise((go) => go(f()))));
            resolve(errors);
        }).promise.catch(() => {});
    });
    await loop.close({ timeoutMs: 5 });
    // It has the instance of the closed one.
    const next = await selkie.createLoop();
    const order = [];
    next.later(1, () => order.push('mine'));
    release();
    equal((await refused).map(({ name }) => name), Array(4).fill('LoopClosedError'));
    await next.sleep(20);
    equal(order, ['mine']);
    await next.close();
});

test('nothing can be made on a closed loop', async ({ selkie }) => {
    const loop = await selkie.createLoop();
    const task = loop.spawn(() => 1);
    const lock = new selkie.Lock(loop);
    const queue = new selkie.Queue(loop);
    const release = await lock.acquire();
    await loop.close();
    for (const f of [() => new selkie.Queue(loop), () => new selkie.Semaphore(loop, 1), () => new selkie.Event(loop), () => selkie.createPool(loop, () => {}),
        () => selkie.endpoint(loop, {}), () => loop.gather([]), () => loop.withGroup(() => 1), () => loop.wait([task]), () => loop.timeout(1, () => 1), () => loop.later(1, () => {}),
        () => loop.interval(1), () => loop.asCompleted([task]), () => loop.group().spawn(() => 1), () => queue.tryPut(1), () => queue.size, () => lock.available]) {
        equal(thrown(f).code, 'loop-closed', String(f));
    }
    for (const f of [() => lock.acquire(), () => queue.put(1), () => queue.take(), () => queue.join()]) equal((await rejection(f())).code, 'loop-closed', String(f));
    // What only lets go is no error: it is done in `finally`.
    release();
    queue.close();
    await loop.close();
    equal([task.result(), loop.tasks()], [1, []]);
});

test('a signal closes the loop', async ({ selkie }) => {
    const controller = new AbortController();
    const loop = await selkie.createLoop({ signal: controller.signal });
    const task = loop.spawn((ctx) => ctx.sleep(10_000));
    controller.abort();
    equal([(await rejection(task)).code, loop.closed], ['loop-closed', true]);
});

test('a crash of the scheduler rejects all that lives, and another loop can be made', async ({ selkie, testing }) => {
    const loop = await selkie.createLoop();
    const queue = new selkie.Queue(loop);
    const lives = [loop.spawn((ctx) => ctx.sleep(1000)), loop.spawn(() => new Promise(() => {})), loop.spawn(function* (ctx) { yield* ctx.sleep(5000); }), loop.sleep(1000), queue.take(), loop.timeout(500, () => new Promise(() => {}))].map(rejection);
    testing.crash(loop);
    for (const error of await Promise.all(lives)) equal([error.name, error.code], ['LoopCrashedError', 'loop-crashed']);
    equal([thrown(() => loop.spawn(() => 1)).name, loop.closed], ['LoopCrashedError', true]);
    const other = await selkie.createLoop();
    equal(await other.spawn(async (ctx) => { await ctx.sleep(1); return 'alive'; }), 'alive');
    await loop.close();
    await other.close();
});

test('a task that ends with its loop tells what it has begun elsewhere, also if it had no turn for that', async ({ selkie, testing }) => {
    for (const [how, end] of Object.entries({ crash: testing.crash, close: (loop) => loop.close({ timeoutMs: 0 }) })) {
        const loop = await selkie.createLoop();
        const heard = [];
        const listens = (ctx) => new Promise(() => ctx.signal.addEventListener('abort', () => heard.push(ctx.signal.reason.name)));
        const tasks = [loop.spawn(listens), loop.spawn(function* (ctx) { yield* ctx.wait(listens(ctx)); })].map(rejection);
        await end(loop);
        const name = how === 'crash' ? 'LoopCrashedError' : 'LoopClosedError';
        equal([heard, (await Promise.all(tasks)).map((error) => error.name)], [[name, name], [name, name]], how);
    }
});

test('loops are made again and again, and one beside the other', async ({ selkie }) => {
    for (let round = 0; round < 20; round += 1) {
        const loops = await Promise.all([selkie.createLoop(), selkie.createLoop()]);
        equal(await Promise.all(loops.map((loop, n) => loop.spawn(async (ctx) => { await ctx.sleep(1); return n; }))), [0, 1]);
        await Promise.all(loops.map((loop) => loop.close()));
    }
});

test('wasm that is not there says so', async ({ selkie, address }) => {
    const html = new Response('<!doctype html>', { headers: { 'content-type': 'text/html' } });
    const error = await rejection(selkie.createLoop({ wasm: html }));
    equal([error.code, error.message.includes('HTML')], ['load-failed', true]);
    equal((await rejection(selkie.createLoop({ wasm: new Uint8Array([1, 2, 3]) }))).code, 'load-failed');
    const missing = await rejection(selkie.createLoop({ wasm: new URL('nowhere.wasm', address) }));
    equal([missing.code, missing.message.includes('nowhere.wasm')], ['load-failed', true]);
    const unknown = await rejection(selkie.createLoop({ wasm: 'nowhere:loop.wasm' }));
    equal([unknown.code, unknown.message.includes('nowhere:loop.wasm')], ['load-failed', true], unknown.message);
    // A module that is none of ours.
    const other = new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    for (const error of [await rejection(selkie.createLoop({ wasm: other })), thrown(() => selkie.createLoopSync(new WebAssembly.Module(other)))]) {
        equal([error.code, error.message.includes('version')], ['load-failed', true]);
    }
});

test('the WebAssembly is had from an address, a module and bytes', async ({ selkie, testing, bytes, address }) => {
    const module = await WebAssembly.compile(await bytes());
    const loops = [await selkie.createLoop({ wasm: address }), await selkie.createLoop({ wasm: module, name: 'mine' }), await selkie.createLoop({ wasm: await bytes() }), selkie.createLoopSync(module, { name: 'at once' }), await selkie.createLoop({ wasm: String(address) })];
    equal(loops.map(({ name }) => name), ['loop', 'mine', 'loop', 'at once', 'loop']);
    equal(await Promise.all(loops.map((loop, n) => loop.spawn(async (ctx) => { await ctx.sleep(1); return n; }))), [0, 1, 2, 3, 4]);
    await Promise.all(loops.map((loop) => loop.close()));
    for (const wasm of [address, String(address), module, await bytes()]) {
        const loop = await testing.createTestLoop({ wasm });
        equal(await loop.run(() => 5), 5);
        await loop.close();
    }
});

test('a task is told of each of its steps to an observer', async ({ testing }) => {
    const loop = await testing.createTestLoop();
    const log = [];
    const stop = loop.observe({ spawned: (task) => log.push(`+${task.name}`), stepped: (task, from, to) => log.push(`${task.name}${to >= from}`), ended: (task) => log.push(`-${task.state}`) });
    loop.spawn(function* (ctx) { yield* ctx.sleep(1); }, { name: 'a' });
    await loop.runUntilIdle();
    stop();
    loop.spawn(() => 1);
    equal(log, ['+a', 'atrue', '-done', 'atrue']);
    await loop.close();
});

timed('an observer is not told of the end of a task that was never made known to it', async ({ loop, log }) => {
    loop.observe({ spawned: (task) => log.push(`+${task.name}`), ended: (task) => log.push(`-${task.name}`) });
    loop.spawn(() => 1, { name: 'never', signal: AbortSignal.abort() });
    loop.spawn(() => 1, { name: 'a' });
    equal(log, ['+a', '-a']);
});

timed('an observer may cancel a task that is just made', async ({ loop, log }) => {
    const controller = new AbortController();
    const ways = { cancel: (task) => task.cancel(), abort: () => controller.abort(), close: () => void loop.close() };
    for (const [name, way] of Object.entries(ways)) {
        loop.observe({ spawned: way });
        const task = loop.spawn(() => log.push('body'), { name, signal: controller.signal });
        await rejection(task);
        log.push(`${name} ${task.state}`);
    }
    equal(log, ['cancel cancelled', 'abort cancelled', 'close cancelled']);
});

for (const what of ['spawned', 'stepped', 'ended']) {
    test(`an error of an observer in \`${what}\` is the page's, and the loop goes on`, async ({ selkie, uncaught }) => {
        const loop = await selkie.createLoop();
        const thrown = uncaught();
        const stop = loop.observe({ [what]: () => { throw new Error('of the observer'); } });
        equal(await loop.spawn(() => 1), 1);
        stop();
        equal((await thrown).message, 'of the observer');
        equal([await loop.spawn(() => 2), loop.tasks()], [2, []]);
        await loop.close();
    });
}

// ---- Virtual time

test('equal seeds give equal orders, other seeds others', async ({ testing }) => {
    const order = async (seed) => {
        const loop = await testing.createTestLoop({ seed });
        const log = [];
        for (let n = 0; n < 8; n += 1) loop.spawn(() => log.push(n), { start: 'next' });
        await loop.runUntilIdle();
        await loop.close();
        return log.join('');
    };
    equal(await order(3), await order(3));
    const orders = new Set(await Promise.all([1, 2, 3, 4, 5, 6].map(order)));
    ok(orders.size > 1, 'some seed gives another order');
    for (const one of orders) equal([...one].sort().join(''), '01234567');
});

test('a run that cannot go on names what waits', async ({ testing, selkie }) => {
    const loop = await testing.createTestLoop();
    loop.spawn(() => new selkie.Queue(loop).take(), { name: 'consumer' });
    const error = await rejection(loop.run(() => new Promise(() => {})));
    equal([error.code, error.message.includes('consumer') && error.message.includes('main')], ['deadlock', true]);
    let timer;
    const outside = await rejection(loop.run(() => new Promise((resolve) => (timer = setTimeout(resolve, 10_000)))));
    clearTimeout(timer);
    equal([outside.code, outside.message.includes('only the host')], ['deadlock', true]);
    equal(await loop.run(function* (ctx) { yield* ctx.sleep(86_400_000); return loop.now(); }), 86_400_000);
    await loop.close();
});

timed('a generator that yields until the host has done something sees it on virtual time too', async ({ loop }) => {
    const turns = await loop.run(function* (ctx) {
        let happened = false;
        setTimeout(() => (happened = true));
        let count = 0;
        while (!happened && count < 100_000) {
            yield* ctx.yield();
            count += 1;
        }
        return count;
    });
    ok(turns < 100_000, `${turns} turns without one of the host`);
});

// ---- Many

test('100,000 tasks end', async ({ selkie }) => {
    const loop = await selkie.createLoop();
    let sum = 0;
    const tasks = Array.from({ length: 100_000 }, () => loop.spawn(function* (ctx) { yield* ctx.yield(); sum += 1; }, { start: 'next' }));
    const { done } = await loop.wait(tasks);
    equal([sum, done.size, loop.tasks().length], [100_000, 100_000, 0]);
    await loop.close();
});

test('async bodies that work and yield let the host have its turns', async ({ selkie }) => {
    const loop = await selkie.createLoop();
    let over = false;
    let turns = 0;
    const turn = () => {
        turns += 1;
        if (!over) setTimeout(turn);
    };
    setTimeout(turn);
    const busy = (ms) => { for (const end = performance.now() + ms; performance.now() < end;); };
    // 400 ms of work, in parts that are short by themselves.
    await loop.gather(Array.from({ length: 20 }, () => async (ctx) => {
        for (let n = 0; n < 10; n += 1) {
            busy(2);
            await ctx.yield();
        }
    }));
    over = true;
    ok(turns >= 10, `${turns} turns of the host in 400 ms`);
    await loop.close();
});
