// The benchmarks: `node tools/bench.mjs [native|web] [WORKLOAD...] [--quick]`. Without `native` or `web`, both.
// Results are in target/bench: native.json and web.json for programs, native.html and web.html for people.

import { join } from "node:path";
import { root, run } from "./lib.mjs";
import { prepare } from "./setup.mjs";

const args = process.argv.slice(2);
const sides = ["native", "web"].filter((side) => args.includes(side));
const rest = args.filter((arg) => arg !== "native" && arg !== "web");
const named = rest.filter((arg) => /^[a-z]\d/i.test(arg));
// A workload says by its letter where it runs.
const wants = (side, letters) =>
    sides.length ? sides.includes(side) : named.length === 0 || named.some((name) => letters.includes(name[0].toUpperCase()));

let ok = true;
if (wants("native", "W")) {
    prepare(["rust", "linker"]);
    const own = sides.length ? rest : rest.filter((arg) => !/^[bn]\d/i.test(arg));
    const cargo = ["run", "--release", "--quiet", "--manifest-path", join(root, "benches", "Cargo.toml"), "--", ...own];
    ok = run("cargo", cargo) && ok;
}
if (wants("web", "BN")) {
    const own = sides.length ? rest : rest.filter((arg) => !/^w\d/i.test(arg));
    ok = run(process.execPath, [join(root, "tools", "bench-web.mjs"), ...own]) && ok;
}
process.exitCode = ok ? 0 : 1;
