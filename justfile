# Every recipe works from a fresh clone: `npx -y rust-just <recipe>` needs only rustup, Node and npm, and each recipe first
# installs what it lacks. The logic is in tools/; a new host or suite is a line in tools/hosts.mjs, not a recipe.

set windows-shell := ["cmd.exe", "/c"]

# what `just web` builds and where it serves it from
example := "tour"
page := "web/tour"
port := "8080"

# Lists the recipes.
[private]
default:
    @{{ quote(just_executable()) }} --list --unsorted

# Installs what the recipes of LEVEL need (test, deep, check, web, web-threads, npm or all) and the machine lacks.
setup LEVEL="test":
    @node tools/setup.mjs {{ LEVEL }}

# Formatting, lints, docs, licences and advisories, the oldest supported Rust, and what would be published.
check: (setup "check")
    @node tools/check.mjs

# The suite natively, on Node, and in a page and a Worker of headless Chromium; or on the named HOSTS only.
test *HOSTS:
    @node tools/test.mjs test {{ HOSTS }}

# All of `test`, and Firefox, a page without isolation, unwinding and threads builds, loom, miri, many property cases.
deep *HOSTS:
    @node tools/test.mjs deep {{ HOSTS }}

# Which promised rows the last `just test` has shown on which host; fails on a gap (--deep for all of `just deep`, --json for programs).
rows *ARGS:
    @node tools/rows.mjs {{ ARGS }}

# Serves the playground on localhost, and the Rust tour beneath it at /tour/.
web: (setup "web") npm
    @node web/playground/tools/build.mjs
    cargo build --release --target wasm32-unknown-unknown --example {{ example }}
    @node tools/bindgen.mjs target/wasm32-unknown-unknown/release/examples/{{ example }}.wasm {{ page }}/pkg
    @node tools/serve.mjs web/playground/dist {{ port }} tour={{ page }}

# Serves the tour in a build with threads, which the pinned nightly makes; its threads are Workers.
web-threads: (setup "web-threads")
    @node tools/web-threads.mjs {{ example }} {{ page }}
    @node tools/serve.mjs {{ page }} {{ port }}

# Builds the npm package into web/npm/dist.
npm: (setup "npm")
    @node web/npm/tools/build.mjs

# Builds the npm package and holds what a page downloads of it against the budgets.
size: npm
    @node web/npm/tools/size.mjs

# Takes the pictures of the playground that the READMEs show, into docs/images.
screenshots: (setup "screenshots") npm
    @node web/playground/tools/build.mjs
    @node tools/screenshots.mjs

# Runs the benchmarks beside the peers, natively and in Chromium: `bench native W3`, `bench web B3`, `bench --quick`.
bench *ARGS:
    @node tools/bench.mjs {{ ARGS }}

# Measures selkie-redis beside a plain consumer and Python's arq.
bench-redis *ARGS:
    @node tools/bench-redis.mjs {{ ARGS }}

# Builds the documentation (`just doc --open` shows it).
doc *ARGS:
    cargo doc --no-deps -p selkie {{ ARGS }}
