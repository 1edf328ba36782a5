// The entry for browsers, and for bundlers that follow `new URL(.., import.meta.url)`.

import { engineOf } from './engine.js';
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

/** Makes a loop. The WebAssembly is fetched once, beside this module or from `wasm`; importing this fetches nothing. */
export async function createLoop(options?: CreateOptions): Promise<Loop> {
    return make(options, async (wasm) => engineOf(wasm ?? new URL('./loop.wasm', import.meta.url)));
}
