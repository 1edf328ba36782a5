// The module of the scheduler: how it is loaded, what it imports, and what happens when it traps.
//
// An instance is one loop. That of a closed loop serves the next one.

import { attach, disarm, later as hop, now, open, soon } from '../../js/host.js';
import { LoopCrashedError, SelkieError } from './errors.js';

/** A `WebAssembly.Module`, where the compiler knows it: the types of Node alone do not. */
export type Module = typeof globalThis extends { WebAssembly: { Module: { prototype: infer M } } } ? M : object;

/** Where the scheduler's WebAssembly comes from. */
export type WasmSource = URL | string | Response | ArrayBuffer | ArrayBufferView | Module;

/** @internal The build gives the module's exports, and its imports, the short names that these become. */
export interface Exports {
    table_: WebAssembly.Table;
    start_(): void;
    open_(manual: number, seed: number): void;
    stop_(): void;
    close_(): number;
    turn_(): number;
    now_(): number;
    advance_(ms: number): void;
    spawn_(slot: number, priority: number, lazy: number): void;
    wake_(slot: number, why?: number): void;
    timer_(slot: number, ms: number): void;
    soon_(slot: number, priority: number): void;
    revoke_(slot: number): number;
    release_(id: number): void;
    queue_(limit: number): number;
    try_put_(id: number, item: number, order: number): number;
    put_(slot: number, id: number, item: number, order: number): void;
    try_take_(id: number): number;
    take_(slot: number, id: number): void;
    task_done_(id: number): number;
    join_(slot: number, id: number): void;
    shut_down_(id: number, immediate: number): void;
    len_(id: number): number;
    semaphore_(permits: number): number;
    try_acquire_(id: number): number;
    acquire_(slot: number, id: number): void;
    give_(id: number): void;
    available_(id: number): number;
    event_(): number;
    condition_(): number;
    barrier_(parties: number): number;
    set_(id: number, on: number): void;
    notify_(id: number, count: number): void;
    break_barrier_(id: number, forGood: number): void;
    wait_for_(slot: number, id: number): void;
    trap_(): void;
}

/** @internal A function of the scheduler that begins an operation. They need no `this`. */
export type Start = (slot: number, a: number, b?: any, c?: any) => void;

/** @internal What the scheduler calls. */
export interface Guest {
    step_(slot: number): number;
    dropped_(slot: number): void;
    fire_(slot: number, value: number): void;
    pend_(): void;
    crashed_(error: LoopCrashedError): void;
}

type Call = (...args: number[]) => number;

// So often the thread may have been idle, if it may have been.
const FREE = 4;
/** Three of them and the drawing fit into a frame of 60 Hz. */
export const SLICE = 5;

/** @internal */
export const settled = Promise.resolve();

// Since when the host has been kept from its own work, when that was last looked at, and how often it has looked like idleness in
// between: nothing tells that from long functions. So at worst a macrotask is asked for that was not needed. And how many macrotasks
// there were, as far as is known. Of the thread, whichever loop it was.
let since = 0;
let last = 0;
let idle = 0;
let tasks = 0;

/** @internal A macrotask has begun. */
export function restart(): void {
    idle = 0;
    tasks += 1;
    since = last = performance.now();
}

/** @internal */
export class Engine {
    wasm_!: Exports;
    guest_: Guest | undefined;

    constructor(readonly module_: WebAssembly.Module) {}

    /** What the module imports: ours, the host's from js/host.js, and what its generated glue would give. */
    imports_(): WebAssembly.Imports {
        if (WebAssembly.Module.imports(this.module_)[0]?.module !== SELKIE_BUILD) {
            throw new SelkieError('load-failed', 'loop.wasm is of another version');
        }
        let call: Call;
        return {
            [SELKIE_BUILD]: {
                // A loop that is closed or has crashed may still be given turns. Its tasks are over.
                step_: (slot: number) => this.guest_?.step_(slot) ?? -1,
                dropped_: (slot: number) => this.guest_?.dropped_(slot),
                fire_: (slot: number, value: number) => this.guest_?.fire_(slot, value),
                pend_: () => this.guest_?.pend_(),
                disarm_: disarm,
                later_: hop,
                open_: open,
                selkie_now_: now,
                attach_: (_table: 0, _memory: 0, turn: number, f: number) => {
                    call = this.wasm_.table_.get(f) as Call;
                    const original = this.wasm_.table_.get(turn) as Call;
                    let seen = 0;
                    const counted = (slot: number, task: number): number => {
                        if (task) restart();
                        // One that a message has begun counts as well: after a slice the scheduler would ask for one of its own.
                        const begun = tasks - seen;
                        seen = tasks;
                        return original(slot, begun);
                    };
                    // Only the turn is asked for: `call` is for the host's own `selkie_guard_`, and here is another.
                    return attach({ get: () => counted }, undefined, 0, 0);
                },
                selkie_guard_: (_: number, address: number) => {
                    try {
                        call(address);
                        return 1;
                    } catch (error) {
                        this.crash_(error);
                        return 0;
                    }
                },
                soon_: soon,
                // All else that it imports, and never needs: tools/build.mjs has the list.
                idle_: () => 0,
            },
        };
    }

    begin_(instance: WebAssembly.Instance): this {
        const wrapped: Record<string, unknown> = {};
        for (const [name, value] of Object.entries(instance.exports)) {
            wrapped[name] = typeof value === 'function' ? this.guarded_(value as Call) : value;
        }
        this.wasm_ = wrapped as unknown as Exports;
        this.wasm_.start_();
        return this;
    }

    private guarded_(call: Call): Call {
        // Bodies of tasks throw into JavaScript of ours. What comes out here is a trap.
        return (a, b, c, d) => {
            try {
                return call(a!, b!, c!, d!);
            } catch (error) {
                throw this.crash_(error);
            }
        };
    }

    private crash_(cause: unknown): unknown {
        const { guest_ } = this;
        if (!guest_) return cause;
        this.guest_ = undefined;
        const error = new LoopCrashedError(cause);
        guest_.crashed_(error);
        return error;
    }

    /** The loop is closed, and the instance as good as new. */
    give_(): void {
        this.guest_ = undefined;
        const all = spare.get(this.module_) ?? [];
        all.push(this);
        spare.set(this.module_, all);
    }
}

const spare = new WeakMap<WebAssembly.Module, Engine[]>();

/** @internal */
export function engineSync(module: WebAssembly.Module): Engine {
    const engine = new Engine(module);
    return spare.get(module)?.pop() ?? engine.begin_(new WebAssembly.Instance(module, engine.imports_()));
}

/** @internal */
export async function engineOf(source: WasmSource): Promise<Engine> {
    const module = await compile(source);
    const engine = new Engine(module);
    // Not as above: some browsers refuse that in a page.
    return spare.get(module)?.pop() ?? engine.begin_(await WebAssembly.instantiate(module, engine.imports_()));
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
    let where = 'bytes';
    try {
        if (typeof source !== 'string' && !(source instanceof Response)) return await WebAssembly.compile(source as BufferSource);
        const response = typeof source === 'string' ? await fetch((where = source)) : source;
        where = response.url || where;
        if (!response.ok) throw new Error(`the server answered ${response.status}`);
        if (response.headers.get('content-type')?.startsWith('application/wasm')) return await WebAssembly.compileStreaming(response);
        const bytes = await response.arrayBuffer();
        if (new Uint8Array(bytes)[0] === 0x3c) throw new Error('it is HTML: see "Bundlers" in the README');
        return await WebAssembly.compile(bytes);
    } catch (error) {
        throw new SelkieError('load-failed', `cannot load the scheduler from ${where}: ${(error as Error)?.message ?? error}`, error);
    }
}

// ---- Macrotasks of our own, by the hop that suits this host: to js/host.js they are one more loop.

const waiting: (() => void)[] = [];
let handle = -1;

/** @internal Calls `f` after the host had a chance to paint, react and deliver messages. */
export function later(f: () => void): void {
    if (handle < 0) {
        const turn = (): number => {
            restart();
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

// In pairs.
const resumptions: unknown[] = [];
let first = 0;
let draining = false;

/** @internal Calls `resolve`, which is that of a promise, in its turn. */
export function resume<T>(resolve: (value: T) => void, value: T): void {
    resumptions.push(resolve, value);
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
    const time = performance.now();
    if (time - last > SLICE && ++idle < FREE) since = time;
    last = time;
    if (time - since > SLICE) return later(drain);
    const resolve = resumptions[first] as (value: unknown) => void;
    const value = resumptions[first + 1];
    resumptions[first] = resumptions[first + 1] = undefined;
    first += 2;
    resolve(value);
    // Behind what that has resumed.
    settled.then(drain);
}
