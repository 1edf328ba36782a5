// What the tests ask of the host beside the crate.

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export const draws = () => typeof requestAnimationFrame === 'function';

export const page = () => typeof document === 'object';

/** Calls `f` in a macrotask of each kind that the host has; answers how many. */
export function macrotasks(f) {
  setTimeout(f);
  const channel = new MessageChannel();
  channel.port1.onmessage = () => {
    channel.port1.close();
    f();
  };
  channel.port2.postMessage(0);
  if (typeof requestAnimationFrame !== 'function' || typeof document !== 'object') return 2;
  requestAnimationFrame(f);
  return 3;
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

/** Frames drawn until `stop` answers true. */
export async function frames(stop) {
  let count = 0;
  while (!stop()) {
    await new Promise((drawn) => requestAnimationFrame(drawn));
    count += 1;
  }
  return count;
}

/** What `f` shows by console.error. */
export function shownBy(f) {
  const { error } = console;
  const shown = [];
  console.error = (...parts) => shown.push(parts.join(' '));
  try {
    f();
  } finally {
    console.error = error;
  }
  return shown.join('\n');
}

/** Calls `f` in one macrotask after the other while it answers true; answers how often. */
export async function pump(f) {
  const { port1, port2 } = new MessageChannel();
  let count = 0;
  do {
    // Not by messages in Node, which delivers a thousand of them in a row before anything else.
    if (typeof setImmediate === 'function') await new Promise((go) => setImmediate(go));
    else {
      port2.postMessage(0);
      await new Promise((go) => (port1.onmessage = go));
    }
    count += 1;
  } while (f());
  port1.close();
  return count;
}
