// The entry for browsers, and for bundlers that follow `new URL(.., import.meta.url)`.

import { engineOf } from './engine.js';
import type { Loop } from './loop.js';
import { type CreateOptions, make } from './make.js';

export * from './core.js';

/** Makes a loop. The WebAssembly is fetched once, beside this module or from `wasm`; importing this fetches nothing. */
export function createLoop(options?: CreateOptions): Promise<Loop> {
    return make(options, (wasm) => engineOf(wasm ?? new URL('./loop.wasm', import.meta.url)));
}
