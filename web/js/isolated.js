// Workers with an instance of the module of their own, as the page that starts them sees them.
//
// A Worker is a number here. What it does is told to the function `event` of the module's table: one message, or its end, after
// which its number is forgotten. Events are never told within a call from the module.

// What is told, as in src/isolated.rs.
const MESSAGE = 0;
const IDLE = 1;
const DIED = 2;
const PANICKED = 3;

const REFUSED = -1; // The module has no room for what is told.

const LONGEST = 2 ** 31 - 1;

const workers = new Map();
const encoder = new TextEncoder();
let last = 0;
let home; // The module, its memory and table, and the functions that it is called by.
let entry; // Makes a Worker of the user's.

/** Whether there are Workers, as there are not in Node. */
export const available = () => (typeof Worker === 'function' ? 1 : 0);

/** Makes the functions `take(length)` and `event(worker, kind, address, length)`, indices into the table, known. */
export function attach(module, exports, memory, table, take, event) {
  home = { module, memory, take: table.get(take), event: table.get(event) };
  exports.__selkie_isolated_0_1();
}

/** Workers are made by `make` from now on, as usual if it is undefined. */
export function use(make) {
  entry = make;
}

/** Starts a Worker; answers its number. */
export function start(idle, limit, address, length) {
  last += 1;
  const id = last;
  const name = new TextDecoder().decode(copy(address, length));
  const lock = `selkie-isolated ${Date.now()} ${Math.random()}`;
  const state = { worker: undefined, idle: Math.min(idle, LONGEST), timer: undefined };
  workers.set(id, state);
  const fail = (text) => end(id, DIED, text);
  const message = ({ data }) => {
    if (!workers.has(id)) return;
    const { bytes, panic, threw } = data ?? {};
    if (panic !== undefined) return end(id, PANICKED, panic);
    if (!(bytes instanceof Uint8Array)) return fail(threw === undefined ? 'sent what makes no sense' : `ended by ${threw}`);
    if (!state.ready) {
      state.ready = true;
      watch(id, lock);
    }
    rest(id, state);
    if (tell(id, MESSAGE, bytes) === REFUSED) fail('sent more than there is room for');
  };
  const failed = (event) => {
    event.preventDefault?.();
    fail(event.message ? `ended by ${event.message}` : 'could not be loaded');
  };
  try {
    // The literal is what bundlers look for.
    const worker = entry ? entry() : new Worker(new URL('./isolated-worker.js', import.meta.url), { type: 'module', name: 'selkie-isolated' });
    if (typeof worker?.terminate !== 'function') throw new TypeError('the function answered no Worker');
    state.worker = worker;
    worker.onmessage = message;
    worker.onerror = failed;
    worker.onmessageerror = () => fail('sent what cannot be read');
    state.timer = setTimeout(() => fail('did not call `selkie::isolated::serve()` in time'), Math.min(limit, LONGEST));
    // The first names are those that the glue of wasm-bindgen takes.
    worker.postMessage({ module_or_path: home.module, name, lock, pages: home.memory.buffer.byteLength / 65536 });
  } catch (error) {
    queueMicrotask(() => fail(`could not be made: ${error}`));
  }
  return id;
}

export function post(id, address, length) {
  const state = workers.get(id);
  if (!state) return;
  clearTimeout(state.timer);
  try {
    const bytes = copy(address, length);
    state.worker.postMessage({ bytes }, [bytes.buffer]);
  } catch (error) {
    queueMicrotask(() => end(id, DIED, `could not be given a job: ${error}`));
  }
}

/** Ends a Worker, whatever it does. There is no softer way, and one that has nothing to do needs none. */
export function stop(id) {
  const state = workers.get(id);
  if (!state) return;
  state.worker?.terminate();
  clearTimeout(state.timer);
  queueMicrotask(() => end(id, DIED, 'was let go'));
}

/** A copy, as the memory may be shared, and may grow. */
const copy = (address, length) => new Uint8Array(home.memory.buffer, address, length).slice();

function tell(id, kind, bytes) {
  const address = home.take(bytes.length);
  if (address < 0) return REFUSED;
  new Uint8Array(home.memory.buffer, address, bytes.length).set(bytes);
  return home.event(id, kind, address, bytes.length);
}

function end(id, kind, text) {
  const state = workers.get(id);
  if (!state) return;
  workers.delete(id);
  clearTimeout(state.timer);
  state.worker?.terminate();
  // How it ended may be more than there is room for, but that it did is always told.
  if (tell(id, kind, encoder.encode(text)) === REFUSED) tell(id, kind, new Uint8Array());
}

/** It has nothing to do, until `post`. */
function rest(id, state) {
  clearTimeout(state.timer);
  state.timer = setTimeout(() => {
    if (tell(id, IDLE, new Uint8Array())) end(id, DIED, 'was idle');
  }, state.idle);
}

/**
 * Hears of the end of a Worker that was terminated by somebody else, or has closed itself: of that there is no event, but the
 * lock that it holds comes free.
 */
function watch(id, lock) {
  const gone = () => end(id, DIED, 'was terminated');
  globalThis.navigator?.locks?.request(lock, gone).catch(() => {});
}
