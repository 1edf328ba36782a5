// Counts what the hot paths cost in instructions, which no other load of the machine changes:
// `node tools/instructions.mjs [--write]` runs the workloads of benches/instructions.json under valgrind's callgrind and
// compares with the numbers there. With --write it puts what it has counted there instead.
//
// A count is the difference of two runs of different lengths, so that starting and ending the program is no part of it.

import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bold, green, red, root, run, table, yellow } from "./lib.mjs";
import { prepare } from "./setup.mjs";

/** How much more a count may be than what is written down: compilers differ a little. */
const TOLERANCE = 1.04;
/** What got so much better should be written down. */
const BETTER = 0.9;

const write = process.argv.includes("--write");
const file = join(root, "benches", "instructions.json");
const bounds = JSON.parse(readFileSync(file, "utf8"));

prepare(["rust", "linker", "valgrind"]);
if (!run("cargo", ["build", "--release", "--manifest-path", join(root, "benches", "Cargo.toml")])) process.exit(1);
const program = join(process.env.CARGO_TARGET_DIR ?? join(root, "benches", "target"), "release", "selkie-benches");

/** The instructions of one run. */
function count({ workload, subject, n }, rounds) {
    const args = [workload, "--only", subject, "--n", String(n), "--rounds", String(rounds)];
    return new Promise((done, failed) => {
        const child = spawn("valgrind", ["--tool=callgrind", "--callgrind-out-file=/dev/null", program, ...args]);
        let text = "";
        child.stdout.resume();
        child.stderr.on("data", (chunk) => (text += chunk));
        child.on("error", failed);
        child.on("close", () => {
            const found = text.match(/Collected : (\d+)/);
            if (found) done(Number(found[1]));
            else failed(new Error(`${args.join(" ")}: no count in\n${text}`));
        });
    });
}

async function measure(row) {
    const [few, many] = await Promise.all([count(row, 15), count(row, 35)]);
    return (many - few) / (20 * row.n);
}

const rows = [];
let failed = 0;
for (const row of bounds) {
    const is = await measure(row);
    const verdict = is > row.most * TOLERANCE ? red("MORE") : is < row.most * BETTER ? yellow("less: write it down with --write") : green("ok");
    if (is > row.most * TOLERANCE) failed += 1;
    if (write) row.most = Math.ceil(is);
    rows.push([row.workload, row.subject, is.toFixed(1), row.most, row.goal ?? "", write ? "written" : verdict, row.what]);
}
console.log(table([["workload", "subject", "is", "at most", "goal", "", ""].map(bold), ...rows]));
if (write) {
    writeFileSync(file, `[\n${bounds.map((row) => `    ${JSON.stringify(row)}`).join(",\n")}\n]\n`);
} else {
    // As the suites say it, for the summary of `just deep`.
    console.log(`\ntest result: ${failed ? "FAILED" : "ok"}. ${rows.length - failed} passed; ${failed} failed; 0 ignored`);
    process.exitCode = failed ? 1 : 0;
}
