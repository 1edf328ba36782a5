// The module of the scheduler: how it is loaded, what it imports, and what happens when it traps.
//
// An instance is one loop. That of a closed loop serves the next one.

import { attach, disarm, later as hop, now, open, report, soon } from '../../js/host.js';
import { LoopCrashedError, SelkieError } from './errors.js';

/** A `WebAssembly.Module`, where the compiler knows it: the types of Node alone do not. */
export type Module = typeof globalThis extends { WebAssembly: { Module: { prototype: infer M } } } ? M : object;

/** Where the scheduler's WebAssembly comes from. */
export type WasmSource = URL | string | Response | ArrayBuffer | ArrayBufferView | Module;

/** @internal */
export interface Exports {
    memory: WebAssembly.Memory;
    open(manual: number, seed: number): void;
    stop(): void;
    close(): number;
    turn(): number;
    now(): number;
    advance(ms: number): void;
    spawn(slot: number, priority: number, lazy: number): void;
    wake(slot: number): void;
    timer(slot: number, ms: number): void;
    soon(slot: number, priority: number): void;
    revoke(slot: number): void;
    release(id: number): void;
    queue(limit: number): number;
    try_put(id: number, item: number, order: number): number;
    put(slot: number, id: number, item: number, order: number): void;
    try_take(id: number): number;
    take(slot: number, id: number): void;
    task_done(id: number): void;
    join(slot: number, id: number): void;
    shut_down(id: number, immediate: number): void;
    len(id: number): number;
    semaphore(permits: number): number;
    try_acquire(id: number): number;
    acquire(slot: number, id: number): void;
    give(id: number): void;
    available(id: number): number;
    event(): number;
    condition(): number;
    barrier(parties: number): number;
    set(id: number, on: number): void;
    notify(id: number, count: number): void;
    break_barrier(id: number, forGood: number): void;
    wait_for(slot: number, id: number): void;
    trap(): void;
}

/** @internal What the scheduler calls. */
export interface Guest {
    step_(slot: number): number;
    dropped_(slot: number): void;
    fire_(slot: number, value: number): void;
    pend_(): void;
    crashed_(error: LoopCrashedError): void;
}

type Call = (...args: number[]) => number;

// So many turns by microtask, or resumed functions, go without a look at the clock.
const FREE = 4;
/** Three of them and the drawing fit into a frame of 60 Hz. */
export const SLICE = 5;

/** @internal */
export const settled = Promise.resolve();

/**
 * @internal
 *
 * Tells when there have been microtasks for longer than a slice. Nothing tells when the host's last macrotask was, so it
 * counts since the last one that it knows of, and at worst asks for one that was not needed.
 */
class Slice {
    count = 0;
    since = 0;

    isOver(): boolean {
        if (++this.count < FREE) return false;
        const now = performance.now();
        if (!this.since) this.since = now;
        return now - this.since > SLICE;
    }

    restart(): void {
        this.count = this.since = 0;
    }
}

/** Of the thread: whichever loop it was that the host was kept busy by. */
const slice = new Slice();

/** @internal */
export class Engine {
    wasm!: Exports;
    guest: Guest | undefined;
    private call!: Call;

    constructor(readonly module: WebAssembly.Module) {}

    /** What the module imports: ours by name, the host's from js/host.js, and what its generated glue would give. */
    imports(): WebAssembly.Imports {
        const ours: Record<string, unknown> = {
            // A loop that is closed or has crashed may still be given turns. Its tasks are over.
            step: (slot: number) => (this.guest ? this.guest.step_(slot) : -1),
            dropped: (slot: number) => this.guest?.dropped_(slot),
            fire: (slot: number, value: number) => this.guest?.fire_(slot, value),
            pend: () => this.guest?.pend_(),
        };
        const hosts: Record<string, unknown> = {
            disarm,
            later: hop,
            open,
            selkie_now: now,
            selkie_report: report,
            attach: (table: WebAssembly.Table, memory: WebAssembly.Memory, turn: number, call: number) => {
                this.call = table.get(call) as Call;
                const original = table.get(turn) as Call;
                const counted = (slot: number, task: number): number => {
                    if (task) slice.restart();
                    return original(slot, task);
                };
                return attach({ get: (index: number) => (index === turn ? counted : table.get(index)) }, memory, turn, call);
            },
            selkie_guard: (_: number, address: number) => {
                try {
                    this.call(address);
                    return 1;
                } catch (error) {
                    this.crash(error);
                    return 0;
                }
            },
            // The functions that a turn resumes run after it, in microtasks that it cannot measure.
            soon: (handle: number) => (slice.isOver() ? hop(handle) : soon(handle)),
        };
        const imports: Record<string, Record<string, unknown>> = {};
        for (const { module, name } of WebAssembly.Module.imports(this.module)) {
            const from = (imports[module] ??= {});
            if (module === 'selkie') from[name] = ours[name];
            else if (module.endsWith('host.js')) from[name] = hosts[name];
            // This instance is no worker of an isolated pool, and never asked to be one.
            else if (module.endsWith('isolated-worker.js')) from[name] = () => 0;
            else if (name.includes('function_table')) from[name] = () => this.table();
            else if (name.includes('memory')) from[name] = () => this.wasm.memory;
            else if (name.includes('throw')) {
                from[name] = () => {
                    throw new Error('the scheduler threw');
                };
            } else from[name] = () => {};
        }
        return imports as WebAssembly.Imports;
    }

    private table(): unknown {
        for (const [name, value] of Object.entries(this.wasm)) {
            if (value instanceof WebAssembly.Table && !name.includes('externref')) return value;
        }
        return undefined;
    }

    begin(instance: WebAssembly.Instance): this {
        const raw = instance.exports as Record<string, unknown>;
        const wrapped: Record<string, unknown> = {};
        for (const [name, value] of Object.entries(raw)) {
            wrapped[name] = typeof value === 'function' ? this.guarded(value as Call) : value;
        }
        this.wasm = wrapped as unknown as Exports;
        (raw['__wbindgen_start'] as () => void)();
        return this;
    }

    private guarded(call: Call): Call {
        // Bodies of tasks throw into JavaScript of ours. What comes out here is a trap.
        return (a, b, c, d) => {
            try {
                return call(a!, b!, c!, d!);
            } catch (error) {
                throw this.crash(error);
            }
        };
    }

    private crash(cause: unknown): unknown {
        const { guest } = this;
        if (!guest) return cause;
        this.guest = undefined;
        const error = new LoopCrashedError(cause);
        guest.crashed_(error);
        return error;
    }

    /** The loop is closed, and the instance as good as new. */
    give(): void {
        this.guest = undefined;
        const kept = spare.get(this.module);
        if (kept) kept.push(this);
        else spare.set(this.module, [this]);
    }
}

const spare = new WeakMap<WebAssembly.Module, Engine[]>();

/** @internal */
export function engineSync(module: WebAssembly.Module): Engine {
    const kept = spare.get(module)?.pop();
    if (kept) return kept;
    const engine = new Engine(module);
    return engine.begin(new WebAssembly.Instance(module, engine.imports()));
}

/** @internal */
export async function engineOf(source: WasmSource): Promise<Engine> {
    const module = await compile(source);
    const kept = spare.get(module)?.pop();
    if (kept) return kept;
    const engine = new Engine(module);
    return engine.begin(await WebAssembly.instantiate(module, engine.imports()));
}

const compiled = new Map<string, Promise<WebAssembly.Module>>();

/** @internal By address, once; a failure is tried again. */
export function compile(source: WasmSource): Promise<WebAssembly.Module> {
    if (!(typeof source === 'string' || source instanceof URL)) return load(source);
    const url = String(source);
    let module = compiled.get(url);
    if (!module) {
        module = load(url);
        compiled.set(url, module);
        module.catch(() => compiled.delete(url));
    }
    return module;
}

async function load(source: Exclude<WasmSource, URL>): Promise<WebAssembly.Module> {
    if (source instanceof WebAssembly.Module) return source;
    let where = 'the given bytes';
    try {
        let bytes: BufferSource;
        if (typeof source === 'string' || (typeof Response === 'function' && source instanceof Response)) {
            const response = typeof source === 'string' ? await fetch(source) : source;
            where = response.url || String(source);
            if (!response.ok) throw new Error(`the server answered ${response.status}`);
            if (response.headers.get('content-type')?.startsWith('application/wasm')) return await WebAssembly.compileStreaming(response);
            bytes = await response.arrayBuffer();
        } else bytes = source as BufferSource;
        const view = ArrayBuffer.isView(bytes) ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : new Uint8Array(bytes);
        if (view[0] === 0x3c) throw new Error('it is HTML: the server does not have the file, see "Bundlers" in the README');
        return await WebAssembly.compile(bytes);
    } catch (error) {
        const text = error instanceof Error ? error.message : String(error);
        throw new SelkieError('load-failed', `cannot load the scheduler from ${where}: ${text}`, error);
    }
}

// ---- Macrotasks of our own, by the hop that suits this host: to js/host.js they are one more loop.

const waiting: (() => void)[] = [];
let handle = -1;

/** @internal Calls `f` after the host had a chance to paint, react and deliver messages. */
export function later(f: () => void): void {
    if (handle < 0) {
        const turn = (): number => {
            slice.restart();
            for (const one of waiting.splice(0)) one();
            // Nothing further until the next call.
            return -3;
        };
        handle = open(attach({ get: () => turn }, undefined, 0, 0), 0);
    }
    if (waiting.push(f) === 1) hop(handle);
}

// ---- Functions that wait for a promise are resumed one after the other, with a look at the clock in between: all at
// once they would run in one row of microtasks, and the page could not paint before the last.

const resumptions: (() => void)[] = [];
let first = 0;
let draining = false;

/** @internal Calls `f`, which resolves promises, in its turn. */
export function resume(f: () => void): void {
    resumptions.push(f);
    if (draining) return;
    draining = true;
    drain();
}

/** @internal Whether any function waits for its turn: then the host is not quiet. */
export const isResuming = (): boolean => draining;

function drain(): void {
    if (first === resumptions.length) {
        resumptions.length = first = 0;
        draining = false;
        return;
    }
    if (slice.isOver()) return later(drain);
    const f = resumptions[first]!;
    resumptions[first++] = undefined!;
    f();
    // Behind what `f` has resumed.
    settled.then(drain);
}
