// The small program of benches/hello on selkie or a peer, as one who cares for size builds it.

import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { brotliCompressSync } from "node:zlib";
import { bindgen } from "./bindgen.mjs";
import { NIGHTLY, root, run, windows } from "./lib.mjs";

const npm = join(root, "web", "npm");

/** The bytes of files as a server would send them. */
export function sent(...files) {
    return files.reduce((sum, file) => sum + brotliCompressSync(file).length, 0);
}

/** The bytes of the program on `peer`, built in `target`: the module and its glue, both made small by the tools that there are. */
export async function hello(peer, target) {
    const [feature, own] = peer.split(", ");
    const folder = join(target, own ? "hello-std" : "hello");
    const manifest = join(root, "benches", "hello", "Cargo.toml");
    const std = ["-Z", "build-std=std,panic_abort", "-Z", "build-std-features=optimize_for_size"];
    const flags = ["--release", "--target", "wasm32-unknown-unknown", "--manifest-path", manifest, "--features", feature];
    const RUSTFLAGS = own ? "-Zunstable-options -Cpanic=immediate-abort -Zlocation-detail=none -Zfmt-debug=none" : "";
    if (!run("cargo", [...(own ? [`+${NIGHTLY}`] : []), "build", ...flags, ...(own ? std : [])], { CARGO_TARGET_DIR: folder, RUSTFLAGS })) return undefined;
    const module = join(folder, "wasm32-unknown-unknown", "release", "selkie_bench_hello.wasm");
    const out = join(folder, feature);
    rmSync(out, { recursive: true, force: true });
    if (!bindgen(module, out, "--no-typescript")) return undefined;
    const small = join(out, "small.wasm");
    const features = ["bulk-memory", "bulk-memory-opt", "mutable-globals", "nontrapping-float-to-int", "sign-ext", "multivalue", "reference-types", "call-indirect-overlong"];
    const opt = ["-Oz", ...features.map((name) => `--enable-${name}`), "--strip-debug", "--strip-producers"];
    if (!run(join(npm, "node_modules", ".bin", windows ? "wasm-opt.cmd" : "wasm-opt"), [...opt, join(out, "selkie_bench_hello_bg.wasm"), "-o", small])) return undefined;
    const { build } = await import(pathToFileURL(join(npm, "node_modules", "esbuild", "lib", "main.js")));
    const contents = "import init from './selkie_bench_hello.js'; init();";
    const { outputFiles } = await build({ stdin: { contents, resolveDir: out }, bundle: true, minify: true, format: "esm", write: false, logLevel: "error" });
    return { module: readFileSync(small), glue: outputFiles[0].contents };
}
