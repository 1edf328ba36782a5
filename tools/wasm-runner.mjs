#!/usr/bin/env node
// Cargo's runner for wasm32 (.cargo/config.toml): finds the test runner that fits Cargo.lock and gives it the settings of
// this project. `WASM_BINDGEN_USE_BROWSER=1` or `WASM_BINDGEN_USE_DEDICATED_WORKER=1` leave Node for a browser.

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { bindgenRunner, chromedriver, locked, root } from "./lib.mjs";

const runner = bindgenRunner();
if (!runner) {
    console.error(`wasm-bindgen-test-runner ${locked("wasm-bindgen")} is missing: run \`npx -y rust-just setup\``);
    process.exit(1);
}
const env = { ...process.env };
// A million wakes take longer than the 20 seconds, and a cold driver longer than the 5, that are given by default.
env.WASM_BINDGEN_TEST_TIMEOUT ??= "300";
env.WASM_BINDGEN_TEST_DRIVER_TIMEOUT ??= "60";
if (!env.GECKODRIVER) {
    env.CHROMEDRIVER ??= chromedriver() ?? "chromedriver";
    // Cargo starts a test in the folder of its package, so the path has to be a full one.
    env.WASM_BINDGEN_TEST_WEBDRIVER_JSON ??= join(root, "webdriver.json");
}
const done = spawnSync(runner, process.argv.slice(2), { stdio: "inherit", env });
if (done.error) console.error(String(done.error));
process.exit(done.status ?? 1);
