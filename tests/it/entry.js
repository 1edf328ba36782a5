// The script of a Worker with the program's own JavaScript, as a user writes it.

import init from '../../../../wasm-bindgen-test.js';

const late = location.search === '?late';
const begin = (options) => new Promise((begun) => setTimeout(() => begun(init(options)), late ? 1000 : 0));
onmessage = ({ data }) => selkieThread(late ? begin : init, data);
