// What the other tools share: where things are, how to run a program, how to print.

import { spawnSync } from "node:child_process";
import { accessSync, constants, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
export const windows = process.platform === "win32";

/** The nightly of the builds that stable Rust cannot make: threads, unwinding, miri. */
export const NIGHTLY = "nightly-2026-05-20";
/** Equal to `rust-version` in Cargo.toml. */
export const MSRV = "1.85";

/** Tools that are built from source live here, so that every clone shares them and `cargo clean` spares them. */
export const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "selkie");

/** The version of `name` in Cargo.lock. */
export function locked(name) {
    const lock = readFileSync(join(root, "Cargo.lock"), "utf8");
    const found = lock.match(new RegExp(`name = "${name}"\\r?\\nversion = "([^"]+)"`));
    if (!found) throw new Error(`Cargo.lock does not name ${name}`);
    return found[1];
}

export function isFile(path) {
    try {
        if (!statSync(path).isFile()) return false;
        accessSync(path, constants.X_OK);
        return true;
    } catch {
        return false;
    }
}

/** The full path of the first of `names` that is a program on PATH. */
export function which(...names) {
    for (const name of names) {
        for (const folder of (process.env.PATH ?? "").split(delimiter)) {
            const path = join(folder, windows ? `${name}.exe` : name);
            if (isFile(path)) return path;
        }
    }
    return undefined;
}

/** A folder for a moment, which goes when this process ends. */
export function scratch() {
    // A short name, as a browser makes sockets below it, whose paths may have about a hundred characters.
    const folder = mkdtempSync(join(tmpdir(), "selkie-"));
    process.on("exit", () => {
        try {
            rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
        } catch (error) {
            // A browser that is ending still writes there: nothing that a run should fail for.
            console.error(`${folder} stays behind: ${error.message}`);
        }
    });
    return folder;
}

/** The environment of a browser's driver: what browsers leave behind when they are killed, 100 MB each, goes with `folder`. */
export const temporary = (folder) => ({ TMPDIR: folder, TEMP: folder, TMP: folder });

/** What a program prints, without the white space around it; undefined when it cannot run or fails. */
export function capture(program, ...args) {
    const done = spawnSync(program, args, { cwd: root, encoding: "utf8" });
    return done.status === 0 ? done.stdout.trim() : undefined;
}

/** Runs a program in full view; true when it succeeds. */
export function run(program, args, env = {}) {
    console.log(dim(`$ ${[program, ...args].join(" ")}`));
    const done = spawnSync(program, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
    if (done.error) console.error(String(done.error));
    return done.status === 0;
}

/** A program that the project may have built for itself: the one on PATH if it `fits`, else the one in the cache. */
export function tool(program, folder, fits = () => true) {
    const onPath = which(program);
    if (onPath && fits(onPath)) return onPath;
    const own = join(cache, folder, "bin", windows ? `${program}.exe` : program);
    return isFile(own) ? own : undefined;
}

export const GECKODRIVER = "0.37.1";
export const CARGO_DENY = "0.20.2";

/** What the threads build is bundled with, and tried. */
export const BUNDLERS = { vite: "8.3.8", webpack: "5.112.2", "webpack-cli": "7.3.1" };

/** The folder that has them. */
export const bundlers = () => join(cache, `bundlers-${Object.values(BUNDLERS).join("-")}`);

export function bindgenFolder() {
    return `wasm-bindgen-cli-${locked("wasm-bindgen")}`;
}

/** The test runner speaks a private protocol with the crate, so it has to be of the very same version. */
export function bindgenRunner() {
    const version = locked("wasm-bindgen");
    const same = (path) => capture(path, "--version")?.split(" ").at(-1) === version;
    return tool("wasm-bindgen-test-runner", bindgenFolder(), same);
}

export function chromedriver() {
    const folder = process.env.CHROMEWEBDRIVER;
    const candidates = [process.env.CHROMEDRIVER, folder && join(folder, windows ? "chromedriver.exe" : "chromedriver")];
    return candidates.find((path) => path && isFile(path)) ?? which("chromedriver");
}

export function geckodriver() {
    const named = process.env.GECKODRIVER;
    return named && isFile(named) ? named : tool("geckodriver", `geckodriver-${GECKODRIVER}`);
}

const colour = (process.stdout.isTTY && !process.env.NO_COLOR) || process.env.FORCE_COLOR;
const paint = (code) => (text) => (colour ? `\x1b[${code}m${text}\x1b[0m` : text);
export const bold = paint(1);
export const dim = paint(2);
export const red = paint(31);
export const green = paint(32);
export const yellow = paint(33);
export const coloured = Boolean(colour);

export function heading(text) {
    console.log(`\n${bold(`=== ${text} ${"=".repeat(Math.max(0, 76 - text.length))}`)}`);
}

/** Lines of equal columns; the width of a cell does not count its colour. */
export function table(rows) {
    const plain = (cell) => String(cell).replace(/\x1b\[\d+m/g, "");
    const widths = rows[0].map((_, at) => Math.max(...rows.map((row) => plain(row[at] ?? "").length)));
    return rows
        .map((row) => row.map((cell, at) => cell + " ".repeat(widths[at] - plain(cell).length)).join("  ").trimEnd())
        .join("\n");
}
