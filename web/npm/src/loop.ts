// The loop: makes tasks, keeps what the scheduler knows by number, and ends.

import { callable, options as check, runnable, signalOf, time } from './arguments.js';
import { type Engine, type Exports, type Guest, type Start, later, settled } from './engine.js';
import { LoopClosedError, type LoopCrashedError, type SelkieError, aborted, disposable, dispose, tell } from './errors.js';
import { Pause, type Undo } from './pause.js';
import { type Leaver, offAbort, onAbort } from './signals.js';
import { Slots } from './slots.js';
import { END, SPAWN, type Spawn, type SpawnOptions, type Step, Task, type TaskContext } from './task.js';
import {
    type GatherOptions,
    Group,
    type Member,
    type Results,
    type Settled,
    type WaitForOptions,
    asCompleted,
    gather,
    wait,
    withGroup,
} from './together.js';

export interface LoopOptions {
    name?: string;
    /** Closes the loop when it is aborted. */
    signal?: AbortSignal | undefined;
    /** Called with what a task failed with that nobody looked at, instead of the host's own report. */
    onUnhandled?: (error: unknown, task: Task<unknown>) => void;
}

/** Is told of each step of each task of a loop; times are those of `performance.now()`. */
export interface Observer {
    spawned?(task: Task<unknown>): void;
    /** A task had a turn. What an async function does after its first `await` is the host's to run, and not seen here. */
    stepped?(task: Task<unknown>, began: number, ended: number): void;
    ended?(task: Task<unknown>): void;
}

export interface WaitOptions {
    signal?: AbortSignal | undefined;
}

/** What ends once. */
interface Operation {
    fire_(value: number): void;
}

/** A longer delay wraps in setTimeout. */
const LONGEST = 0x7fffffff;

/** A callback that was scheduled. */
export interface Handle {
    /** Prevents the call; whether it had not begun. */
    cancel(): boolean;
    [Symbol.dispose](): void;
}

/** An event loop; from `createLoop`. Several may share a thread. */
export class Loop {
    readonly name: string;

    /** @internal */ wasm_: Exports;
    /** @internal */ running_: Task<unknown> | undefined;
    /** @internal */ observer_: Observer | undefined;
    /** @internal */ readonly onUnhandled_: LoopOptions['onUnhandled'];
    private readonly engine_: Engine;
    private readonly tasks_ = new Slots<Task<unknown>>();
    private readonly operations_ = new Slots<Operation>();
    /** @internal */ readonly pauses_ = new Set<Leaver>();
    private readonly signal_: AbortSignal | undefined;
    private ids_ = 0;
    /** Why nothing can be started any more. */
    private over_: SelkieError | undefined;
    private closing_: Promise<void> | undefined;
    private registry_: FinalizationRegistry<number> | undefined;

    /** @internal */
    constructor(engine: Engine, options: LoopOptions, manual?: { seed: number }) {
        this.engine_ = engine;
        this.wasm_ = engine.wasm_;
        this.name = options.name ?? 'loop';
        this.onUnhandled_ = options.onUnhandled;
        engine.guest_ = this satisfies Guest;
        disposable(this, () => this.close());
        this.wasm_.open_(manual ? 1 : 0, manual?.seed ?? -1);
        const { signal } = options;
        this.signal_ = signal;
        onAbort(signal, this);
    }

    /** @internal Its signal is aborted. */
    leave_(): void {
        void this.close();
    }

    /**
     * Starts `body` as a task: a function, which is called with a context. An async function, or a generator function, whose
     * every `yield*` the loop drives.
     *
     * Throws an ArgumentError for what is no function, as the promise of a function that was called already.
     */
    readonly spawn: Spawn = ((body: (context: never) => unknown, options?: SpawnOptions) => this.start_(body, options)) as Spawn;

    /** @internal */
    start_(body: (context: never) => unknown, options: SpawnOptions | undefined, parent?: Task<unknown>): Task<unknown> {
        runnable(body);
        return this.make_(body, check(options, SPAWN), parent);
    }

    /** @internal As above, with options that were looked at. */
    make_(body: (context: never) => unknown, options: SpawnOptions, parent?: Task<unknown>): Task<unknown> {
        this.check_();
        // Those that end may still wait, but start nothing.
        if (this.closing_) throw new LoopClosedError();
        return new Task(this, ++this.ids_, body, options, parent);
    }

    /** Waits for so many milliseconds: never less, and longer while the page is hidden. */
    sleep(ms: number, options?: WaitOptions): Promise<void> {
        time(ms, 'ms');
        return this.wait_(signalOf(options), this.wasm_.timer_, ms) as Promise<unknown> as Promise<void>;
    }

    /**
     * Gives 0, 1, 2, ... every so many milliseconds, the first after one period. What was missed is skipped: the number
     * tells which period it is.
     */
    interval(ms: number, options?: WaitOptions): AsyncGenerator<number, void, undefined> {
        time(ms, 'ms');
        signalOf(options);
        return this.ticks_(this.now(), ms, options);
    }

    private async *ticks_(start: number, ms: number, options: WaitOptions | undefined): AsyncGenerator<number, void, undefined> {
        for (let count = 0; ; count += 1) {
            const due = start + (count + 1) * ms;
            await this.sleep(Math.max(0, due - this.now()), options);
            if (ms > 0) count = Math.max(count, Math.floor((this.now() - start) / ms) - 1);
            yield count;
        }
    }

    /**
     * Calls `body` with a signal, and rejects with a TimeoutError if its promise takes longer than so many milliseconds.
     *
     * The signal is aborted then; what the body still does is not waited for. A task that has to have ended is one that was
     * spawned with `timeoutMs`.
     */
    timeout<T>(ms: number, body: (signal: AbortSignal) => T | PromiseLike<T>, options?: WaitOptions): Promise<T> {
        time(ms, 'ms');
        runnable(body);
        const controller = new AbortController();
        const start = (pause: Pause<T>): Undo => {
            pause.follow_(settled.then(() => body(controller.signal)));
            return (left, reason) => left && controller.abort(reason);
        };
        return this.pause_(signalOf(options), start, ms);
    }

    /** Calls `f` at the loop's next turn, in order with the tasks that are ready. */
    soon(f: () => void): Handle {
        return this.call_(f, this.wasm_.soon_, 1);
    }

    /** Calls `f` after so many milliseconds. Equal times are called in the order of the calls. */
    later(ms: number, f: () => void): Handle {
        time(ms, 'ms');
        return this.call_(f, this.wasm_.timer_, ms);
    }

    private call_(f: () => void, start: Start, how: number): Handle {
        callable(f, 'f');
        this.check_();
        // The slot serves others once this call was made.
        const call = { fire_: () => f() };
        const slot = this.operation_(call);
        start(slot, how);
        const cancel = (): boolean => this.operations_.list_[slot] === call && !this.revoke_(slot);
        return { cancel, [dispose]: cancel } as unknown as Handle;
    }

    /**
     * Waits for all members: tasks, promises, and functions, which are spawned. Gives what they returned, in their order.
     *
     * The first failure rejects, and the others go on; with `returnErrors` each result says how it ended. Of the functions
     * at most `concurrency` run at once. Cancelling the gather cancels the members.
     */
    gather<const M extends readonly Member[]>(members: M, options: GatherOptions & { returnErrors: true }): Task<Settled<M>>;
    gather<const M extends readonly Member[]>(members: M, options?: GatherOptions): Task<Results<M>>;
    gather(members: readonly Member[], options?: GatherOptions): Task<unknown> {
        return gather(this, members, options);
    }

    /**
     * Waits until one, or all, of the tasks have ended, or one has failed or was cancelled, and gives both sets in the order
     * of `tasks`. Cancels nothing, also when the time is over: then it gives what it has. What one that is pending then fails with
     * is reported, unless somebody looks at it.
     */
    wait<T extends Task<unknown>>(tasks: Iterable<T>, options?: WaitForOptions): Promise<{ done: Set<T>; pending: Set<T> }> {
        return wait(this, tasks, options);
    }

    /** Gives the tasks as they end, as `{ task }`. Leaving early cancels nothing; with `timeoutMs` it ends by a TimeoutError. */
    asCompleted<T extends Task<unknown>>(
        tasks: Iterable<T>,
        options?: WaitOptions & { timeoutMs?: number | undefined },
    ): AsyncGenerator<{ task: T }, void, undefined> {
        return asCompleted(this, tasks, options);
    }

    /** A group, for `await using`. It does not hear of an error of the block around it: `withGroup` does. */
    group(options?: WaitOptions): Group {
        return new Group(this, signalOf(options), this.running_);
    }

    /**
     * Calls `body` with a group and waits for all that it spawns. A failure, of the body or of a task, cancels the others, and
     * rejects with a GroupError when all have ended. Gives what the body returned.
     */
    withGroup<T>(body: (group: Group, context: TaskContext) => Generator<Step<unknown>, T, any>, options?: SpawnOptions): Task<T>;
    withGroup<T>(body: (group: Group, context: TaskContext) => T | PromiseLike<T>, options?: SpawnOptions): Task<T>;
    withGroup(body: (group: Group, context: TaskContext) => unknown, options?: SpawnOptions): Task<unknown> {
        return withGroup(this, body, options);
    }

    /** Milliseconds on the loop's clock: those of `performance.now()`, or virtual ones. */
    now(): number {
        this.check_();
        return this.wasm_.now_();
    }

    /** The tasks that have not ended, oldest first. */
    tasks(): Task<unknown>[] {
        const all = this.tasks_.list_.filter((task) => task && !task.done()) as Task<unknown>[];
        return all.sort((a, b) => a.id - b.id);
    }

    /** The task whose turn runs: within a step of a generator, and within an async function up to its first `await`. */
    get current(): Task<unknown> | undefined {
        return this.running_;
    }

    /** Whether `close` was called, or the scheduler has failed. */
    get closed(): boolean {
        return !!(this.over_ || this.closing_);
    }

    /** Tells `observer` of each step of each task; answers how to end that. One at a time. */
    observe(observer: Observer): () => void {
        this.observer_ = observer;
        return () => {
            if (this.observer_ === observer) this.observer_ = undefined;
        };
    }

    /**
     * Cancels all tasks, waits until they have ended but no longer than `timeoutMs` (10 s), and closes the loop.
     *
     * What has not ended by then, and what waits for anything of the loop, is rejected with a LoopClosedError. Idempotent.
     *
     * What a task fails with as it cleans up is reported as at any other time. One that awaits this itself is waited for until the
     * time is over.
     */
    close(options?: { timeoutMs?: number | undefined }): Promise<void> {
        const { timeoutMs = 10_000 } = check(options, { timeoutMs: time });
        return (this.closing_ ??= this.close_(timeoutMs));
    }

    declare readonly [Symbol.asyncDispose]: () => Promise<void>;

    private async close_(limit: number): Promise<void> {
        if (this.over_) return;
        const closed = new LoopClosedError();
        offAbort(this.signal_, this);
        const left = this.tasks();
        for (const task of left) task.cancel(closed);
        if (left.length) {
            let over: ReturnType<typeof setTimeout> | undefined;
            const tooLong = new Promise((resolve) => (over = setTimeout(resolve, Math.min(limit, LONGEST))));
            await Promise.race([Promise.all(left.map((task) => task.over_())), tooLong, this.quiet_()]);
            clearTimeout(over);
        }
        if (this.over_) return;
        this.over_ = closed;
        this.refuse_(closed);
        this.wasm_.stop_();
        while (this.engine_.guest_ && !this.wasm_.close_()) await new Promise<void>(later);
        if (this.engine_.guest_) this.engine_.give_();
    }

    /** @internal Virtual time has to be driven for tasks to end. */
    quiet_(): Promise<void> {
        return new Promise(() => {});
    }

    /** What nothing will come for any more. */
    private refuse_(error: SelkieError): void {
        for (const task of this.tasks()) task.lose_(error);
        this.tasks_.clear_();
        this.operations_.clear_();
        for (const one of [...this.pauses_]) one.leave_(error);
    }

    // ---- For the other parts of the package.

    /** @internal Whether the scheduler may be called. */
    get open_(): boolean {
        return !this.over_;
    }

    /** @internal */
    check_(): void {
        if (this.over_) throw this.over_;
    }

    /** @internal */
    adopt_(task: Task<unknown>): void {
        task.slot_ = this.tasks_.add_(task);
        tell(() => this.observer_?.spawned?.(task));
    }

    /** @internal */
    wake_(slot: number, why?: number): void {
        if (this.open_) this.wasm_.wake_(slot, why);
    }

    /** @internal A slot for an operation, which is told when it ends. */
    operation_(of: Operation): number {
        return this.operations_.add_(of);
    }

    /** @internal Whether it was done just before, for good. */
    revoke_(slot: number): boolean {
        if (!this.operations_.list_[slot]) return false;
        this.operations_.take_(slot);
        return this.open_ && this.wasm_.revoke_(slot) > 0;
    }

    /** @internal A promise that `start` has settled; see `Pause`. What it answers is called at the end. */
    pause_<T>(by: AbortSignal | Task<unknown> | undefined, start: (pause: Pause<T>) => Undo | void, ms = Infinity, late?: () => T): Promise<T> {
        this.check_();
        const signal = by as AbortSignal | undefined;
        if (signal?.aborted) return Promise.reject(signal.reason);
        return new Promise((resolve, reject) => {
            const pause = new Pause<T>(this, by, resolve, reject);
            pause.ms_ = ms;
            pause.late_ = late;
            pause.undo_ = start(pause);
            pause.begin_();
        });
    }

    /** @internal A promise for the answer of an operation, which `start`, one of the scheduler's functions, begins. */
    wait_(by: AbortSignal | Task<unknown> | undefined, start: Start, a: number, b?: number, c?: number): Promise<number> {
        return this.pause_(by, (pause) => {
            pause.slot_ = this.operation_(pause);
            start(pause.slot_, a, b, c);
        });
    }

    /** @internal Has the scheduler forget a thing when `owner` is gone. */
    own_(owner: object, id: number): void {
        this.registry_ ??= new FinalizationRegistry((one) => {
            if (this.open_) this.wasm_.release_(one);
        });
        this.registry_.register(owner, id);
    }

    // ---- What the scheduler calls.

    /** @internal */
    step_(slot: number): number {
        const next = this.tasks_.list_[slot]?.step_() ?? END;
        // It serves the next task; nobody wakes one that has ended.
        if (next === END) this.tasks_.take_(slot);
        return next;
    }

    /** @internal */
    dropped_(slot: number): void {
        const task = this.tasks_.take_(slot);
        if (task && !task.done()) task.end_('failed', this.over_ ?? aborted());
    }

    /** @internal */
    fire_(slot: number, value: number): void {
        tell(() => this.operations_.take_(slot)?.fire_(value));
    }

    /** @internal */
    pend_(): void {}

    /** @internal */
    crashed_(error: LoopCrashedError): void {
        this.over_ = error;
        offAbort(this.signal_, this);
        this.refuse_(error);
    }
}
