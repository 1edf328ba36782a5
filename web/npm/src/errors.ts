// What this package throws and rejects with. Cancelling is not among it: that rejects with the signal's or the caller's
// own reason, by default a DOMException named AbortError, and a timeout with one named TimeoutError.

declare global {
    // As lib.esnext.disposable has it; also for those who compile without that.
    interface SymbolConstructor {
        readonly dispose: unique symbol;
        readonly asyncDispose: unique symbol;
    }
}

/** What went wrong, for programs. */
export type ErrorCode =
    | 'invalid-argument'
    | 'invalid-state'
    | 'load-failed'
    | 'loop-closed'
    | 'loop-crashed'
    | 'queue-closed'
    | 'queue-full'
    | 'barrier-broken'
    | 'group-failed'
    | 'deadlock'
    | 'pool-closed'
    | 'worker-start'
    | 'worker-crashed'
    | 'worker-killed'
    | 'not-cloneable'
    | 'unknown-function';

/** An error of this package; `code` says which. */
export class SelkieError extends Error {
    readonly code: ErrorCode;

    constructor(code: ErrorCode, message: string, cause?: unknown, name = 'SelkieError') {
        super(message, cause === undefined ? undefined : { cause });
        this.code = code;
        named(this, name);
    }
}

/** An argument that cannot be meant: `argument` is its name, as the documentation has it. */
export class ArgumentError extends TypeError {
    readonly code = 'invalid-argument' as const;
    readonly argument: string;

    constructor(argument: string, message: string) {
        super(`${argument}: ${message}`);
        this.argument = argument;
        named(this, 'ArgumentError');
    }
}

/** The loop was closed: nothing can be started on it, and what had not ended is rejected with this. */
export class LoopClosedError extends SelkieError {
    constructor() {
        super('loop-closed', 'the loop is closed: make another with createLoop()', undefined, 'LoopClosedError');
    }
}

/** The scheduler itself failed, which is a bug of this package: all that ran on the loop is rejected with this. */
export class LoopCrashedError extends SelkieError {
    constructor(cause: unknown) {
        super('loop-crashed', 'the scheduler failed: make another with createLoop()', cause, 'LoopCrashedError');
    }
}

/** The queue was closed, and gives and takes nothing more. */
export class QueueClosedError extends SelkieError {
    constructor() {
        super('queue-closed', 'the queue is closed', undefined, 'QueueClosedError');
    }
}

/** A Worker, or what was to go to one. */
export class WorkerError extends SelkieError {
    constructor(code: ErrorCode, message: string, cause?: unknown) {
        super(code, message, cause, 'WorkerError');
    }
}

/** Tasks of a group failed; `errors` has the error of each, in the order in which they came. */
export class GroupError extends AggregateError {
    readonly code = 'group-failed' as const;

    constructor(errors: readonly unknown[]) {
        const first = errors[0];
        super(errors, `${errors.length} of the group failed, first: ${String((first as Error | undefined)?.message ?? first)}`);
        this.cause = first;
        named(this, 'GroupError');
    }
}

/** @internal A property that is hidden, as those of the language's own are. */
export function define<T extends object>(of: T, key: PropertyKey, value: unknown): T {
    return Object.defineProperty(of, key, { value, configurable: true, writable: true });
}

/** Not in a static block, which would keep bundlers from leaving the class out. */
const named = (error: Error, name: string): Error => define(error, 'name', name);

/** @internal */
export const aborted = (): DOMException => new DOMException('The task was cancelled.', 'AbortError');

/** @internal */
export const timedOut = (ms: number): DOMException => new DOMException(`The time of ${ms} ms is over.`, 'TimeoutError');

/** @internal */
export const asyncDispose = (Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')) as typeof Symbol.asyncDispose;

/** @internal */
export const dispose = (Symbol.dispose ?? Symbol.for('Symbol.dispose')) as typeof Symbol.dispose;

/**
 * @internal
 *
 * What `await using` calls, on the instance: a computed name in a class keeps bundlers from leaving the class out.
 */
export const disposable = (of: object, end: () => Promise<void>): object => define(of, asyncDispose, end);

/**
 * @internal
 *
 * Calls what is the application's. An error of that is shown as one that nobody has caught, as that of a timer: it must unwind nothing
 * here.
 */
export function tell(f: () => void): void {
    try {
        f();
    } catch (error) {
        setTimeout(() => {
            throw error;
        });
    }
}
