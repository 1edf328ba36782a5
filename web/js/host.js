// What the web backend of selkie asks of its host: microtasks, macrotasks, one timer per loop, a clock, the console.
//
// Functions take and return plain numbers, so that the module can import them without generated glue; `attach` and `enter`
// alone take objects, once per instance of the module. The rules of a loop (when a turn may run, what
// coalesces) are in src/turn.rs. Here is only how a host is asked, chosen by what it was seen to do. What only a build with
// threads needs is in wake.js; moments.js has what only those need who wait for one.

// What a turn answers, beside a time in ms. The same numbers are in src/turn.rs.
const NOW = -1;
const IDLE = -2;
const NOTHING = -3;

const LONGEST = 2 ** 31 - 1; // A longer delay wraps in setTimeout, and in Firefox's waitAsync.
const SHORTEST = 0.02; // 0 would not wait at all.
const SHARE = 8; // A background task waits no longer than this, in ms, however busy the page is.

const settled = Promise.resolve();
const background = { priority: 'background' };
const page = typeof document === 'object';
export const instances = [];
export const loops = [];

/** What the clock last said. A turn reads it when it ends, and to read it again would cost as much as ten polls. */
let latest = 0;

/** From this thread's clock to that of the thread which started it. */
let offset = 0;

export const now = () => (latest = performance.now() + offset);

/** Makes the functions `turn(slot, task)` and `call(address)`, indices into the table, known; answers a name for the instance. */
export function attach(table, memory, turn, call) {
  if (!instances.length) probe(0);
  return instances.push({ table, memory, turn: table.get(turn), call: table.get(call) }) - 1;
}

/** Has this thread's clock count from the origin of the one that started it. */
export function synchronize(clock) {
  // The origins are by the clock of the wall, which may have been set meanwhile: time must not go back.
  offset = Math.max(performance.timeOrigin - clock.origin, clock.now - performance.now());
}

/** Calls back with `address`; answers 0 if that ended by a trap or another exception. */
function guard(instance, address) {
  try {
    instances[instance].call(address);
    return 1;
  } catch (error) {
    console.error(error);
    return 0;
  }
}

/** Answers the handle of a loop that lives in `slot` of the instance. */
export function open(instance, slot) {
  return loops.push(new Loop(instances[instance], slot)) - 1;
}

/** A turn in a microtask. `then` on a kept promise costs a fraction of `queueMicrotask`. */
export const soon = (handle) => void settled.then(loops[handle].microtask);

/** A turn after the host had a chance to run its own work. */
export const later = (handle) => hop(loops[handle]);

/** No turn, whatever was armed. A microtask cannot be revoked: src/turn.rs ignores it. */
export function disarm(handle) {
  const loop = loops[handle];
  loop.hopping = false;
  loop.want = loop.set = Infinity;
  loop.timer.stop();
  loop.guard.stop();
  loop.ear?.stop();
}

/** Shows `length` bytes of UTF-8 on the console. A copy, since a decoder refuses shared memory. */
const report = (instance, start, length) =>
  console.error(new TextDecoder().decode(new Uint8Array(instances[instance].memory.buffer, start, length).slice()));

export const visible = () => (page && document.hidden ? 0 : 1);

/** Whether this is a Worker of an isolated pool: 2 in one that the user's own entry has started. In others 1 is bound instead. */
const role = () => (globalThis.selkieIsolated?.lock ? 2 : 0);

/** Calls the module's entrance for such Workers. */
export const enter = (exports) => exports.__selkie_isolated_0_1();

// What a Worker without glue finds by name, where the generated names of others are the same.
export { guard as selkie_guard, now as selkie_now, report as selkie_report, role as selkie_role };

class Loop {
  constructor(instance, slot) {
    this.instance = instance;
    this.slot = slot;
    this.want = Infinity; // When the loop wants its next turn.
    this.set = Infinity; // What the timer is set for: never later than `want`, often earlier.
    this.hopping = false; // A macrotask is under way.
    this.posted = false; // A background task is under way, perhaps since an earlier hop.
    this.resting = false; // This hop leaves the host an idle moment: no background task may cut it short.
    this.microtask = () => run(this, 0);
    this.macrotask = () => {
      if (!this.hopping) return;
      this.hopping = false;
      run(this, 1);
    };
    this.backstage = () => {
      this.posted = false;
      if (!this.resting) this.macrotask();
    };
    this.timer = new Timer(() => ring(this));
    this.guard = new Timer(this.macrotask);
  }
}

export function run(loop, task) {
  const next = loop.instance.turn(loop.slot, task);
  if (next === NOTHING) return;
  loop.ear?.hear();
  if (next >= 0) return sleep(loop, next);
  loop.want = Infinity;
  if (next === NOW) hop(loop);
  // A timer left behind costs one early look, but a pending setTimeout keeps a Node process alive.
  else if (next === IDLE && immediate) stopTimer(loop);
}

// ---- The timer: one per loop, moved only when the earliest deadline moves forward.

function sleep(loop, want) {
  loop.want = want;
  if (want < loop.set) setTimer(loop);
}

/** Called when the clock has just been read: an older reading only makes the wait longer, never too short. */
function setTimer(loop) {
  loop.set = loop.want;
  loop.timer.start(Math.min(Math.max(loop.want - latest, SHORTEST), LONGEST));
}

function stopTimer(loop) {
  loop.set = Infinity;
  loop.timer.stop();
}

function ring(loop) {
  const early = loop.set - now();
  loop.set = Infinity;
  if (loop.hopping) return;
  // Firefox cuts waits to whole ms, so that fractions ring early. A clock without isolation has a grain of 0.1 ms in
  // Chromium, and what is early by less than two grains proves nothing.
  if (early > 0.2 && early < 2) whole = true;
  if (loop.want - latest > 0) {
    if (loop.want < Infinity) setTimer(loop);
    return;
  }
  loop.want = Infinity;
  run(loop, 1);
}

/** Whether waitAsync was seen to keep time in this thread. It has no clamp of 4 ms, and a grain below 1 ms in Chromium. */
let waits = false;
/** Whether waits are cut to whole ms here. */
let whole = false;
let words = null;
let wordsUsed = 0;

/** Whether a wait of a part of a millisecond lasts no longer. */
export const isExact = () => waits && !whole;

export class Timer {
  constructor(ring) {
    this.ring = ring;
    this.age = 0; // A wait cannot be taken back: one of an older age does nothing when it ends.
    this.waiting = false;
    this.timeout = undefined;
    this.word = ++wordsUsed;
  }

  start(ms) {
    this.stop();
    const age = this.age;
    const end = () => {
      if (age !== this.age) return;
      this.waiting = false;
      this.timeout = undefined;
      this.ring();
    };
    if (!waits) {
      this.timeout = setTimeout(end, Math.ceil(ms));
      return;
    }
    this.waiting = true;
    // Two timers may share a word once a thread has had thousands of loops. One then ends the other's wait, and
    // the look at the clock in `ring` starts it again; a guard that ends early is only an earlier hop.
    Atomics.waitAsync(words, this.word % words.length, 0, whole ? Math.ceil(ms) : ms).value.then(end);
  }

  stop() {
    this.age += 1;
    if (this.waiting) Atomics.notify(words, this.word % words.length);
    if (this.timeout !== undefined) clearTimeout(this.timeout);
    this.waiting = false;
    this.timeout = undefined;
  }
}

// ---- The hop: a macrotask, which lets the host paint, react and deliver messages.

/** Node and its kin: the hop that I/O comes between. They exit when nothing pends, so that no waitAsync may be all there is. */
const immediate = !page && typeof setImmediate === 'function';
let channel = null;
const posted = []; // What the channel's messages are for, in their order.

export function hop(loop) {
  if (loop.hopping) return;
  loop.hopping = true;
  loop.resting = false;
  if (page && frames !== FINE && rest()) {
    loop.resting = true;
    loop.guard.start(1);
  } else if (waits && postTask) {
    // A background task lets everything else go first, for ever if need be. The guard gives the loop its share.
    if (!loop.posted) {
      loop.posted = true;
      scheduler.postTask(loop.backstage, background);
    }
    loop.guard.start(SHARE);
  } else macrotask(loop.macrotask);
}

/** A macrotask that waits its turn among the others. */
export function macrotask(f) {
  if (immediate) setImmediate(f);
  else if (typeof MessageChannel === 'function') {
    if (!channel) {
      channel = new MessageChannel();
      channel.port1.onmessage = () => posted.shift()();
    }
    posted.push(f);
    channel.port2.postMessage(0);
  } else setTimeout(f);
}

const postTask = typeof scheduler === 'object' && typeof scheduler.postTask === 'function';

// ---- Frames: Firefox puts them off while its thread is never idle, however often the loop hops.

const LEARNING = 0; // Watched, until a number of frames came in time.
const FINE = 1; // The host draws between hops.
const SHY = 2; // It does not: it gets an idle millisecond when a frame is due.
const ROW = 3; // Hops in a row, before there is anything to see: after fewer the host may soon be idle.
const APART = 16; // ms between two hops that are not in a row.
const MANY = 10; // A host that had so many hops to draw between, and did not, puts its frames off.
const ENOUGH = 16; // So many frames in a row, each while a hop was under way, and the host is trusted.
const HOPELESS = 100; // Without any frame for so many hops there is nothing to draw until one comes: a frame far off screen.
const DUE = 12; // ms since the last frame.

let frames = page && typeof requestAnimationFrame === 'function' ? LEARNING : FINE;
let asked = false;
let hops = 0; // Since the frame was asked for; before that, in a row.
let hopped = 0;
let good = 0;
let drawn = 0;

/** Whether this hop should leave the host idle for a moment. */
function rest() {
  const time = performance.now();
  if (document.hidden || (!asked && time - hopped > APART)) hops = good = 0;
  hopped = time;
  if (document.hidden) return false;
  hops += 1;
  if (!asked && (frames === SHY || hops >= ROW)) {
    asked = true;
    hops = 0;
    requestAnimationFrame(frame);
  }
  if (hops > HOPELESS) return false;
  if (hops > MANY) frames = SHY;
  return frames === SHY && asked && time - drawn > DUE;
}

function frame() {
  // A frame of a thread that was idle says nothing about one that is not.
  const busy = hops > 0 && loops.some((loop) => loop.hopping);
  asked = false;
  hops = ROW;
  drawn = performance.now();
  good = busy ? good + 1 : 0;
  if (frames === LEARNING && good > ENOUGH) frames = FINE;
}

// ---- The probe. Until it has answered, and where it fails, the timer is setTimeout: a wait without a timer beside it
// may never end (seen in an idle WebKitGTK Worker), and setTimeout is what every host has.

function probe(tries) {
  if (immediate || tries > 8 || typeof Atomics !== 'object' || typeof Atomics.waitAsync !== 'function') return;
  try {
    // Shared memory needs no isolation as long as it is not posted.
    words ??= new Int32Array(new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer);
  } catch {
    return;
  }
  const start = performance.now();
  let open = true;
  const answer = () => {
    if (!open) return;
    open = false;
    clearTimeout(watchdog);
    // Late may mean a busy thread, so that one good answer of several counts.
    if (performance.now() - start < 5) waits = true;
    else probe(tries + 1);
  };
  const watchdog = setTimeout(answer, 50);
  Atomics.waitAsync(words, 0, 0, 1).value.then(answer);
}
