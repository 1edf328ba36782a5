import { createLoop, endpoint, job } from '../../dist/index.js';
import { remote } from './functions.js';
const port = endpoint(await createLoop(), remote(job));
postMessage(port, [port]);
