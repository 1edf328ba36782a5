// Loops elsewhere: a loop gives out a port, and whoever has it submits calls by name, as closures cannot be sent.

import { open, options as check, refuse } from './arguments.js';
import { Client, ORDER, type SubmitOptions, follow, order } from './client.js';
import { WorkerError, disposable } from './errors.js';
import type { Loop } from './loop.js';
import type { JobArguments, JobResult } from './pool.js';
import { type Channel, type Functions, type Interface, post, serve } from './protocol.js';
import type { Priority, Task, TaskContext } from './task.js';

/** A `MessagePort`, of a page or of Node. */
export type Port = typeof globalThis extends { MessagePort: { prototype: infer P } } ? P : { postMessage(message: any, transfer?: any): void };

/**
 * A port by which others call these functions as tasks of this loop: give it away with `postMessage(.., [port])`, and
 * connect to it by `connectLoop`. A call that is cancelled there cancels its task here, and so does the end of the connection.
 */
export function endpoint(loop: Loop, functions: Functions): Port {
    open(loop);
    const { port1, port2 } = new MessageChannel();
    const channel = port1 as unknown as Channel;
    const gone = new AbortController();
    serve(channel, functions, (call, done, failed, name, priority) => {
        const task = loop.start_((context: TaskContext) => call(() => context.signal), { name, priority: priority as Priority, signal: gone.signal });
        task.then(done, failed);
        return (reason) => task.cancel(reason);
    });
    port1.start();
    // In Node it holds its thread, which is there to be asked, for as long as the loop lives and the other side does not close.
    loop.pause_(undefined, (pause) => follow(channel, ([what]) => what === 'gone' && pause.fail_(0))).catch(() => {
        // Browsers do not tell when a port has lost its other side.
        post(channel, ['gone']);
        port1.close();
        gone.abort();
    });
    return port2 as Port;
}

/** A loop elsewhere; from `connectLoop`. */
export class RemoteLoop<M extends Interface<M> = Functions> {
    private readonly client_: Client;
    private over_: WorkerError | undefined;

    /** @internal */
    constructor(
        private readonly loop_: Loop,
        channel: Channel,
    ) {
        this.client_ = new Client(channel, () => {}, (text, cause) => this.lost_(new WorkerError('worker-crashed', `the other loop ${text}`, cause)));
        disposable(this, async () => this.close());
        channel.start!();
        // One of Node that was closed before tells nothing more, and does not hold the thread as others do from here on.
        if (channel.hasRef?.() === false) this.client_.lost_('is gone');
        channel.unref?.();
    }

    /** Has the other loop call a function that it gave out, as a task of its own. */
    submit<K extends keyof M & string>(name: K, args: Readonly<JobArguments<M[K]>>, options?: SubmitOptions): Task<JobResult<M[K]>> {
        const checked = check(options, ORDER);
        if (this.over_) throw this.over_;
        return order(this.loop_, { timeoutMs: checked.timeoutMs }, name, args, checked, (job) => {
            // Its task may begin later.
            if (this.over_) throw this.over_;
            this.client_.send_(job);
            return (reason) => {
                this.client_.cancel_(job, reason);
                // The task there goes on for as long as it cleans up. Nothing here depends on it.
                this.client_.settle_(job, job.reject_, reason);
            };
        });
    }

    /** Ends the connection; what is under way is rejected with a WorkerError, and cancelled there. */
    close(): void {
        this.lost_(new WorkerError('pool-closed', 'the connection is closed'));
    }

    declare readonly [Symbol.asyncDispose]: () => Promise<void>;

    private lost_(error: WorkerError): void {
        if (this.over_) return;
        this.over_ = error;
        this.client_.fail_(error);
        post(this.client_.channel_, ['gone']);
        this.client_.channel_.close!();
    }
}

/** Connects to a loop elsewhere by the port that its `endpoint` made. `M` is the type of the functions that it gave out. */
export function connectLoop<M extends Interface<M> = Functions>(loop: Loop, port: Port): RemoteLoop<M> {
    if (!(port as MessagePort | undefined)?.start) refuse('port', 'a port of `endpoint`', port);
    open(loop);
    return new RemoteLoop<M>(loop, port as unknown as Channel);
}
