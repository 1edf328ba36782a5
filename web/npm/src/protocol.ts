// What goes between a loop and those who work for it: Workers of a pool, and loops elsewhere.
//
// Every message has the key `selkie`, so that both sides may send each other messages of their own as well.

import { ArgumentError, type ErrorCode, SelkieError, WorkerError } from './errors.js';

/** @internal */
export type Message =
    | { selkie: 'ready' }
    | { selkie: 'run'; id: number; name: string; args: unknown[]; flag: Int32Array | undefined; priority: string | undefined }
    | { selkie: 'cancel'; id: number; reason: Envelope }
    | { selkie: 'progress'; id: number; values: unknown[] }
    | { selkie: 'done'; id: number; value: unknown }
    /** `cancelled` if the function ended with the very reason that it was given. */
    | { selkie: 'fail'; id: number; error: Envelope; cancelled?: boolean };

/** An error as its parts: cloning keeps neither class nor code of what is not the language's own. */
interface Envelope {
    kind: 'error' | 'dom' | 'value';
    value?: unknown;
    name?: string;
    message?: string;
    stack?: string | undefined;
    code?: unknown;
    cause?: Envelope;
    errors?: Envelope[];
}

/** @internal */
export function pack(error: unknown, depth = 0): Envelope {
    if (!(error instanceof Error) && !(typeof DOMException === 'function' && error instanceof DOMException)) {
        // Whatever cannot be cloned is told by its text.
        try {
            return { kind: 'value', value: structuredClone(error) };
        } catch {
            return { kind: 'value', value: String(error) };
        }
    }
    const { name, message, stack, code, cause, errors } = error as Error & { code?: unknown; errors?: unknown };
    const envelope: Envelope = { kind: error instanceof DOMException ? 'dom' : 'error', name, message, stack };
    if (typeof code === 'string' || typeof code === 'number') envelope.code = code;
    if (depth < 8) {
        if (cause !== undefined) envelope.cause = pack(cause, depth + 1);
        if (Array.isArray(errors)) envelope.errors = errors.map((one) => pack(one, depth + 1));
    }
    return envelope;
}

const KNOWN: Record<string, ErrorConstructor> = { TypeError, RangeError, SyntaxError, ReferenceError, EvalError, URIError };

/** @internal */
export function unpack(envelope: Envelope): unknown {
    const { kind, value, name = 'Error', message = '', stack, code, cause, errors } = envelope;
    if (kind === 'value') return value;
    if (kind === 'dom') return new DOMException(message, name);
    const options = cause && { cause: unpack(cause) };
    let error: Error;
    if (name === 'WorkerError') return new WorkerError(code as ErrorCode, message, options?.cause);
    if (errors) error = new AggregateError(errors.map(unpack), message, options);
    else error = new (KNOWN[name] ?? Error)(message, options);
    const put = (key: string, what: unknown): unknown => Object.defineProperty(error, key, { value: what, configurable: true, writable: true });
    if (error.name !== name) put('name', name);
    if (stack) put('stack', stack);
    if (code !== undefined) put('code', code);
    return error;
}

/** @internal A Worker, a port, or what a Worker has of its owner; those of Node as well. */
export interface Channel {
    postMessage(message: unknown, transfer: object[]): void;
    addEventListener?(type: string, listener: (event: any) => void): void;
    on?(type: string, listener: (value: any) => void): void;
    start?(): void;
    ref?(): void;
    unref?(): void;
    close?(): void;
}

/** @internal */
export function listen(channel: Channel, type: 'message' | 'messageerror' | 'error' | 'close' | 'exit', f: (value: any) => void): void {
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

const JOB: unique symbol = Symbol('job');

/** A function that wants to know about its job; from `job`. */
export interface Job<A extends unknown[], R> {
    (...args: A): R;
    readonly [JOB]: true;
}

/** Makes a function for `expose` or `endpoint` that is called with a JobContext in front of its arguments. */
export function job<A extends unknown[], R>(f: (context: JobContext, ...args: A) => R): Job<A, R> {
    if (typeof f !== 'function') throw new ArgumentError('f', 'a function');
    const wrapped = (context: JobContext, ...args: A): R => f(context, ...args);
    return Object.defineProperty(wrapped, JOB, { value: true }) as unknown as Job<A, R>;
}

/** Functions by name, as `expose` takes them. */
export type Functions = Record<string, (...args: any[]) => any>;

class Transfer {
    constructor(
        readonly value: unknown,
        readonly list: object[],
    ) {}
}

const FRAME = 16;

/** @internal Runs what the owner asks for. `start` calls a function, tells how it ended, and answers how to cancel it. */
export function serve(
    channel: Channel,
    functions: Functions,
    start: (
        message: Message & { selkie: 'run' },
        f: (...args: unknown[]) => unknown,
        args: (signal: AbortSignal) => unknown[],
        settle: (ok: boolean, value: unknown) => void,
    ) => (reason: unknown) => void,
): void {
    const cancels = new Map<number, (reason: unknown) => void>();
    const post = (message: Message, transfer: object[] = []): void => channel.postMessage(message, transfer);
    const reasons = new Map<number, unknown>();
    const fail = (id: number, error: unknown): void => {
        post({ selkie: 'fail', id, error: pack(error), cancelled: reasons.has(id) && reasons.get(id) === error });
    };
    listen(channel, 'message', (message: Message | undefined) => {
        if (message?.selkie === 'cancel' && cancels.has(message.id)) {
            const reason = unpack(message.reason);
            reasons.set(message.id, reason);
            cancels.get(message.id)!(reason);
        }
        if (message?.selkie !== 'run') return;
        const { id, name, args, flag } = message;
        const f = Object.hasOwn(functions, name) ? functions[name] : undefined;
        if (typeof f !== 'function') {
            const names = Object.keys(functions).join(', ');
            return fail(id, new WorkerError('unknown-function', `there is no function "${name}"; there are: ${names}`));
        }
        let unsent: unknown[] = [];
        let sent = -Infinity;
        let soon: ReturnType<typeof setTimeout> | undefined;
        const flush = (transfer?: object[]): void => {
            clearTimeout(soon);
            soon = undefined;
            if (unsent.length === 0) return;
            const values = unsent;
            unsent = [];
            sent = performance.now();
            post({ selkie: 'progress', id, values }, transfer);
        };
        const context = (signal: AbortSignal): JobContext => ({
            signal,
            progress(value, transfer) {
                unsent.push(value);
                // One that never awaits is sent by the next call; for others there is the timer.
                if (transfer || performance.now() - sent >= FRAME) flush(transfer);
                else soon ??= setTimeout(flush, FRAME);
            },
            shouldStop: () => signal.aborted || (flag !== undefined && Atomics.load(flag, 0) !== 0),
            transfer: (value, list) => new Transfer(value, list) as never,
        });
        const settle = (ok: boolean, value: unknown): void => {
            cancels.delete(id);
            try {
                flush();
                if (!ok) return fail(id, value);
                if (value instanceof Transfer) post({ selkie: 'done', id, value: value.value }, value.list);
                else post({ selkie: 'done', id, value });
            } catch (error) {
                fail(id, new WorkerError('not-cloneable', `what "${name}" gave cannot be sent: ${(error as Error).message}`, error));
            } finally {
                reasons.delete(id);
            }
        };
        const cancel = start(message, f, (signal) => (JOB in f ? [context(signal), ...args] : args), settle);
        cancels.set(id, cancel);
    });
}

/** @internal What was asked of another side. */
export interface Order {
    readonly id: number;
    readonly name: string;
    readonly args: unknown[];
    readonly transfer: object[];
    readonly priority: string | undefined;
    readonly onProgress: ((value: any) => void) | undefined;
    readonly resolve: (value: unknown) => void;
    readonly reject: (reason: unknown) => void;
    /** Set when it was asked to end. */
    cancelled?: { reason: unknown };
    flag?: Int32Array;
    /** Stops what waits for its end. */
    done?: () => void;
}

/** @internal The asking side of a channel. */
export class Client {
    readonly orders = new Map<number, Order>();

    constructor(
        private readonly channel: Channel,
        private readonly changed: () => void,
    ) {}

    send(order: Order): void {
        const shared = typeof SharedArrayBuffer === 'function' && (typeof crossOriginIsolated !== 'boolean' || crossOriginIsolated);
        if (shared) order.flag = new Int32Array(new SharedArrayBuffer(4));
        const { id, name, args, priority, flag } = order;
        this.orders.set(id, order);
        try {
            this.channel.postMessage({ selkie: 'run', id, name, args, flag, priority } satisfies Message, order.transfer);
        } catch (error) {
            const text = (error as Error).message;
            this.settle(order, () => order.reject(new WorkerError('not-cloneable', `an argument of "${name}" cannot be sent: ${text}`, error)));
        }
    }

    cancel(order: Order, reason: unknown): void {
        order.cancelled = { reason };
        if (order.flag) Atomics.store(order.flag, 0, 1);
        this.channel.postMessage({ selkie: 'cancel', id: order.id, reason: pack(reason) } satisfies Message, []);
    }

    receive(message: Message | undefined): void {
        if (!message || !('id' in message)) return;
        const order = this.orders.get(message.id);
        if (!order) return;
        if (message.selkie === 'progress') {
            for (const value of message.values) {
                try {
                    order.onProgress?.(value);
                } catch (error) {
                    // As that of an event listener.
                    setTimeout(() => {
                        throw error;
                    });
                }
            }
        } else if (message.selkie === 'done') this.settle(order, () => order.resolve(message.value));
        else if (message.selkie === 'fail') {
            // Cancelled: the reason itself, and not the copy that went there and back.
            this.settle(order, () => order.reject(order.cancelled && message.cancelled ? order.cancelled.reason : unpack(message.error)));
        }
    }

    settle(order: Order, f: () => void): void {
        this.orders.delete(order.id);
        order.done?.();
        f();
        this.changed();
    }

    /** No answer will come. */
    fail(error: SelkieError): void {
        for (const order of [...this.orders.values()]) {
            this.orders.delete(order.id);
            order.done?.();
            order.reject(order.cancelled ? order.cancelled.reason : error);
        }
    }
}
