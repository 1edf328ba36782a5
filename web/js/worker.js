// A Worker that is a thread of the program. It has the module and what this crate asks of a host, and not the application's
// glue, which a library cannot find once a bundler was at work. So all that needs no JavaScript runs here; a call of JavaScript
// panics with the name of what is missing.

import * as host from './host.js';

const port = typeof WorkerGlobalScope === 'function' ? self : process.getBuiltinModule('node:worker_threads').parentPort;

/** The generated names end in a hash; ours begin with the name of the crate. */
const known = (name) => host[name.match(/^(?:__wbg_)?(selkie_\w+?)(?:_[0-9a-f]{16})?$/)?.[1]];

function begin({ module, memory, work, missing, call, stack, clock, address }) {
  let wasm;
  let functions;
  const absent = (name) => () => {
    const bytes = new TextEncoder().encode(name);
    const panics = functions.get(missing);
    const start = panics(0, bytes.length) >>> 0;
    new Uint8Array(memory.buffer).set(bytes, start);
    panics(start, bytes.length);
  };
  const imports = {};
  for (const { module: from, name, kind } of WebAssembly.Module.imports(module)) {
    imports[from] ??= {};
    if (kind === 'memory') imports[from][name] = memory;
    else if (kind === 'tag') imports[from][name] = new WebAssembly.Tag({ parameters: ['externref'] });
    else if (name === '__wbindgen_init_externref_table') imports[from][name] = () => {};
    else imports[from][name] = known(name) ?? absent(name);
  }
  wasm = new WebAssembly.Instance(module, imports).exports;
  // Two tables are exported, and only one of them has functions.
  const tables = Object.values(wasm).filter((table) => table instanceof WebAssembly.Table && table.length > work);
  functions = tables.find((table) => typeof table.get(work) === 'function');
  wasm.__wbindgen_start(stack);
  host.synchronize(clock);
  functions.get(work)(host.adopt(functions, memory, call), address);
  // Frees the stack and the thread's variables.
  wasm.__wbindgen_thread_destroy(0, 0, 0);
}

async function run(data) {
  // Held to the end, it tells the root of every way to go.
  await new Promise((held) => {
    const locks = globalThis.navigator?.locks;
    if (!locks) held();
    else locks.request(data.lock, () => (held(), new Promise(() => {}))).catch(held);
  });
  port.postMessage('up');
  try {
    begin(data);
    port.postMessage('retired');
  } catch (error) {
    console.error(error);
    port.postMessage(String(error));
  }
  port.close();
}

if (port === globalThis) port.onmessage = ({ data }) => run(data);
else port.once('message', run);
