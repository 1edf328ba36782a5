// A Worker with an instance of the module of its own, as it sees itself.
//
// This file is the entry of such a Worker, and it is imported by the glue of a program with isolated functions, where it does
// nothing. As the entry it makes the instance without the application's glue, which it could not load once a bundler has been at
// work: functions of selkie's own files are bound, everything else throws. Jobs that call JavaScript need an entry of the user's own, which loads the
// glue; then the functions here are called through that.

import * as host from './host.js';
import * as moments from './moments.js';

const NAME = 'selkie-isolated';

let given; // What the page has sent: by the entry here, or as a global by the user's.
let parts; // Of the instance: its memory, and how to find a function of its table.
let functions;
let panic;
let absent; // What the job has called that is not here.

/** Makes an instance known that the glue has made. */
export function adopt(memory, table) {
  given = globalThis.selkieIsolated;
  parts = { memory, find: (index) => table.get(index) };
}

/**
 * From here on requests are answered, by indices of the table; the `length` bytes at `address` go first. Answers a name for the
 * instance, by which jobs have what the host does for loops.
 */
function serve(take, named, answer, turn, call, address, length) {
  functions = { take: parts.find(take), answer: parts.find(answer) };
  const name = new TextEncoder().encode(given.name);
  parts.find(named)(hand(name), name.length);
  onmessage = ({ data: { bytes } }) => guarded(() => functions.answer(hand(bytes), bytes.length));
  const hello = copy(address, length);
  const send = () => postMessage({ bytes: hello });
  const locks = globalThis.navigator?.locks;
  // Held until this Worker is no more, by which the page hears of that.
  const held = () => {
    send();
    return new Promise(() => {});
  };
  if (locks) locks.request(given.lock, held).catch(send);
  else send();
  return host.attach({ get: parts.find }, parts.memory, turn, call);
}

function reply(address, length) {
  const bytes = copy(address, length);
  postMessage({ bytes }, [bytes.buffer]);
}

/** A panic is about to end the instance. */
function panicked(address, length) {
  panic = new TextDecoder().decode(copy(address, length));
}

export { serve as selkie_serve, reply as selkie_reply, panicked as selkie_panicked };

const copy = (address, length) => new Uint8Array(parts.memory.buffer, address, length).slice();

/** Answers where the module has the bytes. */
function hand(bytes) {
  const address = functions.take(bytes.length);
  if (address < 0) throw new Error(`no room for ${bytes.length} bytes`);
  new Uint8Array(parts.memory.buffer, address, bytes.length).set(bytes);
  return address;
}

/** What throws has left an instance that nobody should use. */
function guarded(f) {
  panic = absent = undefined;
  try {
    f();
  } catch (error) {
    fail(error);
    console.error(error);
  }
}

/** Where panics unwind, what JavaScript throws becomes one that cannot, so what is absent comes first. */
function fail(error) {
  if (panic !== undefined && !absent) postMessage({ panic });
  else postMessage({ threw: String(absent ?? error) });
}

if (globalThis.name === NAME && typeof WorkerGlobalScope === 'function') {
  onmessage = async ({ data }) => {
    given = data;
    try {
      await begin(data);
    } catch (error) {
      fail(error);
    }
  };
}

async function begin({ module_or_path: module, pages }) {
  const { exports, memory } = await instance(module, pages);
  const tables = Object.values(exports).filter((value) => value instanceof WebAssembly.Table);
  const find = (index) => {
    for (const table of tables) {
      const found = index < table.length && table.get(index);
      if (typeof found === 'function') return found;
    }
    throw new Error(`no function ${index}`);
  };
  parts = { memory: memory ?? exports.memory, find };
  // Runs the program's `main`.
  exports.__wbindgen_start?.();
  exports.__selkie_isolated_0_1();
}

async function instance(module, pages) {
  const own = { selkie_role: () => 1, selkie_serve: serve, selkie_reply: reply, selkie_panicked: panicked };
  const imports = {};
  let shared;
  for (const { module: from, name, kind } of WebAssembly.Module.imports(module)) {
    imports[from] ??= {};
    if (kind === 'memory') shared = [from, name];
    else if (kind === 'tag') imports[from][name] = new WebAssembly.Tag({ parameters: ['externref'] });
    else if (kind === 'function') imports[from][name] = bind(from, name, own);
  }
  if (!shared) return { exports: (await WebAssembly.instantiate(module, imports)).exports };
  // A module for threads brings no memory along. How large it may become stands in the module alone: too much is refused.
  for (let maximum = 65536; ; maximum /= 2) {
    try {
      const memory = new WebAssembly.Memory({ initial: pages, maximum, shared: true });
      imports[shared[0]][shared[1]] = memory;
      return { exports: (await WebAssembly.instantiate(module, imports)).exports, memory };
    } catch (error) {
      if (maximum / 2 < pages) throw error;
    }
  }
}

/** Imported from this file, or, where panics unwind, by a wrapper in the glue, whose names end in a hash. */
function bind(from, name, own) {
  const known = name.match(/^(?:__wbg_)?(selkie_\w+?)(?:_[0-9a-f]{16})?$/)?.[1];
  if (known && own[known]) return own[known];
  if (known && host[known]) return host[known];
  if (from.endsWith('/host.js') && host[name]) return host[name];
  if (from.endsWith('/moments.js') && moments[name]) return moments[name];
  if (name.includes('init_externref_table')) return () => {};
  return () => {
    throw absent = new Error(`no JavaScript in this Worker (${name}): give it an entry of your own by \`selkie::os::web::set_isolated_worker\``);
  };
}
