// The Worker in which examples run: what never ends there is ended with it, and the page does not notice.

import type { Event, Order } from './events';
import { Run } from './run';

export type ToPage = { type: 'events'; events: Event[] } | { type: 'pong' } | { type: 'ready' } | { type: 'started' } | { type: 'stopped' };
export type FromPage = { type: 'run'; order: Order } | { type: 'ping' } | { type: 'stop' };

/** So often the page is told, in ms: twice what it draws. */
const EVERY = 30;

let run: Run | undefined;
let due: ReturnType<typeof setTimeout> | undefined;
let told = 0;

const post = (message: ToPage): void => postMessage(message);

/** At once if it is time: what comes next may never let go of this Worker. */
function news(): void {
    if (performance.now() - told >= EVERY) flush();
    else due ??= setTimeout(flush, EVERY);
}

function flush(): void {
    clearTimeout(due);
    due = undefined;
    told = performance.now();
    const events = run?.recorder.take() ?? [];
    if (events.length) post({ type: 'events', events });
}

/** Jobs of a pool of the example, each file of it in a Worker of its own. */
function worker(order: Order, name: string): Worker {
    const file = order.files.find((one) => one.name === name);
    if (!file) throw new Error(`there is no file ${name}; there are ${order.files.map((one) => one.name).join(', ')}`);
    const made = new Worker(new URL('./jobs.worker.ts', import.meta.url), { type: 'module' });
    made.postMessage({ playground: file });
    return made;
}

addEventListener('message', async ({ data }: MessageEvent<FromPage>) => {
    if (data.type === 'ping') post({ type: 'pong' });
    if (data.type === 'stop') {
        await run?.stop(800);
        flush();
        post({ type: 'stopped' });
    }
    if (data.type !== 'run') return;
    const { order } = data;
    run = new Run(order, { worker: (name) => worker(order, name), guard: () => {} }, news);
    post({ type: 'started' });
    await run.start();
    flush();
});

addEventListener('unhandledrejection', (event) => {
    event.preventDefault();
    run?.log('error', ['Nobody handled a rejection:', event.reason]);
});
addEventListener('error', (event) => {
    event.preventDefault();
    run?.log('error', ['Nobody caught:', event.error ?? event.message]);
});

post({ type: 'ready' });
