// Waiting for many tasks.

import { any, limit, options as check, runnable, signal, time } from './arguments.js';
import { ArgumentError, GroupError, SelkieError, aborted, disposable, timedOut } from './errors.js';
import type { Loop, WaitOptions } from './loop.js';
import type { Pause } from './pause.js';
import { offAbort, onAbort } from './signals.js';
import { type AsyncBody, type GeneratorBody, SPAWN, type Spawn, type SpawnOptions, Task, type TaskContext } from './task.js';

/** What `gather` takes: what is under way, or a function to spawn. */
export type Member = PromiseLike<unknown> | AsyncBody<unknown> | GeneratorBody<unknown>;

type Result<M> = M extends PromiseLike<infer T>
    ? T
    : M extends (...args: any[]) => infer R
      ? Returned<R>
      : never;

// What is `any` stays that.
type Returned<R> = 0 extends 1 & R ? R : R extends Generator<any, infer T, any> ? T : Awaited<R>;

export type Results<M extends readonly Member[]> = { -readonly [K in keyof M]: Result<M[K]> };

export type Settled<M extends readonly Member[]> = { -readonly [K in keyof M]: PromiseSettledResult<Result<M[K]>> };

export interface GatherOptions extends SpawnOptions {
    /** Give errors as results, in the form of `Promise.allSettled`. */
    returnErrors?: boolean;
    /** At most so many of the functions run at once. */
    concurrency?: number;
}

export interface WaitForOptions extends WaitOptions {
    /** What to wait for; `all` unless set. */
    until?: 'first-completed' | 'first-error' | 'all';
    timeoutMs?: number | undefined;
}

/** @internal */
export function gather(loop: Loop, members: readonly Member[], options: GatherOptions | undefined): Task<unknown> {
    const { returnErrors, concurrency = Infinity, ...spawn } = check(options, { ...SPAWN, returnErrors: any, concurrency: limit });
    const list = [...members];
    list.forEach((member, at) => {
        // Here, as one that begins when another member ends would be refused within the end of that.
        if (typeof member === 'function') runnable(member);
        else if (typeof (member as PromiseLike<unknown> | null)?.then !== 'function') {
            throw new ArgumentError(`members[${at}]`, 'a task, promise or function');
        }
    });
    const results: unknown[] = [];
    /** How to look away from each that runs: one may be a member twice. */
    const running = new Map<(() => void) | undefined, Task<unknown>>();
    let [next, busy, left, over] = [0, 0, list.length, false];
    let context: TaskContext | undefined;
    let ending: (() => void) | undefined;
    let resolve!: (value: unknown) => void;
    let reject!: (reason: unknown) => void;
    const all = new Promise((...both) => ([resolve, reject] = both));
    // The task tells of it, if it ever begins.
    all.catch(() => {});
    const settle = (at: number, ok: boolean) => (value: unknown): void => {
        if (!ok && !returnErrors) {
            over = true;
            return reject(value);
        }
        results[at] = !returnErrors ? value : ok ? { status: 'fulfilled', value } : { status: 'rejected', reason: value };
        if ((left -= 1) === 0 && !over) resolve(results);
    };
    const attend = (task: Task<unknown>, at: number, ours: number): void => {
        busy += ours;
        task.observed_ = true;
        let stop: (() => void) | undefined;
        stop = task.watch_(() => {
            busy -= ours;
            settle(at, task.state === 'done')(task.outcome_);
            // Not for one that has ended at once: that is within `more`.
            if (running.delete(stop)) more();
            if (!running.size) ending?.();
        });
        if (!task.done()) running.set(stop, task);
    };
    const more = (): void => {
        while (context && next < list.length && busy < concurrency && !over && !loop.closed) {
            const at = next++;
            const member = list[at];
            if (typeof member === 'function') attend(context.spawn(member as AsyncBody<unknown>), at, 1);
        }
    };
    list.forEach((member, at) => {
        if (member instanceof Task) attend(member, at, 0);
        // What is no promise may answer twice, or throw.
        else if (typeof member !== 'function') Promise.resolve(member).then(settle(at, true), settle(at, false));
    });
    const body = (given: TaskContext): unknown => {
        context = given;
        more();
        // Without members there is nothing that a turn would be for.
        return list.length ? all : results;
    };
    const task = loop.start_(body as (context: never) => unknown, { name: 'gather', ...spawn }, loop.running_);
    task.hold_({
        leave_(reason) {
            over = true;
            ending = () => reject(reason);
            for (const one of new Set(running.values())) one.cancel(reason);
            if (!running.size) ending();
        },
    });
    // Those that go on would keep it.
    task.onEnd_(() => running.forEach((_, stop) => stop!()));
    return task;
}

function tasksOf<T extends Task<unknown>>(tasks: Iterable<T>): T[] {
    const list = [...new Set(tasks)];
    list.forEach((task, at) => {
        if (!(task instanceof Task)) throw new ArgumentError(`tasks[${at}]`, 'a task: spawn the function, or use gather for promises');
    });
    return list;
}

/** Calls `f` with each task that has ended, and those that do. Answers how to end that: nobody looks at those that are left. */
function watch<T extends Task<unknown>>(list: T[], f: (task: T) => void): () => void {
    const ends = list.map((task) =>
        task.watch_(() => {
            task.observed_ = true;
            f(task);
        }),
    );
    return () => ends.forEach((end) => end());
}

/** @internal */
export function wait<T extends Task<unknown>>(
    loop: Loop,
    tasks: Iterable<T>,
    options: WaitForOptions | undefined,
): Promise<{ done: Set<T>; pending: Set<T> }> {
    const { until, timeoutMs, signal: by } = check(options, { until: ['first-completed', 'first-error', 'all'], timeoutMs: time, signal });
    const list = tasksOf(tasks);
    const split = () => ({ done: new Set(list.filter((task) => task.done())), pending: new Set(list.filter((task) => !task.done())) });
    let left = list.length;
    const start = (pause: Pause<ReturnType<typeof split>>): (() => void) => {
        if (!left) pause.give_(split());
        return watch(list, (task) => {
            left -= 1;
            if (pause.over_ || (left && until !== 'first-completed' && (until !== 'first-error' || task.state === 'done'))) return;
            pause.give_(split());
        });
    };
    return loop.pause_(by, start, timeoutMs, split);
}

/** @internal In an object each, as promises and `for await` would await a task that stood alone. */
export function asCompleted<T extends Task<unknown>>(
    loop: Loop,
    tasks: Iterable<T>,
    options: (WaitOptions & { timeoutMs?: number | undefined }) | undefined,
): AsyncGenerator<{ task: T }, void, undefined> {
    const { signal: by, timeoutMs = Infinity } = check(options, { signal, timeoutMs: time });
    const list = tasksOf(tasks);
    const deadline = loop.now() + timeoutMs;
    const ended: T[] = [];
    let waits: Pause<boolean> | undefined;
    const stop = watch(list, (task) => (ended.push(task), waits?.give_(false)));
    return (async function* () {
        try {
            for (const _ of list) {
                const left = Math.max(0, deadline - loop.now());
                // The error names the time that was given, and not what is left of it.
                if (!ended.length && (await loop.pause_(by, (pause) => void (waits = pause), left, () => true))) throw timedOut(timeoutMs);
                yield { task: ended.shift()! };
            }
        } finally {
            stop();
        }
    })();
}

/** Tasks that end together; from `loop.group` and `loop.withGroup`. */
export class Group {
    private readonly tasks_ = new Set<Task<unknown>>();
    private readonly errors_: unknown[] = [];
    private readonly controller_ = new AbortController();
    private closed_?: boolean;
    private left_: { reason: unknown } | undefined;

    /** @internal */
    constructor(
        private readonly loop_: Loop,
        private readonly by_: AbortSignal | undefined,
        private readonly parent_: Task<unknown> | undefined,
    ) {
        disposable(this, () => this.close());
        onAbort(by_, this);
    }

    /** @internal Its signal is aborted, or the task around it is cancelled. */
    leave_(reason: unknown): void {
        this.left_ = { reason };
        this.cancel(reason);
    }

    /** Aborted when the group is cancelled, or one of its tasks has failed. */
    get signal(): AbortSignal {
        return this.controller_.signal;
    }

    /** How many of its tasks have not ended. */
    get size(): number {
        return this.tasks_.size;
    }

    /** As `loop.spawn`. A task that is spawned after a failure is cancelled before it begins. */
    readonly spawn: Spawn = ((body: (context: never) => unknown, options?: SpawnOptions) => {
        if (this.closed_) throw new SelkieError('invalid-state', 'the group is closed');
        const aborting = this.signal.aborted;
        const task = this.loop_.start_(body, aborting ? { ...options, signal: this.signal } : options, this.parent_);
        task.observed_ = true;
        this.tasks_.add(task);
        task.onEnd_(() => {
            this.tasks_.delete(task);
            if (task.state === 'failed') {
                this.errors_.push(task.error());
                // Once: they may be cleaning up.
                if (!this.signal.aborted) this.cancel(new DOMException('A task of the group failed.', 'AbortError'));
            }
        });
        return task;
    }) as Spawn;

    /** Cancels all its tasks, and those that are spawned later. */
    cancel(reason: unknown = aborted()): void {
        if (!this.signal.aborted) this.controller_.abort(reason);
        for (const task of [...this.tasks_]) task.cancel(reason);
    }

    /**
     * Waits until all its tasks have ended. Rejects with a GroupError if any has failed, with the reason if it was cancelled.
     *
     * Neither one of its tasks nor the body of `withGroup` may await it: they would wait for themselves.
     */
    async close(): Promise<void> {
        // Also those that are spawned meanwhile. One that has ended is not in it any more.
        for (const task of this.tasks_) await task.ended();
        this.closed_ = true;
        offAbort(this.by_, this);
        if (this.errors_.length) throw new GroupError(this.errors_);
        if (this.signal.aborted) throw (this.left_ ?? this.signal).reason;
    }

    declare readonly [Symbol.asyncDispose]: () => Promise<void>;
}

/** @internal */
export function withGroup<T>(
    loop: Loop,
    body: (group: Group, context: TaskContext) => T | PromiseLike<T>,
    options: SpawnOptions | undefined,
): Task<T> {
    runnable(body);
    const run = async (context: TaskContext): Promise<T> => {
        const group = new Group(loop, undefined, context.task);
        // The body is one of the tasks: so a failure of another one cancels it, and it the others.
        const main = group.spawn((inner: TaskContext) => body(group, inner), { name: `${context.task.name}: body` });
        context.task.hold_(group);
        await group.close();
        return main.result();
    };
    return loop.start_(run as (context: never) => unknown, { name: 'group', ...options }, loop.running_) as Task<T>;
}
