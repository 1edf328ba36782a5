// Headless Chromium and Firefox by the WebDriver protocol, for what is no test of wasm-bindgen.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { chromedriver, geckodriver, root, scratch, temporary } from "./lib.mjs";

/** Starts a driver; resolves to `{ page, close }`, where `page(url)` resolves to a fresh browser that shows `url`. */
export async function browser(name = "chromium") {
    const firefox = name === "firefox";
    const program = firefox ? geckodriver() : chromedriver();
    if (!program) throw new Error(`the driver of ${name} is missing: run \`npx -y rust-just setup\``);
    const driver = spawn(program, ["--port=0", ...(firefox ? ["--websocket-port=0"] : [])], {
        // Firefox reports of itself; what a driver has to say of its start is on its standard output.
        stdio: ["ignore", "pipe", firefox ? "ignore" : "inherit"], env: { ...process.env, ...temporary(scratch()) },
    });
    const port = await new Promise((found, failed) => {
        let text = "";
        driver.stdout.on("data", (chunk) => {
            text += chunk;
            const match = text.match(/successfully on port (\d+)/) ?? text.match(/Listening on [\d.]+:(\d+)/);
            if (match) found(match[1]);
        });
        driver.on("error", failed);
        driver.on("close", () => failed(new Error(`${program} ended: ${text}`)));
    });

    async function call(method, path, body) {
        const response = await fetch(`http://127.0.0.1:${port}${path}`, {
            method, body: body && JSON.stringify(body), headers: { "Content-Type": "application/json" },
        });
        const { value } = await response.json();
        if (!response.ok) throw new Error(`${method} ${path}: ${value.message}`);
        return value;
    }

    const flags = JSON.parse(readFileSync(join(root, "webdriver.json"), "utf8"));
    const chromium = { ...flags, "goog:loggingPrefs": { browser: "ALL" } };
    const capabilities = { alwaysMatch: firefox ? { "moz:firefoxOptions": { args: ["-headless"] } } : chromium };

    return {
        /** A script of it may take `patience` ms. */
        async page(url, patience = 300_000) {
            const { sessionId } = await call("POST", "/session", { capabilities });
            const at = `/session/${sessionId}`;
            await call("POST", `${at}/timeouts`, { script: patience });
            await call("POST", `${at}/url`, { url });
            return {
                /** What the body of an async function answers in the page; `args` are its arguments. */
                run: (body, ...args) =>
                    call("POST", `${at}/execute/sync`, { script: `return (async (...args) => { ${body} })(...arguments)`, args }),
                go: (to) => call("POST", `${at}/url`, { url: to }),
                /** What a command of the DevTools protocol answers. */
                devtools: (cmd, params) => call("POST", `${at}/goog/cdp/execute`, { cmd, params }),
                /** The lines of the console since the last call. */
                console: async () => (await call("POST", `${at}/se/log`, { type: "browser" })).map(({ message }) => message),
                close: () => call("DELETE", at),
            };
        },
        close: () => void driver.kill(),
    };
}
