// What the code that runs tells the page, in the Worker as on the page's own thread. Times are milliseconds since the run began.

export type Ended = 'done' | 'failed' | 'cancelled';

export type Event =
    /** A task was made. `lazy` is one that has not run when `spawn` returns. */
    | { type: 'task'; id: number; parent: number; name: string; priority: string; at: number }
    /** A task ran. The block with the same number before is replaced: a row of short turns is one block that grows. */
    | { type: 'run'; id: number; block: number; from: number; to: number }
    /** What a task waits for, in words. */
    | { type: 'wait'; id: number; what: string }
    | { type: 'progress'; id: number; part: number }
    | { type: 'end'; id: number; state: Ended; at: number; why: string }
    /** Of the tasks that are too many to be told one by one. */
    | { type: 'many'; made: number; done: number; failed: number; cancelled: number }
    | { type: 'log'; level: Level; at: number; text: string; line: number; file: string }
    /** The module is at its end. `error` is what it has thrown. */
    | { type: 'over'; at: number; error: Failure | undefined };

export type Level = 'log' | 'warn' | 'error';

/** An error of the code, and where it was thrown if that can be told. */
export interface Failure {
    readonly text: string;
    readonly file: string;
    readonly line: number;
    readonly column: number;
}

/** What to run. */
export interface Order {
    readonly files: { readonly name: string; readonly code: string }[];
}
