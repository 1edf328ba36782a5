// What `just check` holds a change to, beside the tests. Every step runs, also after another has failed.

import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { CARGO_DENY, MSRV, bold, green, heading, red, root, run, table, tool, yellow } from "./lib.mjs";

const wasm = ["--target", "wasm32-unknown-unknown"];
const natively = ["selkie", "selkie-platform", "selkie-native", "selkie-macros", "selkie-redis"].flatMap((crate) => ["-p", crate]);
const strict = ["--", "-D", "warnings"];
const docs = { RUSTDOCFLAGS: "-D warnings" };
const cargo = (...args) => () => run("cargo", args);
const deny = tool("cargo-deny", `cargo-deny-${CARGO_DENY}`);

// Of its own: elsewhere crates of this name and version are built from the tree.
const packages = join(root, "target", "packages");

const STEPS = [
    ["formatting", cargo("fmt", "--all", "--check")],
    ["clippy, native", cargo("clippy", "--all-targets", "--features", "tracing", ...strict)],
    ["clippy, selkie-redis and recipes", cargo("clippy", "-p", "selkie-redis", "-p", "selkie-io-recipes", "--all-targets", "--all-features", ...strict)],
    ["clippy, web", cargo("clippy", "-p", "selkie", "-p", "selkie-web", "-p", "selkie-npm", "--all-targets", ...wasm, ...strict)],
    ["docs, native", () => run("cargo", ["doc", "--no-deps", ...natively, "--features", "selkie/tracing"], docs)],
    ["docs, web", () => run("cargo", ["doc", "--no-deps", "-p", "selkie", "-p", "selkie-web", ...wasm], docs)],
    [`Rust ${MSRV}, native`, cargo(`+${MSRV}`, "check", ...natively, "--features", "selkie/tracing")],
    [`Rust ${MSRV}, web`, cargo(`+${MSRV}`, "check", "-p", "selkie", "-p", "selkie-web", ...wasm)],
    ["licences, sources, duplicates", () => run(deny, ["--workspace", "check", "licenses", "sources", "bans"])],
    ["advisories", advisories],
    // Builds each crate from what would be uploaded. The working tree may have changes: a check comes before the commit.
    ["packages", () => forget() && run("cargo", ["publish", "--workspace", "--dry-run", "--allow-dirty", "--target-dir", packages])],
];

/** Cargo keeps what an earlier dry run unpacked and built, and would build the next one against it, as the version is the same. */
function forget() {
    const registry = join(process.env.CARGO_HOME ?? join(homedir(), ".cargo"), "registry");
    const indexes = ["src", "cache"].map((name) => join(registry, name)).filter(existsSync);
    const unpacked = indexes.flatMap((kind) => readdirSync(kind).map((index) => join(kind, index)));
    for (const folder of [...unpacked, join(packages, "debug", ".fingerprint")].filter(existsSync)) {
        const ours = readdirSync(folder).filter((name) => /^selkie(-[a-z]+)?-[\da-f]/.test(name));
        for (const name of ours) rmSync(join(folder, name), { recursive: true });
    }
    return true;
}

/** The advisory database comes from GitHub; where that cannot be reached the step is not done, and the summary says so. */
function advisories() {
    const done = spawnSync(deny, ["--workspace", "check", "advisories"], { cwd: root, encoding: "utf8" });
    process.stdout.write(`${done.stdout}${done.stderr}`);
    const unreachable = done.stderr.includes("failed to fetch advisory database");
    return unreachable && !process.env.CI ? undefined : done.status === 0;
}

const results = STEPS.map(([title, step]) => {
    heading(title);
    const began = performance.now();
    return [title, step(), (performance.now() - began) / 1000];
});

heading("summary");
const word = (ok) => (ok === undefined ? yellow("not done") : ok ? green("ok") : red("FAILED"));
console.log(table([["step", "result", "seconds"].map(bold), ...results.map(([title, ok, s]) => [title, word(ok), s.toFixed(1)])]));
process.exitCode = results.some(([, ok]) => ok === false) ? 1 : 0;
