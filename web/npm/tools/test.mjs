// Builds the package and tests it: `node tools/test.mjs` as `just test` does, `node tools/test.mjs matrix` in all bundlers
// and in Firefox.

import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { windows } from '../../../tools/lib.mjs';
import { check } from './size.mjs';

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const matrix = process.argv[2] === 'matrix';
let failed = false;

function node(...args) {
    const done = spawnSync(process.execPath, args, { cwd: here, stdio: 'inherit' });
    failed ||= done.status !== 0;
    return done.status === 0;
}

if (!node(join('tools', 'build.mjs'))) process.exit(1);
if (matrix) {
    node(join('matrix', 'run.mjs'));
    node(join('test', 'page.mjs'), '--firefox');
} else {
    let [passed, wrong] = [0, 0];
    const packaging = (name, ok) => {
        console.log(`test packaging: ${name} ... ${ok ? 'ok' : 'FAILED'}`);
        if (ok) passed += 1;
        else wrong += 1;
    };
    const tool = (name, ...args) => {
        const done = spawnSync(join('node_modules', '.bin', windows ? `${name}.cmd` : name), args, { cwd: here, encoding: 'utf8', shell: windows });
        if (done.status !== 0) console.log(`${done.stdout}${done.stderr}`);
        return done.status === 0;
    };
    packaging('sizes', await check());
    packaging('publint', tool('publint', '--strict'));
    // The file that has no types is no module.
    packaging('attw', tool('attw', '--pack', '.', '--profile', 'esm-only', '--exclude-entrypoints', './loop.wasm'));
    console.log(`test result: ${wrong ? 'FAILED' : 'ok'}. ${passed} passed; ${wrong} failed; 0 ignored`);
    failed ||= wrong > 0;
    for (const file of ['types', 'node', 'page']) node(join('test', `${file}.mjs`));
    node(join('matrix', 'run.mjs'), '--quick');
}
process.exitCode = failed ? 1 : 0;
