// Writes down what the tasks of a loop do. What a task has had turns for comes from `loop.observe`; what it waits for, and
// when an async function went on, from a context that stands in front of the loop's own.

import type { Loop, Observer, Pool, Task, TaskContext } from 'selkie';
import { failure } from './inspect';
import type { Ended, Event } from './events';

/** So many tasks are told one by one, the others are counted. */
const EACH = 120;
/** Turns that are no further apart are shown as one. */
const CLOSE = 4;

interface Record {
    readonly id: number;
    block: number;
    from: number;
    to: number;
    /** Whether the block has grown since it was told. */
    grown: boolean;
    waits: string;
    /** What was told last. */
    said: string;
    /** What its body has thrown. Asking the task would count as having looked at it, and hide a failure that nobody handles. */
    thrown?: unknown;
}

type Body = (context: TaskContext) => unknown;

export class Recorder {
    private events: Event[] = [];
    private pending = false;
    private readonly records = new Map<Task<unknown>, Record>();
    private readonly touched = new Set<Record>();
    private readonly many = { type: 'many' as const, made: 0, done: 0, failed: 0, cancelled: 0 };
    private manyChanged = false;
    private ids = 0;
    private made = 0;
    /** Tasks that have not ended, callbacks that have not been called. */
    live = 0;
    readonly loops = new Set<Loop>();
    private last = 0;

    constructor(
        private readonly began: number,
        /** Told of each event, and of the first change of what is told in batches. */
        private readonly news: () => void,
    ) {}

    /** Milliseconds since the run began; of a simulated loop once there is one. */
    now = (): number => performance.now() - this.began;

    add(event: Event): void {
        this.events.push(event);
        this.pending = true;
        this.news();
    }

    private mark(): void {
        if (this.pending) return;
        this.pending = true;
        this.news();
    }

    private touch(record: Record): void {
        this.touched.add(record);
        this.mark();
    }

    /** What has happened since the last time. */
    take(): Event[] {
        this.pending = false;
        for (const record of this.touched) {
            const { id, block, from, to, grown, waits, said } = record;
            if (grown) this.events.push({ type: 'run', id, block, from, to });
            if (waits !== said) this.events.push({ type: 'wait', id, what: waits });
            record.grown = false;
            record.said = waits;
        }
        this.touched.clear();
        if (this.manyChanged) this.events.push({ ...this.many });
        this.manyChanged = false;
        const { events } = this;
        this.events = [];
        return events;
    }

    /** Has a loop tell what it does. A simulated one has a time of its own. */
    watch<L extends Loop>(loop: L, simulated = false): L {
        this.loops.add(loop);
        if (simulated) this.now = () => (loop.closed ? this.last : (this.last = loop.now()));
        const at = (time: number): number => (simulated ? this.now() : Math.max(0, time - this.began));
        // There is one observer a loop, so this one tells that of the code.
        let theirs: Observer = {};
        loop.observe({
            spawned: (task) => {
                theirs.spawned?.(task);
                this.live += 1;
                this.made += 1;
                if (this.made > EACH) {
                    this.many.made += 1;
                    this.count();
                    return;
                }
                const record: Record = { id: ++this.ids, block: -1, from: 0, to: -Infinity, grown: false, waits: '', said: '' };
                this.records.set(task, record);
                const parent = task.parent && this.records.get(task.parent);
                this.add({ type: 'task', id: record.id, parent: parent?.id ?? 0, name: task.name, priority: task.priority, at: at(performance.now()) });
            },
            stepped: (task, from, to) => {
                theirs.stepped?.(task, from, to);
                const record = this.records.get(task);
                if (record) this.ran(record, at(from), at(to));
            },
            ended: (task) => {
                theirs.ended?.(task);
                this.live -= 1;
                const record = this.records.get(task);
                const state = task.state as Ended;
                if (!record) {
                    this.many[state] += 1;
                    this.count();
                    return;
                }
                const why = state === 'done' || !('thrown' in record) ? '' : failure(record.thrown);
                // Its record stays: the turn in which it has ended is told of when it is over.
                this.add({ type: 'end', id: record.id, state, at: at(performance.now()), why });
            },
        });
        loop.observe = (observer) => {
            theirs = observer;
            return () => void (theirs === observer && (theirs = {}));
        };
        this.dress(loop, at);
        return loop;
    }

    /** A pool tells how far its jobs are. */
    watchPool<P extends Pool>(pool: P): P {
        const run = pool.run.bind(pool) as (name: string, args: unknown[], options?: object) => Task<unknown>;
        const replaced = (name: string, args: unknown[], options: { onProgress?: (value: unknown) => void } = {}): Task<unknown> => {
            let record: Record | undefined;
            const onProgress = (value: unknown): void => {
                if (record && typeof value === 'number') this.add({ type: 'progress', id: record.id, part: Math.min(1, Math.max(0, value)) });
                options.onProgress?.(value);
            };
            const task = run(name, args, { ...options, onProgress });
            record = this.records.get(task);
            if (record) this.waits(record, 'a Worker');
            return task;
        };
        return Object.assign(pool, { run: replaced });
    }

    private count(): void {
        this.manyChanged = true;
        this.mark();
    }

    private ran(record: Record, from: number, to: number): void {
        if (from - record.to > CLOSE || record.block < 0) {
            if (record.grown) this.add({ type: 'run', id: record.id, block: record.block, from: record.from, to: record.to });
            record.block += 1;
            record.from = from;
        }
        record.to = Math.max(to, record.from);
        record.grown = true;
        this.touch(record);
    }

    private waits(record: Record, what: string): void {
        record.waits = what;
        this.touch(record);
    }

    /** Puts a watched context in front of each body. The loop's own methods stay what they are for all beyond `EACH`. */
    private dress(loop: Loop, at: (time: number) => number): void {
        const body = (original: unknown): unknown => this.dressed(original, at);
        const spawn = (owner: { spawn: unknown }): void => {
            const plain = (owner.spawn as (body: unknown, options?: unknown) => unknown).bind(owner);
            owner.spawn = (original: unknown, options?: unknown) => plain(body(original), options);
        };
        spawn(loop);
        const { gather, withGroup, group, soon, later } = loop as unknown as { [name: string]: (...args: any[]) => any };
        const counted = (f: unknown, call: (f: unknown) => { cancel(): boolean }): object => {
            if (typeof f !== 'function') return call(f);
            let open = true;
            const end = (): void => {
                if (open) this.live -= 1;
                open = false;
            };
            const handle = call(() => {
                end();
                (f as () => void)();
            });
            this.live += 1;
            const { cancel } = handle;
            const watched = (): boolean => cancel() && (end(), true);
            return Object.assign(handle, { cancel: watched, [Symbol.dispose ?? Symbol.for('Symbol.dispose')]: () => void watched() });
        };
        Object.assign(loop, {
            gather: (members: Iterable<unknown>, options?: unknown) => gather!.call(loop, Symbol.iterator in Object(members) ? [...members].map(body) : members, options),
            withGroup: (original: unknown, options?: unknown) => {
                if (typeof original !== 'function') return withGroup!.call(loop, original, options);
                const watched = (inner: { spawn: unknown }, context: TaskContext): unknown => {
                    spawn(inner);
                    return (this.dressed((one: TaskContext) => original(inner, one), at) as Body)(context);
                };
                return withGroup!.call(loop, watched, options);
            },
            group: (options?: unknown) => {
                const made = group!.call(loop, options) as { spawn: unknown };
                spawn(made);
                return made;
            },
            soon: (f: unknown) => counted(f, (inner) => soon!.call(loop, inner)),
            later: (ms: unknown, f: unknown) => counted(f, (inner) => later!.call(loop, ms, inner)),
        });
    }

    private dressed(original: unknown, at: (time: number) => number): unknown {
        if (typeof original !== 'function' || this.made >= EACH) return original;
        return (context: TaskContext): unknown => {
            const record = this.records.get(context.task);
            const note = (error: unknown): never => {
                if (record) record.thrown = error;
                throw error;
            };
            let made: unknown;
            try {
                made = (original as Body)(this.context(context, at));
            } catch (error) {
                return note(error);
            }
            if (made instanceof Promise) made.then(undefined, note).catch(() => {});
            if (!isGenerator(made)) return made;
            // Of a generator each step is seen, and the task that it goes on to wait for.
            return stepwise(made, (step) => {
                if (record) this.waits(record, '');
                try {
                    const result = step();
                    if (record && this.records.has(result.value as Task<unknown>)) this.waits(record, `"${(result.value as Task<unknown>).name}"`);
                    return result;
                } catch (error) {
                    return note(error);
                }
            });
        };
    }

    private context(context: TaskContext, at: (time: number) => number): TaskContext {
        const record = this.records.get(context.task);
        if (!record) return context;
        const wait = <T>(what: string, waiting: T): T => {
            this.waits(record, what);
            // Of a generator it is a request and no promise; its turns are seen by the observer.
            if (waiting instanceof Promise) {
                const back = (): void => {
                    this.waits(record, '');
                    this.ran(record, at(performance.now()), at(performance.now()));
                };
                waiting.then(back, back);
            }
            return waiting;
        };
        const of = (what: unknown): string => (this.records.has(what as Task<unknown>) ? `"${(what as Task<unknown>).name}"` : 'a promise');
        return {
            get signal() {
                return context.signal;
            },
            task: context.task,
            loop: context.loop,
            sleep: (ms) => wait(`sleep(${ms})`, context.sleep(ms)),
            yield: () => wait('its turn', context.yield()),
            shouldYield: () => context.shouldYield(),
            wait: (what) => wait(of(what), context.wait(what)),
            shield: (what) => wait(of(what), context.shield(what)),
            spawn: ((original: Body, options?: object) => context.spawn(this.dressed(original, at) as never, options)) as TaskContext['spawn'],
        };
    }
}

const isGenerator = (value: unknown): value is Generator =>
    typeof (value as Generator | null)?.next === 'function' && typeof (value as Generator)[Symbol.iterator] === 'function';

/** A generator each of whose steps goes through `around`. */
function stepwise(generator: Generator, around: (step: () => IteratorResult<unknown>) => IteratorResult<unknown>): object {
    return {
        next: (value: unknown) => around(() => generator.next(value)),
        throw: (error: unknown) => around(() => generator.throw(error)),
        return: (value: unknown) => around(() => generator.return(value)),
        [Symbol.iterator]() {
            return this;
        },
    };
}
