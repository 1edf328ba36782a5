// What is measured on the web, beside whom, and what the goals are; tools/bench-web.mjs runs it.
//
//   peers   in the order of the table
//   goals   for a quantity: [number, of which peer]: selkie's is at most so many times that peer's, or so much without a peer
//   repeats in one page
//   count   of how many things the processor time is divided by
//   pages   "threads" for the module with threads, else the one for one thread; a peer "..., one thread" has the latter
//   browser "firefox", else Chromium
//   unfair  peers that do less, with the reason; no goal is about them

const late = { p50: "late p50, ms", p99: "late p99, ms" };

const ONE = {
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
        title: "100,000 timers in 500 ms", repeats: 1, unit: { cpu: "us CPU/timer", ...late }, count: 100_000,
        peers: ["selkie", "n0-future", "setTimeout"],
        goals: { cpu: [[0.08, "n0-future"], [0.13, "setTimeout"]], p50: [[0.5]], p99: [[2]] },
    },
    B3L: {
        title: "1000 timers in 500 ms", repeats: 1, unit: { cpu: "us CPU/timer", ...late }, count: 1000,
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

const THREADS = {
    B1mt: {
        ...ONE.B1, title: `${ONE.B1.title}, build with threads`, pages: "threads", repeats: 5,
        peers: ["selkie", "spawn_local", "tokio_with_wasm", "selkie, one thread"],
        goals: { ns: [[0.1, "spawn_local"], [1.5, "selkie, one thread"]] },
    },
    B2mt: {
        ...ONE.B2, title: `${ONE.B2.title}, build with threads`, pages: "threads", repeats: 5,
        peers: ["selkie", "spawn_local", "tokio_with_wasm", "selkie, one thread"], goals: { ns: [[0.07, "spawn_local"]] },
    },
    B2bmt: {
        ...ONE.B2b, title: `${ONE.B2b.title}, build with threads`, pages: "threads", repeats: 5,
        peers: ["selkie", "spawn_local", "tokio_with_wasm", "selkie, one thread"], goals: { ns: [[0.04, "spawn_local"]] },
    },
    B5: {
        title: "an empty job in a Worker, one at a time", repeats: 3, unit: { us: "us/trip" }, pages: "threads",
        peers: ["selkie", "selkie loop", "rayon", "tokio_with_wasm", "postMessage", "comlink", "workerpool", "floor: Atomics"],
        goals: { us: [[1.3, "floor: Atomics"], [1, "rayon"], [0.5, "comlink"]] },
    },
    B6: {
        title: "10,000 jobs of 20 us in two Workers, a result each", repeats: 3, unit: { us: "us/job", cpu: "us CPU of the page/job" },
        count: 10_000, pages: "threads",
        peers: ["selkie", "rayon", "rayon, one latch", "tokio_with_wasm, 2 at once", "postMessage", "comlink", "workerpool", "floor: two batches"],
        goals: { us: [[1.15, "floor: two batches"], [0.8, "rayon"], [0.4, "comlink"]] },
        unfair: { "rayon, one latch": "one result for all" },
    },
    B6e: {
        title: "10,000 empty jobs in two Workers, a result each", repeats: 3, unit: { us: "us/job", cpu: "us CPU of the page/job" },
        count: 10_000, pages: "threads",
        peers: ["selkie", "rayon", "rayon, one latch", "tokio_with_wasm, 2 at once", "postMessage", "comlink", "workerpool", "floor: two batches"],
        goals: { us: [[0.6, "rayon"], [0.04, "comlink"]] },
        unfair: { "rayon, one latch": "one result for all" },
    },
};

/** The npm package. There are no goals of its own but to be ahead. */
const NPM = {
    N1: {
        title: "npm: 10,000 async functions, 100 at once", repeats: 5, unit: { ns: "ns/function" },
        peers: ["selkie", "p-queue", "floor: all at once"], goals: { ns: [[1, "p-queue"]] },
    },
    N2: {
        title: "npm: an empty job in a Worker, one at a time", repeats: 3, unit: { us: "us/trip" },
        peers: ["selkie", "comlink", "workerpool", "postMessage"], goals: { us: [[1, "comlink"], [1, "workerpool"]] },
        unfair: { postMessage: "no library" },
    },
    N3: {
        title: "npm: 10,000 jobs of 20 us in two Workers, a result each", repeats: 2, unit: { us: "us/job", cpu: "us CPU of the page/job" }, count: 10_000,
        peers: ["selkie", "comlink", "workerpool", "postMessage"], goals: { us: [[1, "comlink"], [1, "workerpool"]] },
        unfair: { postMessage: "no library" },
    },
    N4: {
        title: "npm: 50,000 async functions of 20 us, 100 at once, beside a page", repeats: 1,
        unit: { gap: "longest frame gap, ms", delay: "longest message delay, ms", ms: "ms" },
        peers: ["selkie", "p-queue"], goals: { gap: [[25]], delay: [[10]], ms: [[1.2, "p-queue"]] },
    },
};

/**
 * The same in Firefox, which tells nobody how long its thread was busy. The ratios of the goals are Chromium's, so here it is only
 * asked whether selkie is ahead. 200,000 calls of postTask take it minutes.
 */
const ahead = (goals) =>
    Object.fromEntries(
        Object.entries(goals)
            .filter(([quantity]) => quantity !== "cpu")
            .map(([quantity, list]) => [quantity, list.filter(([, peer]) => !peer?.startsWith("floor")).map(([limit, peer]) => (peer ? [Math.max(1, limit), peer] : [limit]))]),
    );
const FIREFOX = Object.fromEntries(
    Object.entries(ONE).map(([name, workload]) => {
        const { cpu, ...unit } = workload.unit;
        const peers = workload.peers.filter((peer) => peer !== "postTask");
        return [`${name} Firefox`, { ...workload, browser: "firefox", title: `Firefox: ${workload.title}`, unit, peers, goals: ahead(workload.goals) }];
    }),
);

export const WORKLOADS = { ...ONE, ...THREADS, ...NPM, ...FIREFOX };

/** What is no workload of the page: bytes that a visitor loads, as brotli at its best. */
export const SIZES = {
    B7: {
        title: "a program that spawns, joins and sleeps: module and glue, minified, brotli", unit: { bytes: "bytes" },
        // Of the last two the standard library is built as well, for size, and its panics say nothing.
        peers: ["selkie", "wasm-bindgen-futures", "n0-future", "selkie, own std", "wasm-bindgen-futures, own std"],
        goals: { bytes: [[9216], [1, "wasm-bindgen-futures"]] },
    },
    N5: {
        title: "npm: all that an application loads, minified, brotli", unit: { bytes: "bytes" },
        peers: ["selkie", "p-queue, comlink and workerpool"], goals: { bytes: [[1, "p-queue, comlink and workerpool"]] },
    },
};
