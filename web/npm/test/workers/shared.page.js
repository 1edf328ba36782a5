import { createLoop, endpoint, job } from '../../dist/index.js';
import { remote } from './functions.js';
globalThis.onconnect = async ({ ports: [to] }) => {
    const port = endpoint(await createLoop(), remote(job));
    to.postMessage(port, [port]);
};
