// Makes the JavaScript side of a compiled module: `node tools/bindgen.mjs <file.wasm> <folder>`.

import { dirname, join } from "node:path";
import { bindgenRunner, run, windows } from "./lib.mjs";

const [file, folder] = process.argv.slice(2);
const runner = bindgenRunner();
if (!file || !folder || !runner) {
    console.error(runner ? "usage: bindgen.mjs <file.wasm> <folder>" : "wasm-bindgen is missing: run `npx -y rust-just setup web`");
    process.exit(2);
}
const bindgen = join(dirname(runner), windows ? "wasm-bindgen.exe" : "wasm-bindgen");
process.exit(run(bindgen, [file, "--target", "web", "--out-dir", folder]) ? 0 : 1);
