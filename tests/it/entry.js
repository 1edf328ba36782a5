// The script of a Worker with the program's own JavaScript, as a user writes it.

import init from '../../../../wasm-bindgen-test.js';
onmessage = ({ data }) => selkieThread(init, data);
