// Locks and their kin, fair: who came first is served first, and who gives up loses nothing.

import { callable, count, signalOf } from './arguments.js';
import { SelkieError, dispose } from './errors.js';
import type { Loop, WaitOptions } from './loop.js';
import { Thing } from './things.js';

/** Gives back what was acquired, once; also by `using`. */
export interface Release {
    (): void;
    [Symbol.dispose](): void;
}

/** Lets so many in at once. */
export class Semaphore extends Thing {
    constructor(loop: Loop, permits: number) {
        super(loop, () => (count(0)(permits, 'permits'), loop.wasm_.semaphore_(permits)));
    }

    /** How many can be had without waiting. */
    get available(): number {
        return this.wasm_.available_(this.id_);
    }

    /** Waits for a permit; call the answer to give it back. */
    async acquire(options?: WaitOptions): Promise<Release> {
        return this.tryAcquire(options) ?? (await this.wait_(options?.signal, this.wasm_.acquire_), this.release_());
    }

    /** A permit if one can be had at once. */
    tryAcquire(options?: WaitOptions): Release | undefined {
        this.begin_(options);
        return this.wasm_.try_acquire_(this.id_) ? this.release_() : undefined;
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
            if (this.loop_.open_) this.loop_.wasm_.give_(this.id_);
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
    readonly isSet: boolean = false;

    constructor(loop: Loop) {
        super(loop, () => loop.wasm_.event_());
    }

    /** Wakes all who wait, and lets all pass until it is cleared. */
    set(): void {
        this.wasm_.set_(this.id_, 1);
        (this as { isSet: boolean }).isSet = true;
    }

    clear(): void {
        this.wasm_.set_(this.id_, 0);
        (this as { isSet: boolean }).isSet = false;
    }

    async wait(options?: WaitOptions): Promise<void> {
        const signal = this.begin_(options);
        if (!this.isSet) await this.wait_(signal);
    }
}

/** A call of `with` that has, or had, the lock. */
interface Turn {
    release_: Release;
    over_?: boolean;
}

/** Waits for a change of what a lock protects. */
export class Condition extends Thing {
    readonly lock: Lock;
    private turn_: Turn | undefined;

    constructor(loop: Loop, lock: Lock = new Lock(loop)) {
        super(loop, () => loop.wasm_.condition_());
        this.lock = lock;
    }

    /** Calls `f` with the lock held; within it `wait` and `waitFor` may be called. */
    async with<T>(f: () => T | PromiseLike<T>, options?: WaitOptions): Promise<T> {
        callable(f, 'f');
        const turn: Turn = (this.turn_ = { release_: await this.lock.acquire(options) });
        try {
            return await f();
        } finally {
            turn.over_ = true;
            turn.release_();
        }
    }

    /**
     * Releases the lock, waits for a notification, and takes the lock again: within the function given to `with`.
     *
     * Rejected by its signal it has the lock again as well.
     */
    async wait(options?: WaitOptions): Promise<void> {
        const turn = this.turn_;
        if (!turn || turn.over_) throw new SelkieError('invalid-state', 'call wait() within with()');
        const notified = this.wait_(this.begin_(options));
        // A second one beside it would take the lock again while this has it.
        this.turn_ = undefined;
        turn.release_();
        try {
            await notified;
        } finally {
            turn.release_ = await this.lock.acquire();
            this.turn_ = turn;
            // Nobody waits for this any more.
            if (turn.over_) turn.release_();
        }
    }

    /** Waits until `predicate` answers true: asked at once, and after each notification. */
    async waitFor(predicate: () => boolean, options?: WaitOptions): Promise<void> {
        callable(predicate, 'predicate');
        while (!predicate()) await this.wait(options);
    }

    /** Wakes so many of those who wait, in the order in which they came. */
    notify(waiters = 1): void {
        count(0)(waiters, 'waiters');
        this.wasm_.notify_(this.id_, waiters);
    }

    notifyAll(): void {
        this.notify(0x7fffffff);
    }
}

/** Where so many wait for each other. */
export class Barrier extends Thing {
    readonly parties: number;
    readonly broken: boolean = false;

    constructor(loop: Loop, parties: number) {
        super(loop, () => (count(1)(parties, 'parties'), loop.wasm_.barrier_(parties)));
        this.parties = parties;
    }

    /** Waits until all have come, and gives the place of arrival, from 0 on. */
    async wait(options?: WaitOptions): Promise<number> {
        const place = await this.wait_(signalOf(options));
        if (place < 0) throw new SelkieError('barrier-broken', 'the barrier is broken');
        return place;
    }

    /** Rejects those who wait; later ones meet anew. */
    reset(): void {
        this.wasm_.break_barrier_(this.id_, 0);
        (this as { broken: boolean }).broken = false;
    }

    /** Rejects those who wait, and all who come, until a `reset`. */
    abort(): void {
        this.wasm_.break_barrier_(this.id_, 1);
        (this as { broken: boolean }).broken = true;
    }
}
