// The entry of a Worker that loads the application's glue: here that of the test, whose main does not divert.

export const isHere = () => true;

if (typeof WorkerGlobalScope === 'function' && !globalThis.name && new URL(import.meta.url).pathname === location.pathname) {
  onmessage = async ({ data }) => {
    globalThis.selkieIsolated = data;
    const { default: init } = await import('../../../../wasm-bindgen-test.js');
    (await init(data)).__selkie_isolated_0_1();
  };
}
