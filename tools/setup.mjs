// Installs what the recipes need and the machine lacks: `node tools/setup.mjs [test|deep|check|web|web-threads|npm|screenshots|all]`.
// A tool that is there already is used as it is; a second run finds everything and does nothing.

import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import {
    BUNDLERS, CARGO_DENY, GECKODRIVER, MSRV, NIGHTLY, bindgenFolder, bindgenRunner, bold, bundlers, cache, capture, chromedriver,
    geckodriver, isFile, locked, red, root, run, tool, which, windows,
} from "./lib.mjs";

const WASM = "wasm32-unknown-unknown";

/** The folder of an installed toolchain, found without starting it. */
function toolchain(name) {
    const folder = join(capture("rustup", "show", "home") ?? "", "toolchains");
    const found = existsSync(folder) ? readdirSync(folder).find((entry) => entry === name || entry.startsWith(`${name}-`)) : undefined;
    return found && join(folder, found);
}

const hasTarget = (sysroot) => Boolean(sysroot) && existsSync(join(sysroot, "lib", "rustlib", WASM));
const hasProgram = (sysroot, name) => Boolean(sysroot) && isFile(join(sysroot, "bin", windows ? `${name}.exe` : name));
const active = () => capture("rustc", "--print", "sysroot");

function cargoInstall(crate, version, folder) {
    return run("cargo", ["install", crate, "--version", version, "--root", join(cache, folder)], { RUSTFLAGS: "" });
}

const linux = (() => {
    const release = existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : "";
    const words = (release.match(/^ID(_LIKE)?=.*$/gm) ?? []).join(" ");
    return ["ubuntu", "debian", "fedora", "arch"].find((name) => words.includes(name));
})();

/** Installs system packages where that is allowed and the names are known, else says which command does. */
function packages(commands) {
    const key = process.platform === "linux" ? linux : process.platform;
    const command = commands[key];
    if (!command) {
        console.error(red(commands.otherwise));
        return false;
    }
    const apt = command.startsWith("apt-get ");
    if (apt && process.getuid() === 0 && which("apt-get")) {
        const quiet = { DEBIAN_FRONTEND: "noninteractive" };
        return run("apt-get", ["update"], quiet) && run("apt-get", command.split(" ").slice(1), quiet);
    }
    const shown = apt ? `sudo apt-get update && sudo ${command}` : command;
    console.error(red("This needs rights or a package manager that the set-up does not use by itself. Run:"));
    console.error(bold(`    ${shown}`));
    return false;
}

/** Everything a recipe can ask for: what it is, whether it is there, and how to get it. */
const NEEDS = {
    rust: {
        what: "a Rust toolchain",
        has: () => active(),
        get() {
            if (!which("rustup")) {
                console.error(red("rustup is not on PATH: install it from https://rustup.rs"));
                return false;
            }
            return run("rustup", ["default", "stable"]);
        },
    },
    linker: {
        what: "a C compiler, which links what Rust builds",
        has: () => process.platform !== "linux" || which("cc"),
        get: () =>
            packages({
                debian: "apt-get install -y build-essential",
                ubuntu: "apt-get install -y build-essential",
                fedora: "sudo dnf install -y gcc",
                arch: "sudo pacman -S --needed gcc",
                otherwise: "Install a C compiler and put it on PATH as cc.",
            }),
    },
    wasm: {
        what: `the target ${WASM}`,
        has: () => hasTarget(active()),
        get: () => run("rustup", ["target", "add", WASM]),
    },
    bindgen: {
        get what() {
            return `wasm-bindgen-cli ${locked("wasm-bindgen")}, a few minutes of compiling, once`;
        },
        has: bindgenRunner,
        // Without --locked: the tool's own lock file has named versions that the registry does not offer.
        get: () => cargoInstall("wasm-bindgen-cli", locked("wasm-bindgen"), bindgenFolder()),
    },
    chromium: {
        what: "Chromium or Chrome, with chromedriver",
        has: () => chromedriver() && browserOf("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"),
        get: () =>
            packages({
                debian: "apt-get install -y chromium chromium-driver",
                ubuntu: "apt-get install -y chromium-browser chromium-chromedriver",
                fedora: "sudo dnf install -y chromium chromedriver",
                arch: "sudo pacman -S --needed chromium",
                darwin: "brew install --cask google-chrome chromedriver",
                win32: "winget install Google.Chrome Chromium.ChromeDriver",
                otherwise: "Install Chrome or Chromium with its chromedriver, and put both on PATH.",
            }),
    },
    firefox: {
        what: "Firefox",
        has: () => browserOf("firefox-esr", "firefox"),
        get: () =>
            packages({
                debian: "apt-get install -y firefox-esr",
                ubuntu: "apt-get install -y firefox",
                fedora: "sudo dnf install -y firefox",
                arch: "sudo pacman -S --needed firefox",
                darwin: "brew install --cask firefox",
                win32: "winget install Mozilla.Firefox",
                otherwise: "Install Firefox and put it on PATH.",
            }),
    },
    redis: {
        what: "a Redis server, which tests start and end themselves",
        has: () => process.env.SELKIE_REDIS_SERVER || which("redis-server", "valkey-server"),
        get: () =>
            packages({
                debian: "apt-get install -y redis-server",
                ubuntu: "apt-get install -y redis-server",
                fedora: "sudo dnf install -y valkey",
                arch: "sudo pacman -S --needed valkey",
                darwin: "brew install redis",
                otherwise: "Install redis-server (6.2 or later) or valkey-server and put it on PATH, or name it in SELKIE_REDIS_SERVER.",
            }),
    },
    geckodriver: {
        what: `geckodriver ${GECKODRIVER}, a few minutes of compiling, once`,
        has: geckodriver,
        get: () => cargoInstall("geckodriver", GECKODRIVER, `geckodriver-${GECKODRIVER}`),
    },
    bundlers: {
        what: "Vite and webpack, which the threads build is tried with",
        has: () => Object.keys(BUNDLERS).every((name) => existsSync(join(bundlers(), "node_modules", name, "package.json"))),
        get() {
            mkdirSync(bundlers(), { recursive: true });
            const packages = Object.entries(BUNDLERS).map(([name, version]) => `${name}@${version}`);
            return run(windows ? "npm.cmd" : "npm", ["install", "--no-audit", "--no-fund", "--prefix", bundlers(), ...packages]);
        },
    },
    nightly: {
        what: `the toolchain ${NIGHTLY} with rust-src and ${WASM}`,
        has: () => hasTarget(toolchain(NIGHTLY)) && existsSync(join(toolchain(NIGHTLY), "lib", "rustlib", "src", "rust")),
        get: () => run("rustup", ["toolchain", "install", NIGHTLY, "--profile", "minimal", "-c", "rust-src", "-t", WASM]),
    },
    miri: {
        what: `miri for ${NIGHTLY}`,
        has: () => hasProgram(toolchain(NIGHTLY), "cargo-miri"),
        get: () => run("rustup", ["toolchain", "install", NIGHTLY, "--profile", "minimal", "-c", "rust-src", "-c", "miri"]),
    },
    valgrind: {
        what: "valgrind, which counts instructions",
        has: () => which("valgrind"),
        get: () =>
            packages({
                debian: "apt-get install -y valgrind",
                ubuntu: "apt-get install -y valgrind",
                fedora: "sudo dnf install -y valgrind",
                arch: "sudo pacman -S --needed valgrind",
                otherwise: "Install valgrind and put it on PATH.",
            }),
    },
    msrv: {
        what: `the toolchain ${MSRV} with ${WASM}`,
        has: () => hasTarget(toolchain(MSRV)),
        get: () => run("rustup", ["toolchain", "install", MSRV, "--profile", "minimal", "-t", WASM]),
    },
    lints: {
        what: "clippy and rustfmt",
        has: () => hasProgram(active(), "cargo-clippy") && hasProgram(active(), "rustfmt"),
        get: () => run("rustup", ["component", "add", "clippy", "rustfmt"]),
    },
    npm: {
        what: "the tools of the npm package",
        has: () => hasModules("web", "npm"),
        get: () => npmInstall(["ci"], "web", "npm"),
    },
    matrix: {
        what: "the bundlers that the npm package is tried with",
        has: () => hasModules("web", "npm", "matrix"),
        // Not `npm ci`, which refuses a lock file without the binaries of all other systems, and not every registry has those.
        get: () => npmInstall(["install", "--no-save"], "web", "npm", "matrix"),
    },
    bench: {
        what: "what the benchmarks compare the npm package with",
        has: () => hasModules("benches", "web"),
        get: () => npmInstall(["ci"], "benches", "web"),
    },
    playground: {
        what: "what the playground is made with",
        has: () => hasModules("web", "playground"),
        get: () => npmInstall(["ci"], "web", "playground"),
    },
    deny: {
        what: `cargo-deny ${CARGO_DENY}, some minutes of compiling, once`,
        has: () => tool("cargo-deny", `cargo-deny-${CARGO_DENY}`),
        get: () => cargoInstall("cargo-deny", CARGO_DENY, `cargo-deny-${CARGO_DENY}`),
    },
};

/** Whether what a package-lock.json asks for is installed: a copy of it lies beside that. */
function hasModules(...folder) {
    const marker = join(root, ...folder, "node_modules", ".selkie-lock");
    return existsSync(marker) && readFileSync(marker, "utf8") === readFileSync(join(root, ...folder, "package-lock.json"), "utf8");
}

function npmInstall(command, ...folder) {
    const at = join(root, ...folder);
    // No package here has to run anything to be installed.
    const done = run("npm", [...command, "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", at]);
    if (done) copyFileSync(join(at, "package-lock.json"), join(at, "node_modules", ".selkie-lock"));
    return done;
}

/** A browser on PATH; macOS and Windows keep theirs elsewhere, where the drivers look by themselves. */
function browserOf(...names) {
    return process.platform === "linux" ? which(...names) : true;
}

const NPM = ["rust", "linker", "nightly", "bindgen", "npm"];
const CHECK = ["rust", "linker", "lints", "wasm", "msrv", "deny"];

/** Makes sure of every one of `needs`; ends the process with 1 when one cannot be had. */
export function prepare(needs) {
    const began = performance.now();
    const wanted = Object.keys(NEEDS).filter((name) => needs.includes(name));
    let got = 0;
    for (const name of wanted) {
        const need = NEEDS[name];
        if (need.has()) continue;
        console.log(bold(`setup: installing ${need.what}`));
        if (!need.get()) process.exit(1);
        if (!need.has()) {
            console.error(red(`setup: that went through, yet ${need.what} is still not found; is it on PATH?`));
            process.exit(1);
        }
        got += 1;
    }
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    const all = wanted.join(", ");
    console.log(got === 0 ? `setup: nothing to do, all there (${all}; ${seconds} s)` : `setup: done (${all}; ${seconds} s)`);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
    const { HOSTS } = await import("./hosts.mjs");
    const level = process.argv[2] ?? "test";
    const hosts = (...levels) => HOSTS.filter((host) => levels.includes(host.level)).flatMap((host) => host.needs);
    const levels = {
        test: () => hosts("test"),
        deep: () => hosts("test", "deep"),
        check: () => CHECK,
        web: () => ["wasm", ...NPM, "playground"],
        screenshots: () => ["chromium", ...NPM, "playground"],
        npm: () => NPM,
        "web-threads": () => ["rust", "linker", "wasm", "bindgen", "nightly"],
        all: () => [...hosts("test", "deep"), ...CHECK],
    };
    if (!levels[level]) {
        console.error(`setup: no level ${level}; one of ${Object.keys(levels).join(", ")}`);
        process.exit(2);
    }
    prepare(levels[level]());
}
