import { parentPort } from 'node:worker_threads';
import { createLoop, endpoint, job } from 'selkie';
import { remote } from './functions.js';
const port = endpoint(await createLoop(), remote(job));
parentPort.postMessage(port, [port]);
