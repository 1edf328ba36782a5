// The entry for Node, which fetches no files.

import { readFile } from 'node:fs/promises';
import { compile, engineOf } from './engine.js';
import { make, type CreateOptions } from './core.js';
import type { Loop } from './loop.js';

export * from './core.js';

let module: Promise<WebAssembly.Module> | undefined;

async function ours(): Promise<WebAssembly.Module> {
    return compile(await readFile(new URL('./loop.wasm', import.meta.url)));
}

/** Makes a loop. The WebAssembly is read once. */
export async function createLoop(options?: CreateOptions): Promise<Loop> {
    return make(options, async (wasm) => engineOf(wasm ?? (await (module ??= ours()))));
}
