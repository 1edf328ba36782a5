// Joins the rows that tests name with the results that `just test` has left in target/rows, and fails on a gap.
//
// A test names its rows in the comment above it:
//     /// Rows: F23, F28.
//     /// Difference: X30. The type of a task is fixed at compile time.
// The second form says that the row is kept in another way, which the test shows.
//
// `--deep` asks for the hosts of `just deep` as well. Those with threads have to hold what is otherwise only native.
//
// A row holds on a host when every test that names it passed there, in every variant that it has on any host
// (`gather::results_come_in_argument_order::sim` and `::host` are the variants of one test), and at least one did.

import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { basename, join, relative, sep } from "node:path";
import { HOSTS } from "./hosts.mjs";
import { bold, green, red, root, table, yellow } from "./lib.mjs";

const json = process.argv.includes("--json");
const deep = process.argv.includes("--deep");
const problems = [];
const VARIANTS = ["sim", "host", "seeds"];

// The rows.
const levels = deep ? ["test", "deep"] : ["test"];
const required = HOSTS.filter((host) => host.rows && levels.includes(host.level)).map((host) => host.id);
const first = HOSTS.filter((host) => host.rows && host.level === "test").map((host) => host.id);
const threaded = deep ? HOSTS.filter((host) => host.rows && host.build === "threads").map((host) => host.id) : [];
const everywhere = required.filter((id) => HOSTS.find((host) => host.id === id).rows !== "named");
const rows = new Map();
for (const line of readFileSync(join(root, "tests", "rows.txt"), "utf8").split(/\r?\n/)) {
    if (!line.trim() || line.startsWith("#")) continue;
    const [, id, hosts, title] = line.match(/^([A-Z]\d\d)\s+(\S+)\s+(.+)$/) ?? [];
    if (!id || rows.has(id)) {
        problems.push(`tests/rows.txt: cannot use the line "${line}"`);
        continue;
    }
    const named = hosts.split(",");
    const needs = hosts === "all" ? everywhere : [...named, ...(named.includes("native") ? threaded : [])];
    for (const host of needs) if (!HOSTS.some((one) => one.id === host)) problems.push(`tests/rows.txt: ${id} needs an unknown host ${host}`);
    rows.set(id, { id, title, needs, tests: [] });
}

// The tests that name rows.
function* sources(folder) {
    if (!existsSync(folder)) return;
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
        const path = join(folder, entry.name);
        if (entry.isDirectory() && !["target", "node_modules"].includes(entry.name)) yield* sources(path);
        else if (entry.name.endsWith(".rs")) yield path;
    }
}

/** The test binary that a file is compiled into, and the path of its module there. */
function place(file) {
    const parts = relative(root, file).replace(/\.rs$/, "").split(sep);
    const at = Math.max(parts.indexOf("src"), parts.indexOf("tests"));
    const unit = parts[at] === "src";
    const crate = ["selkie", ...parts.slice(0, at)].join("_");
    const inside = parts.slice(at + 1);
    const binary = unit ? crate : inside.shift();
    if (["lib", "main", "mod"].includes(inside.at(-1))) inside.pop();
    return { binary, module: inside };
}

const tests = [];
let newest = 0;
for (const folder of ["src", "tests", "platform", "native", "web", "macros", "redis"]) {
    for (const file of sources(join(root, folder))) {
        newest = Math.max(newest, statSync(file).mtimeMs);
        const shown = relative(root, file);
        let named = [];
        readFileSync(file, "utf8").split(/\r?\n/).forEach((line, index) => {
            const claim = line.match(/^\s*\/\/[/!]?\s*(Rows|Difference):\s*(.*)$/);
            if (claim) {
                // Only the ids that lead the line count: the reason behind them may speak of other rows.
                const lead = claim[2].match(/^[A-Z]\d\d(?:(?:,| and)\s*[A-Z]\d\d)*/)?.[0];
                if (!lead) problems.push(`${shown}:${index + 1}: no row behind "${claim[1]}:"`);
                for (const id of lead?.match(/[A-Z]\d\d/g) ?? []) named.push({ id, difference: claim[1] === "Difference" });
                return;
            }
            if (named.length === 0 || /^\s*\/\//.test(line)) return;
            const fn = line.match(/\bfn\s+(\w+)/);
            if (fn) {
                const test = { name: fn[1], ...place(file), where: `${shown}:${index + 1}`, rows: named, results: {} };
                if (tests.some((other) => other.name === test.name && other.where.startsWith(`${shown}:`))) {
                    problems.push(`${test.where}: a second test named ${test.name} in one file cannot be told from the first`);
                }
                tests.push(test);
                for (const { id } of named) {
                    if (!rows.has(id)) problems.push(`${test.where}: ${id} is not in tests/rows.txt`);
                }
                named = [];
            } else if (/^\s*(pub\s+)?(mod|use|struct|enum|impl|const|static|trait)\b|^\s*\}/.test(line)) {
                problems.push(`${shown}:${index + 1}: rows are named above something that is no test`);
                named = [];
            }
        });
    }
}

// The results: "Running tests/it/main.rs (target/debug/deps/it-0123)" and then "test path ... ok".
const logs = join(root, "target", "rows");
const age = (host) => statSync(join(logs, `${host}.log`)).mtimeMs;
const ran = HOSTS.filter((host) => host.rows && existsSync(join(logs, `${host.id}.log`))).map((host) => host.id);
// Results that a later edit has overtaken prove nothing; those of `just deep` are left out then, the others are asked for.
const hosts = ran.filter((host) => required.includes(host) || age(host) >= newest);
for (const host of required) {
    const recipe = first.includes(host) ? "just test" : `just deep ${host}`;
    if (!hosts.includes(host)) problems.push(`no results of host ${host}: run \`${recipe}\` first`);
    else if (age(host) < newest) problems.push(`the results of host ${host} are older than the sources: run \`${recipe}\` again`);
}
for (const host of hosts) {
    let binary;
    let open;
    // A worker of an isolated pool is the test binary once more, and its harness says so amid the results.
    let begins = true;
    // What a test prints on standard error may come between its name and its result.
    let unsaid;
    for (const line of readFileSync(join(logs, `${host}.log`), "utf8").split(/\r?\n/)) {
        // A page that hangs or a process that aborts leaves tests without a result, which must not look like absent ones.
        if (/^running \d+ tests?$/.test(line) && (begins || !binary)) {
            begins = false;
            if (open) problems.push(`the run of ${open} on host ${host} did not finish`);
            open = binary ?? "the doc tests";
        }
        if (/^test result: /.test(line)) open = undefined;
        const running = line.match(/^\s*Running .*\(([^)]+)\)$/);
        if (running) begins = true;
        if (running) binary = basename(running[1].replaceAll("\\", "/")).replace(/-[0-9a-f]+(\.\w+)?$/, "");
        if (/^\s*Doc-tests /.test(line)) binary = undefined;
        // Not always where a line begins: a process that a test has started may be in the middle of one.
        const begun = line.match(/\btest (\S+)(?: - should panic)? +\.\.\. (ok|FAILED|FAIL|ignored)?/);
        const late = unsaid && line.match(/^(ok|FAILED|ignored)/);
        if (begun) unsaid = begun[2] ? undefined : begun[1];
        const [name, word] = begun?.[2] ? [begun[1], begun[2]] : late ? [unsaid, late[1]] : [];
        if (!name || !binary) continue;
        if (late) unsaid = undefined;
        const segments = name.split("::");
        const variant = segments.find((segment) => VARIANTS.includes(segment)) ?? "";
        const path = segments.filter((segment) => !VARIANTS.includes(segment));
        for (const test of tests) {
            if (test.binary !== binary || path.at(-1) !== test.name) continue;
            if (test.module.some((segment, at) => path[at] !== segment)) continue;
            const seen = (test.results[host] ??= {});
            const outcome = { ok: "passed", ignored: "ignored" }[word] ?? "failed";
            seen[variant] = seen[variant] && seen[variant] !== "passed" ? seen[variant] : outcome;
        }
    }
    if (open) problems.push(`the run of ${open} on host ${host} did not finish`);
}

// The join.
for (const test of tests) {
    test.variants = [...new Set(Object.values(test.results).flatMap(Object.keys))];
    // What only a build with threads compiles is run by `just deep`.
    const isDeep = test.where.includes("tests/it/workers.rs") && !hosts.some((host) => host.startsWith("threads"));
    if (test.variants.length === 0 && hosts.length && !isDeep) problems.push(`${test.where}: ${test.name} ran on no host`);
    for (const { id, difference } of test.rows) rows.get(id)?.tests.push({ test, difference });
}
const order = ["failed", "half", "ignored", "none", "difference", "passed"];
for (const row of rows.values()) {
    row.hosts = {};
    for (const host of hosts) {
        const states = row.tests.filter(({ test }) => test.results[host]).map(({ test, difference }) => {
            const outcomes = test.variants.map((variant) => test.results[host][variant]);
            if (outcomes.includes("failed")) return "failed";
            if (outcomes.includes(undefined)) return "half";
            if (outcomes.includes("ignored")) return "ignored";
            return difference ? "difference" : "passed";
        });
        row.hosts[host] = states.length ? order.find((state) => states.includes(state)) : "none";
    }
    const wrong = Object.entries(row.hosts).filter(([host, state]) =>
        ["failed", "half", "ignored"].includes(state) || (state === "none" && row.needs.includes(host)));
    const absent = row.needs.filter((host) => !hosts.includes(host));
    row.gaps = [...wrong.map(([host]) => host), ...absent];
}
const gaps = [...rows.values()].filter((row) => row.gaps.length);

if (json) {
    const out = [...rows.values()].map(({ id, title, hosts, gaps, tests }) => ({
        id, title, hosts, gaps,
        tests: tests.map(({ test, difference }) => ({ name: [...test.module, test.name].join("::"), where: test.where, difference, results: test.results })),
    }));
    console.log(JSON.stringify({ hosts, rows: out, problems }, null, 2));
} else {
    const cell = {
        passed: green("ok"), difference: green("Difference"), failed: red("FAILED"), half: red("one variant"), ignored: yellow("ignored"),
        none: red("-"),
    };
    // The hosts of `just deep` share a column: the table stays as narrow as a terminal, and only what is wrong has a name.
    const more = [...new Set([...hosts, ...required])].filter((host) => !first.includes(host));
    const bad = (row) => more.filter((host) => row.gaps.includes(host));
    const show = (row, host) => (row.hosts[host] === "none" && !row.needs.includes(host) ? "" : cell[row.hosts[host] ?? "none"]);
    const others = (row) => {
        if (bad(row).length) return red(bad(row).join(" "));
        const held = more.filter((host) => (row.hosts[host] ?? "none") !== "none").length;
        return held ? green(`${held} ok`) : "";
    };
    console.log(
        table([
            ["row", ...first, ...(more.length ? ["deep"] : []), "tests", "what"].map(bold),
            ...[...rows.values()].map((row) => [
                row.id,
                ...first.map((host) => show(row, host)),
                ...(more.length ? [others(row)] : []),
                row.tests.length || red("0"),
                row.title,
            ]),
        ]),
    );
    console.log();
    const unnamed = gaps.filter((row) => row.tests.length === 0).map((row) => row.id);
    if (unnamed.length) console.log(`${red("gap")} no test names ${unnamed.join(", ")}`);
    for (const row of gaps.filter((row) => row.tests.length)) {
        const names = row.tests.map(({ test }) => [...test.module, test.name].join("::")).join(", ");
        console.log(`${red("gap")} ${row.id} on ${row.gaps.join(", ")}: ${names}`);
    }
    for (const problem of problems) console.log(`${red("problem")} ${problem}`);
    console.log(`\n${rows.size - gaps.length} of ${rows.size} rows hold on ${hosts.length} host${hosts.length === 1 ? "" : "s"}; ${tests.length} tests name rows`);
}
process.exitCode = gaps.length || problems.length ? 1 : 0;
