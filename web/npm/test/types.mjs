// Compiles what a user would write against the packed package, without skipping the check of its declarations:
// `node test/types.mjs`.

import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { scratch } from '../../../tools/lib.mjs';
import { pack } from '../tools/pack.mjs';
import { examples } from '../tools/readme.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const folder = scratch();
const tsc = join(here, '..', 'node_modules', 'typescript', 'bin', 'tsc');

/** As [title, what is compiled, options, what else]. */
const CASES = [
    ['bundler', 'usage', { module: 'esnext', moduleResolution: 'bundler', lib: ['es2022', 'dom', 'dom.iterable'], types: [] }],
    ['node16', 'usage', { module: 'node16', moduleResolution: 'node16', lib: ['es2022', 'dom', 'dom.iterable'], types: [] }],
    ['node16, without the types of a page', 'usage', { module: 'node16', moduleResolution: 'node16', lib: ['es2022'], types: ['node'] }],
    ["the README's examples", 'second', { module: 'esnext', moduleResolution: 'bundler', lib: ['es2022', 'dom', 'dom.iterable'], types: [], allowImportingTsExtensions: true }, ['first', 'jobs']],
    ['await using', 'disposable', { module: 'esnext', moduleResolution: 'bundler', lib: ['es2022', 'esnext.disposable', 'dom'], types: [] }],
];

let failed = 0;
const target = join(folder, 'node_modules', 'selkie');
mkdirSync(target, { recursive: true });
if (spawnSync('tar', ['-xzf', pack(), '-C', target, '--strip-components=1'], { stdio: 'inherit' }).status !== 0) throw new Error('tar fails');
symlinkSync(join(here, '..', 'node_modules', '@types'), join(folder, 'node_modules', '@types'), 'junction');
symlinkSync(join(here, '..', 'node_modules', 'undici-types'), join(folder, 'node_modules', 'undici-types'), 'junction');
writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
for (const [name, code] of Object.entries(examples)) writeFileSync(join(folder, name), code);
for (const [title, file, options, others = []] of CASES) {
    if (!others.length) copyFileSync(join(here, 'types', `${file}.ts`), join(folder, `${file}.ts`));
    const compilerOptions = { target: 'es2022', strict: true, noEmit: true, skipLibCheck: false, exactOptionalPropertyTypes: true, ...options };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: [file, ...others].map((name) => `${name}.ts`) }));
    const done = spawnSync(process.execPath, [tsc, '-p', folder], { encoding: 'utf8' });
    console.log(`test types: ${title} ... ${done.status === 0 ? 'ok' : 'FAILED'}`);
    if (done.status !== 0) {
        failed += 1;
        console.log(done.stdout);
    }
}
console.log(`test result: ${failed ? 'FAILED' : 'ok'}. ${CASES.length - failed} passed; ${failed} failed; 0 ignored`);
process.exitCode = failed ? 1 : 0;
