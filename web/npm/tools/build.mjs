// Builds the package into dist/: `node tools/build.mjs`. Needs the pinned nightly and wasm-bindgen (`just setup test`).
//
// The scheduler is compiled with a standard library that is optimised for size and panics without a message: it is a third
// smaller, and the bodies of tasks are JavaScript, so that a panic is a bug of this package.

import { build } from "esbuild";
import { createHash } from "node:crypto";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { NIGHTLY, bindgenRunner, root, run, windows } from "../../../tools/lib.mjs";
import { read, write } from "./wasm.mjs";

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(here, "dist");
const bin = (name) => join(here, "node_modules", ".bin", windows ? `${name}.cmd` : name);
const WASM = "wasm32-unknown-unknown";
const DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

function must(ok, what) {
    if (ok) return;
    console.error(`${what} failed`);
    process.exit(1);
}

/** Compiles the scheduler; answers its bytes, what it is called, and the short names of what JavaScript calls of it. */
function wasm() {
    const target = join(root, "target", "npm");
    const flags = [
        "-Zunstable-options -Cpanic=immediate-abort -Zlocation-detail=none -Zfmt-debug=none",
        // The paths of the machine that builds are nobody's business.
        `--remap-path-prefix=${root}=. --remap-path-prefix=${process.env.CARGO_HOME ?? join(process.env.HOME ?? "", ".cargo")}=cargo`,
    ].join(" ");
    must(run("cargo", [`+${NIGHTLY}`, "build", "-p", "selkie-npm", "--profile", "npm", "--target", WASM, "-Z", "build-std=std,panic_abort",
        "-Z", "build-std-features=optimize_for_size"], { CARGO_TARGET_DIR: target, RUSTFLAGS: flags }), "cargo");
    const runner = bindgenRunner();
    must(runner, "looking for wasm-bindgen: run `npx -y rust-just setup`, which");
    const glue = join(target, "glue");
    must(run(join(dirname(runner), windows ? "wasm-bindgen.exe" : "wasm-bindgen"),
        [join(target, WASM, "npm", "selkie_npm.wasm"), "--target", "web", "--no-typescript", "--out-dir", glue]), "wasm-bindgen");
    const names = rename(readFileSync(join(glue, "selkie_npm_bg.wasm")));
    const named = join(glue, "named.wasm");
    writeFileSync(named, names.bytes);
    const out = join(dist, "loop.wasm");
    // What every browser of the last years and Node 20 have; not all that the tool knows.
    const features = ["bulk-memory", "bulk-memory-opt", "mutable-globals", "nontrapping-float-to-int", "sign-ext", "multivalue", "reference-types", "call-indirect-overlong"];
    must(run(bin("wasm-opt"), ["-Oz", ...features.map((name) => `--enable-${name}`), "--strip-debug", "--strip-producers",
        named, "-o", out]), "wasm-opt");
    return { ...names, bytes: readFileSync(out) };
}

/**
 * What the module imports and has no need of here. It is no worker of an isolated pool, what it reports goes to its loop's handler, and
 * `attach` knows the table and the memory. After a throw that returns there is a trap, which is all that a throw would come to.
 */
const IDLE = ["selkie_role", "selkie_report", "function_table", "memory", "init_externref_table", "throw"];

/**
 * Gives imports and exports the names that src/engine.ts has for them, as short as those of what else is private there, and
 * the module that they come from one that only this build has. What JavaScript does not call is not exported.
 */
function rename(bytes) {
    const source = readFileSync(join(here, "src", "engine.ts"), "utf8");
    const known = new Set(source.match(/\b[a-z_]+_\b/g));
    const short = {};
    const shorten = (bare) => (known.has(`${bare}_`) ? (short[`${bare}_`] ??= `$${DIGITS[Object.keys(short).length]}`) : undefined);
    const plain = (name) => name.replace(/^__wbg_/, "").replace(/^__wbindgen_/, "").replace(/_[0-9a-f]{16}$/, "");
    const module = read(bytes);
    const id = createHash("sha256").update(bytes).digest("hex").slice(0, 8);
    for (const one of module.imports) {
        const bare = plain(one.name);
        const name = shorten(IDLE.includes(bare) ? "idle" : bare);
        if (name) one.name = name;
        // What asks a Worker to serve an isolated pool is called by nothing here: wasm-opt leaves it out.
        else must(bare === "enter" || one.name.includes("exports"), `src/engine.ts does not know the import ${one.module} ${one.name}: the build`);
        one.module = id;
    }
    module.exports = module.exports.filter((one) => (one.name = shorten(one.name === "__wbindgen_export" ? "table" : plain(one.name))));
    return { bytes: write(module), short, id };
}

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist);
const { bytes, short, id } = wasm();
for (const { module, name } of WebAssembly.Module.imports(new WebAssembly.Module(bytes))) {
    must(module === id && Object.values(short).includes(name), `src/engine.ts does not know the import ${name}: the build`);
}
const common = {
    bundle: true, format: "esm", target: "es2022", minify: true, mangleProps: /[a-z]_$/, sourcemap: true, sourcesContent: true,
    legalComments: "none", outdir: dist, absWorkingDir: here, logLevel: "warning", platform: "neutral", define: { SELKIE_BUILD: JSON.stringify(id) },
};
writeFileSync(join(dist, "wasm.js"), `export default ${JSON.stringify(bytes.toString("base64"))};\n`);
const entries = (...names) => names.map((name) => join("src", `${name}.ts`)).filter((path) => existsSync(join(here, path)));
// One build, so that entries share their modules and the short names of what is private.
const mangled = await build({ ...common, entryPoints: entries("index", "node", "inline", "testing"), splitting: true, chunkNames: "core-[hash]",
    external: ["node:*", "./wasm.js"], mangleCache: short });
// A Worker's side is one file each.
await build({ ...common, entryPoints: entries("worker", "worker-node"), external: ["node:*"], mangleCache: mangled.mangleCache });
must(run(process.execPath, [join(here, "node_modules", "typescript", "bin", "tsc"), "-p", here]), "tsc");
for (const name of readdirSync(dist)) if (name === "host.d.ts") rmSync(join(dist, name));
for (const name of ["LICENSE-APACHE", "LICENSE-MIT", "CHANGELOG.md"]) cpSync(join(root, name), join(here, name));
for (const name of readdirSync(dist).sort()) if (!name.endsWith(".map")) console.log(`${String(statSync(join(dist, name)).size).padStart(8)}  ${name}`);
