// The workloads in Workers by the peers in JavaScript, and the npm package beside them.

import * as comlink from 'comlink';
import PQueue from 'p-queue';
import { createLoop, createPool } from './selkie/index.js';
import workerpool from 'workerpool';

const WORKERS = 2;
const MOST = 10_000; // Jobs of a batch.
const address = (peer) => new URL(`./worker.js?${peer}${location.search.replace('?', '&')}`, import.meta.url);

/** Workers that are ready. */
function workers(peer, count) {
  const start = async () => {
    const worker = new Worker(address(peer), { type: 'module' });
    await new Promise((ready, failed) => {
      worker.onerror = failed;
      worker.onmessage = ready;
    });
    return worker;
  };
  return Promise.all(Array.from({ length: count }, start));
}

/** For each peer that does one job in a Worker: makes what does `job(i, rounds)` by promise. */
const POOLS = {
  async postMessage() {
    const all = await workers('postMessage', WORKERS);
    const waiting = new Map();
    let last = 0;
    for (const worker of all) {
      worker.onmessage = ({ data: [id, result] }) => {
        const done = waiting.get(id);
        waiting.delete(id);
        done(result);
      };
    }
    return (i, rounds) =>
      new Promise((done) => {
        last += 1;
        waiting.set(last, done);
        all[last % WORKERS].postMessage([last, i, rounds]);
      });
  },
  async comlink() {
    const all = (await workers('comlink', WORKERS)).map((worker) => comlink.wrap(worker));
    let next = 0;
    return (i, rounds) => all[(next += 1) % WORKERS].job(i, rounds);
  },
  async workerpool() {
    const pool = workerpool.pool(String(address('workerpool')), { minWorkers: WORKERS, maxWorkers: WORKERS, workerType: 'web', workerOpts: { type: 'module' } });
    return (i, rounds) => pool.exec('job', [i, rounds]);
  },
  async selkie() {
    const loop = await createLoop();
    const pool = createPool(loop, () => new Worker(address('selkie'), { type: 'module' }), { min: WORKERS, max: WORKERS });
    return (i, rounds) => pool.run('job', [i, rounds]);
  },
};

/** Words shared with each Worker, and where results go. */
async function floor(count, results) {
  const all = await workers('floor', count);
  return all.map((worker) => {
    const words = new Int32Array(new SharedArrayBuffer(32));
    worker.postMessage({ words, results });
    return words;
  });
}

/** Has the Worker of `words` do the jobs from `from` to `to`; resolves once it has. */
async function batch(words, from, to, rounds) {
  const before = Atomics.load(words, 0);
  words.set([from, to, rounds], 2);
  Atomics.store(words, 0, before + 1);
  Atomics.notify(words, 0);
  const wait = Atomics.waitAsync(words, 1, before);
  if (wait.async) await wait.value;
}

const isFloor = (peer) => peer.startsWith('floor');
const kept = new Map();
/** Makes what belongs to a peer once in a page, and has it work before anything is measured. */
async function once(peer, make) {
  if (!kept.has(peer)) kept.set(peer, await make());
  return kept.get(peer);
}

/** As `b5` of the module; ms. */
export async function trips(peer, count) {
  if (isFloor(peer)) {
    const [words] = await once(peer, () => floor(1, new Int32Array(new SharedArrayBuffer(4))));
    const start = performance.now();
    for (let i = 0; i < count; i += 1) await batch(words, 0, 1, 0);
    return performance.now() - start;
  }
  const job = await once(peer, POOLS[peer]);
  const start = performance.now();
  for (let i = 0; i < count; i += 1) await job(i, 0);
  return performance.now() - start;
}

/** As `b6` of the module; ms. */
export async function jobs(peer, count, rounds) {
  if (isFloor(peer)) {
    const { all, results } = await once(peer, async () => {
      const results = new Int32Array(new SharedArrayBuffer(4 * MOST));
      return { all: await floor(WORKERS, results), results };
    });
    const part = count / WORKERS;
    const start = performance.now();
    await Promise.all(all.map((words, at) => batch(words, at * part, (at + 1) * part, rounds)));
    return check(results.subarray(0, count), count, start);
  }
  const job = await once(peer, POOLS[peer]);
  const start = performance.now();
  const results = await Promise.all(Array.from({ length: count }, (_, i) => job(i, rounds)));
  return check(results, count, start);
}

function check(results, count, start) {
  const sum = results.reduce((a, b) => a + b, 0);
  const ms = performance.now() - start;
  if (sum !== count / 2) throw new Error(`${sum} of ${count / 2} results`);
  return ms;
}

/** `count` async functions, at most `concurrency` at once, all results in order; ms. */
export async function limited(peer, count, concurrency, body) {
  const bodies = Array.from({ length: count }, (_, i) => () => body(i));
  const loop = peer === 'selkie' && (await once('loop', createLoop));
  const start = performance.now();
  let results;
  if (loop) results = await loop.gather(bodies, { concurrency });
  else if (peer === 'p-queue') results = await new PQueue({ concurrency }).addAll(bodies);
  else results = await Promise.all(bodies.map((body) => body()));
  return check(results, count, start);
}
