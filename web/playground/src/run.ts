// Runs a module: gives it the package, with loops that are watched, and a console that goes to the log.

import * as selkie from 'selkie';
import * as testing from 'selkie/testing';
import { type Surroundings, evaluate, place, told } from './evaluate';
import type { Level, Order } from './events';
import { line } from './inspect';
import { Recorder } from './recorder';

export interface Host {
    /** Makes what `new Worker(new URL("./name", import.meta.url))` stands for. */
    worker(name: string): Worker;
    guard(): void;
}

/** A run: from the call of the module until it has ended and nothing of it is left. */
export class Run {
    readonly recorder: Recorder;
    private timers = new Set<ReturnType<typeof setTimeout>>();
    private finished = false;
    private stopping = false;
    private check: ReturnType<typeof setInterval> | undefined;

    constructor(
        private readonly order: Order,
        private readonly host: Host,
        news: () => void,
    ) {
        this.recorder = new Recorder(performance.now(), news);
    }

    log(level: Level, values: readonly unknown[]): void {
        const at = this.recorder.now();
        const error = values.find((value) => value instanceof Error);
        const { file, line: number } = level === 'log' || !error ? { file: '', line: 0 } : place(error);
        this.recorder.add({ type: 'log', level, at, text: line(values), line: number, file });
    }

    /** Resolves when the module is over, with what it has thrown. */
    async start(): Promise<void> {
        const main = this.order.files[0]!;
        let error: unknown;
        let failed = false;
        try {
            await evaluate(main.name, main.code, this.surroundings());
        } catch (thrown) {
            failed = true;
            error = thrown;
        }
        // What it has left running is part of the run. Promises of the host are not known here: they get a moment.
        if (!failed) await this.rest();
        if (this.finished || this.stopping) return;
        this.finished = true;
        this.recorder.add({ type: 'over', at: this.recorder.now(), error: failed ? told(error) : undefined });
    }

    private rest(): Promise<void> {
        return new Promise((resolve) => {
            let quiet = 0;
            this.check = setInterval(() => {
                quiet = this.recorder.live === 0 && this.timers.size === 0 ? quiet + 1 : 0;
                if (quiet < 2 && !this.finished) return;
                clearInterval(this.check);
                resolve();
            }, 15);
        });
    }

    /** Asks all that is left to end. */
    async stop(timeoutMs: number): Promise<void> {
        this.stopping = true;
        for (const timer of this.timers) clearTimeout(timer);
        this.timers.clear();
        await Promise.all([...this.recorder.loops].map((loop) => loop.close({ timeoutMs })));
        this.finished = true;
        clearInterval(this.check);
    }

    private surroundings(): Surroundings {
        const { recorder, host } = this;
        const unhandled = (error: unknown, task: { name: string }): void => {
            const { text, file, line } = told(error);
            recorder.add({ type: 'log', level: 'error', at: recorder.now(), text: `Nobody handled that task "${task.name}" failed: ${text}`, file, line });
        };
        const $modules = {
            selkie: {
                ...selkie,
                createLoop: async (options: selkie.CreateOptions = {}) => recorder.watch(await selkie.createLoop({ onUnhandled: unhandled, ...options })),
                createLoopSync: (...args: Parameters<typeof selkie.createLoopSync>) => recorder.watch(selkie.createLoopSync(...args)),
                createPool: (...args: Parameters<typeof selkie.createPool>) => recorder.watchPool(selkie.createPool(...args)),
            },
            'selkie/testing': {
                ...testing,
                createTestLoop: async (options?: Parameters<typeof testing.createTestLoop>[0]) => recorder.watch(await testing.createTestLoop(options), true),
            },
            'selkie/worker': {},
        } as Record<string, object>;
        const console = { ...globalThis.console };
        for (const [name, level] of [['log', 'log'], ['info', 'log'], ['debug', 'log'], ['warn', 'warn'], ['error', 'error']] as const) {
            console[name] = (...values: unknown[]) => {
                if (!this.finished) this.log(level, values);
                globalThis.console[name](...values);
            };
        }
        const timer = (start: typeof setTimeout, once: boolean) => (f: (...args: unknown[]) => void, ms?: number, ...args: unknown[]): ReturnType<typeof setTimeout> => {
            const id = start(() => {
                if (once) this.timers.delete(id);
                f(...args);
            }, ms);
            this.timers.add(id);
            return id;
        };
        const clear = (id: ReturnType<typeof setTimeout>): void => {
            this.timers.delete(id);
            clearTimeout(id);
        };
        return {
            $modules,
            $import: async (name: string) => {
                const found = $modules[name];
                if (!found) throw new Error(`there is no module "${name}" here`);
                return found;
            },
            $meta: { url: 'file:///playground/main.js' },
            $guard: () => host.guard(),
            console,
            setTimeout: timer(setTimeout, true),
            setInterval: timer(setInterval as unknown as typeof setTimeout, false),
            clearTimeout: clear,
            clearInterval: clear,
            // A function, as it gives another object than its own.
            Worker: function (url: string | URL) {
                return host.worker(String(url).split('/').at(-1)!);
            },
        };
    }
}
