// Plays the tour in headless Chromium, on virtual and on real time, and fails if a scenario does: `node tools/tour.mjs`.

import { spawn } from "node:child_process";
import { cpSync } from "node:fs";
import { join } from "node:path";
import { browser } from "./browser.mjs";
import { green, red, root, run } from "./lib.mjs";

const PAGE = join("web", "tour");
const WASM = "wasm32-unknown-unknown";
const children = [];

/** Starts a program and resolves to what `pattern` finds in its output. */
function start(program, args, pattern) {
    const child = spawn(program, args, { cwd: root, stdio: ["ignore", "pipe", "inherit"] });
    children.push(child);
    let text = "";
    return new Promise((resolve, reject) => {
        child.stdout.on("data", (chunk) => {
            text += chunk;
            const found = text.match(pattern);
            if (found) resolve(found[1]);
        });
        child.on("error", reject);
        child.on("exit", (status) => reject(new Error(`${program} ended with status ${status}: ${text}`)));
    });
}

/** What the page has to show, one line for each event that is not right. */
const SCENARIOS = `return [...document.querySelectorAll("article")].map((card) => ({
    name: card.id,
    passed: card.dataset.state === "passed",
    wrong: [...card.querySelectorAll("tbody tr:not(.ok)")].map((row) => row.innerText.replace(/\\s+/g, " ")),
    lanes: [...card.querySelectorAll(".lane")].map((lane) => [".name", ".word"].map((part) => lane.querySelector(part).innerText)),
    ends: [...card.querySelectorAll(".lane .word")].map((word) => word.className.split(" ").at(-1)),
}))`;

/** Who of a scenario runs on how many Workers, in a build with threads. */
const WORKERS = { blocking: [["def", 3], ["ghi", 2]], eight: [["work 1", 1], ["work 2", 1]], remote: [["remote", 1]], feeds: [["slow job", 1]] };

/** What is wrong with the Workers that the lanes name. */
function wrongWorkers(scenario, lanes) {
    return (WORKERS[scenario] ?? []).filter(([names, count]) => {
        const of = lanes.filter(([name]) => names === name || (name.length === 1 && names.includes(name)));
        const workers = of.map(([, word]) => word.match(/on Worker (.+)$/)?.[1]);
        return workers.includes(undefined) || new Set(workers).size !== count;
    }).map(([names, count]) => `${names} should name ${count} of the Workers: ${JSON.stringify(lanes)}`);
}

/** Plays everything; answers for each scenario whether it was right. */
async function play(page, clock, threads) {
    const until = async (script, limit) => {
        const end = Date.now() + limit;
        while (!(await page.run(`return ${script}`))) {
            if (Date.now() > end) throw new Error(`${script} does not come true within ${limit / 1000} s`);
            // Seldom: each look takes time from the page.
            await new Promise((resolve) => setTimeout(resolve, 500));
        }
    };
    await until(`"ready" in document.documentElement.dataset || !document.getElementById("problem").hidden`, 20_000);
    await page.run(`document.querySelector('#clock input[value="${clock}"]').click(); document.getElementById("all").click()`);
    await until(`document.documentElement.dataset.result !== "open" && document.querySelector("#all span").textContent === "Play all"`, 180_000);
    const results = [];
    for (const { name, passed, wrong, ends, lanes } of await page.run(SCENARIOS)) {
        if (threads) wrong.push(...wrongWorkers(name, lanes));
        // A lane whose task has not ended would be a step that the page has missed.
        const open = ends.filter((end) => !["done", "cancelled"].includes(end));
        const ok = passed && wrong.length === 0 && ends.length > 0 && open.length === 0;
        results.push(ok);
        console.log(`test tour::${name}::${clock}${threads ? "_threads" : ""} ... ${ok ? green("ok") : red("FAILED")}`);
        for (const line of [...wrong, ...open.map((end) => `a task that is ${end}`)]) console.log(`    ${line}`);
    }
    return results;
}

async function main() {
    const built =
        run("cargo", ["build", "--release", "--target", WASM, "--example", "tour"]) &&
        run("node", [join("tools", "bindgen.mjs"), join("target", WASM, "release", "examples", "tour.wasm"), join(PAGE, "pkg")]);
    const threads = join(root, "target", "tour-threads");
    cpSync(join(root, PAGE), threads, { recursive: true, filter: (file) => !file.endsWith("pkg") });
    if (!built || !run("node", [join("tools", "web-threads.mjs"), "tour", threads])) return 1;
    const served = (folder) => start("node", [join("tools", "serve.mjs"), folder, "0"], /(http:\S+)/);
    const pages = [await served(PAGE), await served(threads)];
    const chromium = await browser();
    let failed = 0;
    let played = 0;
    try {
        const page = await chromium.page("about:blank");
        for (const [clock, threads] of [["virtual", 0], ["real", 0], ["real", 1]]) {
            await page.go(pages[threads]);
            const results = await play(page, clock, threads);
            played += results.length;
            failed += results.filter((passed) => !passed).length;
        }
        await page.close();
    } finally {
        chromium.close();
    }
    const ok = failed === 0 && played > 0;
    console.log(`test result: ${ok ? "ok" : "FAILED"}. ${played - failed} passed; ${failed} failed; 0 ignored`);
    return ok ? 0 : 1;
}

try {
    process.exitCode = await main();
} catch (error) {
    console.error(red(String(error)));
    process.exitCode = 1;
} finally {
    for (const child of children) {
        child.removeAllListeners("exit");
        child.kill();
    }
}
