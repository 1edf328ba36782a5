// The entry for bundlers that know no assets, and for single files: the WebAssembly is in it as text.

import bytes from './wasm.js';
import { type Module, engineOf } from './engine.js';
import type { Loop } from './loop.js';
import { type CreateOptions, make } from './make.js';

export * from './core.js';

let module: Promise<Module> | undefined;

/** The scheduler's WebAssembly, compiled once. */
export function loopModule(): Promise<Module> {
    return (module ??= WebAssembly.compile(Uint8Array.from(atob(bytes), (character) => character.charCodeAt(0))));
}

/** Makes a loop. Nothing is fetched. */
export function createLoop(options?: CreateOptions): Promise<Loop> {
    return make(options, async (wasm) => engineOf(wasm ?? (await loopModule())));
}
