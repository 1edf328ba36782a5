// selkie beside its peers in headless Chromium and Firefox: `node tools/bench-web.mjs [B1 B2 ...] [--quick]`.
//
// A round gives every workload and peer a fresh page, in an order that moves on from round to round, so that what the
// machine does meanwhile meets all of them. Compare ratios of one run; absolute numbers are those of the machine.

import { copyFileSync, cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { SIZES, WORKLOADS } from "../benches/web/workloads.mjs";
import { bindgen } from "./bindgen.mjs";
import { browser } from "./browser.mjs";
import { hello, sent } from "./hello.mjs";
import { bold, dim, green, heading, red, root, run, table } from "./lib.mjs";
import { BUILDS } from "./hosts.mjs";
import { serve } from "./serve.mjs";
import { prepare } from "./setup.mjs";

const args = process.argv.slice(2);
const quick = args.includes("--quick");
const chosen = args.filter((arg) => arg !== "--quick");
const known = [...Object.keys(WORKLOADS), ...Object.keys(SIZES)];
const unknown = chosen.filter((name) => !known.some((key) => key.startsWith(name)));
if (unknown.length) {
    console.error(`no workload ${unknown.join(", ")}; there are ${known.join(", ")}`);
    process.exit(2);
}
const wanted = (all) => all.filter((key) => chosen.length === 0 || chosen.some((name) => key.startsWith(name)));
// What is quick has no time for two browsers, unless it is told to.
const names = wanted(Object.keys(WORKLOADS)).filter((key) => chosen.length || !quick || !WORKLOADS[key].browser);
const sized = wanted(Object.keys(SIZES));
const rounds = quick ? 1 : 5;

const uses = (what) => names.some((name) => WORKLOADS[name].browser === what || WORKLOADS[name].pages === what);
const withThreads = uses("threads");
prepare(["rust", "linker", "wasm", "bindgen", "chromium", "nightly", "npm", "bench", ...(uses("firefox") ? ["firefox", "geckodriver"] : [])]);
const target = join(root, "target", "bench-web");
const site = join(target, "site");
const source = join(root, "benches", "web");

/** Builds the module of the page into `folder` of the site. */
function build(folder, { toolchain, flags, env }, ...more) {
    const wasm = "wasm32-unknown-unknown";
    const args = [...toolchain, "build", "--release", "--target", wasm, ...flags, "--manifest-path", join(source, "Cargo.toml"), ...more];
    const built = run("cargo", args, env) && bindgen(join(root, env.CARGO_TARGET_DIR, wasm, "release", "selkie_bench_web.wasm"), join(site, folder));
    if (!built) process.exit(1);
}

mkdirSync(site, { recursive: true });
const npm = join(root, "web", "npm");
if ((names.length || sized.includes("N5")) && !run(process.execPath, [join(npm, "tools", "build.mjs")])) process.exit(1);
const { build: bundle } = await import(pathToFileURL(join(source, "node_modules", "esbuild", "lib", "main.js")));
if (names.length) {
    build("pkg", { toolchain: [], flags: [], env: { CARGO_TARGET_DIR: join("target", "bench-web") } });
    if (withThreads) build("threads", BUILDS.bench, "--features", "threads");
    cpSync(join(npm, "dist"), join(site, "selkie"), { recursive: true });
    copyFileSync(join(source, "page.html"), join(site, "index.html"));
    copyFileSync(join(source, "page.js"), join(site, "page.js"));
    await bundle({
        entryPoints: [join(source, "pools.js"), join(source, "worker.js")], outdir: site, bundle: true, format: "esm", target: "es2022", logLevel: "warning",
        external: ["./pkg/*", "./threads/*", "./selkie/*", "worker_threads", "os", "child_process", "url"],
    });
}

const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
const show = (value) => (value === undefined ? "" : value >= 100 ? value.toFixed(0) : value.toPrecision(3));

/** What each workload and peer measured, as `samples[workload][peer][quantity]`. */
const samples = Object.fromEntries(
    names.map((name) => [name, Object.fromEntries(WORKLOADS[name].peers.map((peer) => [peer, {}]))]),
);
const failures = [];

const server = names.length && (await serve(site, 0));
const browsers = {};
const PATIENCE = 60_000; // ms for a sample
/** In Firefox a browser for each page takes longer than what is measured there. */
async function open(name, url) {
    browsers[name] ??= await browser(name);
    if (name === "chromium") return browsers[name].page(url, PATIENCE);
    const page = (browsers[name].only ??= await browsers[name].page("about:blank", PATIENCE));
    await page.go("about:blank");
    await page.go(url);
    return { ...page, close() {} };
}
try {
    for (let round = 0; round < rounds; round += 1) {
        for (const name of names) {
            const { peers, repeats, count = 1, pages, browser = "chromium" } = WORKLOADS[name];
            for (let at = 0; at < peers.length; at += 1) {
                const peer = peers[(at + round) % peers.length];
                if (process.stderr.isTTY) process.stderr.write(dim(`\rround ${round + 1} of ${rounds}: ${name}, ${peer}`.padEnd(70)));
                const query = pages === "threads" && !peer.endsWith(", one thread") ? "?threads" : "";
                let page;
                try {
                    page = await open(browser, `http://localhost:${server.address().port}/${query}`);
                    if (browser === "chromium") await page.devtools("Performance.enable", {});
                    await page.run("while (!window.ready) await new Promise((go) => setTimeout(go, 10)); await window.ready; await window.warm(...args)", name, peer);
                    for (let repeat = 0; repeat < (quick ? Math.min(repeats, 3) : repeats); repeat += 1) {
                        const before = browser === "chromium" && (await busy(page));
                        const measured = await page.run("return await window.measure(...args)", name, peer);
                        // In us for each of many, in ms for one whole.
                        if (browser === "chromium") measured.cpu = ((await busy(page)) - before) * (count > 1 ? 1e6 / count : 1e3);
                        for (const [quantity, value] of Object.entries(measured)) (samples[name][peer][quantity] ??= []).push(value);
                    }
                } catch (error) {
                    failures.push(`${name}, ${peer}: ${error.message.split("\n")[0]}`);
                } finally {
                    await page?.close();
                }
            }
        }
    }
} finally {
    for (const { only, close } of Object.values(browsers)) {
        await only?.close().catch(() => {});
        close();
    }
    if (names.length) server.close();
    if (process.stderr.isTTY) process.stderr.write("\n");
}

/** Seconds that the page's main thread has been busy with tasks. */
async function busy(page) {
    const { metrics } = await page.devtools("Performance.getMetrics", {});
    return metrics.find(({ name }) => name === "TaskDuration").value;
}

for (const name of sized) {
    WORKLOADS[name] = SIZES[name];
    names.push(name);
    samples[name] = Object.fromEntries(SIZES[name].peers.map((peer) => [peer, {}]));
    for (const peer of SIZES[name].peers) {
        const bytes = name === "B7" ? await small(peer) : await loaded(peer);
        if (bytes) samples[name][peer].bytes = [bytes];
        else failures.push(`${name}, ${peer}: does not build`);
    }
}

/** The bytes of the small program on `peer`. */
async function small(peer) {
    const built = await hello(peer, target);
    return built && sent(...Object.values(built));
}

/** The text of an application of one module, as bundlers make it. */
async function bundled(contents, resolveDir, options) {
    const { outputFiles } = await bundle({ stdin: { contents, resolveDir }, bundle: true, minify: true, format: "esm", write: false, logLevel: "error", ...options });
    return outputFiles[0].contents;
}

/** The bytes of an application that runs functions, so many at once, here and in Workers. */
async function loaded(peer) {
    if (peer === "selkie") {
        const dist = join(npm, "dist");
        const page = await bundled("export { createLoop, createPool } from './index.js'", dist, {});
        return sent(page, await bundled("export { expose } from './worker.js'", dist, {}), readFileSync(join(dist, "loop.wasm")));
    }
    const options = { external: ["worker_threads", "os", "child_process", "url"] };
    const all = ["export { default as PQueue } from 'p-queue'", "export * from 'comlink'", "export { default as workerpool } from 'workerpool'"];
    return sent(await bundled(all.join("; "), source, options));
}

let missed = 0;
const verdicts = {};
for (const name of names) {
    const { title, peers, unit, goals, subject = "selkie", unfair = {} } = WORKLOADS[name];
    verdicts[name] = [];
    heading(`${name}: ${title}`);
    const value = (peer, quantity) => samples[name][peer][quantity] && median(samples[name][peer][quantity]);
    const quantities = Object.keys(unit);
    const rows = peers.map((peer) => [
        peer in unfair ? dim(`${peer} (${unfair[peer]})`) : peer,
        ...quantities.flatMap((quantity) => {
            const list = samples[name][peer][quantity];
            if (!list) return ["failed", "", ""];
            return [show(value(peer, quantity)), dim(`${show(Math.min(...list))}..${show(Math.max(...list))}`),
                `${show(value(subject, quantity) / value(peer, quantity))}x`];
        }),
    ]);
    console.log(table([["", ...quantities.flatMap((quantity) => [unit[quantity], "range", subject])].map(bold), ...rows]));
    for (const [quantity, list] of Object.entries(goals)) {
        for (const [limit, peer] of list) {
            const least = (of) => samples[name][of][quantity] && Math.min(...samples[name][of][quantity]);
            const got = peer ? value(subject, quantity) / value(peer, quantity) : value(subject, quantity);
            // What the quietest moments of the machine gave: where this differs much, measure again.
            const best = peer ? least(subject) / least(peer) : least(subject);
            const met = got <= limit;
            if (!met) missed += 1;
            const which = peer ? `${unit[quantity]} beside ${peer}` : unit[quantity];
            const x = peer ? "x" : "";
            const text = `${which}: at most ${limit}${x}, is ${show(got)}${x}`;
            verdicts[name].push([text, met]);
            const verdict = met ? green("met   ") : red("missed");
            console.log(`  ${verdict} ${which}: ${show(got)}${x} (of the best samples ${show(best)}${x}), goal ${limit}${x}`);
        }
    }
}
failures.forEach((failure) => console.error(red(failure)));

/** One row for each quantity of each peer, as native.json has them. */
const rows = names.flatMap((name) =>
    WORKLOADS[name].peers.flatMap((peer) =>
        Object.entries(WORKLOADS[name].unit).flatMap(([quantity, unit]) => {
            const list = samples[name][peer][quantity];
            if (!list) return [];
            return [{ workload: name, subject: peer, n: WORKLOADS[name].count ?? 1, quantity, unit, median: median(list),
                min: Math.min(...list), max: Math.max(...list), samples: list }];
        }),
    ),
);

/** Bars of all quantities, for people. */
function page() {
    const escape = (text) => String(text).replace(/[<>&]/g, (c) => `&#${c.charCodeAt(0)};`);
    const section = (name) => {
        const { title, unit } = WORKLOADS[name];
        const goals = verdicts[name]
            .map(([text, met]) => `<br>Goal: ${escape(text)}: <b class=${met ? "yes>reached" : "no>not reached"}</b>`)
            .join("");
        const charts = Object.entries(unit).map(([quantity, label]) => {
            const own = rows.filter((row) => row.workload === name && row.quantity === quantity);
            const longest = Math.max(...own.map((row) => row.median), Number.MIN_VALUE);
            const bars = own.map((row, at) => {
                const x = (value) => 270 + 560 * Math.min(1.05, value / longest);
                const colour = row.subject.startsWith("selkie") ? "#0f8b8d" : /^(floor|idle)/.test(row.subject) ? "#9aa5b1" : "#e07a5f";
                const y = at * 22;
                return `<text x=262 y=${y + 15} text-anchor=end>${escape(row.subject)}</text>` +
                    `<rect x=270 y=${y + 2} width=${(x(row.median) - 270).toFixed(1)} height=16 fill='${colour}'/>` +
                    `<line x1=${x(row.min).toFixed(1)} x2=${x(row.max).toFixed(1)} y1=${y + 10} y2=${y + 10} stroke=currentColor />` +
                    `<text x=${(Math.max(x(row.max), x(row.median)) + 6).toFixed(1)} y=${y + 15}>${show(row.median)}</text>`;
            });
            return `<h3>${escape(label)}</h3><svg viewBox='0 0 900 ${own.length * 22 + 4}' role=img>${bars.join("")}</svg>`;
        });
        return `<h2>${name}: ${escape(title)}</h2><p>${goals.slice(4)}</p>${charts.join("")}`;
    };
    const style = readFileSync(join(root, "benches", "src", "page.css"), "utf8");
    return `<!doctype html><html lang=en><meta charset=utf-8><title>selkie beside its peers, in a browser</title><style>${style}</style>` +
        "<h1>selkie beside its peers, in a browser</h1><p>Medians of one run whose rounds alternate. Shorter is better. " +
        `Thin lines reach from the least to the greatest sample.</p>${names.map(section).join("")}</html>\n`;
}

const folder = join(root, "target", "bench");
const file = join(folder, "web.json");
mkdirSync(folder, { recursive: true });
writeFileSync(file, `${JSON.stringify(rows, undefined, 1)}\n`);
writeFileSync(join(folder, "web.html"), page());
console.log(`\n${missed} goals missed; all samples are in target/bench/web.json, bars in web.html`);
// A goal that is missed is a result. What could not be measured is an error.
process.exitCode = failures.length ? 1 : 0;
