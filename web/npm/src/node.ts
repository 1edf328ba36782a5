// The entry for Node, which fetches no files.

import { readFile } from 'node:fs/promises';
import { type Module, compile, engineOf } from './engine.js';
import { SelkieError } from './errors.js';
import type { Loop } from './loop.js';
import { type CreateOptions, make } from './make.js';

export * from './core.js';

let module: Promise<Module> | undefined;

async function read(file: URL): Promise<Uint8Array<ArrayBuffer>> {
    try {
        return await readFile(file);
    } catch (error) {
        throw new SelkieError('load-failed', `cannot load the scheduler from ${file}: ${(error as Error).message}`, error);
    }
}

/** Once; a failure is tried again. */
function ours(): Promise<Module> {
    if (!module) {
        module = read(new URL('./loop.wasm', import.meta.url)).then(compile);
        module.catch(() => (module = undefined));
    }
    return module;
}

/** Makes a loop. The WebAssembly is read once. */
export function createLoop(options?: CreateOptions): Promise<Loop> {
    return make(options, async (wasm) => {
        if (wasm === undefined) return engineOf(await ours());
        const address = String(typeof wasm === 'string' || wasm instanceof URL ? wasm : '');
        return engineOf(address.startsWith('file:') ? await read(new URL(address)) : wasm);
    });
}
