// The entry for browsers, and for bundlers that follow `new URL(.., import.meta.url)`.

import { engineOf, type WasmSource } from './engine.js';
import { make, type CreateOptions } from './core.js';
import type { Loop } from './loop.js';

export * from './core.js';

/** Makes a loop. The WebAssembly is fetched once, beside this module or from `wasm`; importing this fetches nothing. */
export async function createLoop(options?: CreateOptions): Promise<Loop> {
    return make(options, async (wasm) => engineOf(wasm ?? new URL('./loop.wasm', import.meta.url)));
}
export type { WasmSource };
