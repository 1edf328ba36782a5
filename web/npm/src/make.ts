// Loops from options, whatever the entry.

import { type Rules, any, callable, options as check, signal, text } from './arguments.js';
import type { Engine, WasmSource } from './engine.js';
import { Loop, type LoopOptions } from './loop.js';

export interface CreateOptions extends LoopOptions {
    /** Where the WebAssembly is: an address, a response, its bytes, or a compiled module. */
    wasm?: WasmSource;
}

/** @internal */
export const LOOP: Rules = { name: text, signal, onUnhandled: callable };

/** @internal */
export async function make(options: CreateOptions | undefined, engine: (wasm: WasmSource | undefined) => Promise<Engine>): Promise<Loop> {
    const checked = check(options, { wasm: any, ...LOOP });
    return new Loop(await engine(checked.wasm), checked);
}
