// A pool of Workers. Whatever happens to one, each job ends: with its result, an error that says what happened, or the
// reason for which it was cancelled.
//
// A Worker that is given one job at a time sleeps between two of them, and to wake it costs the page more than all else about
// a job. So a Worker whose jobs are short is given some ahead, where threads share memory. It begins them in order, one
// after the other, each by a compare-exchange of the job's word, by which the page takes it back as well: whoever is first
// has it, so a job is begun once or never, and the page knows of each at any time whether it has begun. With that
//
// - all jobs that are ahead are of one priority, and are taken back when a more urgent one comes, which is then the next;
// - a Worker that is free takes over what is ahead of others; so does any whose job ends, from one that has been silent for
//   so long that those ahead of it would be late;
// - a job that is cancelled is taken back, and rejected at once; only if that is too late it is asked to end;
// - all behind a job that is asked to end, or whose Worker has crashed, are taken back, and go to another Worker;
// - a job with a timeout is not ahead, as the page has to know when it begins, nor is one whose arguments are moved, or may be
//   large: they are copied as soon as they are sent.
//
// Those that are taken back are in front of the queue, in their order.

import { type Rules, callable, count, open, options as check, refuse, text, time } from './arguments.js';
import { Client, type Lost, ORDER, type Order, SHARED, type SubmitOptions, order } from './client.js';
import { WorkerError, disposable, timedOut } from './errors.js';
import type { Loop } from './loop.js';
import { type Channel, type Functions, type Interface, type Job, listen } from './protocol.js';
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

/** A Worker, with what it was asked for. */
interface Member extends Client {
    ready_?: boolean;
    /** It has done a job. */
    proved_?: boolean;
    over_?: boolean;
    /** For its start, and then for when it has nothing to do. */
    timer_?: ReturnType<typeof setTimeout> | undefined;
    /** When it has ended a job, or was given one after it had none. */
    since_: number;
}

const later = (f: () => void, ms: number): ReturnType<typeof setTimeout> => {
    const timer = setTimeout(f, Math.min(ms, 0x7fffffff));
    // In Node nothing here is a reason to live: a Worker that works is.
    (timer as { unref?: () => void }).unref?.();
    return timer;
};

/** So many jobs a Worker has ahead at most, and this is what makes it less: ms for which it is silent. */
const AHEAD = 127;
const SILENT = 16;

/** Whether it can be given ahead: what is neither large nor an object, and can be copied. */
const light = ({ args_, options_: { timeoutMs, transfer } }: Order): boolean =>
    timeoutMs === undefined && !transfer && args_.every((one) => one === null || (typeof one === 'string' ? one.length < 1000 : 'nbu'.includes((typeof one)[0]!)));

/** Workers that do jobs; from `createPool`. */
export class Pool<M extends Interface<M> = Functions> {
    /** Not beside the class: bundlers keep a spread there, and what it names, also where there is no pool. */
    private readonly rules_: Rules = { ...ORDER, kill: ['grace', 'now', 'never'] };
    private readonly members_ = new Set<Member>();
    /** The jobs that no Worker has, by their priority, each with a queue in front of it for those that were taken back. */
    private readonly queues_ = Array.from({ length: 6 }, () => new Set<Order>());
    /** Where the first of each is. From its beginning a set is looked through with all that was taken out of it. */
    private readonly places_ = this.queues_.map((queue) => queue.values());
    private readonly firsts_: (Order | undefined)[] = [];
    private turns_ = 0;
    private readonly min_: number;
    private readonly max_: number;
    private readonly name_: string;
    private readonly each_: number;
    private starting_ = 0;
    /** The priority of those that are ahead. */
    private last_ = 0;
    private pumping_?: boolean;
    /** Why it takes no more jobs. */
    private closed_: WorkerError | undefined;
    private idle_: (() => void)[] = [];

    /** @internal */
    constructor(
        private readonly loop_: Loop,
        private readonly make_: () => WorkerLike,
        private readonly options_: Partial<PoolOptions>,
    ) {
        const { min = 0, max, name = 'pool', concurrencyPerWorker = 1 } = options_;
        const cores = globalThis.navigator?.hardwareConcurrency || 4;
        this.min_ = min;
        this.max_ = max ?? Math.max(min, Math.min(cores - 1, 4), 1);
        this.name_ = name;
        this.each_ = concurrencyPerWorker;
        if (min > this.max_) refuse('options.min', `at most options.max, ${this.max_}`, min);
        disposable(this, () => this.close());
        try {
            this.staff_();
        } catch (error) {
            this.terminate();
            throw error;
        }
    }

    /** How many Workers there are. */
    get size(): number {
        return this.members_.size;
    }

    /** How many jobs wait for a Worker. */
    get queued(): number {
        let sum = Math.max(0, this.waiting_() - this.starting_ * this.each_);
        for (const member of this.members_) sum += this.behind_(member);
        return sum;
    }

    /** How many jobs run, or have a Worker that starts. */
    get running(): number {
        return this.jobs_() - this.queued;
    }

    /** Has a Worker call a function that it exposes. Arguments and result are copied, but for what is transferred. */
    run<K extends keyof M & string>(name: K, args: Readonly<JobArguments<M[K]>>, options?: RunOptions): Task<JobResult<M[K]>> {
        const checked: RunOptions = check(options, this.rules_);
        const { maxQueue = Infinity } = this.options_;
        if (this.closed_) throw this.closed_;
        const rank = priorityOf(checked.priority);
        return order(this.loop_, { name: `${this.name_}: ${name}` }, name, args, checked, (job) => {
            // Its task may begin later.
            if (this.closed_) throw this.closed_;
            job.rank_ = rank;
            job.turn_ = this.turns_ += 1;
            if (this.last_ > rank) {
                this.last_ = rank;
                this.recall_();
            }
            this.queues_[2 * rank + 1]!.add(job);
            this.pump_();
            if (maxQueue < Infinity && this.queued > maxQueue && this.withdraw_(job)) {
                job.reject_(new WorkerError('queue-full', `${this.name_} is full`));
            }
            return (reason) => {
                if (!this.withdraw_(job)) return job.ask_?.(reason);
                job.reject_(reason);
                this.pump_();
            };
        });
    }

    /** Takes no more jobs, waits for those that there are, and ends the Workers. */
    async close(): Promise<void> {
        this.closed_ ??= new WorkerError('pool-closed', `${this.name_} is closed`);
        while (this.jobs_()) await new Promise<void>((resolve) => this.idle_.push(resolve));
        for (const member of this.members_) this.fire_(member);
    }

    /** Ends all Workers at once; the jobs are rejected with a WorkerError. */
    terminate(): void {
        const error = (this.closed_ = new WorkerError('pool-closed', `${this.name_} was terminated`));
        // Also what was sent and has not begun: for that another Worker would be made.
        this.recall_(this.members_, 0);
        while (this.refuse_(error));
        for (const member of this.members_) this.fire_(member, error);
    }

    declare readonly [Symbol.asyncDispose]: () => Promise<void>;

    private waiting_(): number {
        let sum = 0;
        for (const { size } of this.queues_) sum += size;
        return sum;
    }

    /** How many jobs a Worker has ahead. */
    private behind_({ orders_ }: Member): number {
        return Math.max(0, orders_.size - this.each_);
    }

    /** Takes a job back, from wherever it waits; not one that has begun. */
    private withdraw_(job: Order): boolean | undefined {
        return this.queues_.some((queue) => queue.delete(job)) || job.client_?.take_(job);
    }

    /** Takes back what they have ahead, or have not begun beyond so many; not what was moved there, which is here no more. */
    private recall_(members: Iterable<Member> = this.members_, beyond = this.each_): void {
        let some;
        for (const member of members) {
            if (member.orders_.size <= beyond) continue;
            for (const job of member.orders_.values()) if (!job.options_.transfer && member.take_(job)) some = this.queues_[2 * job.rank_!]!.add(job);
        }
        if (!some) return;
        for (const at of [0, 2, 4]) {
            const queue = (this.queues_[at] = new Set([...this.queues_[at]!].sort((a, b) => a.turn_! - b.turn_!)));
            this.places_[at] = queue.values();
            this.firsts_[at] = undefined;
        }
    }

    private jobs_(): number {
        let sum = this.waiting_();
        for (const { orders_ } of this.members_) sum += orders_.size;
        return sum;
    }

    /** The next job. */
    private next_(): Order | undefined {
        const at = this.queues_.findIndex(({ size }) => size);
        const queue = this.queues_[at];
        if (queue && !queue.has(this.firsts_[at]!)) {
            let { value } = this.places_[at]!.next();
            // One that has come to the end stays there.
            if (!value) ({ value } = (this.places_[at] = queue.values()).next());
            this.firsts_[at] = value;
        }
        return this.firsts_[at];
    }

    /** Rejects the next job; whether there was one. */
    private refuse_(error: WorkerError): boolean | undefined {
        const job = this.next_();
        return job && this.withdraw_(job) && (job.reject_(error), true);
    }

    private pump_(): void {
        // A job that cannot be sent ends within: thousands of them must not nest.
        if (this.pumping_) return;
        this.pumping_ = true;
        for (;;) {
            let best: Member | undefined;
            let load = Infinity;
            let ahead = 0;
            for (const member of this.members_) {
                const { size } = member.orders_;
                ahead += this.behind_(member);
                if (member.ready_ && !size && !member.timer_) this.watch_(member);
                if (member.ready_ && size < load && size < this.each_ + member.ahead_) [best, load] = [member, size];
            }
            let job = this.next_();
            const free = load < this.each_;
            // What is more urgent than all that waits here is not left to another. Of the same priority that is done soon.
            if (free && ahead && (!job || this.last_ < job.rank_!)) {
                this.recall_();
                job = this.next_();
            }
            if (!job) break;
            if ((!best || load) && this.size < this.max_ && this.starting_ < this.waiting_()) {
                try {
                    this.hire_();
                } catch (error) {
                    this.refuse_(new WorkerError('worker-start', `${this.name_} cannot make a Worker: ${(error as Error)?.message}`, error));
                }
            } else if (best && (free || (!this.starting_ && light(job) && (!ahead || this.last_ === job.rank_)))) {
                this.withdraw_(job);
                if (!free) this.last_ = job.rank_!;
                this.send_(best, job);
            } else break;
        }
        this.pumping_ = false;
        for (const member of this.members_) member.flush_();
        if (!this.jobs_()) for (const resolve of this.idle_.splice(0)) resolve();
    }

    private send_(member: Member, job: Order): void {
        const { timeoutMs, kill } = job.options_ as RunOptions;
        const timers: ReturnType<typeof setTimeout>[] = [];
        job.done_ = () => {
            job.ask_ = undefined;
            timers.forEach(clearTimeout);
        };
        job.ask_ = (reason) => {
            // Who has ended must not be ended with what its Worker does now.
            if (job.cancelled_ || member.ended_(job)) return;
            member.ahead_ = 0;
            this.recall_([member]);
            const end = (): void => this.fire_(member, new WorkerError('worker-killed', 'another job of its Worker ignored a cancel'));
            member.cancel_(job, reason);
            if (kill === 'now') end();
            else if (kill !== 'never') timers.push(later(end, this.options_.killAfterMs ?? 1000));
            this.pump_();
        };
        if (timeoutMs !== undefined) timers.push(later(() => job.task_.cancel(timedOut(timeoutMs)), timeoutMs));
        if (!member.orders_.size) member.since_ = performance.now();
        // Where memory is shared one that is cancelled meanwhile is taken back; else that would come before the job does.
        member.send_(job, SHARED && light(job));
    }

    private hire_(): void {
        const { readyMs = 10_000 } = this.options_;
        const worker = this.make_() as WorkerLike & { selkie?: WorkerLike['terminate'] };
        // One that has a place in a pool says only once that it is ready: in another place jobs would wait for that.
        if (!(worker as WorkerLike | undefined)?.postMessage || worker.selkie) {
            refuse('spawn', 'a function that makes new Workers', worker);
        }
        worker.selkie = worker.terminate;
        // By others: browsers tell nobody. The pool has let go of it before it does.
        worker.terminate = () => (lost('was terminated'), worker.selkie!());
        const channel = worker as unknown as Channel;
        const lost: Lost = (text, cause) =>
            this.fire_(member, new WorkerError(member.ready_ ? 'worker-crashed' : 'worker-start', `a Worker of ${this.name_} ${text}`, cause));
        const member: Member = Object.assign(new Client(channel, () => this.changed_(member), lost, this.each_), { since_: 0 });
        let failed: (() => void) | undefined;
        // In Node it is what was thrown, whatever that is.
        listen(channel, 'error', (event: { message?: string; error?: unknown; preventDefault?: () => void } | null) => {
            // The jobs that it had are rejected with it, which is where it belongs.
            event?.preventDefault?.();
            const [what, why] = member.ready_ ? ['failed', 'no reason given'] : ['could not be loaded', 'is its address right and allowed?'];
            failed = () => lost(`${what}: ${event?.message || (channel.on ? event : why)}`, channel.on ? event : event!.error);
            // What it sent before may come after this, but in Node not after its exit, of which not every host may tell.
            setTimeout(failed, channel.on ? 99 : 0);
        });
        channel.on?.('exit', (code: number) => {
            failed?.();
            lost(`has exited with ${code}`);
        });
        this.members_.add(member);
        this.starting_ += 1;
        member.timer_ = later(() => lost(`did not call expose() of selkie/worker within ${readyMs} ms`), readyMs);
    }

    /** A Worker is ready, or has ended a job. */
    private changed_(member: Member): void {
        if (member.over_) return;
        if (!member.ready_) {
            clearTimeout(member.timer_);
            member.timer_ = undefined;
            member.ready_ = true;
            member.channel_.unref?.();
            this.starting_ -= 1;
        }
        const now = performance.now();
        // It is always one less than a power of two, or 0.
        member.ahead_ = SHARED && now - member.since_ < SILENT ? (2 * member.ahead_ + 1) & AHEAD : 0;
        member.since_ = now;
        // Once half of those that it had ahead are done it is given many, as one message.
        let due = this.behind_(member) <= member.ahead_ / 2;
        for (const other of this.members_) {
            if (now - other.since_ < SILENT) continue;
            other.ahead_ = 0;
            this.recall_([other]);
            due = true;
        }
        // Most often nobody waits, and none of them has become idle for the first time.
        if (due && (this.jobs_() || this.idle_.length || !member.timer_)) this.pump_();
        // Those that had failed before their first job were not replaced. This one has done a job, so others can.
        if (member.proved_ || this.pumping_ || !member.worked_) return;
        member.proved_ = true;
        this.staff_();
    }

    /** Ends a Worker that has had nothing to do for so long. Timers of the host are not free: jobs leave this one alone. */
    private watch_(member: Member, ms?: number): void {
        const { idleMs = 30_000 } = this.options_;
        member.timer_ = later(() => {
            member.timer_ = undefined;
            if (member.orders_.size) return;
            const left = member.since_ + idleMs - performance.now();
            if (left > 0) this.watch_(member, left);
            else if (this.size > this.min_) this.fire_(member);
        }, ms ?? idleMs);
    }

    /** Ends a Worker; the jobs that it has are rejected with `error`, and those that were cancelled with their reason. */
    private fire_(member: Member, error?: WorkerError): void {
        if (member.over_) return;
        member.over_ = true;
        clearTimeout(member.timer_);
        this.members_.delete(member);
        this.recall_([member], 0);
        // What it still has it had begun.
        const worked = member.worked_ || member.orders_.size;
        void member.channel_.terminate!();
        member.fail_(error!);
        if (!member.ready_) this.starting_ -= 1;
        // Another one would do no better: they would be made for ever, and whoever waits would wait as long.
        if (error && !worked) this.refuse_(error);
        // First, as what makes Workers may throw.
        this.pump_();
        if (worked) this.staff_();
    }

    /** Has as many Workers as are kept. */
    private staff_(): void {
        while (!this.closed_ && this.size < this.min_) this.hire_();
    }
}

/**
 * Makes a pool of Workers, whose module calls `expose` of `selkie/worker`.
 *
 * `spawn` is a function with the literal `new Worker(new URL('./jobs.js', import.meta.url), { type: 'module' })` in it, by which
 * bundlers know a Worker. `M` is the type of the object that is exposed: `createPool<typeof jobs>(..)`.
 */
export function createPool<M extends Interface<M> = Functions>(loop: Loop, spawn: () => WorkerLike, options?: PoolOptions): Pool<M> {
    open(loop);
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
