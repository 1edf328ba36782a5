// A pool of Workers. Whatever happens to one, each job ends: with its result, an error that says what happened, or the
// reason for which it was cancelled.

import { type Rules, callable, count, options as check, text, time } from './arguments.js';
import { Client, ORDER, type Order, type SubmitOptions, order } from './client.js';
import { ArgumentError, SelkieError, WorkerError, disposable, timedOut } from './errors.js';
import type { Loop } from './loop.js';
import { type Channel, type Functions, type Job, hear, listen } from './protocol.js';
import { type Task, priorityOf } from './task.js';

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

/** Here `priority` is in what order jobs that wait get their Worker, and `timeoutMs` counts from when the job begins. */
export interface RunOptions extends SubmitOptions {
    /** What becomes of a Worker whose job was cancelled: ended after `killAfterMs`, which is the default, at once, or never. */
    kill?: 'grace' | 'now' | 'never';
}

/** The arguments of an exposed function. */
export type JobArguments<F> = F extends Job<infer A, any> ? A : F extends (...args: infer A) => any ? A : never;

/** What an exposed function gives. */
export type JobResult<F> = F extends (...args: any[]) => infer R ? Awaited<R> : never;

interface Member {
    readonly worker_: WorkerLike;
    readonly client_: Client;
    ready_?: boolean;
    over_?: boolean;
    /** For its start, and then for when it has nothing to do. */
    timer_?: ReturnType<typeof setTimeout> | undefined;
    /** Since when it has nothing to do. */
    since_: number;
}

const later = (f: () => void, ms: number): ReturnType<typeof setTimeout> => {
    const timer = setTimeout(f, Math.min(ms, 0x7fffffff));
    // In Node nothing here is a reason to live: a Worker that works is.
    (timer as { unref?: () => void }).unref?.();
    return timer;
};

const RUN: Rules = { ...ORDER, kill: ['grace', 'now', 'never'] };

/** Workers that do jobs; from `createPool`. */
export class Pool<M extends Functions = Functions> {
    private readonly members_ = new Set<Member>();
    /** The jobs that no Worker has begun, by their priority. */
    private readonly queues_ = [new Set<Order>(), new Set<Order>(), new Set<Order>()];
    /** Where the first of each is. From its beginning a set is looked through with all that was taken out of it. */
    private readonly firsts_ = this.queues_.map((queue) => queue.values());
    private readonly min_: number;
    private readonly max_: number;
    private readonly name_: string;
    private readonly each_: number;
    private starting_ = 0;
    private pumping_ = false;
    private closed_ = false;
    private idle_: (() => void)[] = [];

    /** @internal */
    constructor(
        private readonly loop_: Loop,
        private readonly make_: () => WorkerLike,
        private readonly options_: Partial<PoolOptions>,
    ) {
        const { min = 0, max, name = 'pool', concurrencyPerWorker = 1 } = options_;
        const cores = (typeof navigator === 'object' && navigator.hardwareConcurrency) || 4;
        this.min_ = min;
        this.max_ = max ?? Math.max(min, Math.min(cores - 1, 4), 1);
        this.name_ = name;
        this.each_ = concurrencyPerWorker;
        if (min > this.max_) throw new ArgumentError('options.min', `at most options.max, which is ${this.max_}`);
        disposable(this, () => this.close());
        while (this.members_.size < min) this.hire_();
    }

    /** How many Workers there are. */
    get size(): number {
        return this.members_.size;
    }

    /** How many jobs wait for a Worker. */
    get queued(): number {
        return Math.max(0, this.waiting_() - this.starting_ * this.each_);
    }

    /** How many jobs run, or have a Worker that starts. */
    get running(): number {
        return this.jobs_() - this.queued;
    }

    /** Has a Worker call a function that it exposes. Arguments and result are copied, but for what is transferred. */
    run<K extends keyof M & string>(name: K, args: JobArguments<M[K]>, options?: RunOptions): Task<JobResult<M[K]>> {
        const checked: RunOptions = check(options, RUN);
        const { name_ } = this;
        const { maxQueue = Infinity } = this.options_;
        if (this.closed_) throw new SelkieError('pool-closed', `${name_} is closed`);
        const queue = this.queues_[priorityOf(checked.priority)]!;
        return order(this.loop_, { name: `${name_}: ${name}` }, name, args, checked, (job) => {
            queue.add(job);
            this.pump_();
            if (maxQueue < Infinity && this.queued > maxQueue && queue.delete(job)) {
                job.reject_(new WorkerError('queue-full', `${this.queued} jobs wait in ${name_} already`));
            }
            return (reason) => {
                job.ask_?.(reason);
                if (!queue.delete(job)) return;
                job.reject_(reason);
                this.rest_();
            };
        });
    }

    /** Takes no more jobs, waits for those that there are, and ends the Workers. */
    async close(): Promise<void> {
        this.closed_ = true;
        while (this.jobs_()) await new Promise<void>((resolve) => this.idle_.push(resolve));
        for (const member of this.members_) this.fire_(member);
    }

    /** Ends all Workers at once; the jobs are rejected with a WorkerError. */
    terminate(): void {
        this.closed_ = true;
        const error = new WorkerError('pool-closed', `${this.name_} was terminated`);
        while (this.refuse_(error));
        for (const member of this.members_) this.fire_(member, error);
    }

    declare readonly [Symbol.asyncDispose]: () => Promise<void>;

    private waiting_(): number {
        const [first, second, third] = this.queues_;
        return first!.size + second!.size + third!.size;
    }

    private jobs_(): number {
        let sum = this.waiting_();
        for (const { client_ } of this.members_) sum += client_.orders_.size;
        return sum;
    }

    /** Takes the next job out of its queue. */
    private next_(): Order | undefined {
        const at = this.queues_.findIndex(({ size }) => size);
        const queue = this.queues_[at];
        if (!queue) return undefined;
        let { value } = this.firsts_[at]!.next();
        // One that has come to the end stays there.
        if (!value) ({ value } = (this.firsts_[at] = queue.values()).next());
        queue.delete(value!);
        return value;
    }

    /** Rejects the next job; whether there was one. */
    private refuse_(error: WorkerError): boolean {
        const job = this.next_();
        job?.reject_(error);
        return job !== undefined;
    }

    private pump_(): void {
        // A job that cannot be sent ends within: thousands of them must not nest.
        if (this.pumping_) return;
        this.pumping_ = true;
        while (this.waiting_()) {
            let [best, load] = [undefined as Member | undefined, this.each_];
            for (const member of this.members_) {
                const { size } = member.client_.orders_;
                if (member.ready_ && size < load) [best, load] = [member, size];
            }
            if ((!best || load) && this.size < this.max_ && this.starting_ < this.waiting_()) {
                try {
                    this.hire_();
                } catch (error) {
                    this.refuse_(new WorkerError('worker-start', `${this.name_} cannot make a Worker: ${(error as Error)?.message}`, error));
                }
            } else if (best) this.send_(best, this.next_()!);
            else break;
        }
        this.pumping_ = false;
        this.rest_();
    }

    private send_(member: Member, job: Order): void {
        const { timeoutMs, kill } = job.options_ as RunOptions;
        const timers: ReturnType<typeof setTimeout>[] = [];
        job.done_ = () => {
            job.ask_ = undefined;
            timers.forEach(clearTimeout);
        };
        job.ask_ = (reason) => {
            if (job.cancelled_) return;
            const end = (): void => this.fire_(member, new WorkerError('worker-killed', 'a job beside it did not end when it was cancelled, so the Worker was ended'));
            if (kill === 'now') {
                job.cancelled_ = { reason_: reason };
                return end();
            }
            member.client_.cancel_(job, reason);
            if (kill !== 'never') timers.push(later(end, this.options_.killAfterMs ?? 1000));
        };
        if (timeoutMs !== undefined) timers.push(later(() => job.ask_?.(timedOut(timeoutMs)), timeoutMs));
        member.client_.send_(job);
    }

    private hire_(): void {
        const { readyMs = 10_000 } = this.options_;
        const worker_ = this.make_();
        if (typeof (worker_ as WorkerLike | undefined)?.postMessage !== 'function') {
            throw new ArgumentError('spawn', 'a function that makes a Worker: () => new Worker(new URL("./jobs.js", import.meta.url), { type: "module" })');
        }
        const channel = worker_ as unknown as Channel;
        const member: Member = { worker_, client_: new Client(channel, () => this.changed_(member)), since_: 0 };
        this.members_.add(member);
        this.starting_ += 1;
        const lost = (text: string, cause?: unknown): void =>
            this.fire_(member, new WorkerError(member.ready_ ? 'worker-crashed' : 'worker-start', `a Worker of ${this.name_} ${text}`, cause));
        hear(channel, (message) => {
            if (message[0] === 'gone') return lost('has closed itself');
            if (message[0] !== 'ready') return member.client_.receive_(message);
            if (member.over_ || member.ready_) return;
            clearTimeout(member.timer_);
            member.timer_ = undefined;
            member.client_.plain_ = message[1];
            member.ready_ = true;
            this.starting_ -= 1;
            this.changed_(member);
        });
        listen(channel, 'messageerror', (event: unknown) => lost('sent what cannot be read here', event));
        listen(channel, 'error', (event: { message?: string; error?: unknown; preventDefault?: () => void }) => {
            // The jobs that it had are rejected with it, which is where it belongs.
            event.preventDefault?.();
            const what = member.ready_ ? 'failed' : 'could not be loaded';
            const text = event.message || (member.ready_ ? 'it is not told why' : 'is its address right, and does the server allow it?');
            lost(`${what}: ${text}`, event instanceof Error ? event : event.error);
        });
        if (channel.on) listen(channel, 'exit', (code: number) => lost(`has exited with ${code}`));
        member.timer_ = later(() => lost(`did not call expose() within ${readyMs} ms: does its module import it from "selkie/worker"?`), readyMs);
    }

    /** A Worker is ready, or has ended a job. */
    private changed_(member: Member): void {
        if (member.over_) return;
        this.pump_();
        if (member.client_.orders_.size) return;
        member.client_.channel_.unref?.();
        member.since_ = performance.now();
        const { idleMs = 30_000 } = this.options_;
        if (idleMs < Infinity && !member.timer_) this.watch_(member, idleMs, idleMs);
    }

    /** Ends a Worker that has had nothing to do for so long. Timers of the host are not free: jobs leave this one alone. */
    private watch_(member: Member, idleMs: number, ms: number): void {
        member.timer_ = later(() => {
            member.timer_ = undefined;
            if (member.client_.orders_.size) return;
            const left = member.since_ + idleMs - performance.now();
            if (left > 0) this.watch_(member, idleMs, left);
            else if (this.size > this.min_) this.fire_(member);
        }, ms);
    }

    /** Ends a Worker; its jobs are rejected with `error`, and those that were cancelled with their reason. */
    private fire_(member: Member, error = new WorkerError('pool-closed', `${this.name_} is closed`)): void {
        if (member.over_) return;
        member.over_ = true;
        clearTimeout(member.timer_);
        this.members_.delete(member);
        void member.worker_.terminate();
        member.client_.fail_(error);
        // Whoever waits for one that cannot start would wait for ever.
        if (!member.ready_) {
            this.starting_ -= 1;
            this.refuse_(error);
        } else while (!this.closed_ && this.size < this.min_) this.hire_();
        this.pump_();
    }

    private rest_(): void {
        if (this.idle_.length && !this.jobs_()) for (const resolve of this.idle_.splice(0)) resolve();
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
    const rules: Rules = {
        min: count(0),
        max: count(1),
        idleMs: (value, name) => value === Infinity || time(value, name),
        maxQueue: count(0, Infinity),
        concurrencyPerWorker: count(1),
        killAfterMs: time,
        readyMs: time,
        name: text,
    };
    return new Pool<M>(loop, spawn, check(options, rules));
}
