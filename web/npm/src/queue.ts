// Queues. The scheduler knows who waits, and for which number; the items are here.

import { type Rules, any, limit, options as check, refuse, signal, signalOf } from './arguments.js';
import { ArgumentError, QueueClosedError, SelkieError } from './errors.js';
import type { Loop, WaitOptions } from './loop.js';
import { Slots } from './slots.js';
import { Thing } from './things.js';

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

const PUT: Rules = {
    priority(value, name) {
        if (typeof value !== 'number' || value !== value) refuse(name, 'a number', value);
    },
    signal,
};

/** What the scheduler has answered, unless that is -2: the queue is closed, and has nothing more to give. */
const live = (answer: number): number => {
    if (answer === -2) throw new QueueClosedError();
    return answer;
};

/**
 * A queue between tasks: fair to those who wait, on both sides. `for await` takes items until the queue is closed.
 *
 * What need not wait does not yield, beside what a promise costs.
 */
export class Queue<T> extends Thing {
    /** How many fit; `Infinity` without a limit. */
    readonly capacity: number;
    readonly closed: boolean = false;
    private readonly order_: string;
    private items_ = new Slots<T>();
    private stacked_ = 0;

    constructor(loop: Loop, options?: QueueOptions) {
        const { capacity = Infinity, order = 'fifo' } = check(options, { capacity: limit, order: ['fifo', 'lifo', 'priority'] });
        super(loop, () => loop.wasm_.queue_(capacity < Infinity ? capacity : 0));
        this.capacity = capacity;
        this.order_ = order;
    }

    /** How many items there are. */
    get size(): number {
        return this.wasm_.len_(this.id_);
    }

    /** Adds an item, and waits while there is no room. Given up, the item is not added. */
    async put(item: T, options?: PutOptions): Promise<void> {
        const order = this.place_(options);
        const by = options?.signal;
        by?.throwIfAborted();
        if (this.add_(item, order)) return;
        const index = this.items_.add_(item);
        try {
            live(await this.wait_(by, this.wasm_.put_, index, order));
        } catch (error) {
            this.items_.take_(index);
            throw error;
        }
    }

    /** Adds an item if there is room; whether there was. Throws a QueueClosedError. */
    tryPut(item: T, options?: { priority?: number }): boolean {
        return this.add_(item, this.place_(options));
    }

    /**
     * Takes an item, and waits while there is none. Rejects with a QueueClosedError at the end.
     *
     * Given up by its signal, no item is lost. An item that is a promise, or a task, is awaited by who awaits this: put it into an
     * object, or use `tryTake`.
     */
    async take(options?: WaitOptions): Promise<T> {
        const by = this.begin_(options);
        // An immediate close drops the others of these.
        const { items_ } = this;
        return (this.tryTake() ?? this.took_(await this.wait_(by, this.wasm_.take_), items_)!).value;
    }

    /** Takes an item if there is one that nobody waits for. Throws a QueueClosedError at the end. */
    tryTake(): { value: T } | undefined {
        return this.took_(this.wasm_.try_take_(this.id_));
    }

    /** One item that was taken is worked off; see `join`. */
    taskDone(): void {
        if (!this.wasm_.task_done_(this.id_)) throw new SelkieError('invalid-state', 'taskDone() without an item');
    }

    /** Waits until `taskDone` was called for every item that was put. */
    async join(options?: WaitOptions): Promise<void> {
        await this.wait_(signalOf(options), this.wasm_.join_);
    }

    /** Refuses what is put from now on; those who take get what is there, and then a QueueClosedError. `immediate` drops it. */
    close(options?: { immediate?: boolean }): void {
        const { immediate } = check(options, { immediate: any });
        (this as { closed: boolean }).closed = true;
        if (!this.loop_.open_) return;
        this.loop_.wasm_.shut_down_(this.id_, immediate ? 1 : 0);
        if (immediate) this.items_ = new Slots();
    }

    /**
     * The items, until the queue is closed. In a task: `for await (const item of queue[Symbol.asyncIterator]({ signal: ctx.signal }))`,
     * as a cancel ends the wait for the next one by the signal only. So for who calls `return` while a `next` waits, as Node's
     * `Readable.from` does: by itself it waits as well, and the item goes to that `next`. A stream is `toReadableStream`.
     */
    async *[Symbol.asyncIterator](options?: WaitOptions): AsyncGenerator<T, void, undefined> {
        for (;;) {
            let item: T;
            try {
                item = await this.take(options);
            } catch (error) {
                if (error instanceof QueueClosedError) return;
                throw error;
            }
            yield item;
        }
    }

    /** The items as a stream, which takes one when it is read. */
    toReadableStream(): ReadableStream<T> {
        const left = new AbortController();
        // It has a `signal`, as options do.
        const items = this[Symbol.asyncIterator](left);
        return new ReadableStream<T>(
            {
                async pull(controller) {
                    const { done, value } = await items.next();
                    if (done) controller.close();
                    else controller.enqueue(value);
                },
                // One that waits would take an item for nobody.
                cancel: (reason) => left.abort(reason),
            },
            { highWaterMark: 0 },
        );
    }

    /** The number by which the item's place is found. */
    private place_(options: PutOptions | undefined): number {
        const { priority } = check(options, PUT);
        if (priority === undefined) return this.order_ === 'lifo' ? -(this.stacked_ += 1) : 0;
        if (this.order_ !== 'priority') throw new ArgumentError('options.priority', 'only with order: "priority"');
        // For -0, which would come before 0.
        return priority + 0;
    }

    private add_(item: T, order: number): boolean {
        const { wasm_ } = this;
        const index = this.items_.add_(item);
        const answer = wasm_.try_put_(this.id_, index, order);
        if (answer) this.items_.take_(index);
        return !live(answer);
    }

    /** What the scheduler's answer stands for. */
    private took_(index: number, items = this.items_): { value: T } | undefined {
        return live(index) < 0 ? undefined : { value: items.take_(index) as T };
    }
}
