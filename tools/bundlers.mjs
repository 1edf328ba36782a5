// The threads build of a small program, served as it is and through bundlers: `node tools/bundlers.mjs`. In each its threads come
// up, once without the program's JavaScript and once with a script of its own.

import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { bindgen } from "./bindgen.mjs";
import { browser } from "./browser.mjs";
import { BUILDS } from "./hosts.mjs";
import { bundlers, dim, green, red, root, scratch } from "./lib.mjs";
import { serve } from "./serve.mjs";
import { prepare } from "./setup.mjs";

const MAIN = `use std::time::Duration;

use selkie::{EventLoop, sleep, to_thread};

#[selkie::main]
async fn main() {
    let say = |text: &str| EventLoop::current().unwrap().call_exception_handler(text);
    say(&format!("job: {:?}", to_thread(|| (1..=1000u64).sum::<u64>()).await));
    let worker = EventLoop::spawn_thread("worker").unwrap();
    let task = worker.handle().submit(async || {
        sleep(Duration::from_millis(5)).await;
        7
    });
    say(&format!("loop: {:?}", task.unwrap().await));
    say(&format!("javascript: {}", to_thread(js_sys::Math::random).await.is_ok()));
    say("over");
}
`;

const SCRIPT = `import init from "./pkg/program.js";
if (location.search === "?own") {
    globalThis.selkie = { worker: () => new Worker(new URL("./worker.js", import.meta.url), { type: "module" }) };
}
init();
`;

const WORKER = `import init from "./pkg/program.js";
onmessage = ({ data }) => selkieThread(init, data);
`;

const page = (script) => `<!doctype html>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<script type="module" src="${script}"></script>
`;

prepare(["rust", "linker", "wasm", "bindgen", "nightly", "chromium", "bundlers"]);
const folder = join(scratch(), "program");
const { toolchain, flags, env } = BUILDS.threads;
const target = join(root, "target", "threads");

function must(program, args, options) {
    console.log(dim(`$ ${program} ${args.join(" ")}`));
    const done = spawnSync(program, args, { cwd: folder, encoding: "utf8", ...options });
    if (done.error) throw done.error;
    if (done.status !== 0) throw new Error(`${program} ${args[0]} fails:\n${done.stdout}${done.stderr}`);
}

function cargo(...args) {
    must("cargo", args, {
        cwd: args[0] === "new" ? tmpdir() : folder,
        env: { ...process.env, ...env, CARGO_TARGET_DIR: target },
    });
}

/** What serves a folder: resolves to its port and how to end it. */
async function folderAt(path) {
    const server = await serve(path, 0);
    return { port: server.address().port, close: () => server.close() };
}

/** Vite's own server, as a developer runs it. */
async function viteDev(path) {
    const { createServer } = await import(pathToFileURL(join(bundlers(), "node_modules", "vite", "dist", "node", "index.js")));
    const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
    const server = await createServer({
        root: path, configFile: false, logLevel: "warn", cacheDir: join(folder, "vite-cache"),
        // 0 would be taken for none; a taken one is passed over.
        server: { host: "localhost", port: 30_000 + Math.floor(Math.random() * 20_000), headers },
    });
    await server.listen();
    return { port: server.httpServer.address().port, close: () => server.close() };
}

/** The ways to serve the program, by name. */
function sites() {
    const plain = join(folder, "site");
    mkdirSync(plain);
    writeFileSync(join(plain, "main.js"), SCRIPT);
    writeFileSync(join(plain, "worker.js"), WORKER);
    writeFileSync(join(plain, "index.html"), page("./main.js"));
    const file = join(target, "wasm32-unknown-unknown", "debug", "program.wasm");
    if (!bindgen(file, join(plain, "pkg"))) throw new Error("wasm-bindgen fails");
    symlinkSync(join(bundlers(), "node_modules"), join(folder, "node_modules"));
    const bin = (name) => join(bundlers(), "node_modules", ".bin", name);

    const vite = join(folder, "vite");
    must(bin("vite"), ["build", plain, "--outDir", vite, "--emptyOutDir", "--logLevel", "warn"]);

    const webpack = join(folder, "webpack");
    must(bin("webpack"), ["--entry", join(plain, "main.js"), "--output-path", webpack, "--mode", "development"]);
    writeFileSync(join(webpack, "index.html"), page("./main.js"));
    return {
        plain: () => folderAt(plain),
        "Vite, its server for developers": () => viteDev(plain),
        "Vite, built": () => folderAt(vite),
        webpack: () => folderAt(webpack),
    };
}

/** Whether the program says what it should in a page of the site. */
async function check(chromium, name, site, own) {
    const server = await site();
    const open = await chromium.page(`http://localhost:${server.port}/${own ? "?own" : ""}`);
    let text = "";
    for (let tries = 0; tries < 200 && !text.includes("selkie: over"); tries += 1) {
        await new Promise((again) => setTimeout(again, 100));
        text += (await open.console()).map((line) => `${line}\n`).join("");
    }
    await open.close();
    await server.close();
    const ok = ["job: Ok(500500)", "loop: Ok(7)", `javascript: ${own}`, "selkie: over"].every((line) => text.includes(line));
    console.log(`${name}, ${own ? "a script of its own" : "without JavaScript"}: ${ok ? green("ok") : red("FAILED")}`);
    if (!ok) console.error(text);
    return ok;
}

cargo("new", "--quiet", "--vcs=none", folder);
cargo("add", "--quiet", "--offline", "selkie", "--path", root);
cargo("add", "--quiet", "--offline", "js-sys");
// The versions that everything else here is tested with.
copyFileSync(join(root, "Cargo.lock"), join(folder, "Cargo.lock"));
writeFileSync(join(folder, "src", "main.rs"), MAIN);
cargo(...toolchain, "build", "--quiet", "--target", "wasm32-unknown-unknown", ...flags);
const chromium = await browser();
const results = [];
try {
    for (const [name, site] of Object.entries(sites())) {
        for (const own of [false, true]) results.push(await check(chromium, name, site, own));
    }
} finally {
    chromium.close();
}
const passed = results.filter(Boolean).length;
// As the test harnesses close, for tools/test.mjs to count.
console.log(`test result: ${passed === results.length ? "ok" : "FAILED"}. ${passed} passed; ${results.length - passed} failed; 0 ignored`);
process.exitCode = passed === results.length ? 0 : 1;
