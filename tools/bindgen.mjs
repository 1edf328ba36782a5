// Makes the JavaScript side of a compiled module: `node tools/bindgen.mjs <file.wasm> <folder>`.

import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { bindgenRunner, run, windows } from "./lib.mjs";

/** Whether the glue of `file`, for pages without a bundler, is in `folder` now. */
export function bindgen(file, folder, ...flags) {
    const runner = bindgenRunner();
    if (!runner) {
        console.error("wasm-bindgen is missing: run `npx -y rust-just setup web`");
        return false;
    }
    const program = join(dirname(runner), windows ? "wasm-bindgen.exe" : "wasm-bindgen");
    return run(program, [file, "--target", "web", "--out-dir", folder, ...flags]);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
    const [file, folder] = process.argv.slice(2);
    if (!file || !folder) {
        console.error("usage: bindgen.mjs <file.wasm> <folder>");
        process.exit(2);
    }
    process.exit(bindgen(file, folder) ? 0 : 1);
}
