// Builds the page into dist/, from the packed package as its users get it: `node tools/build.mjs`, after a build of that.

import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { pack } from '../../npm/tools/pack.mjs';
import { sizes } from '../../npm/tools/size.mjs';

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const own = createRequire(import.meta.url);

function run(program, ...args) {
    const done = spawnSync(program, args, { cwd: here, stdio: 'inherit' });
    if (done.error) console.error(String(done.error));
    if (done.status !== 0) process.exit(1);
}

const installed = join(here, 'node_modules', 'selkie');
rmSync(installed, { recursive: true, force: true });
mkdirSync(installed, { recursive: true });
run('tar', '-xzf', pack(), '-C', installed, '--strip-components=1');
run(process.execPath, own.resolve('typescript/bin/tsc'), '-p', here);

// What the page says about sizes is what was measured.
const kb = (row) => JSON.stringify((row[2] / 1000).toFixed(1));
const measured = await sizes();
const { build } = await import(pathToFileURL(own.resolve('vite')).href);
await build({
    root: here,
    configFile: false,
    // Wherever it is put: a project's page on a shared host is no root.
    base: './',
    logLevel: 'error',
    define: {
        __KB_JS__: kb(measured.find(([what]) => what.includes('createLoop'))),
        __KB_WASM__: kb(measured.find(([what]) => what === 'loop.wasm')),
    },
    worker: { format: 'es' },
    build: { target: 'es2022', emptyOutDir: true, chunkSizeWarningLimit: 1000 },
});
