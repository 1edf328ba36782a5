// selkie beside its peers in headless Chromium: `node tools/bench-web.mjs [B1 B2 ...] [--quick]`.
//
// A round gives every workload and peer a fresh page, in an order that moves on from round to round, so that what the
// machine does meanwhile meets all of them. Compare ratios of one run; absolute numbers are those of the machine.

import { copyFileSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync } from "node:zlib";
import { bindgen } from "./bindgen.mjs";
import { browser } from "./browser.mjs";
import { bold, dim, green, heading, red, root, run, table } from "./lib.mjs";
import { serve } from "./serve.mjs";
import { prepare } from "./setup.mjs";

// A goal is [number, of which peer]: selkie's number is at most so many times that peer's, or so much without a peer.
const WORKLOADS = {
    B1: {
        title: "100,000 ready tasks, spawn and await all", repeats: 7, unit: { ns: "ns/task" },
        peers: ["selkie", "selkie lazy", "n0-future", "spawn_local", "FuturesUnordered", "LocalPool", "Promise.all", "floor: once", "floor: ring"],
        goals: { ns: [[0.35, "n0-future"], [0.6, "Promise.all"], [2.2, "floor: once"]] },
    },
    B2: {
        title: "10,000 tasks that wake themselves 10 times", repeats: 7, unit: { ns: "ns/switch" },
        peers: ["selkie", "n0-future", "spawn_local", "FuturesUnordered", "LocalPool", "await", "floor: ring"],
        goals: { ns: [[0.7, "spawn_local"], [2, "floor: ring"]] },
    },
    B2b: {
        title: "1000 pairs that hand over 50 times", repeats: 7, unit: { ns: "ns/handover" },
        peers: ["selkie", "n0-future", "spawn_local", "FuturesUnordered", "LocalPool", "promises"],
        goals: { ns: [[0.7, "spawn_local"]] },
    },
    B3: {
        title: "100,000 timers in 500 ms", repeats: 1, unit: { cpu: "us CPU/timer", p50: "late p50, ms", p99: "late p99, ms" }, count: 100_000,
        peers: ["selkie", "n0-future", "setTimeout"],
        goals: { cpu: [[0.08, "n0-future"], [0.13, "setTimeout"]], p50: [[0.5]], p99: [[2]] },
    },
    B3L: {
        title: "1000 timers in 500 ms", repeats: 1, unit: { cpu: "us CPU/timer", p50: "late p50, ms", p99: "late p99, ms" }, count: 1000,
        peers: ["selkie", "n0-future", "setTimeout"],
        // Beside that p50 no ratio has a meaning: the host's own timers come early, by the part of a ms that they cut off.
        goals: { cpu: [[0.6, "n0-future"]], p50: [[0.5]], p99: [[1, "n0-future"]] },
    },
    B3c: {
        title: "making and dropping a timer", repeats: 1, unit: { create: "create, ns", cancel: "cancel, ns" },
        peers: ["selkie", "n0-future", "setTimeout"],
        goals: { create: [[0.04, "setTimeout"]], cancel: [[0.041, "setTimeout"]] },
    },
    B4: {
        title: "200,000 ready tasks of 20 us, beside a page", repeats: 1,
        unit: { gap: "longest frame gap, ms", delay: "longest message delay, ms", ms: "ms", cpu: "ms CPU" },
        peers: ["selkie lazy", "selkie", "spawn_local", "n0-future", "promises", "postTask", "idle"],
        goals: { gap: [[25]], delay: [[10]], ms: [[1.2, "spawn_local"]], cpu: [[1.03, "spawn_local"]] }, subject: "selkie lazy",
    },
};

/** The rows of B7, which is no workload of the page: sizes of a program that sleeps and spawns, brotli at its best. */
const SIZES = {
    title: "a program that spawns, joins and sleeps: wasm and glue, brotli", unit: { bytes: "bytes" },
    peers: ["selkie", "wasm-bindgen-futures", "n0-future"],
    goals: { bytes: [[9216], [1, "wasm-bindgen-futures"]] },
};

const args = process.argv.slice(2);
const quick = args.includes("--quick");
const chosen = args.filter((arg) => arg !== "--quick");
const known = [...Object.keys(WORKLOADS), "B7"];
const unknown = chosen.filter((name) => !known.some((key) => key.startsWith(name)));
if (unknown.length) {
    console.error(`no workload ${unknown.join(", ")}; there are ${known.join(", ")}`);
    process.exit(2);
}
const withSizes = chosen.length === 0 || chosen.some((name) => "B7".startsWith(name));
const names = Object.keys(WORKLOADS).filter((key) => chosen.length === 0 || chosen.some((name) => key.startsWith(name)));
const rounds = quick ? 1 : 5;

prepare(["rust", "linker", "wasm", "bindgen", "chromium"]);
const target = join(root, "target", "bench-web");
const site = join(target, "site");
const source = join(root, "benches", "web");
const built = names.length === 0 || run("cargo", ["build", "--release", "--target", "wasm32-unknown-unknown", "--manifest-path", join(source, "Cargo.toml")],
    { CARGO_TARGET_DIR: target });
mkdirSync(site, { recursive: true });
const wasm = join(target, "wasm32-unknown-unknown", "release", "selkie_bench_web.wasm");
if (!built || (names.length && !bindgen(wasm, join(site, "pkg")))) process.exit(1);
copyFileSync(join(source, "page.html"), join(site, "index.html"));
copyFileSync(join(source, "page.js"), join(site, "page.js"));

const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
const show = (value) => (value === undefined ? "" : value >= 100 ? value.toFixed(0) : value.toPrecision(3));

/** What each workload and peer measured, as `samples[workload][peer][quantity]`. */
const samples = Object.fromEntries(
    names.map((name) => [name, Object.fromEntries(WORKLOADS[name].peers.map((peer) => [peer, {}]))]),
);
const failures = [];

const server = names.length && (await serve(site, 0));
const chromium = names.length && (await browser());
try {
    for (let round = 0; round < rounds; round += 1) {
        for (const name of names) {
            const { peers, repeats, count = 1 } = WORKLOADS[name];
            for (let at = 0; at < peers.length; at += 1) {
                const peer = peers[(at + round) % peers.length];
                if (process.stderr.isTTY) process.stderr.write(dim(`\rround ${round + 1} of ${rounds}: ${name}, ${peer}`.padEnd(70)));
                const page = await chromium.page(`http://localhost:${server.address().port}/`);
                try {
                    await page.devtools("Performance.enable", {});
                    await page.run("await window.ready");
                    for (let repeat = 0; repeat < repeats; repeat += 1) {
                        const before = await busy(page);
                        const measured = await page.run("return await window.measure(...args)", name, peer);
                        // In us for each of many, in ms for one whole.
                        measured.cpu = ((await busy(page)) - before) * (count > 1 ? 1e6 / count : 1e3);
                        for (const [quantity, value] of Object.entries(measured)) (samples[name][peer][quantity] ??= []).push(value);
                    }
                } catch (error) {
                    failures.push(`${name}, ${peer}: ${error.message.split("\n")[0]}`);
                } finally {
                    await page.close();
                }
            }
        }
    }
} finally {
    if (names.length) {
        chromium.close();
        server.close();
    }
    if (process.stderr.isTTY) process.stderr.write("\n");
}

/** Seconds that the page's main thread has been busy with tasks. */
async function busy(page) {
    const { metrics } = await page.devtools("Performance.getMetrics", {});
    return metrics.find(({ name }) => name === "TaskDuration").value;
}

if (withSizes) {
    WORKLOADS.B7 = SIZES;
    names.push("B7");
    samples.B7 = Object.fromEntries(SIZES.peers.map((peer) => [peer, {}]));
    for (const peer of SIZES.peers) {
        const bytes = size(peer);
        if (bytes) samples.B7[peer].bytes = [bytes];
        else failures.push(`B7, ${peer}: does not build`);
    }
}

/** The bytes of the program on `peer`: the module and its glue, each compressed on its own as a server would. */
function size(peer) {
    const folder = join(target, "hello");
    const manifest = join(root, "benches", "hello", "Cargo.toml");
    const flags = ["--release", "--target", "wasm32-unknown-unknown", "--manifest-path", manifest, "--features", peer];
    if (!run("cargo", ["build", ...flags], { CARGO_TARGET_DIR: folder })) return undefined;
    const module = join(folder, "wasm32-unknown-unknown", "release", "selkie_bench_hello.wasm");
    const out = join(folder, peer);
    if (!bindgen(module, out, "--remove-name-section", "--remove-producers-section")) return undefined;
    const files = readdirSync(out).filter((file) => /\.(js|wasm)$/.test(file));
    return files.reduce((sum, file) => sum + brotliCompressSync(readFileSync(join(out, file))).length, 0);
}

let missed = 0;
const verdicts = {};
for (const name of names) {
    const { title, peers, unit, goals, subject = "selkie" } = WORKLOADS[name];
    verdicts[name] = [];
    heading(`${name}: ${title}`);
    const value = (peer, quantity) => samples[name][peer][quantity] && median(samples[name][peer][quantity]);
    const quantities = Object.keys(unit);
    const rows = peers.map((peer) => [
        peer,
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
