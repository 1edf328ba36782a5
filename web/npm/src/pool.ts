// A pool of Workers. Whatever happens to one, each job ends: with its result, an error that says what happened, or the
// reason for which it was cancelled.

import { callable, choice, count, options as check, time } from './arguments.js';
import { ArgumentError, SelkieError, WorkerError, disposable, timedOut } from './errors.js';
import type { Loop } from './loop.js';
import { type Channel, Client, type Functions, type Job, type Message, type Order, listen } from './protocol.js';
import { type Priority, type Task, type TaskContext, priorityOf } from './task.js';

/** What `createPool` takes: a Worker of the web, or of Node's `worker_threads`. */
export interface WorkerLike {
    postMessage(message: any, transfer?: any): void;
    terminate(): unknown;
}

export interface PoolOptions {
    /** So many are started at once and kept; 0 unless set. */
    min?: number;
    /** At most so many; one less than the machine's cores, but no more than 4, unless set: each Worker takes memory. */
    max?: number;
    /** One that had nothing to do for so long is ended; 30 s unless set. */
    idleMs?: number;
    /** So many jobs may wait for a Worker; more fail at once. */
    maxQueue?: number;
    /** So many jobs one Worker does at once, for those that wait themselves; 1 unless set. */
    concurrencyPerWorker?: number;
    /** A job that was cancelled and has not ended after so long is ended with its Worker; 1 s unless set. */
    killAfterMs?: number;
    /** A Worker that has not called `expose` after so long is given up; 10 s unless set. */
    readyMs?: number;
    name?: string;
}

export interface RunOptions {
    /** Cancels the job when it is aborted. */
    signal?: AbortSignal | undefined;
    /** In what order jobs that wait get their Worker. */
    priority?: Priority;
    /** What of the arguments is moved and not copied. */
    transfer?: object[];
    /** Cancels the job after so many milliseconds from when it begins, not counting the wait for a Worker. */
    timeoutMs?: number | undefined;
    /** Called with what the job gives to `progress`. */
    onProgress?: (value: any) => void;
    /** What becomes of a Worker whose job was cancelled: ended after `killAfterMs`, which is the default, at once, or never. */
    kill?: 'grace' | 'now' | 'never';
}

/** The arguments of an exposed function. */
export type JobArguments<F> = F extends Job<infer A, any> ? A : F extends (...args: infer A) => any ? A : never;

/** What an exposed function gives. */
export type JobResult<F> = F extends (...args: any[]) => infer R ? Awaited<R> : never;

interface Waiting {
    readonly order: Order;
    readonly options: Partial<RunOptions>;
}

class Member {
    readonly client: Client;
    ready = false;
    over = false;
    /** Given to it before it was ready. */
    unsent: Waiting[] = [];
    idle: ReturnType<typeof setTimeout> | undefined;
    start: ReturnType<typeof setTimeout> | undefined;

    constructor(
        readonly worker: WorkerLike,
        changed: () => void,
    ) {
        this.client = new Client(worker as unknown as Channel, changed);
    }

    get load(): number {
        return this.client.orders.size + this.unsent.length;
    }
}

const later = (f: () => void, ms: number): ReturnType<typeof setTimeout> => {
    const timer = setTimeout(f, Math.min(ms, 0x7fffffff));
    // In Node nothing here is a reason to live: a Worker that works is.
    (timer as { unref?: () => void }).unref?.();
    return timer;
};

/** Workers that do jobs; from `createPool`. */
export class Pool<M extends Functions = Functions> {
    private readonly members_ = new Set<Member>();
    private readonly queues_ = [new Set<Waiting>(), new Set<Waiting>(), new Set<Waiting>()];
    private readonly o_: Required<PoolOptions>;
    private ids_ = 0;
    private closed_ = false;
    private idle_: (() => void)[] = [];

    /** @internal */
    constructor(
        private readonly loop_: Loop,
        private readonly make_: () => WorkerLike,
        options: PoolOptions,
    ) {
        const cores = typeof navigator === 'object' ? navigator.hardwareConcurrency : 4;
        const max = options.max ?? Math.max(options.min ?? 1, Math.min((cores || 4) - 1, 4), 1);
        const unlimited = options.maxQueue === undefined || options.maxQueue === Infinity;
        this.o_ = {
            min: count(options.min ?? 0, 'options.min', 0),
            max: count(max, 'options.max', 1),
            idleMs: options.idleMs === Infinity ? Infinity : time(options.idleMs ?? 30_000, 'options.idleMs'),
            maxQueue: unlimited ? Infinity : count(options.maxQueue, 'options.maxQueue', 0),
            concurrencyPerWorker: count(options.concurrencyPerWorker ?? 1, 'options.concurrencyPerWorker', 1),
            killAfterMs: time(options.killAfterMs ?? 1000, 'options.killAfterMs'),
            readyMs: time(options.readyMs ?? 10_000, 'options.readyMs'),
            name: options.name ?? 'pool',
        };
        if (this.o_.min > max) throw new ArgumentError('options.min', `at most options.max, which is ${max}`);
        disposable(this, () => this.close());
        while (this.members_.size < this.o_.min) this.hire_();
    }

    /** How many Workers there are. */
    get size(): number {
        return this.members_.size;
    }

    /** How many jobs wait for a Worker. */
    get queued(): number {
        return this.queues_.reduce((sum, queue) => sum + queue.size, 0);
    }

    /** How many jobs run. */
    get running(): number {
        return [...this.members_].reduce((sum, member) => sum + member.load, 0);
    }

    /** Has a Worker call a function that it exposes. Arguments and result are copied, but for what is transferred. */
    run<K extends keyof M & string>(name: K, args: JobArguments<M[K]>, options?: RunOptions): Task<JobResult<M[K]>> {
        if (typeof name !== 'string') throw new ArgumentError('name', 'the name of a function that the Worker exposes');
        if (!Array.isArray(args)) throw new ArgumentError('args', 'an array of arguments');
        const checked = check(options, 'signal priority transfer timeoutMs onProgress kill');
        const { signal, priority, transfer = [], timeoutMs, onProgress, kill } = checked;
        if (timeoutMs !== undefined) time(timeoutMs, 'options.timeoutMs');
        if (onProgress !== undefined) callable(onProgress, 'options.onProgress');
        if (kill !== undefined) choice(kill, 'options.kill', ['grace', 'now', 'never']);
        const number = priorityOf(priority);
        if (this.closed_) throw new SelkieError('pool-closed', `${this.o_.name} is closed`);
        const body = ({ task }: TaskContext): Promise<unknown> =>
            new Promise((resolve, reject) => {
                const order: Order = { id: ++this.ids_, name, args, transfer, priority, onProgress, resolve, reject };
                const waiting = { order, options: checked };
                if (this.queued >= this.o_.maxQueue && !this.free_()) {
                    return reject(new WorkerError('queue-full', `${this.queued} jobs wait in ${this.o_.name} already`));
                }
                this.queues_[number]!.add(waiting);
                task.hold_((reason) => this.cancel_(waiting, number, reason));
                this.pump_();
            });
        // The task's own turns are short, and a job should not wait for those of the page.
        return this.loop_.start_(body as (context: never) => unknown, { name: `${this.o_.name}: ${name}`, signal }, this.loop_.running_) as Task<JobResult<M[K]>>;
    }

    /** Takes no more jobs, waits for those that there are, and ends the Workers. */
    async close(): Promise<void> {
        this.closed_ = true;
        while (this.queued + this.running) await new Promise<void>((resolve) => this.idle_.push(resolve));
        for (const member of [...this.members_]) this.fire_(member);
    }

    /** Ends all Workers at once; the jobs are rejected with a WorkerError. */
    terminate(): void {
        this.closed_ = true;
        const error = new WorkerError('pool-closed', `${this.o_.name} was terminated`);
        for (const queue of this.queues_) {
            const all = [...queue];
            queue.clear();
            for (const { order } of all) order.reject(error);
        }
        for (const member of [...this.members_]) this.fire_(member, error);
        this.rest_();
    }

    declare readonly [Symbol.asyncDispose]: () => Promise<void>;

    /** A Worker with room, or undefined with the permission to hire one. */
    private free_(): Member | true | undefined {
        let best: Member | undefined;
        for (const member of this.members_) {
            if (member.load < this.o_.concurrencyPerWorker && (!best || member.load < best.load || (member.load === best.load && member.ready && !best.ready))) best = member;
        }
        if (best && (best.load === 0 || this.members_.size >= this.o_.max)) return best;
        return this.members_.size < this.o_.max ? true : best;
    }

    private pump_(): void {
        for (const queue of this.queues_) {
            for (const waiting of queue) {
                let member = this.free_();
                if (!member) return;
                queue.delete(waiting);
                if (member === true) {
                    try {
                        member = this.hire_();
                    } catch (error) {
                        waiting.order.reject(new WorkerError('worker-start', `${this.o_.name} cannot make a Worker: ${(error as Error)?.message}`, error));
                        continue;
                    }
                }
                clearTimeout(member.idle);
                (member.worker as unknown as Channel).ref?.();
                if (member.ready) this.send_(member, waiting);
                else member.unsent.push(waiting);
            }
        }
        this.rest_();
    }

    private send_(member: Member, { order, options }: Waiting): void {
        const { timeoutMs } = options;
        const timers: ReturnType<typeof setTimeout>[] = [];
        order.done = () => timers.forEach(clearTimeout);
        if (timeoutMs !== undefined) timers.push(later(() => this.ask_(member, order, timedOut(timeoutMs), options, timers), timeoutMs));
        this.asks_.set(order, (reason) => this.ask_(member, order, reason, options, timers));
        member.client.send(order);
    }

    private readonly asks_ = new WeakMap<Order, (reason: unknown) => void>();

    private cancel_(waiting: Waiting, priority: number, reason: unknown): void {
        const { order } = waiting;
        if (this.queues_[priority]!.delete(waiting)) {
            order.reject(reason);
            return this.rest_();
        }
        for (const member of this.members_) {
            const at = member.unsent.indexOf(waiting);
            if (at < 0) continue;
            member.unsent.splice(at, 1);
            order.reject(reason);
            return this.changed_(member);
        }
        this.asks_.get(order)?.(reason);
    }

    /** Asks a job that runs to end, and sees to it that it does. */
    private ask_(member: Member, order: Order, reason: unknown, options: Partial<RunOptions>, timers: ReturnType<typeof setTimeout>[]): void {
        if (!member.client.orders.has(order.id) || order.cancelled) return;
        const { kill = 'grace' } = options;
        const end = (): void => this.fire_(member, new WorkerError('worker-killed', `a job beside it did not end when it was cancelled, so the Worker was ended`));
        if (kill === 'now') {
            order.cancelled = { reason };
            return end();
        }
        member.client.cancel(order, reason);
        if (kill === 'grace') timers.push(later(end, this.o_.killAfterMs));
    }

    private hire_(): Member {
        const worker = this.make_();
        if (typeof (worker as WorkerLike | undefined)?.postMessage !== 'function') {
            throw new ArgumentError('spawn', 'a function that makes a Worker: () => new Worker(new URL("./jobs.js", import.meta.url), { type: "module" })');
        }
        const member: Member = new Member(worker, () => this.changed_(member));
        this.members_.add(member);
        const channel = worker as unknown as Channel;
        const lost = (code: 'worker-start' | 'worker-crashed', text: string, cause?: unknown): void => {
            if (member.over) return;
            this.fire_(member, new WorkerError(code, `a Worker of ${this.o_.name} ${text}`, cause));
        };
        listen(channel, 'message', (message: Message | undefined) => {
            if (member.over) return;
            if (message?.selkie !== 'ready') return member.client.receive(message);
            if (member.ready) return;
            member.ready = true;
            clearTimeout(member.start);
            for (const waiting of member.unsent.splice(0)) this.send_(member, waiting);
            this.changed_(member);
        });
        listen(channel, 'messageerror', (event: unknown) => lost('worker-crashed', 'sent what cannot be read here', event));
        listen(channel, 'error', (event: { message?: string; error?: unknown; preventDefault?: () => void }) => {
            // The jobs that it had are rejected with it, which is where it belongs.
            event.preventDefault?.();
            const text = event.message ? `: ${event.message}` : member.ready ? '' : ': is its address right, and does the server allow it?';
            const cause = event instanceof Error ? event : event.error;
            lost(member.ready ? 'worker-crashed' : 'worker-start', `${member.ready ? 'failed' : 'could not be loaded'}${text}`, cause);
        });
        if (channel.on) {
            listen(channel, 'exit', (code: number) => lost(member.ready ? 'worker-crashed' : 'worker-start', `has exited with ${code}`));
        }
        member.start = later(
            () => lost('worker-start', `did not call expose() within ${this.o_.readyMs} ms: does its module import it from "selkie/worker"?`),
            this.o_.readyMs,
        );
        return member;
    }

    /** A Worker has ended a job. */
    private changed_(member: Member): void {
        if (member.over) return;
        if (!this.closed_ || this.queued) this.pump_();
        if (member.load === 0) {
            (member.worker as unknown as Channel).unref?.();
            clearTimeout(member.idle);
            const { idleMs, min } = this.o_;
            if (idleMs < Infinity) {
                member.idle = later(() => {
                    if (this.members_.size > min && member.load === 0) this.fire_(member);
                }, idleMs);
            }
        }
        this.rest_();
    }

    /** Ends a Worker; its jobs are rejected with `error`, and those that were cancelled with their reason. */
    private fire_(member: Member, error?: WorkerError): void {
        if (member.over) return;
        member.over = true;
        clearTimeout(member.idle);
        clearTimeout(member.start);
        this.members_.delete(member);
        void member.worker.terminate();
        const why = error ?? new WorkerError('pool-closed', `${this.o_.name} is closed`);
        for (const { order } of member.unsent.splice(0)) order.reject(why);
        member.client.fail(why);
        this.pump_();
        while (!this.closed_ && this.members_.size < this.o_.min && error?.code !== 'worker-start') this.hire_();
    }

    private rest_(): void {
        if (this.queued + this.running === 0) for (const resolve of this.idle_.splice(0)) resolve();
    }
}

/**
 * Makes a pool of Workers, whose module calls `expose` of `selkie/worker`.
 *
 * `spawn` is a function with the literal `new Worker(new URL('./jobs.js', import.meta.url), { type: 'module' })` in it, by which
 * bundlers know a Worker. `M` is the type of the object that is exposed: `createPool<typeof jobs>(..)`.
 */
export function createPool<M extends Functions = Functions>(loop: Loop, spawn: () => WorkerLike, options?: PoolOptions): Pool<M> {
    loop.check_();
    callable(spawn, 'spawn');
    return new Pool<M>(loop, spawn, check(options, 'min max idleMs maxQueue concurrencyPerWorker killAfterMs readyMs name'));
}
