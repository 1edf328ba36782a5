// The tests in Node: `node test/node.mjs [FILTER]`.

import { copyFile, cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
// As a user has it: a package may import itself by name.
import * as selkie from 'selkie';
import * as testing from 'selkie/testing';
import { job } from 'selkie/worker';
import { tests as behaviour } from './behaviour.js';
import { equal, rejection, runAll } from './harness.js';
import { tests as pool } from './pool.js';

const host = {
    selkie, testing, job,
    worker: (name) => new Worker(new URL(`./workers/${name}.node.mjs`, import.meta.url)),
    listen: (worker, f) => worker.once('message', f),
    address: new URL('../dist/loop.wasm', import.meta.url),
    bytes: () => readFile(new URL('../dist/loop.wasm', import.meta.url)),
    uncaught: () => new Promise((resolve) => process.once('uncaughtException', resolve)),
};
// Only here can a collection be asked for.
setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc');

/** Resolves once of what `some` refer to nearly all has been collected. */
async function gone(loop, some, most = 1) {
    let kept = Infinity;
    // A collection that was under way has marked what it met before that ended, and the other side of a connection hears of its end
    // later. What is kept for good is there after any number.
    for (let tries = 0; tries < 500 && kept > most; tries += 1) {
        await loop.sleep(10);
        collect();
        kept = some.filter((one) => one.deref()).length;
    }
    // The engine may still have the last one at hand.
    equal(kept <= most, true, `${kept} of ${some.length} are kept`);
}

/** A task of the loop that goes on. */
const long = (loop) => loop.tasks().find(({ name }) => name === 'long') ?? loop.spawn((ctx) => ctx.sleep(60_000), { name: 'long' });

const KINDS = {
    eager: (loop) => loop.spawn(() => 1),
    async: (loop) => loop.spawn(async (ctx) => ctx.sleep(0)),
    generator: (loop) => loop.spawn(function* (ctx) { yield* ctx.yield(); }),
    failed: (loop) => loop.spawn(() => { throw new Error('expected'); }),
    cancelled: (loop) => {
        const task = loop.spawn((ctx) => ctx.sleep(60_000));
        task.cancel();
        return task;
    },
    'cancelled before it began': (loop) => {
        const task = loop.spawn(() => 1, { start: 'next' });
        task.cancel();
        return task;
    },
    'left alone by what it shields': (loop) => {
        const task = loop.spawn((ctx) => ctx.shield(long(loop)));
        task.cancel();
        return task;
    },
    'left alone by what it shields, stepwise': (loop) => {
        const task = loop.spawn(function* (ctx) { yield* ctx.shield(long(loop)); });
        task.cancel();
        return task;
    },
    gathered: (loop) => loop.gather([() => 1, async () => 2]),
};
const memory = Object.entries(KINDS).map(([kind, spawn]) => ({
    name: `a loop that goes on keeps no task that has ended: ${kind}`,
    async run() {
        const loop = await selkie.createLoop();
        const some = [];
        for (let i = 0; i < 100; i += 1) {
            const task = spawn(loop);
            some.push(new WeakRef(task));
            await task.ended();
        }
        await gone(loop, some);
        await loop.close();
    },
}));

const chain = {
    name: 'a task that is spawned by the one before it keeps none of those before that',
    async run() {
        const loop = await selkie.createLoop();
        const some = [];
        const next = async (ctx) => {
            some.push(new WeakRef(ctx.task));
            await ctx.sleep(0);
            if (some.length < 100) ctx.spawn(next);
            else await ctx.sleep(60_000);
        };
        loop.spawn(next);
        while (some.length < 100) await loop.sleep(1);
        await loop.sleep(10);
        // The last and its parent, and what the engine may have at hand of those before.
        await gone(loop, some, 10);
        const first = some.find((one) => one.deref());
        equal([some[99].deref().parent.id, first.deref().parent], [99, undefined]);
        await loop.close();
    },
};

const again = {
    name: 'a scheduler that could not be read is read again for the next loop',
    async run() {
        const folder = await mkdtemp(join(tmpdir(), 'selkie-'));
        try {
            const wasm = new URL('../dist/loop.wasm', import.meta.url);
            await cp(new URL('../dist/', import.meta.url), folder, { recursive: true, filter: (file) => !file.endsWith('.wasm') });
            await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
            const copy = await import(pathToFileURL(join(folder, 'node.js')));
            equal(await copy.createLoop().catch(({ code }) => code), 'load-failed');
            await copyFile(wasm, join(folder, 'loop.wasm'));
            const loop = await copy.createLoop();
            equal(await loop.spawn(() => 1), 1);
            await loop.close();
        } finally {
            await rm(folder, { recursive: true });
        }
    },
};

const required = {
    name: 'the package can be required, where Node can require ES modules',
    async run() {
        if (!process.features.require_module) return;
        const require = createRequire(import.meta.url);
        const loop = await require('selkie').createLoop();
        equal([await loop.spawn(() => 1), require('selkie') === selkie, require('selkie/testing') === testing], [1, true, true]);
        await loop.close();
    },
};

const connections = {
    name: 'a loop that goes on keeps no connection that has ended',
    async run() {
        const [loop, there] = [await selkie.createLoop(), await selkie.createLoop()];
        const some = [];
        for (let i = 0; i < 20; i += 1) {
            const functions = { one: () => 1 };
            some.push(new WeakRef(functions));
            const remote = selkie.connectLoop(loop, selkie.endpoint(there, functions));
            equal(await remote.submit('one', []), 1);
            remote.close();
        }
        await gone(loop, some);
        await Promise.all([loop.close(), there.close()]);
    },
};

const joins = {
    name: 'a task that goes on keeps no gather that has ended',
    async run() {
        const loop = await selkie.createLoop();
        const some = [];
        for (let i = 0; i < 50; i += 1) {
            const gathered = {};
            some.push(new WeakRef(gathered));
            const failing = loop.gather([long(loop), () => { throw gathered; }, () => gathered]);
            equal(await rejection(failing) === gathered, true);
        }
        await gone(loop, some);
        await loop.close();
    },
};

const refusals = {
    name: 'a task that refuses to end again and again keeps no reason',
    async run() {
        const loop = await selkie.createLoop();
        const some = [];
        let over = false;
        const task = loop.spawn(async (ctx) => {
            while (!over) {
                try {
                    await ctx.sleep(60_000);
                } catch {
                    ctx.task.uncancel();
                }
            }
        });
        for (let i = 0; i < 50; i += 1) {
            const reason = {};
            some.push(new WeakRef(reason));
            task.cancel(reason);
            await loop.sleep(1);
        }
        equal([task.state, task.cancelling()], ['running', 0]);
        await gone(loop, some);
        over = true;
        await loop.close();
    },
};

// Deep enough that this thread can write it, and one with so small a stack not read it.
const deep = () => Array.from({ length: 2000 }).reduce((inner) => [inner], 0);
const SMALL = { resourceLimits: { stackSizeMb: 0.5 } };
const unread = {
    name: 'an argument that cannot be read there fails its call alone',
    async run() {
        const loop = await selkie.createLoop();
        const pool = selkie.createPool(loop, () => new Worker(new URL('./workers/jobs.node.mjs', import.meta.url), SMALL), { max: 1, concurrencyPerWorker: 2 });
        const there = new Worker(new URL('./workers/loop.node.mjs', import.meta.url), SMALL);
        const remote = selkie.connectLoop(loop, await new Promise((resolve) => there.once('message', resolve)));
        for (const [slow, odd, next] of [
            [pool.run('wait', [100]), rejection(pool.run('later', [deep()])), pool.run('add', [1, 1])],
            [remote.submit('twice', [1]), rejection(remote.submit('twice', [deep()])), remote.submit('twice', [1])],
        ]) {
            const error = await odd;
            equal([error.name, error.code, error.message.includes('"')], ['WorkerError', 'not-cloneable', true], error.message);
            equal([['waited', 2].includes(await slow), await next], [true, 2]);
        }
        equal(pool.size, 1);
        pool.terminate();
        remote.close();
        await there.terminate();
        await loop.close();
    },
};

const results = await runAll([...behaviour, ...pool, ...memory, chain, joins, refusals, again, required, connections, unread], host, console.log, process.argv[2]);
const failed = results.filter(({ error }) => error).length;
console.log(`test result: ${failed ? 'FAILED' : 'ok'}. ${results.length - failed} passed; ${failed} failed; 0 ignored`);
process.exitCode = failed ? 1 : 0;
