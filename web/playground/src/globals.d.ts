/** Sizes of the package in KB, compressed, as measured when the page was built. */
declare const __KB_JS__: string;
declare const __KB_WASM__: string;
