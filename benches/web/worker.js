// The Workers of those peers that bring none: `worker.js?<peer>`. Each has an instance of the module for one thread.

import * as comlink from 'comlink';
import { expose } from './selkie/worker.js';
import workerpool from 'workerpool';
import init, * as wasm from './pkg/selkie_bench_web.js';

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
PEERS[location.search.slice(1)]();
// workerpool and selkie wait for messages of their own; the others for this one.
if (/postMessage|comlink|floor/.test(location.search)) postMessage('ready');
