// Builds an example for the browser with threads: `node tools/web-threads.mjs <example> <folder>`. The flags are those of the tests.

import { join } from "node:path";
import { bindgen } from "./bindgen.mjs";
import { BUILDS } from "./hosts.mjs";
import { run } from "./lib.mjs";

const [example = "tour", folder = join("web", "tour")] = process.argv.slice(2);
const { toolchain, flags, env } = BUILDS.threads;
const target = "wasm32-unknown-unknown";
const built = run("cargo", [...toolchain, "build", "--release", "--target", target, ...flags, "--example", example], env);
const file = join(env.CARGO_TARGET_DIR, target, "release", "examples", `${example}.wasm`);
process.exit(built && bindgen(file, join(folder, "pkg")) ? 0 : 1);
