// Builds the package into dist/: `node tools/build.mjs`. Needs the pinned nightly and wasm-bindgen (`just setup test`).
//
// The scheduler is compiled with a standard library that is optimised for size and panics without a message: it is a third
// smaller, and the bodies of tasks are JavaScript, so that a panic is a bug of this package.

import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { NIGHTLY, bindgenRunner, root, run, windows } from "../../../tools/lib.mjs";

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(here, "dist");
const bin = (name) => join(here, "node_modules", ".bin", windows ? `${name}.cmd` : name);
const WASM = "wasm32-unknown-unknown";

function must(ok, what) {
    if (ok) return;
    console.error(`${what} failed`);
    process.exit(1);
}

/** Compiles the scheduler; answers its bytes. */
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
    const out = join(dist, "loop.wasm");
    // What every browser of the last years and Node 20 have; not all that the tool knows.
    const features = ["bulk-memory", "bulk-memory-opt", "mutable-globals", "nontrapping-float-to-int", "sign-ext", "multivalue", "reference-types", "call-indirect-overlong"];
    must(run(bin("wasm-opt"), ["-Oz", ...features.map((name) => `--enable-${name}`), "--strip-debug", "--strip-producers",
        join(glue, "selkie_npm_bg.wasm"), "-o", out]), "wasm-opt");
    return readFileSync(out);
}

const HOST = ["attach", "disarm", "later", "open", "selkie_guard", "selkie_now", "selkie_report", "soon"];

/** The glue is written by hand (src/engine.ts) and knows what the module may import. */
function checkImports(bytes) {
    for (const { module, name } of WebAssembly.Module.imports(new WebAssembly.Module(bytes))) {
        const known = module === "selkie" || (module.endsWith("/js/host.js") && HOST.includes(name))
            || module.endsWith("/js/isolated-worker.js")
            || /function_table|memory|exports|throw|init_externref_table/.test(name);
        must(known, `src/engine.ts does not know the import ${module} ${name}: the build`);
    }
}

const common = {
    bundle: true, format: "esm", target: "es2022", minify: true, mangleProps: /[a-z]_$/, sourcemap: true, sourcesContent: true,
    legalComments: "none", outdir: dist, absWorkingDir: here, logLevel: "warning",
};

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist);
const bytes = wasm();
checkImports(bytes);
writeFileSync(join(dist, "wasm.js"), `export default ${JSON.stringify(bytes.toString("base64"))};\n`);
const entries = (...names) => names.map((name) => join("src", `${name}.ts`)).filter((path) => existsSync(join(here, path)));
// One build, so that entries share their modules and the short names of what is private.
const mangled = await build({ ...common, entryPoints: entries("index", "node", "inline", "testing"), splitting: true, chunkNames: "core",
    external: ["node:*", "./wasm.js"], mangleCache: {}, platform: "neutral" });
// A Worker's side is one file each.
await build({ ...common, entryPoints: entries("worker", "worker-node"), external: ["node:*"], mangleCache: mangled.mangleCache, platform: "neutral" });
must(run(process.execPath, [join(here, "node_modules", "typescript", "bin", "tsc"), "-p", here]), "tsc");
for (const name of readdirSync(dist)) if (name === "host.d.ts") rmSync(join(dist, name));
for (const name of ["LICENSE-APACHE", "LICENSE-MIT", "CHANGELOG.md"]) cpSync(join(root, name), join(here, name));
for (const name of readdirSync(dist).sort()) if (!name.endsWith(".map")) console.log(`${String(statSync(join(dist, name)).size).padStart(8)}  ${name}`);
