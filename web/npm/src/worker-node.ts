// The Worker's side of a pool, in Node, Deno and Bun.

import { setImmediate } from 'node:timers';
import { parentPort } from 'node:worker_threads';
import type { Channel, Functions } from './protocol.js';
import { exposeOn, expose as inScope } from './worker.js';

export { type Functions, type Job, type JobContext, job } from './protocol.js';

export function expose<M extends Functions>(functions: M): void {
    if (parentPort) exposeOn(parentPort as unknown as Channel, functions, setImmediate);
    // Some of them have the Workers of the web as well.
    else inScope(functions);
}
