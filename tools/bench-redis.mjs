// Runs the benchmark of selkie-redis: `node tools/bench-redis.mjs [args]`. Puts arq into target/arq if Python can; without it the rest runs.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { capture, root, run, which, yellow } from "./lib.mjs";
import { prepare } from "./setup.mjs";

prepare(["rust", "linker", "redis"]);
const folder = join(root, "target", "arq");
const python = join(folder, "bin", "python");
const has = () => existsSync(python) && capture(python, "-c", "import arq; print(arq.VERSION)");
if (!has()) {
    const made = which("python3") && run("python3", ["-m", "venv", folder]) && run(python, ["-m", "pip", "install", "--quiet", "arq==0.28.0"]);
    if (!made || !has()) console.log(yellow("arq cannot be installed here, so it is left out (it needs python3 with venv and pip)"));
}
const env = has() ? { SELKIE_ARQ_PYTHON: python } : {};
const args = ["bench", "-p", "selkie-redis", "--bench", "jobs", "--", ...process.argv.slice(2)];
process.exitCode = run("cargo", args, env) ? 0 : 1;
