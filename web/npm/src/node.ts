// The entry for Node, which fetches no files.

import { readFile } from 'node:fs/promises';
import { type Module, compile, engineOf } from './engine.js';
import type { Loop } from './loop.js';
import { type CreateOptions, make } from './make.js';

export * from './core.js';

let module: Promise<Module> | undefined;

const ours = async (): Promise<Module> => compile(await readFile(new URL('./loop.wasm', import.meta.url)));

/** Makes a loop. The WebAssembly is read once. */
export function createLoop(options?: CreateOptions): Promise<Loop> {
    return make(options, async (wasm) => engineOf(wasm ?? (await (module ??= ours()))));
}
