// A task: a function that the scheduler runs step by step, with a state, an outcome, and a way to end it.

import { type Rules, callable, refuse, signal, text, time } from './arguments.js';
import { ArgumentError, SelkieError, aborted, asyncDispose, define, tell, timedOut } from './errors.js';
import type { Loop } from './loop.js';
import { SLICE, type Start, settled } from './engine.js';
import { type Leaver, offAbort, onAbort } from './signals.js';

/** How urgent a task's turns are: in front of all others; the default; when nothing else is ready, and now and then. */
export type Priority = 'user-blocking' | 'user-visible' | 'background';

/** `pending` until it has begun; a cancelled task is one that ended because it was asked to. */
export type TaskState = 'pending' | 'running' | 'done' | 'failed' | 'cancelled';

export interface SpawnOptions {
    /** For people; `task 7` unless set. */
    name?: string;
    priority?: Priority;
    /** Cancels the task when it is aborted, with the signal's reason. */
    signal?: AbortSignal | undefined;
    /** Cancels the task after so many milliseconds, with a DOMException named TimeoutError. */
    timeoutMs?: number | undefined;
    /** Whether the task begins within `spawn`, as async functions do, or at its first turn. Those of the background never begin at once. */
    start?: 'eager' | 'next';
}

/** What a generator task yields to the scheduler, by `yield*`. */
export interface Step<T> {
    [Symbol.iterator](): Iterator<Step<unknown>, T, unknown>;
}

/** What a body waits for: `await` it in an async function, `yield*` it in a generator function. */
export type Wait<T> = Promise<T> & Step<T>;

/**
 * What a body is called with. A cancel is raised where an async function awaits one of these, and in a generator function
 * at any `yield*`.
 */
export interface TaskContext {
    /** Aborted when the task is asked to end, with the reason. For `fetch` and everything else that takes one. */
    readonly signal: AbortSignal;
    readonly task: Task<unknown>;
    readonly loop: Loop;
    sleep(ms: number): Wait<void>;
    /** Lets the others run, and the page if it is time. */
    yield(): Wait<void>;
    /** Whether this task has run for so long that others, and the page, should get a turn. */
    shouldYield(): boolean;
    /**
     * Waits for a task, which is cancelled with this one, or for a promise, which is then left alone. So for that of a queue or a lock,
     * which would take what nobody has any more, hand in the signal as well: `ctx.wait(queue.take({ signal: ctx.signal }))`.
     */
    wait<T>(what: PromiseLike<T>): Wait<T>;
    /** Waits for a task without cancelling it with this one. */
    shield<T>(task: PromiseLike<T>): Wait<T>;
    /** As `loop.spawn`; the new task knows this one as its `parent`. */
    spawn: Spawn;
}

export type AsyncBody<T> = (context: TaskContext) => T | PromiseLike<T>;
export type GeneratorBody<T> = (context: TaskContext) => Generator<Step<unknown>, T, any>;

export interface Spawn {
    <T>(body: GeneratorBody<T>, options?: SpawnOptions): Task<T>;
    <T>(body: AsyncBody<T>, options?: SpawnOptions): Task<T>;
    <T>(body: AsyncBody<T> | GeneratorBody<T>, options?: SpawnOptions): Task<T>;
}

// What a step answers to the scheduler, beside a time.
/** @internal */
export const END = -1;
const YIELD = -2;
const WAIT = -3;

// Why a task is woken, unless to go on.
const REQUEST = 1;
const TAKEN_BACK = 2;

/** @internal */
export const PRIORITIES: readonly Priority[] = ['user-blocking', 'user-visible', 'background'];

/** @internal */
export const priorityOf = (priority: Priority = 'user-visible'): number => PRIORITIES.indexOf(priority);

/** @internal */
export const SPAWN: Rules = { name: text, priority: PRIORITIES, signal, timeoutMs: time, start: ['eager', 'next'] };

/** @internal What a generator yields beside tasks. */
class Request implements Step<unknown> {
    constructor(
        /** A time to sleep for, YIELD, or WAIT. */
        readonly what_: number,
        readonly on_?: PromiseLike<unknown>,
        readonly shield_?: boolean,
    ) {}

    *[Symbol.iterator](): Generator<Step<unknown>, unknown, unknown> {
        return yield this;
    }
}

const turn = new Request(YIELD);

/** The request that a task passes on just now: another object for each that is made. */
let passing: object | undefined;

/**
 * A function that the loop runs; from `loop.spawn`.
 *
 * `await task` gives what the body returned or throws what it threw; in a generator task `yield* task` does, and cancels it
 * if the waiting task is cancelled meanwhile. A task that fails and is never looked at is reported as an unhandled
 * rejection; a cancelled one is not.
 */
export class Task<T> implements PromiseLike<T>, Step<T> {
    readonly id: number;
    readonly name: string;
    readonly priority: Priority;
    /** The task that spawned it through its context. If that has ended, this one lets go of it when it spawns others. */
    readonly parent: Task<unknown> | undefined;

    /** @internal */ slot_ = -1;
    /** @internal */ observed_ = false;
    /** Who is told of the end: most tasks have one. */
    private waiters_: (() => void) | Set<() => void> | undefined;
    private state_: TaskState = 'pending';
    /** @internal */ outcome_: unknown;
    private body_: ((context: never) => unknown) | undefined;
    private context_: Context | undefined;
    private generator_: Generator<Step<unknown>, T, unknown> | undefined;
    /** What an async body's promise came to, or what a generator waits for: 0 for not yet, 1 for `input_`, 2 for throwing it. */
    private ready_ = 0;
    private input_: unknown;
    /** What ends by a cancel as well: the task that a generator waits for, or that an async body has returned. */
    private on_: Task<unknown> | undefined;
    /** Which wait it is, as the end of an earlier one is of no interest; called when it is left. */
    private left_: ((ready: number) => unknown) | undefined;
    /** It was asked to end, and has not been told. */
    private request_ = false;
    /** The body was told by its signal only: the next await of its context raises it. */
    private owed_ = false;
    private cancels_ = 0;
    private reason_: unknown;
    private round_: object | undefined;
    /** A body that cleans up may end with an earlier one. */
    private reasons_: unknown[] | undefined;
    private controller_: AbortController | undefined;
    /** What ends by a cancel. */
    /** @internal */ holds_: Set<Leaver> | undefined;
    private promise_: Promise<T> | undefined;
    private timer_ = -1;
    private by_: AbortSignal | undefined;
    private ms_: number | undefined;

    /** @internal */
    constructor(
        /** @internal */ readonly loop_: Loop,
        id: number,
        body: (context: never) => unknown,
        options: SpawnOptions,
        parent: Task<unknown> | undefined,
    ) {
        this.id = id;
        this.name = options.name ?? `task ${id}`;
        this.priority = options.priority ?? 'user-visible';
        this.parent = parent;
        // Those that end by spawning the next would keep all before them.
        if (parent?.parent?.done()) (parent as { parent: unknown }).parent = undefined;
        this.body_ = body;
        const { signal, timeoutMs } = options;
        if (signal?.aborted) {
            this.cancel(signal.reason);
            this.begin_();
            return;
        }
        loop_.adopt_(this);
        this.by_ = signal;
        this.ms_ = timeoutMs;
        onAbort(signal, this);
        if (timeoutMs !== undefined) {
            this.timer_ = loop_.operation_(this);
            loop_.wasm_.timer_(this.timer_, timeoutMs);
        }
        loop_.wasm_.spawn_(this.slot_, priorityOf(this.priority), options.start === 'next' ? 1 : 0);
    }

    /** @internal Its signal is aborted. */
    leave_(reason: unknown): void {
        this.cancel(reason);
    }

    /** @internal Its time is over. */
    fire_(): void {
        this.timer_ = -1;
        this.cancel(timedOut(this.ms_!));
    }

    get state(): TaskState {
        return this.state_;
    }

    /** Whether it has ended. */
    done(): boolean {
        return this.state_ !== 'pending' && this.state_ !== 'running';
    }

    /** What the body returned; throws what it threw, or the reason of the cancel. */
    result(): T {
        this.observed_ = true;
        if (this.state_ === 'done') return this.outcome_ as T;
        if (!this.done()) throw new SelkieError('invalid-state', `"${this.name}" has not ended: await it first`);
        throw this.outcome_;
    }

    /** Why it failed or was cancelled; `undefined` if it did not, or has not ended. */
    error(): unknown {
        this.observed_ = true;
        return this.state_ === 'done' ? undefined : this.outcome_;
    }

    /**
     * Asks the task to end; whether it had not.
     *
     * A request, raised at the task's next turn: from what it waits for, or where it awaits its context the next time. The
     * task ends when its body does, so that its `finally` blocks have run; a body that catches the reason goes on. One that
     * has not begun never does. What it awaits elsewhere hears of it by the context's `signal`.
     */
    cancel(reason: unknown = aborted()): boolean {
        if (this.done()) return false;
        // Among tasks that wait for one another it would go round for ever.
        if (passing && passing === this.round_) {
            // Those that have returned one another have nothing else that could end them.
            for (let one = this.on_, n = 1000; one && n--; one = one.on_) if (one === this) (this.left_?.(2) as any)?.(reason);
            return true;
        }
        this.round_ = passing ?? {};
        this.cancels_ += 1;
        this.reason_ = reason;
        (this.reasons_ ??= []).push(reason);
        if (!this.request_) {
            this.request_ = true;
            this.loop_.wake_(this.slot_, REQUEST);
        }
        return true;
    }

    /** How often it was asked to end, less the times that it has refused. */
    cancelling(): number {
        return this.cancels_;
    }

    /** Takes one request back, for a body that has caught it; the number that are left. */
    uncancel(): number {
        // The slot of one that has ended may be another's.
        if (this.cancels_ > 0 && --this.cancels_ === 0 && !this.done()) {
            this.request_ = this.owed_ = false;
            this.reason_ = this.reasons_ = undefined;
            // Or the wake for it would end what the task waits for.
            this.loop_.wake_(this.slot_, TAKEN_BACK);
        }
        return this.cancels_;
    }

    /** Aborted when the task is asked to end. */
    get signal(): AbortSignal {
        this.controller_ ??= new AbortController();
        if (this.cancels_ && !this.request_) this.controller_.abort(this.reason_);
        return this.controller_.signal;
    }

    /** The outcome as a promise. */
    get promise(): Promise<T> {
        this.observed_ = true;
        return (this.promise_ ??= new Promise((resolve, reject) => {
            this.onEnd_(() => (this.state_ === 'done' ? resolve : reject)(this.outcome_ as T));
        }));
    }

    // eslint-disable-next-line unicorn/no-thenable
    then<A = T, B = never>(
        fulfilled?: ((value: T) => A | PromiseLike<A>) | null,
        rejected?: ((reason: any) => B | PromiseLike<B>) | null,
    ): Promise<A | B> {
        return this.promise.then(fulfilled, rejected);
    }

    /** As that of promises. To wait for the end whatever it is, and not care why, there is `ended`. */
    catch<B = never>(rejected?: ((reason: any) => B | PromiseLike<B>) | null): Promise<T | B> {
        return this.promise.catch(rejected);
    }

    /** As that of promises: gives what the task gives, and rejects as it does. */
    finally(f?: (() => void) | null): Promise<T> {
        return this.promise.finally(f);
    }

    /** Cancels it and waits for its end, for `await using`. */
    declare readonly [Symbol.asyncDispose]: () => Promise<void>;

    /** Resolves when it has ended, however it did. */
    ended(): Promise<void> {
        this.observed_ = true;
        return this.over_();
    }

    /** @internal As `ended`, for who does not look at how it did. */
    over_(): Promise<void> {
        return new Promise((resolve) => this.onEnd_(resolve));
    }

    /** Waits for it in another generator task. */
    *[Symbol.iterator](): Generator<Step<unknown>, T, any> {
        return (yield this) as T;
    }

    /** @internal */
    onEnd_(f: () => void): void {
        const { waiters_ } = this;
        if (this.done()) f();
        else if (!waiters_) this.waiters_ = f;
        else if (typeof waiters_ === 'function') this.waiters_ = new Set([waiters_, f]);
        else waiters_.add(f);
    }

    /** @internal As `onEnd_`; answers how to undo that. */
    watch_(f: () => void): () => void {
        this.onEnd_(f);
        return () => {
            if (this.waiters_ === f) this.waiters_ = undefined;
            // A function has no such method.
            else (this.waiters_ as Set<() => void> | undefined)?.delete?.(f);
        };
    }

    // ---- What the scheduler calls.

    /** @internal */
    step_(): number {
        const { loop_ } = this;
        const outer = loop_.running_;
        loop_.running_ = this;
        const began = loop_.observer_ && performance.now();
        try {
            return this.generator_ ? this.advance_() : this.state_ === 'pending' ? this.begin_() : this.look_();
        } catch (error) {
            return this.fail_(error);
        } finally {
            loop_.running_ = outer;
            passing = undefined;
            if (began) tell(() => loop_.observer_?.stepped?.(this, began, performance.now()));
        }
    }

    private begin_(): number {
        if (this.request_) {
            this.deliver_();
            return this.end_('cancelled', this.reason_);
        }
        this.state_ = 'running';
        this.context_ = new Context(this);
        const made = this.body_!(this.context_ as never);
        this.body_ = undefined;
        if ((made as Generator | null)?.throw && (made as Generator)[Symbol.iterator]) {
            this.generator_ = made as Generator<Step<unknown>, T, unknown>;
            this.context_.stepwise_ = true;
            this.ready_ = 1;
            return this.advance_();
        }
        if (typeof (made as PromiseLike<T> | null)?.then !== 'function') return this.end_('done', made);
        if (made instanceof Task) this.on_ = made;
        this.listen_(made as PromiseLike<T>);
        return WAIT;
    }

    /** The turn of an async function: it has ended, or is asked to. */
    private look_(): number {
        if (this.ready_ === 1) return this.end_('done', this.input_);
        if (this.ready_ === 2) return this.fail_(this.input_);
        this.deliver_();
        return WAIT;
    }

    private advance_(): number {
        for (;;) {
            let turn: IteratorResult<Step<unknown>, T>;
            const { input_, ready_ } = this;
            this.input_ = undefined;
            this.ready_ = 1;
            if (this.request_) {
                this.left_ = void this.left_?.(0);
                this.deliver_();
                this.on_ = undefined;
                turn = this.generator_!.throw(this.reason_);
            } else turn = ready_ === 2 ? this.generator_!.throw(input_) : this.generator_!.next(input_);
            if (turn.done) return this.end_('done', turn.value);
            const step = turn.value;
            if (step instanceof Task && step !== this) {
                this.attend_(step);
                if (!this.ready_) return WAIT;
            } else if (step instanceof Request) {
                if (step.what_ !== WAIT) return step.what_;
                if (step.on_ instanceof Task) this.attend_(step.on_, step.shield_);
                // What is no promise may throw, or answer at once: then the wake would end what the generator waits for next.
                else this.listen_(Promise.resolve(step.on_!));
                if (!this.ready_) return WAIT;
            } else {
                this.ready_ = 2;
                this.input_ = new ArgumentError('yield', 'use `yield*` with another task or what the context gives');
            }
        }
    }

    /** Waits for another task, or takes its outcome if it has one. */
    private attend_(task: Task<unknown>, shield?: boolean): void {
        if (task.done()) return this.take_(task);
        this.ready_ = 0;
        if (!shield) this.on_ = task;
        this.left_ = task.watch_(() => {
            this.on_ = this.left_ = undefined;
            this.take_(task);
            this.loop_.wake_(this.slot_);
        });
    }

    /** Not before its end: what a task fails with that nobody waits for any more is not looked at. */
    private take_(task: Task<unknown>): void {
        task.observed_ = true;
        this.ready_ = task.state_ === 'done' ? 1 : 2;
        this.input_ = task.outcome_;
    }

    private listen_(promise: PromiseLike<unknown>): void {
        this.ready_ = 0;
        const settle = (ready: number) => (input: unknown) => {
            // What is no promise may answer twice.
            if (this.left_ !== settle) return;
            this.left_ = undefined;
            this.ready_ = ready;
            this.input_ = input;
            this.loop_.wake_(this.slot_);
        };
        this.left_ = settle;
        promise.then(settle(1), settle(2));
    }

    /** Tells the body, of either form, that it is asked to end. */
    private deliver_(): void {
        if (!this.request_) return;
        this.request_ = false;
        // What begins to wait as it hears of this is not asked. What refuses is, the next time.
        const holds = [...(this.holds_ ?? [])];
        passing = this.round_;
        this.controller_?.abort(this.reason_);
        this.on_?.cancel(this.reason_);
        this.owed_ = !holds.length && !this.generator_;
        holds.forEach((one) => one.leave_(this.reason_));
        passing = undefined;
    }

    /** @internal Its loop has ended before it: what it has begun elsewhere hears of that. */
    lose_(error: unknown): void {
        this.observed_ = true;
        this.cancel(error);
        this.deliver_();
        this.end_('failed', error);
    }

    private fail_(error: unknown): number {
        return this.end_(this.cancels_ && this.reasons_!.includes(error) ? 'cancelled' : 'failed', error);
    }

    /** @internal */
    end_(state: TaskState, outcome: unknown): number {
        this.state_ = state;
        this.outcome_ = outcome;
        this.body_ = this.generator_ = this.context_ = this.holds_ = this.on_ = this.left_ = undefined;
        offAbort(this.by_, this);
        this.loop_.revoke_(this.timer_);
        const waiters = this.waiters_;
        this.waiters_ = undefined;
        if (typeof waiters === 'function') waiters();
        else for (const one of waiters ?? []) one();
        if (state === 'failed' && !this.observed_) this.unhandled_();
        if (this.slot_ >= 0) tell(() => this.loop_.observer_?.ended?.(this));
        return END;
    }

    private unhandled_(): void {
        const { onUnhandled_ } = this.loop_;
        // Not before who spawned it had the chance to look: it may have failed within `spawn`.
        if (onUnhandled_) setTimeout(() => this.observed_ || onUnhandled_(this.outcome_, this));
        else void settled.then(() => this.observed_ || void this.promise);
    }

    /** @internal Ends by a cancel what a body awaits, until that is taken out of `holds_`. */
    hold_(one: Leaver): void {
        if (this.owed_) {
            this.owed_ = false;
            one.leave_(this.reason_);
        } else (this.holds_ ??= new Set()).add(one);
    }
}

define(Task.prototype, asyncDispose, function (this: Task<unknown>) {
    this.cancel();
    return this.over_();
});

/** @internal The context of both forms: which of them depends on what the body turned out to be. */
export class Context {
    stepwise_ = false;
    private since_ = 0;

    constructor(readonly task: Task<unknown>) {}

    get loop(): Loop {
        return this.task.loop_;
    }

    get signal(): AbortSignal {
        return this.task.signal;
    }

    spawn(body: (context: never) => unknown, options?: SpawnOptions): Task<unknown> {
        return this.loop.start_(body, options, this.task);
    }

    shouldYield(): boolean {
        const now = performance.now();
        return now - (this.since_ ||= now) >= SLICE;
    }

    sleep(ms: number): unknown {
        time(ms, 'ms');
        return this.pause_(new Request(ms), this.loop.wasm_.timer_, ms);
    }

    yield(): unknown {
        return this.pause_(turn, this.loop.wasm_.soon_, priorityOf(this.task.priority));
    }

    private pause_(request: Request, start: Start, how: number): unknown {
        this.since_ = 0;
        return this.stepwise_ ? request : this.loop.wait_(this.task, start, how);
    }

    wait(what: PromiseLike<unknown>, shield = false): unknown {
        callable(what?.then, 'the `then` of what to wait for');
        if (what === this.task) refuse('what to wait for', 'another task', what);
        if (this.stepwise_) return new Request(WAIT, what, shield);
        return this.loop.pause_(this.task, (pause) => {
            if (!(what instanceof Task)) return pause.follow_(what);
            const stop = what.watch_(() => pause.follow_(what));
            return (left, reason) => {
                stop();
                if (left && !shield) what.cancel(reason);
            };
        });
    }

    shield(what: PromiseLike<unknown>): unknown {
        return this.wait(what, true);
    }
}
