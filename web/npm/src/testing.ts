// Loops with virtual time, for tests.

import { any, options as check, refuse, time } from './arguments.js';
import { engineOf, isResuming } from './engine.js';
import type { Engine, WasmSource } from './engine.js';
import { SelkieError } from './errors.js';
import { Loop } from './loop.js';
import { type CreateOptions, LOOP } from './make.js';
import type { AsyncBody, GeneratorBody, Task } from './task.js';

export interface TestLoopOptions extends CreateOptions {
    /** Chooses the order of what is ready at the same time. Equal seeds give equal orders; without one it is first in, first out. */
    seed?: number;
}

/** After every turn the host's own work gets its chance: promises that tasks wait for, and messages. */
const quiet = (): Promise<void> =>
    new Promise((resolve) => {
        if (typeof setImmediate === 'function') setImmediate(resolve);
        else {
            const { port1, port2 } = new MessageChannel();
            port1.onmessage = () => (port1.close(), resolve());
            port2.postMessage(0);
        }
    });

/**
 * A loop whose time passes only when it is told to; from `createTestLoop`.
 *
 * The host's own work has its chance after every turn, but is not waited for: of a file, a Worker or a timer of the host that a task
 * waits for nothing is known here. Stand in for it, or test that with a loop of `createLoop`.
 */
export class TestLoop extends Loop {
    private wanted_ = true;
    private next_ = -1;
    private driving_: Promise<unknown> = Promise.resolve();
    private readonly seed_: number | undefined;

    /** @internal */
    constructor(engine: Engine, options: CreateOptions, seed: number | undefined) {
        super(engine, options, { seed: seed ?? -1 });
        this.seed_ = seed;
    }

    /** Lets so much virtual time pass, and all that is due in it run, each at its time. */
    advance(ms: number): Promise<void> {
        time(ms, 'ms');
        return this.drive_(async () => {
            const end = this.now() + ms;
            for (;;) {
                await this.settle_();
                if (this.closed || this.next_ < 0 || this.next_ > end) break;
                this.pass_(this.next_);
            }
            if (this.closed) return;
            this.pass_(end);
            await this.settle_();
        });
    }

    /** Runs until nothing is ready and nothing will be at any time; gives the virtual time that has passed. */
    runUntilIdle(): Promise<number> {
        return this.drive_(async () => {
            const start = this.now();
            await this.idle_(() => false);
            return this.closed ? 0 : this.now() - start;
        });
    }

    /** Runs `body` as a task to its end. Rejects with the tasks that wait if nothing can go on before. */
    run<T>(body: GeneratorBody<T>): Promise<T>;
    run<T>(body: AsyncBody<T>): Promise<T>;
    run<T>(body: AsyncBody<T> | GeneratorBody<T>): Promise<T>;
    run(body: AsyncBody<any> | GeneratorBody<any>): Promise<any> {
        return this.drive_(async () => {
            const task: Task<unknown> = this.spawn(body as AsyncBody<unknown>, { name: 'main' });
            task.observed_ = true;
            await this.idle_(() => task.done());
            if (task.done()) return task.promise;
            const seed = this.seed_ === undefined ? '' : ` (seed ${this.seed_})`;
            const names = this.tasks().map(({ name }) => name);
            const text = `nothing can go on${seed}; what waits: ${names.join(', ')}. What only the host can end, as a fetch, is not waited for`;
            throw new SelkieError('deadlock', text);
        });
    }

    /** One at a time: two that move the clock would disturb each other. */
    private drive_<T>(f: () => Promise<T>): Promise<T> {
        const result = this.driving_.then(f);
        this.driving_ = result.catch(() => {});
        return result;
    }

    private async idle_(done: () => boolean): Promise<void> {
        for (;;) {
            await this.settle_(done);
            if (this.closed || done() || this.next_ < 0) return;
            this.pass_(this.next_);
        }
    }

    private pass_(to: number): void {
        this.wasm_.advance_(to);
        this.wanted_ = true;
    }

    /** Runs what is ready at this time. */
    private async settle_(done: () => boolean = () => false): Promise<void> {
        const ready = (): boolean => this.wanted_ && !this.over() && !done();
        do {
            if (ready()) {
                this.wanted_ = false;
                this.next_ = this.wasm_.turn_();
                if (this.next_ === -1) this.wanted_ = true;
            }
            do await quiet();
            while (isResuming());
        } while (ready());
    }

    private over(): boolean {
        return this.closed && !this.tasks().length;
    }

    /** @internal */
    override pend_(): void {
        this.wanted_ = true;
    }

    /** @internal */
    override quiet_(): Promise<void> {
        return this.drive_(() => this.settle_());
    }
}

/** Makes a loop with virtual time, which starts at 0. */
export async function createTestLoop(options?: TestLoopOptions): Promise<TestLoop> {
    const whole = (value: unknown, name: string): unknown => (Number.isSafeInteger(value) && (value as number) >= 0) || refuse(name, 'a whole number from 0 on', value);
    const { wasm, seed, ...rest } = check(options, { wasm: any, ...LOOP, seed: whole });
    return new TestLoop(await engineOf(await had(wasm)), rest, seed);
}

async function had(wasm: WasmSource = new URL('./loop.wasm', import.meta.url)): Promise<WasmSource> {
    const address = String(typeof wasm === 'string' || wasm instanceof URL ? wasm : '');
    if (!address.startsWith('file:')) return wasm;
    // Node fetches no files. The name is put together, so that bundlers for the web leave it alone.
    const fs = (await import(/* @vite-ignore */ /* webpackIgnore: true */ ['node', 'fs/promises'].join(':'))) as typeof import('node:fs/promises');
    try {
        if (!modules.has(address)) modules.set(address, await WebAssembly.compile(await fs.readFile(new URL(address))));
        return modules.get(address)!;
    } catch (error) {
        throw new SelkieError('load-failed', `cannot load the scheduler from ${address}: ${(error as Error).message}`, error);
    }
}

const modules = new Map<string, WebAssembly.Module>();

/** Ends the loop as a failure of its scheduler would, for tests of what an application does then. */
export function crash(loop: Loop): void {
    loop.check_();
    try {
        loop.wasm_.trap_();
    } catch {
        // What was to be shown: every task is rejected with a LoopCrashedError by now.
    }
}
