// The asking side of a channel: of a pool, and of a connection to a loop elsewhere.

import { type Rules, callable, list, signal, text, time } from './arguments.js';
import { restart } from './engine.js';
import { WorkerError, aborted, tell } from './errors.js';
import type { Loop } from './loop.js';
import { type Channel, type Message, type Run, WORDS, hear, listen, notCloneable, pack, post, unpack, wordOf } from './protocol.js';
import { PRIORITIES, type Priority, type SpawnOptions, type Task, type TaskContext } from './task.js';

export interface SubmitOptions {
    signal?: AbortSignal | undefined;
    /** Of the task that runs there. */
    priority?: Priority;
    /** What of the arguments is moved and not copied. */
    transfer?: object[];
    timeoutMs?: number | undefined;
    /** Called with what the function gives to `progress`. */
    onProgress?: (value: any) => void;
}

/** @internal Whether other threads can have the memory of this one. */
export const SHARED = typeof SharedArrayBuffer === 'function' && (globalThis.crossOriginIsolated ?? true);

/** @internal The options that `run` and `submit` have in common. */
export const ORDER: Rules = { signal, priority: PRIORITIES, transfer: list, timeoutMs: time, onProgress: callable };

/** @internal What was asked of another side. */
export interface Order {
    /** Another one whenever it is sent. */
    id_: number;
    readonly task_: Task<unknown>;
    readonly name_: string;
    readonly args_: unknown[];
    readonly options_: SubmitOptions;
    readonly resolve_: (value: any) => void;
    readonly reject_: (reason: unknown) => void;
    /** Set when it was asked to end. */
    cancelled_?: { reason_: unknown };
    /** Who was asked. */
    client_?: Client;
    /** See `wordOf`. */
    word_?: number | undefined;
    /** Its place in a pool: by priority, and then in order. */
    rank_?: number;
    turn_?: number;
    /** Asks it to end, while it runs. */
    ask_?: ((reason: unknown) => void) | undefined;
    /** Called at its end. */
    done_?: () => void;
}

/** @internal A task for an order: `begin` has it done, and answers how to cancel it. */
export function order<T>(
    loop: Loop,
    spawn: SpawnOptions,
    name: string,
    args: unknown,
    options: SubmitOptions,
    begin: (order: Order) => (reason: unknown) => void,
): Task<T> {
    text(name, 'name');
    list(args, 'args');
    // One of ours: that of the caller may be a proxy, or have more than items, and the host copies neither.
    const args_: unknown[] = [...(args as unknown[])];
    // No promise: the answer wakes the task at once, and not one microtask later.
    const body = ({ task }: TaskContext) => ({
        then(resolve_: (value: T) => void, reject_: (reason: unknown) => void) {
            task.hold_({ leave_: begin({ id_: 0, task_: task, name_: name, args_, options_: options, resolve_, reject_ }) });
        },
    });
    return loop.make_(body as (context: never) => unknown, { name, signal: options.signal, ...spawn }, loop.running_) as Task<T>;
}

// Neither these nor what `~` makes of them is ever 0, or one another, in 32 bits.
let ids = 1;

/** @internal Told why there will be no answers, and what has caused it. */
export type Lost = (text: string, cause?: unknown) => void;

/** @internal As `hear`, with the end of the channel as one more message, if there was none. */
export const follow = (channel: Channel, f: (message: Message) => unknown): void => {
    hear(channel, f);
    // Only Node tells. Elsewhere, for a Worker that was ended, `timeoutMs` and its own error event are what there is.
    listen(channel, 'close', () => f(['gone']));
};

/** @internal The asking side of a channel. */
export class Client {
    readonly orders_ = new Map<number, Order>();
    /** How many orders a pool may send ahead. Fewer after one was taken back: what is read in vain must not pile up there. */
    ahead_ = 0;
    /** Whether the other side has told of an order. */
    worked_?: boolean;
    private readonly words_: Int32Array[] = [];
    /** The words that no job has. */
    private readonly free_: number[] = [];
    /** What goes as one message. */
    private runs_: Run[] = [];

    constructor(
        readonly channel_: Channel,
        /** Told when the other side is ready, and when an order has ended. */
        private readonly changed_: () => void,
        readonly lost_: Lost,
        private readonly each_ = Infinity,
    ) {
        follow(channel_, (message) => this.receive_(message));
        listen(channel_, 'messageerror', (event) => lost_('sent what cannot be read', event));
    }

    /**
     * With others at the next `flush_`, if `light`: then nothing of it can fail to be copied, nor come there as the same
     * object in two jobs.
     */
    send_(order: Order, light?: boolean): void {
        const { name_, options_ } = order;
        const id_ = (order.id_ = ids += 4);
        order.client_ = this;
        this.orders_.set(id_, order);
        this.channel_.ref?.();
        try {
            if (SHARED) {
                if (!this.free_.length) {
                    const more = new Int32Array(new SharedArrayBuffer(4 * WORDS));
                    post(this.channel_, ['words', more, this.each_]);
                    more.forEach((_, at) => this.free_.push(this.words_.length * WORDS + at));
                    this.words_.push(more);
                }
                order.word_ = this.free_.pop()!;
                Atomics.store(...wordOf(this.words_, order.word_), id_);
            }
            // In the order in which they are to begin.
            if (!light) this.flush_();
            this.runs_.push([id_, name_, order.args_, order.word_, options_.priority]);
            if (!light) this.flush_(options_.transfer);
        } catch (error) {
            this.settle_(order, order.reject_, notCloneable(`an argument of "${name_}"`, error));
        }
    }

    flush_(transfer?: object[]): void {
        if (this.runs_.length) post(this.channel_, ['run', this.runs_.splice(0)], transfer);
    }

    /** Takes an order back, if it is certain that it has not begun and never will. */
    take_(order: Order): boolean {
        const { id_, word_ } = order;
        if (word_ === undefined || Atomics.compareExchange(...wordOf(this.words_, word_), id_, 0) !== (id_ | 0)) return false;
        this.ahead_ >>= 1;
        this.forget_(order);
        return true;
    }

    /** Whether it has ended, and only its answer is not yet here. */
    ended_({ id_, word_ }: Order): boolean {
        return word_ !== undefined && Atomics.load(...wordOf(this.words_, word_)) !== ~id_;
    }

    private forget_(order: Order): void {
        this.orders_.delete(order.id_);
        if (order.word_ !== undefined) this.free_.push(order.word_);
        order.client_ = order.word_ = undefined!;
        if (!this.orders_.size) this.channel_.unref?.();
        order.done_?.();
    }

    cancel_(order: Order, reason_: unknown): void {
        order.cancelled_ = { reason_ };
        if (order.word_ !== undefined) Atomics.store(...wordOf(this.words_, order.word_), 0);
        const ask = (why: unknown): void => post(this.channel_, ['cancel', order.id_, pack(why)]);
        try {
            ask(reason_);
        } catch {
            // There are reasons that have no text either. It is asked to end all the same.
            ask(aborted());
        }
    }

    private receive_(message: Message): void {
        // In Node many messages are one macrotask.
        if (!this.channel_.on) restart();
        if (message[0] === 'ready') return this.changed_();
        if (message[0] === 'gone') return this.lost_('is gone');
        if (message[0] === 'unread') return post(this.channel_, ['unread', [...this.orders_.keys()]]);
        this.worked_ = true;
        const order = this.orders_.get(message[1] as number);
        if (!order) return;
        const { options_, cancelled_ } = order;
        if (message[0] === 'progress') {
            for (const value of message[2]) tell(() => options_.onProgress?.(value));
        } else if (message[0] === 'done') this.settle_(order, order.resolve_, message[2]);
        else if (message[0] === 'fail') {
            // Cancelled: the reason itself, and not the copy that went there and back.
            this.settle_(order, order.reject_, cancelled_ && message[3] ? cancelled_.reason_ : unpack(message[2]));
        } else this.settle_(order, order.reject_, new WorkerError('not-cloneable', `an argument of "${order.name_}" cannot be read there`));
    }

    settle_(order: Order, how: (value: unknown) => void, value: unknown): void {
        this.forget_(order);
        how(value);
        this.changed_();
    }

    /** No answer will come. */
    fail_(error: WorkerError): void {
        for (const order of this.orders_.values()) this.settle_(order, order.reject_, order.cancelled_ ? order.cancelled_.reason_ : error);
    }
}
