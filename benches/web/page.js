// The page of the benchmarks: `measure(workload, peer)` runs one, once. tools/bench-web.mjs calls it.

import { jobs, limited, trips } from './pools.js';

// A module with threads, or for one; the address says which.
const threads = location.search === '?threads';
const { default: init, ...wasm } = await import(threads ? './threads/selkie_bench_web.js' : './pkg/selkie_bench_web.js');
const inRust = new Set(['selkie', 'selkie loop', 'rayon', 'rayon, one latch', 'tokio_with_wasm', 'tokio_with_wasm, 2 at once']);

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const quantile = (sorted, part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];

async function timed(f) {
  const start = performance.now();
  await f();
  return performance.now() - start;
}

// ---- Peers in JavaScript.

const spread = (i) => (Math.imul(i, 0x9e3779b9) >>> 0) / 2 ** 32;

async function yieldTimes(n) {
  for (let i = 0; i < n; i += 1) await undefined;
}

class Pair {
  side = 0;
  waiting = [null, null];

  async play(side, rounds) {
    for (let i = 0; i < rounds; i += 1) {
      while (this.side !== side) await new Promise((go) => (this.waiting[side] = go));
      this.side = 1 - side;
      const go = this.waiting[1 - side];
      this.waiting[1 - side] = null;
      go?.();
    }
  }
}

const each = (n, f) => Promise.all(Array.from({ length: n }, (_, i) => f(i)));

async function rawTimers(count, lead, window, sample) {
  const late = [];
  await new Promise((done) => {
    let left = count;
    for (let i = 0; i < count; i += 1) {
      const delay = lead + spread(i) * window;
      const due = i % sample === 0 ? performance.now() + delay : undefined;
      setTimeout(() => {
        if (due !== undefined) late.push(performance.now() - due);
        left -= 1;
        if (left === 0) done();
      }, delay);
    }
  });
  return late;
}

function rawCreate(count) {
  const start = performance.now();
  const timers = Array.from({ length: count }, (_, i) => setTimeout(() => {}, 10_000 + spread(i) * 500));
  const made = performance.now();
  timers.forEach(clearTimeout);
  const dropped = performance.now();
  return [((made - start) * 1e6) / count, ((dropped - made) * 1e6) / count];
}

// ---- What the page does beside.

function watch() {
  const seen = { over: false, gap: 0, delay: 0 };
  let drawn = performance.now();
  const context = document.getElementById('canvas').getContext('2d');
  const frame = () => {
    const at = performance.now();
    seen.gap = Math.max(seen.gap, at - drawn);
    drawn = at;
    // Something to draw, so that a frame is one.
    context.fillStyle = `hsl(${at % 360} 80% 50%)`;
    context.fillRect(0, 0, 64, 64);
    if (!seen.over) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  const { port1, port2 } = new MessageChannel();
  let sent;
  port1.onmessage = () => {
    seen.delay = Math.max(seen.delay, performance.now() - sent);
    if (!seen.over) setTimeout(send, 5);
  };
  const send = () => {
    sent = performance.now();
    port2.postMessage(0);
  };
  send();
  return async () => {
    // What was held up until the end comes now.
    await sleep(50);
    seen.over = true;
    port1.close();
    return { gap: seen.gap, delay: seen.delay };
  };
}

/** Many tasks that are ready at once; ms. */
async function crowd(peer, rounds) {
  if (peer === 'promises') return timed(() => each(B4, async () => (await undefined, wasm.work_once(rounds))));
  if (peer === 'postTask') return timed(() => each(B4, () => scheduler.postTask(() => wasm.work_once(rounds))));
  return wasm.b4(peer, B4, rounds);
}

// ---- The workloads. Each answers numbers by name.

const B1 = 100_000;
const B2 = [10_000, 10];
const B2B = [1000, 50];
const B4 = 200_000;
const B5 = 1000;
const B6 = 10_000;
const N1 = 10_000;
const N4 = 50_000;

const WORKLOADS = {
  async B1(peer) {
    const ms = peer === 'Promise.all' ? await timed(() => each(B1, async (i) => i & 1)) : await wasm.b1(peer, B1);
    return { ns: (ms * 1e6) / B1 };
  },
  async B2(peer) {
    const ms = peer === 'await' ? await timed(() => each(B2[0], () => yieldTimes(B2[1]))) : await wasm.b2(peer, ...B2);
    return { ns: (ms * 1e6) / (B2[0] * B2[1]) };
  },
  async B2b(peer) {
    const pairs = () =>
      each(B2B[0], () => {
        const pair = new Pair();
        return Promise.all([pair.play(0, B2B[1] / 2), pair.play(1, B2B[1] / 2)]);
      });
    const ms = peer === 'promises' ? await timed(pairs) : await wasm.b2b(peer, ...B2B);
    return { ns: (ms * 1e6) / (B2B[0] * B2B[1]) };
  },
  B3: (peer) => timers(peer, 100_000, 100),
  B3L: (peer) => timers(peer, 1000, 1),
  async B3c(peer) {
    const [create, cancel] = peer === 'setTimeout' ? rawCreate(100_000) : await wasm.b3_create(peer, 100_000);
    return { create, cancel };
  },
  async B4(peer) {
    const rounds = wasm.calibrate(20);
    await sleep(200);
    const watched = watch();
    await sleep(100);
    const ms = peer === 'idle' ? await timed(() => sleep(4000)) : await crowd(peer, rounds);
    return { ms, ...(await watched()) };
  },
  B5: (peer) => pooled(peer, 'b5', trips, B5),
  B6: (peer) => pooled(peer, 'b6', jobs, B6, wasm.calibrate(20)),
  B6e: (peer) => pooled(peer, 'b6', jobs, B6, 0),
  async N1(peer) {
    const ms = await limited(peer, N1, 100, async (i) => (await undefined, i & 1));
    return { ns: (ms * 1e6) / N1 };
  },
  async N2(peer) {
    return { us: ((await trips(peer, B5)) * 1e3) / B5 };
  },
  async N3(peer) {
    return { us: ((await jobs(peer, B6, wasm.calibrate(20))) * 1e3) / B6 };
  },
  async N4(peer) {
    const rounds = wasm.calibrate(20);
    await sleep(200);
    const watched = watch();
    await sleep(100);
    const ms = await limited(peer, N4, 100, async (i) => (await undefined, wasm.work_once(rounds), i & 1));
    return { ms, ...(await watched()) };
  },
};

/** What `f` of the module measures, or `other` in JavaScript, in us for each of `count`. */
async function pooled(peer, f, other, count, ...rest) {
  const ms = inRust.has(peer) ? await wasm[f](peer, count, ...rest) : await other(peer, count, ...rest);
  return { us: (ms * 1e3) / count };
}

/** Before anything is measured the Workers are there, and what is measured has run, so that its code is the fast one. */
async function warm(workload, peer) {
  if (/^B3/.test(workload)) await (workload === 'B3c' ? WORKLOADS.B3c(peer) : timers(peer, 10_000, 1000));
  // The first three of such short runs take up to ten times as long as the others.
  for (let i = 0; i < 3 && /^B[12]/.test(workload); i += 1) await WORKLOADS[workload.replace(/mt$/, '')](peer);
  // Without work: so that the memory of so many tasks is there, which else takes longer to come than they to be made.
  if (workload === 'B4' && peer !== 'idle') await crowd(peer, 0);
  if (!/^(B5|B6|N)/.test(workload)) return;
  if (/rayon/.test(peer)) await wasm.initThreadPool(2);
  if (workload === 'B5') await pooled(peer, 'b5', trips, 200);
  else if (workload === 'N2') await trips(peer, 20_000);
  else if (workload === 'N4') await limited(peer, N4, 100, async (i) => i & 1);
  // With work, so that its code is the fast one from then on.
  else if (/^B6/.test(workload)) await pooled(peer, 'b6', jobs, 2000, wasm.calibrate(20));
  else if (workload === 'N3') await jobs(peer, 2000, wasm.calibrate(20));
  else await limited(peer, 200, 100, async (i) => i & 1);
  await sleep(100);
}

async function timers(peer, count, sample) {
  // The window begins when all are made, by those who make them in time.
  const given = [count, 200, 500, sample];
  const late = peer === 'setTimeout' ? await rawTimers(...given) : [...(await wasm.b3(peer, ...given))];
  if (late.length !== count / sample) throw new Error(`${late.length} timers were measured`);
  late.sort((a, b) => a - b);
  return { early: late[0], p50: quantile(late, 0.5), p99: quantile(late, 0.99) };
}

window.ready = init().then(async () => {
  // The loop finds out what the host can do while it runs for the first time.
  await wasm.b1('selkie', 10);
  await sleep(100);
});
// What comes behind a comma or a blank says where a peer or a workload runs.
const plain = (workload, peer) => [workload.split(' ')[0], peer.replace(', one thread', '')];
window.warm = (workload, peer) => warm(...plain(workload, peer));
window.measure = (workload, peer) => {
  const [name, who] = plain(workload, peer);
  return WORKLOADS[name.replace(/mt$/, '')](who);
};
