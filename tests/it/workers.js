// What tests/it/workers.rs does to the Workers of the program.

const node = globalThis.process?.getBuiltinModule?.('node:worker_threads');
const owner = node ?? globalThis;
const Original = owner.Worker;
let last;
let failing = false;
let withheld;
let deaf = false;

// Before the first one is made: this is imported by the glue.
if (Original) {
  owner.Worker = class extends Original {
    constructor(url, options) {
      super(failing ? new URL('./no-such-file.js', url) : url, options);
      last = this;
    }

    set onmessage(f) {
      super.onmessage = deaf ? null : f;
    }

    postMessage(...message) {
      if (withheld) withheld.push(() => super.postMessage(...message));
      else super.postMessage(...message);
    }

    terminate() {
      return withheld ? undefined : super.terminate();
    }
  };
}

export const lastWorker = () => last;

/** Ends a Worker where it stands. It must be where it holds no lock, the allocator's included. */
export const terminate = (worker) => void worker.terminate();

/** How many Workers hold their lock, and so are up. */
export async function count() {
  const { held } = await navigator.locks.query();
  return held.filter(({ name }) => name.startsWith('selkie')).length;
}

/** Whether Workers that are made from now on find no file. */
export const failFrom = (now) => void (failing = now);

const setTimer = globalThis.setTimeout;
let patience;

/** Whether timers of half a minute are kept for `ring`. Where the thread was held up for so long, they come before messages. */
export function keepTimers(now) {
  globalThis.setTimeout = now ? (f, ms, ...rest) => (ms === 30_000 ? void (patience = f) : setTimer(f, ms, ...rest)) : setTimer;
}

/** The half minute of the Worker that was made last is over. */
export const ring = () => patience();

/** Whether the page hears nothing of Workers that are made from now on. */
export const hearNothing = (now) => void (deaf = now);

/** From now on no Worker hears or can be ended. */
export const withhold = () => void (withheld = []);

/** The Worker that was made last hears now what was withheld, and ends. In a page nothing says that it has. */
export async function deliver() {
  const messages = withheld;
  withheld = undefined;
  for (const message of messages) message();
  await new Promise((ended) => (node ? last.on('exit', ended) : setTimer(ended, 500)));
}

let pauses = 0;
const { waitAsync } = Atomics;
if (waitAsync) {
  Atomics.waitAsync = (...wait) => {
    pauses += Number(wait[3] === 0.25);
    return waitAsync(...wait);
  };
}

/** How often a loop has paused, or -1 where it does not: timers of Node and Firefox are too long for that. */
export const paused = () => (node || !globalThis.navigator.userAgent.includes('Chrome') ? -1 : pauses);

export const isolated = () => Boolean(node || globalThis.crossOriginIsolated);

export const hasPages = () => !node;

/** Whether Workers that are made from now on run `entry.js`, which has JavaScript. */
export function ownScript(now) {
  const worker = () => new Worker(new URL('./entry.js', import.meta.url), { type: 'module' });
  globalThis.selkie = now ? { worker } : undefined;
}

/** As `ownScript`, but it takes its time before it begins with the program. */
export function lateScript() {
  globalThis.selkie = { worker: () => new Worker(new URL('./entry.js?late', import.meta.url), { type: 'module' }) };
}

/** Says something to whoever made this Worker. */
export const say = (text) => postMessage(text);

/** As `ownScript`, but what is answered is no Worker: a promise, or nothing. */
export function noWorker(promise) {
  globalThis.selkie = { worker: promise ? async () => {} : () => {} };
}
