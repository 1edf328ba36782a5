// The Workers of those peers that bring none: `worker.js?<peer>`. Each has an instance of the page's module to itself, so that its
// work is the same code.

import * as comlink from 'comlink';
import { expose } from './selkie/worker.js';
import workerpool from 'workerpool';

const [peer, threads] = location.search.slice(1).split('&');
const { default: init, ...wasm } = await import(threads ? './threads/selkie_bench_web.js' : './pkg/selkie_bench_web.js');

const PEERS = {
  postMessage() {
    onmessage = ({ data: [id, i, rounds] }) => postMessage([id, job(i, rounds)]);
  },
  comlink: () => comlink.expose({ job }),
  workerpool: () => workerpool.worker({ job }),
  selkie: () => expose({ job }),
  // Asleep on a word until the page counts it up, and answers by the next one.
  floor() {
    onmessage = ({ data: { words, results } }) => {
      for (let seen = 0; ; ) {
        Atomics.wait(words, 0, seen);
        seen = Atomics.load(words, 0);
        const [, , from, to, rounds] = words;
        for (let i = from; i < to; i += 1) results[i] = job(i, rounds);
        Atomics.store(words, 1, seen);
        Atomics.notify(words, 1);
      }
    };
  },
};

function job(i, rounds) {
  wasm.work_once(rounds);
  return i & 1;
}

await init();
PEERS[peer]();
// workerpool and selkie wait for messages of their own; the others for this one.
if (/postMessage|comlink|floor/.test(peer)) postMessage('ready');
