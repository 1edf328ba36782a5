// The entry for Node, which fetches no files.

import { readFile } from 'node:fs/promises';
import { compile, engineOf } from './engine.js';
import { type CreateOptions, make } from './core.js';
import type { Loop } from './loop.js';

export type * from './core.js';
export {
    ArgumentError,
    Barrier,
    Condition,
    Event,
    Group,
    GroupError,
    Lock,
    Loop,
    LoopClosedError,
    LoopCrashedError,
    Pool,
    Queue,
    QueueClosedError,
    RemoteLoop,
    SelkieError,
    Semaphore,
    Task,
    WorkerError,
    connectLoop,
    createLoopSync,
    createPool,
    endpoint,
    job,
} from './core.js';

let module: Promise<WebAssembly.Module> | undefined;

async function ours(): Promise<WebAssembly.Module> {
    return compile(await readFile(new URL('./loop.wasm', import.meta.url)));
}

/** Makes a loop. The WebAssembly is read once. */
export async function createLoop(options?: CreateOptions): Promise<Loop> {
    return make(options, async (wasm) => engineOf(wasm ?? (await (module ??= ours()))));
}
