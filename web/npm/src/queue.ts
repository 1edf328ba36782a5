// Queues. The scheduler knows who waits, and for which number; the items are here.

import { choice, count, options as check } from './arguments.js';
import { ArgumentError, QueueClosedError, SelkieError } from './errors.js';
import type { Loop, WaitOptions } from './loop.js';

export interface QueueOptions {
    /** Puts wait while so many items are queued; without it never. */
    capacity?: number;
    /** `fifo` unless set; `lifo` is a stack; with `priority` the smallest priority comes first, and of equal ones the first. */
    order?: 'fifo' | 'lifo' | 'priority';
}

export interface PutOptions extends WaitOptions {
    /** Of an item in a queue of that order; 0 unless set. */
    priority?: number;
}

/**
 * A queue between tasks: fair to those who wait, on both sides. `for await` takes items until the queue is closed.
 *
 * What need not wait does not yield, beside what a promise costs.
 */
export class Queue<T> {
    private readonly id_: number;
    private readonly order_: string;
    private readonly capacity_: number;
    private items_: (T | undefined)[] = [];
    private free_: number[] = [];
    private stacked_ = 0;
    private unfinished_ = 0;
    private closed_ = false;

    constructor(
        private readonly loop_: Loop,
        options?: QueueOptions,
    ) {
        const { capacity, order = 'fifo' } = check(options, 'capacity order');
        this.order_ = choice(order, 'options.order', ['fifo', 'lifo', 'priority']);
        this.capacity_ = capacity === undefined || capacity === Infinity ? 0 : count(capacity, 'options.capacity', 1);
        loop_.check_();
        this.id_ = loop_.wasm_.queue(this.capacity_);
        loop_.own_(this, this.id_);
    }

    /** How many items there are. */
    get size(): number {
        this.loop_.check_();
        return this.loop_.wasm_.len(this.id_);
    }

    /** How many fit; `Infinity` without a limit. */
    get capacity(): number {
        return this.capacity_ || Infinity;
    }

    get closed(): boolean {
        return this.closed_;
    }

    /** Adds an item, and waits while there is no room. Given up, the item is not added. */
    put(item: T, options?: PutOptions): Promise<void> {
        const { priority, signal } = check(options, 'priority signal');
        const order = this.place_(priority);
        if (signal?.aborted) return Promise.reject(signal.reason);
        const index = this.add_(item);
        const answer = this.loop_.wasm_.try_put(this.id_, index, order);
        if (answer === 0) {
            this.unfinished_ += 1;
            return Promise.resolve();
        }
        if (answer === -2) {
            this.drop_(index);
            return Promise.reject(new QueueClosedError());
        }
        const waiting = this.loop_.wait_({ signal }, (slot) => this.loop_.wasm_.put(slot, this.id_, index, order), () => this.drop_(index));
        return waiting.then((end) => {
            if (end < 0) {
                this.drop_(index);
                throw new QueueClosedError();
            }
            this.unfinished_ += 1;
        });
    }

    /** Adds an item if there is room; whether there was. Throws a QueueClosedError. */
    tryPut(item: T, options?: { priority?: number }): boolean {
        const order = this.place_(check(options, 'priority').priority);
        const index = this.add_(item);
        const answer = this.loop_.wasm_.try_put(this.id_, index, order);
        if (answer === 0) {
            this.unfinished_ += 1;
            return true;
        }
        this.drop_(index);
        if (answer === -2) throw new QueueClosedError();
        return false;
    }

    /** Takes an item, and waits while there is none. Given up, no item is lost. Rejects with a QueueClosedError at the end. */
    take(options?: WaitOptions): Promise<T> {
        const { signal } = check(options, 'signal');
        this.loop_.check_();
        if (signal?.aborted) return Promise.reject(signal.reason);
        const answer = this.loop_.wasm_.try_take(this.id_);
        if (answer >= 0) return Promise.resolve(this.drop_(answer));
        if (answer === -2) return Promise.reject(new QueueClosedError());
        const waiting = this.loop_.wait_({ signal }, (slot) => this.loop_.wasm_.take(slot, this.id_));
        return waiting.then((index) => {
            if (index < 0) throw new QueueClosedError();
            return this.drop_(index);
        });
    }

    /** Takes an item if there is one that nobody waits for. Throws a QueueClosedError at the end. */
    tryTake(): { value: T } | undefined {
        this.loop_.check_();
        const answer = this.loop_.wasm_.try_take(this.id_);
        if (answer === -2) throw new QueueClosedError();
        return answer < 0 ? undefined : { value: this.drop_(answer) };
    }

    /** One item that was taken is worked off; see `join`. */
    taskDone(): void {
        this.loop_.check_();
        if (this.unfinished_ <= 0) throw new SelkieError('invalid-state', 'taskDone() was called more often than items were put');
        this.unfinished_ -= 1;
        this.loop_.wasm_.task_done(this.id_);
    }

    /** Waits until `taskDone` was called for every item that was put. */
    async join(options?: WaitOptions): Promise<void> {
        await this.loop_.wait_(options, (slot) => this.loop_.wasm_.join(slot, this.id_));
    }

    /** Refuses what is put from now on; those who take get what is there, and then a QueueClosedError. `immediate` drops it. */
    close(options?: { immediate?: boolean }): void {
        const { immediate = false } = check(options, 'immediate');
        this.closed_ = true;
        if (!this.loop_.open_) return;
        this.loop_.wasm_.shut_down(this.id_, immediate ? 1 : 0);
        if (immediate) {
            this.items_ = [];
            this.free_ = [];
        }
    }

    async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
        for (;;) {
            let item: T;
            try {
                item = await this.take();
            } catch (error) {
                if (error instanceof QueueClosedError) return;
                throw error;
            }
            yield item;
        }
    }

    /** The items as a stream, which takes one when it is read. */
    toReadableStream(): ReadableStream<T> {
        return new ReadableStream<T>(
            {
                pull: async (controller) => {
                    try {
                        controller.enqueue(await this.take());
                    } catch (error) {
                        if (!(error instanceof QueueClosedError)) throw error;
                        controller.close();
                    }
                },
            },
            { highWaterMark: 0 },
        );
    }

    private place_(priority: number | undefined): number {
        this.loop_.check_();
        if (priority === undefined) return this.order_ === 'lifo' ? -(this.stacked_ += 1) : 0;
        if (this.order_ !== 'priority') throw new ArgumentError('options.priority', 'only for a queue with `order: "priority"`');
        if (typeof priority !== 'number' || priority !== priority) throw new ArgumentError('options.priority', `a number, not ${String(priority)}`);
        return priority + 0;
    }

    private add_(item: T): number {
        const index = this.free_.pop() ?? this.items_.length;
        this.items_[index] = item;
        return index;
    }

    private drop_(index: number): T {
        const item = this.items_[index] as T;
        this.items_[index] = undefined;
        this.free_.push(index);
        return item;
    }
}
