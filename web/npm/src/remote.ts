// Loops elsewhere: a loop gives out a port, and whoever has it submits calls by name, as closures cannot be sent.

import { open, options as check, refuse } from './arguments.js';
import { Client, ORDER, type SubmitOptions, order } from './client.js';
import { WorkerError, disposable } from './errors.js';
import type { Loop } from './loop.js';
import type { JobArguments, JobResult } from './pool.js';
import { type Channel, type Functions, type Interface, hear, listen, serve } from './protocol.js';
import type { Priority, Task, TaskContext } from './task.js';

/** A `MessagePort`, of a page or of Node. */
export type Port = typeof globalThis extends { MessagePort: { prototype: infer P } } ? P : { postMessage(message: any, transfer?: any): void };

/**
 * A port by which others call these functions as tasks of this loop: give it away with `postMessage(.., [port])`, and
 * connect to it by `connectLoop`. A call that is cancelled there cancels its task here.
 */
export function endpoint(loop: Loop, functions: Functions): Port {
    open(loop);
    const { port1, port2 } = new MessageChannel();
    serve(port1 as unknown as Channel, functions, ([, name, , , priority], f, args, settle) => {
        let task: Task<unknown>;
        try {
            task = loop.start_((context: TaskContext) => f(...args(() => context.signal)), { name, priority: priority as Priority }, undefined);
        } catch (error) {
            settle(false, error);
            return () => {};
        }
        task.then(settle.bind(0, true), settle.bind(0, false));
        return (reason) => task.cancel(reason);
    });
    port1.start();
    // In Node it holds its thread, which is there to be asked, for as long as the loop lives and the other side does not close.
    loop.pause_(undefined, () => {}).catch(() => port1.close());
    return port2 as Port;
}

/** A loop elsewhere; from `connectLoop`. */
export class RemoteLoop<M extends Interface<M> = Functions> {
    private readonly client_: Client;
    private over_: WorkerError | undefined;

    /** @internal */
    constructor(
        private readonly loop_: Loop,
        private readonly port_: { postMessage(message: any, transfer: any): void; start(): void; close(): void },
    ) {
        const channel = port_ as unknown as Channel;
        this.client_ = new Client(channel, () => {});
        hear(channel, (message) => this.client_.receive_(message));
        listen(channel, 'messageerror', () => this.lost_(new WorkerError('not-cloneable', 'the other loop sent what cannot be read here')));
        // Not every host tells. Where it does not, `timeoutMs` and the Worker's own error event are what there is.
        listen(channel, 'close', () => this.lost_(new WorkerError('worker-crashed', 'the other loop is gone')));
        disposable(this, async () => this.close());
        port_.start();
        channel.unref?.();
    }

    /** Has the other loop call a function that it gave out, as a task of its own. */
    submit<K extends keyof M & string>(name: K, args: Readonly<JobArguments<M[K]>>, options?: SubmitOptions): Task<JobResult<M[K]>> {
        const checked = check(options, ORDER);
        if (this.over_) throw this.over_;
        const { client_ } = this;
        return order(this.loop_, { timeoutMs: checked.timeoutMs }, name, args, checked, (job) => {
            client_.send_(job);
            return (reason) => {
                if (!client_.orders_.has(job.id_)) return;
                client_.cancel_(job, reason);
                // The task there goes on for as long as it cleans up. Nothing here depends on it.
                client_.settle_(job, () => job.reject_(reason));
            };
        });
    }

    /** Ends the connection; what is under way is rejected with a WorkerError. */
    close(): void {
        this.lost_(new WorkerError('pool-closed', 'the connection was closed'));
    }

    declare readonly [Symbol.asyncDispose]: () => Promise<void>;

    private lost_(error: WorkerError): void {
        if (this.over_) return;
        this.over_ = error;
        this.client_.fail_(error);
        this.port_.close();
    }
}

/** Connects to a loop elsewhere by the port that its `endpoint` made. `M` is the type of the functions that it gave out. */
export function connectLoop<M extends Interface<M> = Functions>(loop: Loop, port: Port): RemoteLoop<M> {
    if (typeof (port as MessagePort | undefined)?.postMessage !== 'function') refuse('port', 'a MessagePort, from `endpoint`', port);
    open(loop);
    return new RemoteLoop<M>(loop, port as MessagePort);
}
