// Waits for something outside of the scheduler's tasks.

import { resume } from './engine.js';
import { timedOut } from './errors.js';
import type { Loop } from './loop.js';
import { type Leaver, offAbort, onAbort } from './signals.js';
import type { Task } from './task.js';

/** @internal Called at the end of a wait: whether it was left, and then with the reason. */
export type Undo = (left: boolean, reason?: unknown) => unknown;

/**
 * @internal
 *
 * A promise that is settled once: by what it waits for, or when it is left, because the signal is aborted, the task is
 * cancelled, the loop ends, or the time is over. One object does, as there may be very many of them.
 */
export class Pause<T> implements Leaver {
    over_ = false;
    /** Of the operation that it waits for, or of its timer. */
    slot_ = -1;
    ms_ = Infinity;
    /** What it gives when its time is over, instead of a TimeoutError. */
    late_: (() => T) | undefined;
    /** Told at the end, however it came. */
    undo_: Undo | undefined | void;

    constructor(
        private readonly loop_: Loop,
        private readonly by_: AbortSignal | Task<unknown> | undefined,
        private readonly resolve_: (value: T) => void,
        private readonly reject_: (reason: unknown) => void,
    ) {}

    /** It waits from here on, if it was not settled before. */
    begin_(): void {
        const { loop_, by_, ms_ } = this;
        if (this.over_) return void this.undo_?.(false);
        loop_.pauses_.add(this);
        if (ms_ < Infinity) {
            this.slot_ = loop_.operation_(this);
            loop_.wasm_.timer_(this.slot_, ms_);
        }
        // Last, as a cancel that is owed to the task is raised at once.
        const task = by_ as Task<unknown> | undefined;
        if (task?.hold_) task.hold_(this);
        else onAbort(by_ as AbortSignal | undefined, this);
    }

    /** The operation has ended. */
    fire_(value: number): void {
        const { late_ } = this;
        this.slot_ = -1;
        if (this.ms_ === Infinity) this.give_(value as T);
        else if (late_) this.give_(late_());
        else this.leave_(timedOut(this.ms_));
    }

    give_(value: T): void {
        if (this.end_(false)) resume(this.resolve_, value);
    }

    fail_(reason: unknown): void {
        if (this.end_(false)) this.reject_(reason);
    }

    /** Ends as `what` does. */
    follow_(what: PromiseLike<T>): void {
        what.then((value) => this.give_(value), (error: unknown) => this.fail_(error));
    }

    leave_(reason: unknown): void {
        if (this.end_(true, reason)) this.reject_(reason);
    }

    private end_(left: boolean, reason?: unknown): boolean {
        if (this.over_) return false;
        const { loop_, by_ } = this;
        this.over_ = true;
        loop_.pauses_.delete(this);
        // Before whoever leaves is rejected.
        if (loop_.revoke_(this.slot_)) this.resolve_(0 as T);
        // Whichever it is.
        offAbort(by_ as AbortSignal, this);
        (by_ as Task<unknown>)?.holds_?.delete(this);
        // Last, as it may call the application.
        this.undo_?.(left, reason);
        return true;
    }
}
