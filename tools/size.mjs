// What a page downloads of the smallest program, against its bound: `node tools/size.mjs`.

import { join } from "node:path";
import { hello, sent } from "./hello.mjs";
import { bold, green, red, root, table } from "./lib.mjs";
import { prepare } from "./setup.mjs";

/**
 * Bytes after brotli, close to what there is, so that nothing grows unseen. Paths of the machine that builds are in the module: they,
 * and compilers, differ by a few dozen.
 */
const MOST = 24_000;

prepare(["rust", "linker", "wasm", "bindgen", "npm"]);
const built = await hello("selkie", join(root, "target", "size"));
if (!built) process.exit(1);
const rows = Object.entries(built).map(([what, bytes]) => [what, bytes.length, sent(bytes)]);
const total = sent(...Object.values(built));
const fits = total <= MOST;
console.log(table([["benches/hello", "minified", "brotli", "at most"].map(bold), ...rows, ["both", "", (fits ? green : red)(total), MOST]]));
// As the suites say it, for the summary of `just deep`.
console.log(`\ntest result: ${fits ? "ok. 1 passed; 0 failed" : "FAILED. 0 passed; 1 failed"}; 0 ignored`);
process.exitCode = fits ? 0 : 1;
