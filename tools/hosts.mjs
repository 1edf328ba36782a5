// Where the suite runs. One entry here is one host: `just test` runs those of level "test", `just deep` the others too.
//
//   id      the name on the command line, in the summary and of the log in target/rows
//   title   the heading
//   level   "test" or "deep"
//   needs   what tools/setup.mjs has to provide
//   build   a key of BUILDS: wasm hosts with the same build share one compilation
//   compile a function: the arguments of the cargo call that builds, if that is a step of its own
//   cargo   a function: the arguments of the cargo calls that make up the host, one list each; none if it has no tests yet
//   node    a function: the arguments of node calls that come after those of cargo, if there are any
//   env     a function: what is set for those calls
//   rows    whether the results count for `just rows`; "named" if only rows that name the host need it

import { join } from "node:path";
import { NIGHTLY, capture, chromedriver, geckodriver } from "./lib.mjs";

const WASM = "wasm32-unknown-unknown";

/** Test targets that cargo knows, as [package, target]. Asked late: the set-up may have to install cargo first. */
let known;
function targets() {
    if (!known) {
        const metadata = capture("cargo", "metadata", "--no-deps", "--format-version=1");
        if (!metadata) throw new Error("`cargo metadata --no-deps` fails; run it to see why");
        known = JSON.parse(metadata).packages.flatMap((crate) =>
            crate.targets.filter((target) => target.kind.includes("test")).map((target) => [crate.name, target.name]),
        );
    }
    return known;
}

/** The shared suite, and every suite that the web backend has of its own. */
const webSuites = () =>
    targets().filter(([crate, name]) => (crate === "selkie" && name === "it") || (crate === "selkie-web" && name !== "loom"));

/** Models of the lock-free protocols, as [package, target, filter]: unit tests in modules named loom, and those of tests/loom. */
const LOOM = [
    ["selkie", "lib", "loom"],
    ["selkie-native", "lib", "models"],
    ["selkie-web", "loom", ""],
];

/** What miri interprets, as above; the filters keep it to minutes. */
const MIRI = [
    ["selkie", "lib", ""],
    ["selkie", "it", "safety"],
];

/** The target that cargo builds for by itself. It has to be named so that sanitizers stay out of build scripts and macros. */
const here = () => capture("rustc", "-vV").match(/^host: (.*)$/m)[1];

/** The cargo calls for such a list; a target that is not there yet is left out. */
function calls(list, ...test) {
    return list
        .filter(([crate, target]) => target === "lib" || targets().some(([owner, name]) => owner === crate && name === target))
        .map(([crate, target, filter]) => {
            const which = target === "lib" ? ["--lib"] : ["--test", target];
            return [...test, "--no-fail-fast", "-p", crate, ...which, ...(filter ? ["--", filter] : [])];
        });
}

const threads = [
    "-C target-feature=+atomics,+bulk-memory -C link-arg=--shared-memory -C link-arg=--import-memory",
    "-C link-arg=--max-memory=1073741824 -C link-arg=--export=__heap_base -C link-arg=--export=__wasm_init_tls",
    "-C link-arg=--export=__tls_size -C link-arg=--export=__tls_align -C link-arg=--export=__tls_base",
].join(" ");
// Node 20 knows only the older form of the exception instructions; every browser and later Node runs both.
const unwind = "-C panic=unwind -C llvm-args=-wasm-use-legacy-eh=true";

// wasm-bindgen reads all of the debug information and writes it again, at a minute a run; the names of functions stay without.
const lean = { CARGO_PROFILE_TEST_DEBUG: "0", CARGO_PROFILE_DEV_DEBUG: "0" };

/** Ways to compile the suite for the web. Each has a target folder of its own, so that they do not evict each other. */
export const BUILDS = {
    stable: { toolchain: [], flags: [], env: {} },
    unwind: {
        toolchain: [`+${NIGHTLY}`],
        flags: ["-Z", "build-std=std,panic_unwind"],
        env: { ...lean, RUSTFLAGS: unwind, CARGO_TARGET_DIR: "target/unwind" },
    },
    threads: {
        toolchain: [`+${NIGHTLY}`],
        flags: ["-Z", "build-std=std,panic_unwind"],
        env: { ...lean, RUSTFLAGS: `${threads} ${unwind}`, CARGO_TARGET_DIR: "target/threads" },
    },
    // The benchmark's: tokio_with_wasm does not compile where panics unwind.
    bench: {
        toolchain: [`+${NIGHTLY}`],
        flags: ["-Z", "build-std=std,panic_abort"],
        env: { RUSTFLAGS: threads, CARGO_TARGET_DIR: "target/bench-web/threads" },
    },
};

const page = { WASM_BINDGEN_USE_BROWSER: "1" };
const worker = { WASM_BINDGEN_USE_DEDICATED_WORKER: "1" };
const chromium = () => ({ CHROMEDRIVER: chromedriver() });
const firefox = () => ({ GECKODRIVER: geckodriver() });

function web(id, title, level, build, env, driver) {
    const { toolchain, flags, env: built } = BUILDS[build];
    const test = (...last) => {
        const packages = [...new Set(webSuites().map(([crate]) => crate))].flatMap((crate) => ["-p", crate]);
        const suites = webSuites().flatMap(([, name]) => ["--test", name]);
        return [...toolchain, "test", "--target", WASM, ...flags, ...packages, ...suites, ...last];
    };
    const needs = ["rust", "linker", "wasm", "bindgen"];
    if (build !== "stable") needs.push("nightly");
    if (driver === chromium) needs.push("chromium");
    if (driver === firefox) needs.push("firefox", "geckodriver");
    return {
        id, title, level, needs, build, rows: true,
        compile: () => test("--no-run"),
        cargo: () => (webSuites().length ? [test("--no-fail-fast")] : []),
        env: () => ({ ...built, ...env, ...driver?.() }),
    };
}

function native(id, title, level, needs, cargo, env) {
    return { id, title, level, needs: ["rust", "linker", ...needs], cargo, env: typeof env === "function" ? env : () => env };
}

export const HOSTS = [
    { ...native("native", "native", "test", [], () => [["test", "--no-fail-fast"]], {}), rows: true },
    web("node", "Node", "test", "stable", {}),
    web("page", "page in headless Chromium", "test", "stable", page, chromium),
    web("worker", "dedicated Worker in headless Chromium", "test", "stable", worker, chromium),

    { id: "program", title: "a program of its own, native and in a page", level: "test",
        needs: ["rust", "linker", "wasm", "bindgen", "chromium"], node: () => [[join("tools", "program.mjs")]], env: () => ({}) },
    native("io", "recipes for input and output", "test", [], () => [["test", "-p", "selkie-io-recipes"]], {}),
    { ...native("redis", "jobs from a real Redis, with workers that are killed", "test", ["redis"],
        () => [["test", "--no-fail-fast", "-p", "selkie-redis"]], {}), rows: "named" },

    { id: "npm", title: "the npm package: types, Node, a page, the first of its consumers, and a look at its playground", level: "test",
        needs: ["rust", "linker", "nightly", "bindgen", "chromium", "npm", "playground"],
        node: () => [[join("web", "npm", "tools", "test.mjs")], [join("web", "playground", "tools", "build.mjs")],
            [join("web", "playground", "test", "page.mjs"), "--quick"]],
        env: () => ({}) },

    { id: "playground", title: "the playground, built from the packed npm package, as its visitors use it", level: "deep",
        needs: ["rust", "linker", "nightly", "bindgen", "chromium", "npm", "playground"],
        node: () => [[join("web", "npm", "tools", "build.mjs")], [join("web", "playground", "tools", "build.mjs")], [join("web", "playground", "test", "page.mjs")]],
        env: () => ({}) },
    { id: "npm-matrix", title: "the npm package in every bundler, and in Firefox", level: "deep",
        needs: ["rust", "linker", "nightly", "bindgen", "chromium", "firefox", "geckodriver", "npm", "matrix"],
        node: () => [[join("web", "npm", "tools", "test.mjs"), "matrix"]], env: () => ({}) },
    web("page-unisolated", "page without isolation headers, Chromium", "deep", "stable",
        { ...page, WASM_BINDGEN_TEST_NO_ORIGIN_ISOLATION: "1" }, chromium),
    web("firefox-page", "page in headless Firefox", "deep", "stable", page, firefox),
    web("firefox-worker", "dedicated Worker in headless Firefox", "deep", "stable", worker, firefox),
    web("unwind-node", "Node, panics unwind", "deep", "unwind", {}),
    web("unwind-page", "page in headless Chromium, panics unwind", "deep", "unwind", page, chromium),
    web("unwind-worker", "dedicated Worker in headless Chromium, panics unwind", "deep", "unwind", worker, chromium),
    web("threads-node", "Node, threads and unwinding", "deep", "threads", {}),
    web("threads-page", "page in headless Chromium, threads and unwinding", "deep", "threads", page, chromium),
    web("threads-worker", "dedicated Worker in headless Chromium, threads and unwinding", "deep", "threads", worker, chromium),
    web("threads-page-unisolated", "page without isolation headers, Chromium, threads build", "deep", "threads",
        { ...page, WASM_BINDGEN_TEST_NO_ORIGIN_ISOLATION: "1" }, chromium),
    { id: "bundlers", title: "a program with threads, served plain and through Vite and webpack", level: "deep",
        needs: ["rust", "linker", "wasm", "bindgen", "nightly", "chromium", "bundlers"],
        node: () => [[join("tools", "bundlers.mjs")]], env: () => ({}) },
    web("threads-firefox", "page in headless Firefox, threads and unwinding", "deep", "threads", page, firefox),
    // The number is compiled in, as a page has no environment.
    native("wakes", "a million wakes between Workers and a page in headless Chromium", "deep", ["wasm", "bindgen", "nightly", "chromium"],
        () => {
            const { toolchain, flags } = BUILDS.threads;
            return [[...toolchain, "test", "--target", WASM, ...flags, "-p", "selkie", "--test", "it", "--", "no_wake_between"]];
        },
        () => ({ ...BUILDS.threads.env, ...page, ...chromium(), SELKIE_WAKES: "1000000" })),
    native("release", "native, optimised, with all features, many property cases", "deep", [], () => [["test", "--no-fail-fast", "--release", "--tests", "--features", "tracing"]],
        { PROPTEST_CASES: "4096", SELKIE_STORMS: "100000", SELKIE_FAULTS: "10000", SELKIE_WAKES: "1000000" }),
    {
        ...native("tour", "the tour against the clock, in a terminal, in a page, and in one with threads", "deep", ["wasm", "bindgen", "nightly", "chromium"],
            () => [["run", "--example", "tour"]], {}),
        node: () => [[join("tools", "tour.mjs")]],
    },
    // Valgrind is not everywhere.
    ...(process.platform === "linux"
        ? [{ ...native("instructions", "instructions of the hot paths", "deep", ["valgrind"], undefined, {}),
            node: () => [[join("tools", "instructions.mjs")]] }]
        : []),
    { id: "size", title: "what a page downloads of a small program", level: "deep",
        needs: ["rust", "linker", "wasm", "bindgen", "npm"], node: () => [[join("tools", "size.mjs")]], env: () => ({}) },
    native("redis-long", "100,000 jobs from Redis, with workers that are killed", "deep", ["redis"],
        () => [["test", "-p", "selkie-redis", "--test", "jobs", "--", "crashes"]], { SELKIE_REDIS_JOBS: "100000" }),
    // ThreadSanitizer is not everywhere. It knows no fences, so the protocols have none. What runs on simulated time in one thread is left
    // out: half of the tests, and most of the time. A backtrace would be read by instrumented code, which takes seconds.
    ...(process.platform === "linux"
        ? [native("tsan", "ThreadSanitizer: races between threads", "deep", ["nightly"],
            () => [[`+${NIGHTLY}`, "test", "-Z", "build-std", "--target", here(), "--config", 'profile.dev.package.selkie.debug="line-tables-only"',
                "--no-fail-fast", "-p", "selkie", "--test", "it", "--", "--skip", "::sim", "--skip", "::seeds"]],
            { RUSTFLAGS: "-Zsanitizer=thread", RUST_BACKTRACE: "0", CARGO_TARGET_DIR: "target/tsan" })]
        : []),
    native("loom", "loom: every interleaving of the protocols", "deep", [],
        () => calls(LOOM, "test", "--release"), { RUSTFLAGS: "--cfg selkie_loom", CARGO_TARGET_DIR: "target/loom" }),
    native("miri", "miri: undefined behaviour", "deep", ["nightly", "miri"], () => calls(MIRI, `+${NIGHTLY}`, "miri", "test"),
        { MIRIFLAGS: "-Zmiri-strict-provenance", CARGO_TARGET_DIR: "target/miri" }),
];
