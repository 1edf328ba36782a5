// selkie beside its peers in headless Chromium: `node tools/bench-web.mjs [B1 B2 ...] [--quick]`.
//
// A round gives every workload and peer a fresh page, in an order that moves on from round to round, so that what the
// machine does meanwhile meets all of them. Compare ratios of one run; absolute numbers are those of the machine.

import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
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

const args = process.argv.slice(2);
const quick = args.includes("--quick");
const chosen = args.filter((arg) => arg !== "--quick");
const unknown = chosen.filter((name) => !Object.keys(WORKLOADS).some((key) => key.startsWith(name)));
if (unknown.length) {
    console.error(`no workload ${unknown.join(", ")}; there are ${Object.keys(WORKLOADS).join(", ")}`);
    process.exit(2);
}
const names = Object.keys(WORKLOADS).filter((key) => chosen.length === 0 || chosen.some((name) => key.startsWith(name)));
const rounds = quick ? 1 : 5;

prepare(["rust", "linker", "wasm", "bindgen", "chromium"]);
const target = join(root, "target", "bench-web");
const site = join(target, "site");
const source = join(root, "benches", "web");
const built = run("cargo", ["build", "--release", "--target", "wasm32-unknown-unknown", "--manifest-path", join(source, "Cargo.toml")],
    { CARGO_TARGET_DIR: target });
mkdirSync(site, { recursive: true });
const wasm = join(target, "wasm32-unknown-unknown", "release", "selkie_bench_web.wasm");
if (!built || !bindgen(wasm, join(site, "pkg"))) process.exit(1);
copyFileSync(join(source, "page.html"), join(site, "index.html"));
copyFileSync(join(source, "page.js"), join(site, "page.js"));

const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
const show = (value) => (value === undefined ? "" : value >= 100 ? value.toFixed(0) : value.toPrecision(3));

/** What each workload and peer measured, as `samples[workload][peer][quantity]`. */
const samples = Object.fromEntries(
    names.map((name) => [name, Object.fromEntries(WORKLOADS[name].peers.map((peer) => [peer, {}]))]),
);
const failures = [];

const server = await serve(site, 0);
const chromium = await browser();
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
    chromium.close();
    server.close();
    if (process.stderr.isTTY) process.stderr.write("\n");
}

/** Seconds that the page's main thread has been busy with tasks. */
async function busy(page) {
    const { metrics } = await page.devtools("Performance.getMetrics", {});
    return metrics.find(({ name }) => name === "TaskDuration").value;
}

let missed = 0;
for (const name of names) {
    const { title, peers, unit, goals, subject = "selkie" } = WORKLOADS[name];
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
            const verdict = met ? green("met   ") : red("missed");
            console.log(`  ${verdict} ${which}: ${show(got)}${x} (of the best samples ${show(best)}${x}), goal ${limit}${x}`);
        }
    }
}
failures.forEach((failure) => console.error(red(failure)));

const file = join(root, "target", "bench", "web.json");
mkdirSync(join(root, "target", "bench"), { recursive: true });
writeFileSync(file, `${JSON.stringify({ rounds, samples, failures }, undefined, 1)}\n`);
console.log(`\n${missed} goals missed; all samples are in ${file}`);
// A goal that is missed is a result. What could not be measured is an error.
process.exitCode = failures.length ? 1 : 0;
