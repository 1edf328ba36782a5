// A program as a user begins one: `cargo new`, this crate, one main.rs. It runs natively and, unchanged, in a page.
// `node tools/program.mjs`; what it prints has to be the same on both.

import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bindgen } from "./bindgen.mjs";
import { browser } from "./browser.mjs";
import { dim, green, red, root, scratch } from "./lib.mjs";
import { serve } from "./serve.mjs";
import { prepare } from "./setup.mjs";

const MAIN = `use std::{error::Error, time::Duration};

use selkie::{EventLoop, IsolatedPool, sleep, spawn, spawn_lazy};

async fn square(n: u64) -> u64 {
    sleep(Duration::from_millis(5 * (4 - n))).await;
    n * n
}

#[selkie::isolated]
fn cube(n: u64) -> (u64, Option<String>) {
    (n * n * n, selkie::isolated::worker())
}

#[selkie::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let say = |text: &str| EventLoop::current().unwrap().call_exception_handler(text);
    let tasks: Vec<_> = (1..=3).map(|n| spawn(square(n))).collect();
    say("three tasks have begun");
    let mut squares = Vec::new();
    for task in tasks {
        squares.push(task.await?);
    }
    say(&format!("{squares:?}"));
    let pool = IsolatedPool::builder(1).name("cubes").build()?;
    say(&format!("in a worker: {:?}", pool.submit(cube(3))?.await?));
    pool.shutdown().await;
    let panics = spawn_lazy(async { panic!("on purpose") });
    let failed = panics.await.is_err();
    say(&format!("the panic ended its task alone: {failed}"));
    Err("this is how a program fails".into())
}
`;

// The panic's own message comes from the standard library, and each line may have something before it.
const LINES = [
    "selkie: three tasks have begun", "selkie: [1, 4, 9]", 'selkie: in a worker: (27, Some("cubes-0"))', "on purpose", "selkie: the panic ended its task alone: true",
    'Error: "this is how a program fails"',
];

const PAGE = `<!doctype html>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<script type="module">
import init from "./pkg/program.js";
init();
</script>
`;

/** Whether `text` has the lines in their order; says which one is not there. */
function check(where, text) {
    let at = 0;
    for (const line of LINES) {
        const found = text.indexOf(line, at);
        if (found < 0) {
            console.error(red(`${where}: no ${JSON.stringify(line)} after the lines before it, in:`));
            console.error(text);
            return false;
        }
        at = found + line.length;
    }
    console.log(`${where}: ${green("ok")}`);
    return true;
}

prepare(["rust", "linker", "wasm", "bindgen", "chromium"]);
const folder = join(scratch(), "program");
const target = join(root, "target", "program");

function cargo(...args) {
    console.log(dim(`$ cargo ${args.join(" ")}`));
    const env = { ...process.env, CARGO_TARGET_DIR: target, RUSTFLAGS: "" };
    const done = spawnSync("cargo", args, { cwd: args[0] === "new" ? tmpdir() : folder, encoding: "utf8", env });
    if (done.error) throw done.error;
    return done;
}

function must(...args) {
    const done = cargo(...args);
    if (done.status === 0) return;
    console.error(done.stderr);
    throw new Error(`cargo ${args[0]} fails`);
}

async function native() {
    const done = cargo("run", "--quiet");
    if (done.status !== 1) console.error(red(`native: the exit status of a main that returns Err is 1, not ${done.status}`));
    return check("native", done.stderr) && done.status === 1;
}

async function page() {
    must("build", "--quiet", "--target", "wasm32-unknown-unknown");
    const site = join(folder, "site");
    mkdirSync(site);
    writeFileSync(join(site, "index.html"), PAGE);
    if (!bindgen(join(target, "wasm32-unknown-unknown", "debug", "program.wasm"), join(site, "pkg"))) return false;
    const server = await serve(site, 0);
    const chromium = await browser();
    try {
        const page = await chromium.page(`http://localhost:${server.address().port}/`);
        let text = "";
        for (let tries = 0; tries < 100 && !text.includes(LINES.at(-1)); tries += 1) {
            await new Promise((again) => setTimeout(again, 50));
            // The driver quotes what it reports, and puts the place in front.
            text += (await page.console()).map((line) => `${line.replaceAll("\\n", "\n").replaceAll('\\"', '"')}\n`).join("");
        }
        await page.close();
        return check("page in headless Chromium", text);
    } finally {
        chromium.close();
        server.close();
    }
}

must("new", "--quiet", "--vcs=none", folder);
must("add", "--quiet", "--offline", "selkie", "--path", root);
// The versions that everything else here is tested with.
copyFileSync(join(root, "Cargo.lock"), join(folder, "Cargo.lock"));
writeFileSync(join(folder, "src", "main.rs"), MAIN);
const ok = [await native(), await page()];
const passed = ok.filter(Boolean).length;
// As the test harnesses close, for tools/test.mjs to count.
console.log(`test result: ${passed === ok.length ? "ok" : "FAILED"}. ${passed} passed; ${ok.length - passed} failed; 0 ignored`);
process.exitCode = passed === ok.length ? 0 : 1;
