#!/usr/bin/env node
// Cargo's runner for wasm32 (.cargo/config.toml): finds the test runner that fits Cargo.lock and gives it the settings of
// this project. `WASM_BINDGEN_USE_BROWSER=1` or `WASM_BINDGEN_USE_DEDICATED_WORKER=1` leave Node for a browser.
//
// The test runner serves the tests by tiny_http, which now and then gives one of several connections that come at the same
// moment no thread before another one is closed. The browser keeps them open, so it would wait for ever. With no more
// connections than tiny_http has threads from the start, which are four, that cannot be: Firefox can be told so, and between
// Chromium and the server is a proxy.

import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { Agent, createServer, request } from "node:http";
import { join } from "node:path";
import { bindgenRunner, chromedriver, locked, root, scratch, temporary } from "./lib.mjs";

const CONNECTIONS = 2;

const runner = bindgenRunner();
if (!runner) {
    console.error(`wasm-bindgen-test-runner ${locked("wasm-bindgen")} is missing: run \`npx -y rust-just setup\``);
    process.exit(1);
}
const env = { ...process.env };
// A million wakes take longer than the 20 seconds, and a cold driver longer than the 5, that are given by default.
env.WASM_BINDGEN_TEST_TIMEOUT ??= "300";
env.WASM_BINDGEN_TEST_DRIVER_TIMEOUT ??= "60";
const isFirefox = Boolean(env.GECKODRIVER);
if (!isFirefox) env.CHROMEDRIVER ??= chromedriver() ?? "chromedriver";

const folder = scratch();
Object.assign(env, temporary(folder));
if (!env.WASM_BINDGEN_TEST_WEBDRIVER_JSON) {
    // Cargo starts a test in the folder of its package, so the path has to be a full one.
    env.WASM_BINDGEN_TEST_WEBDRIVER_JSON = join(folder, "webdriver.json");
    writeFileSync(env.WASM_BINDGEN_TEST_WEBDRIVER_JSON, JSON.stringify(isFirefox ? firefox() : await chromium()));
}

function firefox() {
    return { "moz:firefoxOptions": { prefs: { "network.http.max-persistent-connections-per-server": CONNECTIONS } } };
}

async function chromium() {
    const capabilities = JSON.parse(readFileSync(join(root, "webdriver.json"), "utf8"));
    const port = await proxy();
    // Without the second one a browser asks no proxy for what is on its own machine.
    capabilities["goog:chromeOptions"].args.push(`--proxy-server=127.0.0.1:${port}`, "--proxy-bypass-list=<-loopback>");
    return capabilities;
}

/** Passes requests on, for as long as this process lives, and resolves to its port. */
async function proxy() {
    const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
    const server = createServer((from, to) => {
        const { method, headers } = from;
        const failed = () => to.headersSent ? to.destroy() : to.writeHead(502).end();
        if (!URL.canParse(from.url)) return failed();
        const onward = request(from.url, { method, headers, agent }, (answer) => {
            to.writeHead(answer.statusCode, answer.headers);
            answer.pipe(to);
            answer.on("error", failed);
        });
        onward.on("error", failed);
        from.pipe(onward);
    });
    // The browser asks for pages of its maker; this machine's are enough.
    server.on("connect", (_, socket) => socket.destroy());
    await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
    return server.address().port;
}

const child = spawn(runner, process.argv.slice(2), { stdio: "inherit", env });
child.on("error", (error) => {
    console.error(String(error));
    process.exit(1);
});
child.on("exit", (status) => process.exit(status ?? 1));
