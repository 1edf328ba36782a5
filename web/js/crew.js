// Starts the Workers that are threads of the program, in a build with threads. When and why is in src/crew.rs.
//
// A program that wants its own JavaScript in them says where their script is, before it starts the first one:
//
//     globalThis.selkie = { worker: () => new Worker(new URL('./worker.js', import.meta.url), { type: 'module' }) };
//
// and that script is, with the program's glue,
//
//     import init from './pkg/program.js';
//     onmessage = ({ data }) => selkieThread(init, data);
//
// One thread of JavaScript, the root, starts all of them: a Worker's own Workers would end with it, and could not start while
// it waits. The root never blocks.

import { synchronize } from './host.js';

// How a Worker ended, as in src/crew.rs.
const RETIRED = 0;
const DIED = 1;

const PATIENCE = 30_000; // ms that a Worker may take to come up.

// What becomes of a Worker that is coming up; the first word counts. From the moment that it begins with the program nobody
// ends it, but one whose script then takes too long is left alone, and ends by itself when it is through.
const RUNS = 1;
const GIVEN_UP = 2;
const BEGINS = 3;
const LEFT_ALONE = 4;

const workers = new Map();
const nodeThreads = typeof document === 'undefined' ? globalThis.process?.getBuiltinModule?.('node:worker_threads') : undefined;

/** What every Worker gets. */
let start;
let table;
let word;
let heard;
let ended;
/** Locks are names of a whole origin. */
const session = `selkie ${Date.now()} ${Math.random()}`;

/** Makes this thread the root. Answers how many processors there are, or why there can be no Workers. */
export function crew_open(module, memory, functions, at, onHeard, onEnded, work, join, missing, call, stack) {
  if (!(nodeThreads?.Worker || typeof Worker === 'function')) return -1;
  if (!nodeThreads && !globalThis.crossOriginIsolated) return -2;
  if (typeof Atomics.waitAsync !== 'function') return -3;
  start = { module, memory, work, join, missing, call, stack };
  table = functions;
  word = at / 4;
  heard = table.get(onHeard);
  ended = table.get(onEnded);
  // From now on: a Worker that others have started may be the first that needs one.
  listen();
  return globalThis.navigator?.hardwareConcurrency || 1;
}

/** Whether a thread that has work keeps the host alive, and the root has to be told when it has none. */
export const crew_holds = () => (nodeThreads ? 1 : 0);

function make() {
  if (typeof globalThis.selkie?.worker === 'function') return globalThis.selkie.worker();
  if (!nodeThreads) return new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'selkie' });
  // Not as one expression, which bundlers would take for a file of the page.
  const here = import.meta.url;
  return new nodeThreads.Worker(new URL('./worker.js', here), { name: 'selkie' });
}

/** Starts the Worker `id`, which works for the member of the crew at `address`. */
export function crew_start(id, address) {
  const entry = { worker: undefined, fate: new Int32Array(new SharedArrayBuffer(4)), watchdog: undefined };
  workers.set(id, entry);
  // Later, as nothing may come back into the module from here.
  const refused = (error) => void Promise.resolve().then(() => over(id, error));
  // Granted when the Worker is gone, however it went.
  const watch = () => void globalThis.navigator?.locks?.request(`${session} ${id}`, () => over(id, 'it was terminated')).catch(() => {});
  const message = (data) => {
    const said = data?.selkie;
    // JavaScript in the Worker may say to others what it likes.
    if (said === undefined) return;
    if (said === 'up') {
      clearTimeout(entry.watchdog);
      watch();
    } else if (said === 'retired') over(id);
    else over(id, said);
  };
  // Of one that is up, a callback of the user's may have thrown; its work has not.
  const failed = (error) => gives_up(entry) && over(id, error.message || `${error.type ?? error}: is worker.js served?`);
  const silent = `nothing was heard of it for ${PATIENCE / 1000} s: does its script call selkieThread?`;
  // This thread may have been held up for so long, and what the Worker has said meanwhile waits behind the timer. Or it was
  // terminated as it came up, and has said nothing.
  entry.watchdog = setTimeout(() => (gives_up(entry) || leaves_alone(entry) ? over(id, silent) : watch()), PATIENCE);
  try {
    const worker = make();
    if (typeof worker?.terminate !== 'function') throw new TypeError('`selkie.worker` answered no Worker');
    entry.worker = worker;
    if (nodeThreads) {
      worker.on('message', message);
      worker.on('error', (error) => over(id, error));
      worker.on('exit', () => over(id, 'it exited'));
    } else {
      worker.onmessage = ({ data }) => message(data);
      worker.onmessageerror = () => failed('it could not read its message');
      worker.onerror = failed;
    }
    const clock = { origin: performance.timeOrigin, now: performance.now() };
    worker.postMessage({ ...start, id, address, clock, fate: entry.fate, lock: `${session} ${id}` });
  } catch (error) {
    refused(error);
  }
}

/** In Node: whether the thread keeps the process alive. */
export function crew_hold(id, busy) {
  const worker = workers.get(id)?.worker;
  if (busy) worker?.ref();
  else worker?.unref();
}

/** Whether the Worker of `entry` has not begun with the program, and never will. */
const gives_up = ({ fate }) => [0, GIVEN_UP].includes(Atomics.compareExchange(fate, 0, 0, GIVEN_UP));

/** Whether it has begun, and will not come up. */
const leaves_alone = ({ fate }) => Atomics.compareExchange(fate, 0, BEGINS, LEFT_ALONE) === BEGINS;

function over(id, error) {
  const entry = workers.get(id);
  // Of several signs of an end the first one counts.
  if (!workers.delete(id)) return;
  clearTimeout(entry.watchdog);
  if (error !== undefined) {
    console.error('selkie: a Worker died:', error);
    // One that has begun with the program has ended, or does so by itself: it may be where it must not be stopped.
    if (gives_up(entry)) entry.worker?.terminate();
  }
  ended(id, error === undefined ? RETIRED : DIED);
}

/** Other threads set the word when the root has something to do. */
function listen() {
  const wait = Atomics.waitAsync(new Int32Array(start.memory.buffer), word, 0);
  const turn = () => {
    try {
      heard();
    } finally {
      listen();
    }
  };
  if (wait.async) wait.value.then(turn);
  else setTimeout(turn);
}

// ---- In a Worker whose script is the program's own.

let mine;

async function thread(init, { module, memory, stack, join, address, clock, lock, fate }) {
  try {
    await new Promise((held) => {
      const locks = globalThis.navigator?.locks;
      if (!locks) held();
      else locks.request(lock, () => (held(), new Promise(() => {}))).catch(held);
    });
    if (Atomics.compareExchange(fate, 0, 0, BEGINS) !== 0) return close();
    mine = await init({ module_or_path: module, memory, thread_stack_size: stack });
    if (Atomics.compareExchange(fate, 0, BEGINS, RUNS) !== BEGINS) {
      mine.__wbindgen_thread_destroy(0, 0, 0);
      return close();
    }
    const tables = Object.values(mine).filter((table) => table instanceof WebAssembly.Table && table.length > join);
    synchronize(clock);
    tables.find((table) => typeof table.get(join) === 'function').get(join)(address);
    postMessage({ selkie: 'up' });
  } catch (error) {
    postMessage({ selkie: String(error) });
    close();
  }
}

if (typeof WorkerGlobalScope === 'function') globalThis.selkieThread ??= thread;

/** Ends this thread, once nothing of the module is on the stack. */
export function crew_retire() {
  setTimeout(() => {
    mine.__wbindgen_thread_destroy(0, 0, 0);
    postMessage({ selkie: 'retired' });
    close();
  });
}
