// The Worker's side of a pool, in browsers. One file, without a loop: it is small, and loads in any bundler's Worker.

import { ArgumentError } from './errors.js';
import { type Channel, type Functions, post, serve } from './protocol.js';

export { type Functions, type Job, type JobContext, job } from './protocol.js';

/** @internal */
export function exposeOn(channel: Channel, functions: Functions, immediate?: (f: () => void) => void): () => void {
    const end = serve(channel, functions, (call, done, failed) => {
        let controller: AbortController | undefined;
        const value = call(() => (controller = new AbortController()).signal) as PromiseLike<unknown> | undefined;
        // What is no promise is told at once.
        if (value?.then) Promise.resolve(value).then(done, failed);
        else done(value);
        return (reason) => controller?.abort(reason);
    }, immediate);
    post(channel, ['ready']);
    return end;
}

/** Lets the pool that started this Worker call these functions, by name. Call it once, after the imports. */
export function expose<M extends Functions>(functions: M): void {
    const scope = globalThis as unknown as Channel & { document?: unknown };
    if (!scope.postMessage || scope.document) throw new ArgumentError('expose', 'is for the module of a Worker');
    const end = exposeOn(scope, functions);
    // Else nobody would hear of it, and the job would never end.
    const close = scope.close?.bind(scope);
    scope.close = () => {
        // What is left of the row would still be done, and nobody would hear of it.
        end();
        post(scope, ['gone']);
        close?.();
    };
}
