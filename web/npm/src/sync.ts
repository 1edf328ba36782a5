// Locks and their kin, fair: who came first is served first, and who gives up loses nothing.

import { callable, count, options as check } from './arguments.js';
import { SelkieError, dispose } from './errors.js';
import type { Loop, WaitOptions } from './loop.js';

/** Gives back what was acquired, once; also by `using`. */
export interface Release {
    (): void;
    [Symbol.dispose](): void;
}

/** A thing that the scheduler keeps. */
class Thing {
    protected readonly id_: number;

    /** @internal */
    constructor(
        protected readonly loop_: Loop,
        id: () => number,
    ) {
        loop_.check_();
        this.id_ = id();
        loop_.own_(this, this.id_);
    }
}

/** Lets so many in at once. */
export class Semaphore extends Thing {
    constructor(loop: Loop, permits: number) {
        count(permits, 'permits', 0);
        super(loop, () => loop.wasm_.semaphore(permits));
    }

    /** How many can be had without waiting. */
    get available(): number {
        this.loop_.check_();
        return this.loop_.wasm_.available(this.id_);
    }

    /** Waits for a permit; call the answer to give it back. */
    async acquire(options?: WaitOptions): Promise<Release> {
        return this.tryAcquire(options) ?? (await this.loop_.wait_(options, (slot) => this.loop_.wasm_.acquire(slot, this.id_)), this.release_());
    }

    /** A permit if one can be had at once. */
    tryAcquire(options?: WaitOptions): Release | undefined {
        const { signal } = check(options, 'signal');
        this.loop_.check_();
        signal?.throwIfAborted();
        return this.loop_.wasm_.try_acquire(this.id_) ? this.release_() : undefined;
    }

    /** Calls `f` with a permit held, also if it is async, and gives what it returns. */
    async with<T>(f: () => T | PromiseLike<T>, options?: WaitOptions): Promise<T> {
        callable(f, 'f');
        const release = await this.acquire(options);
        try {
            return await f();
        } finally {
            release();
        }
    }

    private release_(): Release {
        let held = true;
        const release = (): void => {
            if (!held) return;
            held = false;
            if (this.loop_.open_) this.loop_.wasm_.give(this.id_);
        };
        return Object.assign(release, { [dispose]: release }) as unknown as Release;
    }
}

/** Lets one in at a time. Not re-entrant. */
export class Lock extends Semaphore {
    constructor(loop: Loop) {
        super(loop, 1);
    }

    get locked(): boolean {
        return this.available === 0;
    }
}

/** A flag that tasks wait for. */
export class Event extends Thing {
    private set_ = false;

    constructor(loop: Loop) {
        super(loop, () => loop.wasm_.event());
    }

    get isSet(): boolean {
        return this.set_;
    }

    /** Wakes all who wait, and lets all pass until it is cleared. */
    set(): void {
        this.turn_(true);
    }

    clear(): void {
        this.turn_(false);
    }

    private turn_(on: boolean): void {
        this.loop_.check_();
        this.set_ = on;
        this.loop_.wasm_.set(this.id_, on ? 1 : 0);
    }

    async wait(options?: WaitOptions): Promise<void> {
        check(options, 'signal').signal?.throwIfAborted();
        this.loop_.check_();
        if (!this.set_) await this.loop_.wait_(options, (slot) => this.loop_.wasm_.wait_for(slot, this.id_));
    }
}

/** Waits for a change of what a lock protects. */
export class Condition extends Thing {
    readonly lock: Lock;
    private release_: Release | undefined;

    constructor(loop: Loop, lock: Lock = new Lock(loop)) {
        super(loop, () => loop.wasm_.condition());
        this.lock = lock;
    }

    /** Calls `f` with the lock held; within it `wait` and `waitFor` may be called. */
    with<T>(f: () => T | PromiseLike<T>, options?: WaitOptions): Promise<T> {
        callable(f, 'f');
        return this.held_(options, f);
    }

    private async held_<T>(options: WaitOptions | undefined, f: () => T | PromiseLike<T>): Promise<T> {
        this.release_ = await this.lock.acquire(options);
        try {
            return await f();
        } finally {
            this.release_();
        }
    }

    /**
     * Releases the lock, waits for a notification, and takes the lock again: within the function given to `with`.
     *
     * Rejected by its signal it has the lock again as well.
     */
    async wait(options?: WaitOptions): Promise<void> {
        const release = this.release_;
        if (!release || !this.lock.locked) throw new SelkieError('invalid-state', 'wait() is for within the function given to with()');
        check(options, 'signal').signal?.throwIfAborted();
        const notified = this.loop_.wait_(options, (slot) => this.loop_.wasm_.wait_for(slot, this.id_));
        release();
        try {
            await notified;
        } finally {
            this.release_ = await this.lock.acquire();
        }
    }

    /** Waits until `predicate` answers true: asked at once, and after each notification. */
    async waitFor(predicate: () => boolean, options?: WaitOptions): Promise<void> {
        callable(predicate, 'predicate');
        while (!predicate()) await this.wait(options);
    }

    /** Wakes so many of those who wait, in the order in which they came. */
    notify(waiters = 1): void {
        count(waiters, 'waiters', 0);
        this.loop_.check_();
        this.loop_.wasm_.notify(this.id_, waiters);
    }

    notifyAll(): void {
        this.notify(0x7fffffff);
    }
}

/** Where so many wait for each other. */
export class Barrier extends Thing {
    readonly parties: number;
    private broken_ = false;

    constructor(loop: Loop, parties: number) {
        count(parties, 'parties', 1);
        super(loop, () => loop.wasm_.barrier(parties));
        this.parties = parties;
    }

    get broken(): boolean {
        return this.broken_;
    }

    /** Waits until all have come, and gives the place of arrival, from 0 on. */
    async wait(options?: WaitOptions): Promise<number> {
        const place = await this.loop_.wait_(options, (slot) => this.loop_.wasm_.wait_for(slot, this.id_));
        if (place < 0) throw new SelkieError('barrier-broken', 'the barrier was broken or reset while it was waited for');
        return place;
    }

    /** Rejects those who wait; later ones meet anew. */
    reset(): void {
        this.loop_.check_();
        this.broken_ = false;
        this.loop_.wasm_.break_barrier(this.id_, 0);
    }

    /** Rejects those who wait, and all who come, until a `reset`. */
    abort(): void {
        this.loop_.check_();
        this.broken_ = true;
        this.loop_.wasm_.break_barrier(this.id_, 1);
    }
}
