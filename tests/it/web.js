// What tests/it/ asks of the host. One file, as the server of the test runner stalls when a page asks for many at once.

export const draws = () => typeof requestAnimationFrame === 'function';

export const page = () => typeof document === 'object';

export const after = (f, ms) => void setTimeout(f, ms);

/** Ends when `f` was called by a timer. */
export const called = (f) => new Promise((done) => setTimeout(() => done(f())));

export const passed = (ms) => new Promise((done) => setTimeout(done, ms));

/** Whether `f` throws. */
export function throws(f) {
  try {
    f();
    return false;
  } catch {
    return true;
  }
}

/** Runs `f` and answers the functions that it gave to `then` on the spot. */
export function armedBy(f) {
  const { then } = Promise.prototype;
  const armed = [];
  Promise.prototype.then = function (done, failed) {
    armed.push(done);
    return then.call(this, done, failed);
  };
  try {
    f();
  } finally {
    Promise.prototype.then = then;
  }
  return armed;
}

// ---- What the loop asks of its host, counted from `count` to `counted`.

const own = [
  ['then', () => Promise.prototype, 'then'],
  ['timer', () => globalThis, 'setTimeout'],
  ['timer', () => Atomics, 'waitAsync'],
  ['clock', () => performance, 'now'],
  ['task', () => globalThis, 'setImmediate'],
  ['task', () => MessagePort.prototype, 'postMessage'],
  ['task', () => globalThis.scheduler, 'postTask'],
];
let counts;
let restore = [];

export function count() {
  counts = { then: 0, timer: 0, clock: 0, task: 0 };
  for (const [kind, find, name] of own) {
    const owner = find();
    const original = owner?.[name];
    if (typeof original !== 'function') continue;
    const described = Object.getOwnPropertyDescriptor(owner, name);
    owner[name] = function (...given) {
      counts[kind] += 1;
      return original.apply(this, given);
    };
    restore.push(() => (described ? Object.defineProperty(owner, name, described) : delete owner[name]));
  }
}

export function counted() {
  restore.forEach((undo) => undo());
  restore = [];
  return new Float64Array([counts.then, counts.timer, counts.clock, counts.task]);
}

// ---- What the page does beside a loop, from `watch` to `watched`.

let watching;

/** Notes the longest time between two frames, the calls of an interval of 10 ms and the longest time between two. */
export function watch() {
  const start = performance.now();
  const seen = { over: false, frames: 0, gap: 0, ticks: 0, pause: 0, start };
  watching = seen;
  let drawn = start;
  const frame = () => {
    const now = performance.now();
    seen.gap = Math.max(seen.gap, now - drawn);
    drawn = now;
    seen.frames += 1;
    if (!seen.over) requestAnimationFrame(frame);
  };
  if (draws()) requestAnimationFrame(frame);
  let ticked = start;
  seen.interval = setInterval(() => {
    const now = performance.now();
    seen.pause = Math.max(seen.pause, now - ticked);
    ticked = now;
    seen.ticks += 1;
  }, 10);
}

export function watched() {
  watching.over = true;
  clearInterval(watching.interval);
  const { frames, gap, ticks, pause, start } = watching;
  return new Float64Array([frames, gap, ticks, pause, performance.now() - start]);
}

// ---- Hosts that run other work while the caller waits.

/** Opens and closes a window. Firefox runs microtasks in it; without a click the window may be refused. */
export const openWindow = () => open('about:blank')?.close();

/** Waits for an answer of the server on the spot. Firefox delivers messages meanwhile. */
export function fetchNow() {
  const request = new XMLHttpRequest();
  request.open('GET', location.href, false);
  request.send();
  return request.status;
}

// ---- For tests/it/isolated.rs: ways to make a Worker, most of them wrong.

let last;

const keep = (worker) => (last = worker);

const script = (text) => new Worker(URL.createObjectURL(new Blob([text], { type: 'text/javascript' })));

export const terminateLast = () => last.terminate();

export const withGlue = () => () => keep(new Worker(new URL('./web.js', import.meta.url), { type: 'module' }));

export const notThere = () => () => new Worker(new URL('./not-there.js', import.meta.url), { type: 'module' });

export const throwsAtLoad = () => () => script("throw new Error('thrown at load')");

export const silent = () => () => script('');

export const notYet = () => async () => script('');

export const forgotten = () => () => {};

export const refused = () => () => {
  throw new Error('no Worker today');
};

export const takesNoJob = () => () => {
  const worker = withGlue()();
  const { postMessage } = worker;
  worker.postMessage = (data, transfer) => {
    if (data.bytes) throw new RangeError('no room');
    postMessage.call(worker, data, transfer);
  };
  return worker;
};

// ---- This file as the entry of a Worker that loads the application's glue: here that of the test, whose main does not divert.

export const isHere = () => true;

if (typeof WorkerGlobalScope === 'function' && !globalThis.name && new URL(import.meta.url).pathname === location.pathname) {
  onmessage = async ({ data }) => {
    globalThis.selkieIsolated = data;
    const { default: init } = await import('../../../../wasm-bindgen-test.js');
    (await init(data)).__selkie_isolated_0_1();
  };
}

export const refusing = () => () => {
  throw new DOMException('no frames here', 'NotSupportedError');
};
