// A Worker that is a thread of the program. It has the module and what this crate asks of a host, and not the application's
// glue, which a library cannot find once a bundler was at work. So all that needs no JavaScript runs here; a call of JavaScript
// panics with the name of what is missing.
//
// All of it is this one file, though some functions of `host.js` are here again: where no bundler has joined the two, each Worker
// would fetch the second file after it has read the first, and that is a third of the time in which it comes up.

const port = typeof WorkerGlobalScope === 'function' ? self : process.getBuiltinModule('node:worker_threads').parentPort;

/** What calls back, and the memory: there is one instance of the module here, and its name is 0. */
let call;
let memory;
/** From this thread's clock to that of the root. */
let offset = 0;

/** As in `host.js`, for a thread that has no loop of JavaScript's: it waits by itself. */
const host = {
  selkie_guard(_, address) {
    try {
      call(address);
      return 1;
    } catch (error) {
      console.error(error);
      return 0;
    }
  },
  selkie_now: () => performance.now() + offset,
  // A copy, since a decoder refuses shared memory.
  selkie_report: (_, start, length) =>
    console.error(new TextDecoder().decode(new Uint8Array(memory.buffer, start, length).slice())),
};

/** The generated names end in a hash; ours begin with the name of the crate. */
const known = (name) => host[name.match(/^(?:__wbg_)?(selkie_\w+?)(?:_[0-9a-f]{16})?$/)?.[1]];

function begin({ module, work, missing, stack, clock, address, ...data }) {
  memory = data.memory;
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
  // The origins are by the clock of the wall, which may have been set meanwhile: time must not go back.
  offset = Math.max(performance.timeOrigin - clock.origin, clock.now - performance.now());
  call = functions.get(data.call);
  functions.get(work)(0, address);
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
  // The root has given it up, and what was meant for it is gone.
  if (Atomics.compareExchange(data.fate, 0, 0, 1) !== 0) return port.close();
  port.postMessage({ selkie: 'up' });
  try {
    begin(data);
    port.postMessage({ selkie: 'retired' });
  } catch (error) {
    console.error(error);
    port.postMessage({ selkie: String(error) });
  }
  port.close();
}

if (port === globalThis) port.onmessage = ({ data }) => run(data);
else port.once('message', run);
