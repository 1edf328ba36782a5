declare module '*/js/host.js' {
    interface Table {
        get(index: number): unknown;
    }
    export function attach(table: Table, memory: WebAssembly.Memory | undefined, turn: number, call: number): number;
    export function open(instance: number, slot: number): number;
    export function soon(handle: number): void;
    export function later(handle: number): void;
    export function disarm(handle: number): void;
    export function now(): number;
}

declare module '*/wasm.js' {
    const bytes: string;
    export default bytes;
}

/** What the build of the WebAssembly is called, by which it imports: another one cannot be used by mistake. */
declare const SELKIE_BUILD: string;
