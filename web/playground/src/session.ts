// A run as the page sees it, wherever the code runs: in a Worker, which can be ended whatever it does, or on the page's own
// thread, for what is to be shown there.

import type { Event, Failure, Order } from './events';
import { Run } from './run';
import type { FromPage, ToPage } from './runner.worker';

export interface Listener {
    /** The code has begun. */
    started(): void;
    events(events: Event[]): void;
    /** Whether the code keeps its Worker so busy that it does not answer. */
    silent(is: boolean): void;
    /** Told once, at the end. */
    over(how: 'finished' | 'failed' | 'stopped', error: Failure | undefined): void;
}

export interface Session {
    stop(): void;
}

/** A Worker that has not answered for so long is said to be busy, and after so long it is ended. */
const BUSY = 1500;
const GIVEN_UP = 15_000;
/** How long the page's own thread may go without coming back to the page. */
const FROZEN = 12_000;
/** How long what was stopped may take to clean up. */
const CLEAN_UP = 1200;

const failureOf = (text: string): Failure => ({ text, file: '', line: 0, column: 0 });

const make = (): Worker => new Worker(new URL('./runner.worker.ts', import.meta.url), { type: 'module' });
let spare: Worker | undefined;

/** Has a Worker start up before it is wanted. */
export function prepare(): void {
    spare ??= make();
}

export function inWorker(order: Order, listener: Listener): Session {
    const worker = spare ?? make();
    spare = undefined;
    let heard = performance.now();
    let stopping = false;
    let over = false;
    const post = (message: FromPage): void => worker.postMessage(message);
    const end = (how: 'finished' | 'failed' | 'stopped', error?: Failure): void => {
        if (over) return;
        over = true;
        clearInterval(watch);
        worker.terminate();
        prepare();
        listener.over(how, error);
    };
    const watch = setInterval(() => {
        const quiet = performance.now() - heard;
        listener.silent(quiet > BUSY);
        if (quiet > GIVEN_UP) end('failed', failureOf(`The code has kept its Worker busy for ${GIVEN_UP / 1000} s without a pause, so it was ended. Is there a loop that never awaits?`));
        post({ type: 'ping' });
    }, 400);
    worker.onmessage = ({ data }: MessageEvent<ToPage>) => {
        if (over) return;
        heard = performance.now();
        if (data.type === 'started') listener.started();
        if (data.type === 'stopped') end('stopped');
        if (data.type !== 'events') return;
        listener.events(data.events);
        const last = data.events.find((event) => event.type === 'over');
        if (last) end(stopping ? 'stopped' : last.error ? 'failed' : 'finished', stopping ? undefined : last.error);
    };
    worker.onerror = (event) => {
        event.preventDefault();
        end('failed', failureOf(event.message || 'The Worker that runs the code could not be loaded.'));
    };
    post({ type: 'run', order });
    return {
        stop() {
            if (stopping) return;
            stopping = true;
            post({ type: 'stop' });
            setTimeout(() => end('stopped'), CLEAN_UP);
        },
    };
}

class Frozen extends Error {}

export function onPage(order: Order, listener: Listener): Session {
    let over = false;
    let stopping = false;
    let due: ReturnType<typeof setTimeout> | undefined;
    let [calls, since] = [0, 0];
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => (since = 0);
    const guard = (): void => {
        // What was stopped ends where it asks the next time.
        if (stopping) throw new DOMException('The run was stopped.', 'AbortError');
        if (++calls % 128) return;
        const now = performance.now();
        if (!since) {
            since = now;
            port2.postMessage(0);
        } else if (now - since > FROZEN) {
            throw new Frozen(`The code has kept the page for ${FROZEN / 1000} s without a pause, so it was ended. Is there a loop that never lets go?`);
        }
    };
    const flush = (): void => {
        clearTimeout(due);
        due = undefined;
        const events = run.recorder.take();
        if (events.length && !over) listener.events(events);
    };
    const run = new Run(order, {
        guard,
        worker() {
            throw new Error('an example that runs on the page has no Workers');
        },
    }, () => (due ??= setTimeout(flush, 30)));
    const rejected = (event: PromiseRejectionEvent): void => {
        event.preventDefault();
        run.log('error', ['Nobody handled a rejection:', event.reason]);
    };
    const end = async (how: 'finished' | 'failed' | 'stopped', error?: Failure): Promise<void> => {
        if (over) return;
        flush();
        over = true;
        removeEventListener('unhandledrejection', rejected);
        port1.close();
        await run.stop(CLEAN_UP);
        listener.over(how, error);
    };
    addEventListener('unhandledrejection', rejected);
    listener.started();
    void (async () => {
        await run.start();
        const last = run.recorder.take();
        listener.events(last);
        const error = last.find((event) => event.type === 'over')?.error;
        await end(stopping ? 'stopped' : error ? 'failed' : 'finished', stopping ? undefined : error);
    })();
    return {
        stop() {
            if (stopping) return;
            stopping = true;
            void run.stop(CLEAN_UP).then(() => end('stopped'));
        },
    };
}
