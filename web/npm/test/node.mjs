// The tests in Node: `node test/node.mjs [FILTER]`.

import { copyFile, cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
// As a user has it: a package may import itself by name.
import * as selkie from 'selkie';
import * as testing from 'selkie/testing';
import { tests as behaviour } from './behaviour.js';
import { equal, runAll } from './harness.js';
import { tests as pool } from './pool.js';

const host = {
    selkie, testing,
    worker: (name) => new Worker(new URL(`./workers/${name}.node.mjs`, import.meta.url)),
    listen: (worker, f) => worker.once('message', f),
    address: new URL('../dist/loop.wasm', import.meta.url),
    bytes: () => readFile(new URL('../dist/loop.wasm', import.meta.url)),
    uncaught: () => new Promise((resolve) => process.once('uncaughtException', resolve)),
};
// Only here can a collection be asked for.
setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc');
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
        await loop.sleep(1);
        collect();
        const kept = some.filter((one) => one.deref()).length;
        // The engine may still have the last one at hand.
        equal(kept <= 1, true, `${kept} of 100 are kept`);
        await loop.close();
    },
}));

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

const results = await runAll([...behaviour, ...pool, ...memory, again], host, console.log, process.argv[2]);
const failed = results.filter(({ error }) => error).length;
console.log(`test result: ${failed ? 'FAILED' : 'ok'}. ${results.length - failed} passed; ${failed} failed; 0 ignored`);
process.exitCode = failed ? 1 : 0;
