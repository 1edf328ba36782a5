// What all entries have in common. Importing it does nothing.

import { options as check } from './arguments.js';
import { type Module, engineSync } from './engine.js';
import { ArgumentError } from './errors.js';
import { Loop, type LoopOptions } from './loop.js';
import { LOOP } from './make.js';

/** Makes a loop at once, from a module that was compiled before. */
export function createLoopSync(module: Module, options?: LoopOptions): Loop {
    if (!(module instanceof WebAssembly.Module)) throw new ArgumentError('module', 'a WebAssembly.Module');
    const checked = check(options, LOOP);
    return new Loop(engineSync(module), checked);
}

export type { ErrorCode } from './errors.js';
export { ArgumentError, GroupError, LoopClosedError, LoopCrashedError, QueueClosedError, SelkieError, WorkerError } from './errors.js';
export type { Module, WasmSource } from './engine.js';
export type { CreateOptions } from './make.js';
export type { Handle, LoopOptions, Observer, WaitOptions } from './loop.js';
export { Loop } from './loop.js';
export type { AsyncBody, GeneratorBody, Priority, Spawn, SpawnOptions, Step, TaskContext, TaskState, Wait } from './task.js';
export { Task } from './task.js';
export type { GatherOptions, Member, Results, Settled, WaitForOptions } from './together.js';
export { Group } from './together.js';
export type { PutOptions, QueueOptions } from './queue.js';
export { Queue } from './queue.js';
export type { Release } from './sync.js';
export { Barrier, Condition, Event, Lock, Semaphore } from './sync.js';
export type { JobArguments, JobResult, PoolOptions, RunOptions, WorkerLike } from './pool.js';
export { Pool, createPool } from './pool.js';
export type { SubmitOptions } from './client.js';
export type { Port } from './remote.js';
export { RemoteLoop, connectLoop, endpoint } from './remote.js';
export type { Functions, Interface, Job, JobContext } from './protocol.js';
export { job } from './protocol.js';
