// What goes between a loop and those who work for it: Workers of a pool, and loops elsewhere.
//
// Every message has the key `selkie`, so that both sides may send each other messages of their own as well.

import { callable, refuse } from './arguments.js';
import { type ErrorCode, WorkerError, define } from './errors.js';

/** @internal */
export type Run = [id: number, name: string, args: unknown[], word: number | undefined, priority: string | undefined];

/** @internal */
export type Message =
    | ['ready']
    | ['gone']
    /** Something came that could not be read, nor what it was. The answer says which jobs were sent. */
    | ['unread', ids?: number[]]
    /** A job never came. */
    | ['lost', id: number]
    /** More words for jobs, and how many of them may be done at once. */
    | ['words', words: Int32Array, each: number]
    | ['run', runs: Run[]]
    | ['cancel', id: number, reason: Envelope]
    | ['progress', id: number, values: unknown[]]
    | ['done', id: number, value: unknown]
    /** Cancelled if the function ended with the very reason that it was given. */
    | ['fail', id: number, error: Envelope, cancelled: boolean];

/** An error as its parts: cloning keeps neither class nor code of what is not the language's own. */
interface Envelope {
    /** What is no error. */
    value?: unknown;
    dom?: boolean;
    name?: string;
    message?: string;
    stack?: string | undefined;
    code?: unknown;
    cause?: Envelope;
    errors?: Envelope[];
}

/** @internal */
export function pack(error: unknown, depth = 0): Envelope {
    if (!(error instanceof Error)) {
        // Whatever cannot be cloned is told by its text.
        try {
            return { value: structuredClone(error) };
        } catch {
            return { value: String(error) };
        }
    }
    const { name, message, stack, code, cause, errors } = error as Error & { code?: unknown; errors?: unknown };
    const envelope: Envelope = { name, message, stack, dom: error instanceof DOMException };
    if (typeof code === 'string' || typeof code === 'number') envelope.code = code;
    if (depth < 8) {
        if (cause !== undefined) envelope.cause = pack(cause, depth + 1);
        if (Array.isArray(errors)) envelope.errors = errors.map((one) => pack(one, depth + 1));
    }
    return envelope;
}

const KNOWN: Record<string, ErrorConstructor> = { TypeError, RangeError, SyntaxError, ReferenceError, EvalError, URIError };

/** @internal */
export function unpack({ value, dom, name, message, stack, code, cause, errors }: Envelope): unknown {
    if (dom === undefined) return value;
    if (dom) return new DOMException(message, name);
    const options = cause && { cause: unpack(cause) };
    if (name === 'WorkerError') return new WorkerError(code as ErrorCode, message!, options?.cause);
    const error = errors ? new AggregateError(errors.map(unpack), message, options) : new (KNOWN[name!] ?? Error)(message, options);
    for (const [key, one] of Object.entries({ name, stack, code })) if (one !== undefined) define(error, key, one);
    return error;
}

/** @internal A Worker, a port, or what a Worker has of its owner; those of Node as well. */
export interface Channel {
    postMessage(message: unknown, transfer?: object[]): void;
    addEventListener?(type: string, listener: (event: any) => void): void;
    on?(type: string, listener: (value: any) => void): void;
    start?(): void;
    ref?(): void;
    unref?(): void;
    hasRef?(): boolean;
    close?(): void;
    terminate?(): unknown;
}

/** @internal */
export function listen(channel: Channel, type: 'message' | 'messageerror' | 'error' | 'close', f: (value: any) => void): void {
    // First, as a port of Node has both, and a Worker of Node only this one.
    if (channel.on) channel.on(type, f);
    else channel.addEventListener!(type, (event) => f(type === 'message' ? event.data : event));
}

/** What a function that was made by `job` is called with first. */
export interface JobContext {
    /** Aborted when the caller has cancelled the job. */
    readonly signal: AbortSignal;
    /** Tells the caller how far it is. Several calls within a frame are sent as one. */
    progress(value: unknown, transfer?: object[]): void;
    /**
     * Whether the caller has cancelled the job; also seen by a function that never awaits, if the page is isolated or in
     * Node. Elsewhere such a function learns nothing, and its Worker is ended after `killAfterMs`.
     */
    shouldStop(): boolean;
    /** `value` as the result, with these of its parts moved and not copied. */
    transfer<T>(value: T, transfer: object[]): T;
}

/** The same in all entries of the package: what is made for a Worker may also be given out by a loop. */
const JOB: unique symbol = Symbol.for('selkie');

/** A function that wants to know about its job; from `job`. */
export interface Job<A extends unknown[], R> {
    (...args: A): R;
    readonly [JOB]: true;
}

/** Makes a function for `expose` or `endpoint` that is called with a JobContext in front of its arguments. */
export function job<A extends unknown[], R>(f: (context: JobContext, ...args: A) => R): Job<A, R> {
    callable(f, 'f');
    return define((context: JobContext, ...args: A): R => f(context, ...args), JOB, true) as unknown as Job<A, R>;
}

/** Functions by name, as `expose` takes them. */
export type Functions = Record<string, (...args: any[]) => any>;

/** What those who call them know of them: the type of such an object, or an interface. */
export type Interface<M> = { [K in keyof M]: (...args: any[]) => any };

const FRAME = 16;

/** ms for which a Worker does one job after the other before it looks at what else has come. */
const ROW = 4;

/** @internal */
export const post = (channel: Channel, message: Message, transfer?: object[]): void => channel.postMessage({ selkie: message }, transfer);

/** @internal Calls `f` with the messages of the other side that are ours. */
export const hear = (channel: Channel, f: (message: Message) => unknown): void =>
    listen(channel, 'message', (data: { selkie?: Message } | undefined) => data?.selkie && f(data.selkie));

/**
 * @internal Where the word of a job is. Both sides see it: it is `id` when the job is sent, `~id` once it has begun, and 0
 * when it is cancelled, taken back, or has ended. No id is of those that say something else of another: see `order`. A message of a
 * job that was taken back may be read when its word serves another, and then begins nothing.
 */
export const WORDS = 256;
/** @internal */
export const wordOf = (all: Int32Array[], word: number): [Int32Array, number] => [all[(word / WORDS) | 0]!, word % WORDS];

/**
 * @internal Runs what the owner asks for, until the function is called that it answers. `start` has a function called, tells how it
 * ended, also by what it throws itself, and answers how to cancel it.
 */
export function serve(
    channel: Channel,
    functions: Functions,
    start: (
        call: (signal: () => AbortSignal) => unknown,
        done: (value: unknown) => void,
        failed: (error: unknown) => void,
        name: string,
        priority: string | undefined,
    ) => (reason: unknown) => void,
    immediate?: (f: () => void) => void,
): () => unknown {
    if (!functions || typeof functions !== 'object') refuse('functions', 'an object of functions', functions);
    const cancels = new Map<number, (reason: unknown) => void>();
    const words: Int32Array[] = [];
    /** Jobs that came ahead, and those before them wait themselves. */
    let waiting: Run[] = [];
    let each = Infinity;
    let running = 0;
    let hop: MessageChannel | undefined;
    /** When this thread has last looked. */
    let looked = 0;
    const next = (looks: unknown): void => {
        if (looks) looked = performance.now();
        while (waiting.length && running < each) begin(waiting.shift()!);
    };
    const free = (looks?: unknown): void => {
        running -= 1;
        next(looks);
    };
    hear(channel, (message) => {
        if (message[0] === 'words') {
            words.push(message[1]);
            each = message[2];
        } else if (message[0] === 'cancel') cancels.get(message[1])?.(unpack(message[2]));
        else if (message[0] === 'run') {
            waiting = waiting.concat(message[1]);
            // Behind one alone nobody waits.
            next(waiting.length + running > 1);
        } else if (message[0] === 'unread') {
            for (const id of message[1]!) if (!cancels.has(id) && waiting.every((run) => run[0] !== id)) post(channel, ['lost', id]);
        }
    });
    listen(channel, 'messageerror', () => post(channel, ['unread']));
    function begin([id, name, args, word, priority]: Run): void {
        // Memory is shared with no other agent cluster, as that of a SharedWorker.
        const at = !!words.length && wordOf(words, word!);
        // No other loop takes anything back: what was cancelled begins there, and is told so.
        if (at && Atomics.compareExchange(...at, id, ~id) !== (id | 0) && each < Infinity) return;
        // Until it is asked to end it is nothing that a function could throw.
        let why: unknown = cancels;
        const fail = (error: unknown): void => post(channel, ['fail', id, pack(error), why === error]);
        const f = Object.hasOwn(functions, name) && functions[name];
        if (typeof f !== 'function') {
            return fail(new WorkerError('unknown-function', `no function "${name}"; there are ${Object.keys(functions).join(', ')}`));
        }
        let moved: object[] | undefined;
        let unsent: unknown[] = [];
        let sent = -FRAME;
        let soon: ReturnType<typeof setTimeout> | undefined;
        const flush = (transfer?: object[]): void => {
            if (!unsent.length) return;
            sent = performance.now();
            post(channel, ['progress', id, unsent], transfer);
            unsent = [];
        };
        const context = (signal: AbortSignal): JobContext => ({
            signal,
            progress(value, transfer) {
                unsent.push(value);
                // One that never awaits is sent by the next call; for others there is the timer.
                if (transfer || performance.now() - sent >= FRAME) return flush(transfer);
                soon ??= setTimeout(() => {
                    soon = undefined;
                    try {
                        flush();
                    } catch {
                        // Told by what the job sends next, or by its end: it is still there.
                    }
                }, FRAME);
            },
            shouldStop: () => signal.aborted || (at && Atomics.load(...at) !== ~id),
            transfer(value, list) {
                // Two parts may be of the same memory, and no host takes a list that has it twice.
                moved = [...new Set(list.concat(moved ?? []))];
                return value;
            },
        });
        const done = (value: unknown, tell = (result: unknown): void => post(channel, ['done', id, result], moved)): void => {
            cancels.delete(id);
            if (at) Atomics.compareExchange(...at, ~id, 0);
            try {
                flush();
                tell(value);
            } catch (error) {
                fail(notCloneable(`what "${name}" gave`, error));
            }
            // What else this thread has to do is not kept waiting by a row of jobs. In Node many messages are one macrotask.
            if (immediate) immediate(free);
            else if (!waiting.length) free();
            else if (performance.now() - looked > ROW) {
                hop ??= new MessageChannel();
                hop.port1.onmessage = free;
                hop.port2.postMessage(0);
            } else void Promise.resolve().then(free);
        };
        let cancel: ((reason: unknown) => void) | undefined;
        // First, as it may end within.
        cancels.set(id, (reason) => cancel?.((why = reason)));
        running += 1;
        try {
            cancel = start((signal) => (JOB in f ? f(context(signal()), ...args) : f(...args)), done, (error) => done(error, fail), name, priority);
        } catch (error) {
            done(error, fail);
        }
    }
    return () => (each = 0);
}

/** @internal */
export const notCloneable = (what: string, error: unknown): WorkerError =>
    new WorkerError('not-cloneable', `${what} cannot be sent: ${String((error as Error | null)?.message)}`, error);
