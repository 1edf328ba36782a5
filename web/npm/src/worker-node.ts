// The Worker's side of a pool, in Node.

import { parentPort } from 'node:worker_threads';
import { ArgumentError } from './errors.js';
import type { Channel, Functions } from './protocol.js';
import { exposeOn } from './worker.js';

export { type Functions, type Job, type JobContext, job } from './protocol.js';

export function expose<M extends Functions>(functions: M): void {
    if (!parentPort) throw new ArgumentError('expose', 'is for the module of a Worker');
    exposeOn(parentPort as unknown as Channel, functions);
}
