// Runs the suite: `node tools/test.mjs test|deep [host...]`. Every host runs, also after another has failed.
// What each printed is kept in target/rows/<host>.log, where tools/rows.mjs reads it.

import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { HOSTS } from "./hosts.mjs";
import { bold, coloured, dim, green, heading, red, root, table, windows, yellow } from "./lib.mjs";
import { prepare } from "./setup.mjs";

const [level = "test", ...names] = process.argv.slice(2);
const levels = { test: ["test"], deep: ["test", "deep"] }[level];
const unknown = names.filter((name) => !HOSTS.some((host) => host.id === name));
if (!levels || unknown.length) {
    console.error(`hosts: ${HOSTS.map((host) => host.id).join(", ")}`);
    process.exit(2);
}
const hosts = HOSTS.filter((host) => (names.length ? names.includes(host.id) : levels.includes(host.level)));
prepare(hosts.flatMap((host) => host.needs));

const logs = join(root, "target", "rows");
mkdirSync(logs, { recursive: true });

/** The environment of a run: what the user has set must not choose another host than the heading says. */
function environment(set) {
    const env = { ...process.env };
    for (const name of Object.keys(env)) {
        if (/^WASM_BINDGEN_USE_|^(GECKO|CHROME|SAFARI|MSEDGE)DRIVER|^WASM_BINDGEN_TEST_(NO|ONLY)_|^RUSTFLAGS$/.test(name)) delete env[name];
    }
    if (coloured) env.CARGO_TERM_COLOR = "always";
    // Windows does not start a script by its first line, which is how .cargo/config.toml names the runner.
    if (windows) env.CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER = `node ${join(root, "tools", "wasm-runner.mjs")}`;
    return { ...env, ...set };
}

/** A run that prints nothing for so many minutes hangs: tests print as they end, and compilers now and then. */
const SILENCE = 15;

/** Runs a program in full view and resolves to whether it succeeded and all that it printed. */
function show(program, args, env) {
    console.log(dim(`$ ${program} ${args.join(" ")}`));
    return new Promise((done) => {
        // Its own group of processes, so that all can be ended that it has started.
        const detached = !windows;
        // One pipe for both streams keeps cargo's "Running" lines in front of the results that they announce.
        const child = windows
            ? spawn(program, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] })
            : spawn("sh", ["-c", 'exec "$0" "$@" 2>&1', program, ...args], { cwd: root, env, detached, stdio: ["ignore", "pipe", "inherit"] });
        const end = () => {
            if (windows) spawnSync("taskkill", ["/pid", String(child.pid), "/t", "/f"]);
            else process.kill(-child.pid, "SIGKILL");
        };
        const leave = () => {
            end();
            process.exit(130);
        };
        ["SIGINT", "SIGTERM", "SIGHUP"].forEach((name) => process.on(name, leave));
        let hangs = false;
        const watch = setTimeout(() => {
            hangs = true;
            keep(Buffer.from(`\nended, as it has printed nothing for ${SILENCE} minutes\n`));
            end();
        }, SILENCE * 60_000);
        const chunks = [];
        const keep = (chunk) => {
            watch.refresh();
            chunks.push(chunk);
            process.stdout.write(chunk);
        };
        child.stdout.on("data", keep);
        child.stderr?.on("data", keep);
        child.on("error", (error) => keep(Buffer.from(`${error}\n`)));
        child.on("close", (status) => {
            clearTimeout(watch);
            ["SIGINT", "SIGTERM", "SIGHUP"].forEach((name) => process.off(name, leave));
            const text = Buffer.concat(chunks).toString().replace(/\x1b\[[\d;]*[A-Za-z]/g, "");
            done({ ok: status === 0 && !hangs, text });
        });
    });
}

/** The sums of the closing lines that libtest and wasm-bindgen-test share. */
function count(text) {
    const sum = { passed: 0, failed: 0, ignored: 0 };
    for (const [, passed, failed, ignored] of text.matchAll(/^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/gm)) {
        sum.passed += Number(passed);
        sum.failed += Number(failed);
        sum.ignored += Number(ignored);
    }
    return sum;
}

/** How many of the announced runs did not come to a closing line: a process that ends early may do so with success. */
function cutShort(text) {
    const begun = text.match(/^running \d+ tests?$/gm)?.length ?? 0;
    return begun - (text.match(/^test result: /gm)?.length ?? 0);
}

/** What runners say of failed tests: libtest and wasm-bindgen-test at their ends, from this line on, and those of JavaScript at once. */
function failures(text) {
    const atEnd = text.split(/^(?=failures:$)/m).slice(1).map((part) => part.split(/^test result: /m)[0].trim());
    const atOnce = text.match(/^test .* \.\.\. FAILED$(\n(?!test ).*){0,8}/gm) ?? [];
    const most = 4000;
    return ([...atEnd, ...(atEnd.length ? [] : atOnce)].join("\n\n") || text.trim().slice(-most)).slice(0, most);
}

const builds = new Map();
const results = [];
for (const host of hosts) {
    heading(host.title);
    const log = join(logs, `${host.id}.log`);
    rmSync(log, { force: true });
    const calls = [
        ...(host.cargo?.() ?? []).map((args) => ["cargo", ...args]),
        ...(host.node?.() ?? []).map((args) => ["node", ...args]),
    ];
    if (calls.length === 0) {
        console.log("no such tests yet");
        results.push({ host, state: "absent", passed: 0, failed: 0, ignored: 0, seconds: 0 });
        continue;
    }
    const env = environment(host.env());
    const start = new Date();
    const began = performance.now();
    let ok = true;
    let text = "";
    if (host.compile) {
        if (!builds.has(host.build)) builds.set(host.build, (await show("cargo", host.compile(), env)).ok);
        ok = builds.get(host.build);
        if (!ok) console.log(red(`the ${host.build} build of the suite does not compile`));
    }
    if (ok) {
        for (const [program, ...args] of calls) {
            const call = await show(program, args, env);
            ok &&= call.ok;
            text += call.text;
        }
    }
    writeFileSync(log, text);
    // The age of a log is that of the sources it saw.
    utimesSync(log, start, start);
    const seconds = (performance.now() - began) / 1000;
    const sum = count(text);
    // Native tests start processes of their own suite, which announce themselves too.
    const missing = host.compile ? cutShort(text) : 0;
    if (missing > 0) {
        console.log(red(`${missing} of the runs of tests ended before their last test`));
        ok = false;
    }
    if (ok && sum.passed === 0) {
        console.log(red("no test ran"));
        ok = false;
    }
    results.push({ host, state: ok ? "ok" : "FAILED", ...sum, seconds, text });
}

heading("summary");
const state = { ok: green("ok"), FAILED: red("FAILED"), absent: yellow("no tests yet") };
console.log(
    table([
        ["host", "result", "passed", "failed", "ignored", "seconds"].map(bold),
        ...results.map(({ host, state: is, passed, failed, ignored, seconds }) =>
            [host.title, state[is], passed, failed, ignored, seconds.toFixed(1)]),
    ]),
);
for (const { host, text } of results.filter((result) => result.state === "FAILED")) {
    heading(`${host.title}: ${relative(root, join(logs, `${host.id}.log`))}`);
    console.log(failures(text));
}
process.exitCode = results.some((result) => result.state === "FAILED") ? 1 : 0;
