// What tests/it/workers.rs does to the Workers of the program.

const node = globalThis.process?.getBuiltinModule?.('node:worker_threads');
const owner = node ?? globalThis;
const Original = owner.Worker;
const workers = new Set();
let failing = false;

// Before the first one is made: this is imported by the glue.
if (Original) {
  owner.Worker = class extends Original {
    constructor(url, options) {
      super(failing ? new URL('./no-such-file.js', url) : url, options);
      workers.add(this);
    }
  };
}

/** Ends all Workers where they stand. */
export function terminateAll() {
  for (const worker of workers) worker.terminate();
  workers.clear();
}

export const lastWorker = () => [...workers].at(-1);

export const terminate = (worker) => void (workers.delete(worker), worker.terminate());

/** As `terminateAll`, and waits until the program knows. */
export async function gone() {
  const all = [...workers];
  workers.clear();
  // A Worker that the program lets go of meanwhile, as it is free, holds no process.
  const held = setInterval(() => {}, 1000);
  await Promise.all(all.map((worker) => worker.terminate()));
  clearInterval(held);
  await none(2);
}

/** Waits until all Workers have ended by themselves, as they do when they have been free for 5 seconds. */
export const retired = () => none(20);

/** Waits until no Worker holds its lock, for at most so many seconds. Where there are no locks, as in Node, a moment. */
async function none(seconds) {
  const locks = globalThis.navigator?.locks;
  for (let round = 0; round < seconds * 200; round += 1) {
    await new Promise((done) => setTimeout(done, 5));
    if (!locks && round < seconds * 60) continue;
    const { held = [], pending = [] } = (await locks?.query()) ?? {};
    if (round > 4 && ![...held, ...pending].some(({ name }) => name.startsWith('selkie'))) break;
  }
}

/** How many Workers hold their lock, and so are up. */
export async function count() {
  const { held } = await navigator.locks.query();
  return held.filter(({ name }) => name.startsWith('selkie')).length;
}

/** Whether Workers that are made from now on find no file. */
export const failFrom = (now) => void (failing = now);

const setTimer = globalThis.setTimeout;

/** Whether timers of half a minute ring at once, as they do where the thread was held up for so long. */
export function hurry(now) {
  globalThis.setTimeout = now ? (f, ms, ...rest) => setTimer(f, ms === 30_000 ? 0 : ms, ...rest) : setTimer;
}

export const isolated = () => Boolean(node || globalThis.crossOriginIsolated);

export const hasPages = () => !node;

/** Whether Workers that are made from now on run `entry.js`, which has JavaScript. */
export function ownScript(now) {
  const entry = () => new Original(new URL('./entry.js', import.meta.url), { type: 'module' });
  globalThis.selkie = now ? { worker: () => track(entry()) } : undefined;
}

/** As `ownScript`, but what is answered is no Worker: a promise, or nothing. */
export function noWorker(promise) {
  globalThis.selkie = { worker: promise ? async () => {} : () => {} };
}

function track(worker) {
  workers.add(worker);
  return worker;
}
