// Tries the packed package as its users do: `node matrix/run.mjs [CONSUMER...]`, all of them without a name.
//
// Each consumer is an application in a folder of its own, with the package as the registry would deliver it, built by its
// tool with no settings beyond those of the README, and opened in headless Chromium.

import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { serve } from '../../../tools/serve.mjs';
import { launch, visit } from '../test/browser.mjs';
import { pack } from '../tools/pack.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const own = createRequire(import.meta.url);
const tools = createRequire(join(here, '..', 'package.json'));
/** A module of one of the two sets of tools. */
const load = (name, from = own) => import(pathToFileURL(from.resolve(name)).href);

const work = mkdtempSync(join(tmpdir(), 'selkie-matrix-'));
const tarball = pack();

/** A folder with the application and the package; `names` replaces what the application imports. */
function application(name, { selkie = 'selkie', worker = 'selkie/worker', settings = {} } = {}) {
    const folder = join(work, name);
    cpSync(join(here, 'app'), folder, { recursive: true });
    for (const file of readdirSync(folder)) {
        const path = join(folder, file);
        writeFileSync(path, readFileSync(path, 'utf8').replaceAll("'SELKIE'", `'${selkie}'`).replaceAll("'WORKER'", `'${worker}'`));
    }
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'app', private: true, type: 'module', ...settings }));
    const target = join(folder, 'node_modules', 'selkie');
    mkdirSync(target, { recursive: true });
    const done = spawnSync('tar', ['-xzf', tarball, '-C', target, '--strip-components=1'], { stdio: 'inherit' });
    if (done.status !== 0) throw new Error('tar fails');
    return folder;
}

const EXPECTED = JSON.stringify(['task', 'timer', 'job']);
let browser;

async function open(url) {
    browser ??= await launch();
    const said = [];
    const result = await visit(browser, url, (line) => said.push(line), 30_000).catch((error) => [`${error.message}\n${said.join('\n')}`]);
    return JSON.stringify(result) === EXPECTED ? undefined : `${result.join('\n')}\n${said.join('\n')}`;
}

/** Serves a folder and opens it. */
async function page(folder, options = { isolated: false }) {
    const server = await serve(folder, 0, options);
    try {
        return await open(`http://localhost:${server.address().port}/`);
    } finally {
        server.close();
    }
}

function node(file) {
    const done = spawnSync(process.execPath, [file], { cwd: dirname(file), encoding: 'utf8', timeout: 30_000 });
    return done.status === 0 && done.stdout.trim() === EXPECTED ? undefined : `${done.stdout}${done.stderr}${done.error ?? ''}`;
}

const html = (folder, out, script) => {
    mkdirSync(out, { recursive: true });
    writeFileSync(join(out, 'index.html'), readFileSync(join(folder, 'index.html'), 'utf8').replace('./main.js', script));
    return out;
};

/** A build by the interface that webpack and Rspack share. */
const webpack = (name) => async (folder) => {
    const { default: build, rspack } = await load(name);
    const out = html(folder, join(folder, 'out'), './app.js');
    const make = rspack ?? build;
    const stats = await new Promise((resolve, reject) => {
        const compiler = make({ mode: 'production', context: folder, entry: './main.js', output: { path: out, filename: 'app.js' }, performance: false });
        compiler.run((error, done) => compiler.close(() => (error ? reject(error) : resolve(done))));
    });
    if (stats.hasErrors()) return stats.toString({ all: false, errors: true });
    return page(out);
};

const inline = { selkie: 'selkie/inline' };
const paths = { selkie: './node_modules/selkie/dist/index.js', worker: './node_modules/selkie/dist/worker.js' };
const csp = { 'Content-Security-Policy': "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; worker-src 'self'; img-src data:" };

const CONSUMERS = {
    async 'vite build'() {
        const folder = application('vite-build');
        const { build } = await load('vite', tools);
        await build({ root: folder, logLevel: 'error', build: { target: 'es2022' } });
        return page(join(folder, 'dist'));
    },
    async 'vite dev'() {
        const folder = application('vite-dev');
        const { createServer } = await load('vite', tools);
        const server = await createServer({ root: folder, logLevel: 'error', server: { port: 0 } });
        try {
            await server.listen(0);
            return await open(`http://localhost:${server.httpServer.address().port}/`);
        } finally {
            await server.close();
        }
    },
    'webpack 5': () => webpack('webpack')(application('webpack')),
    Rspack: () => webpack('@rspack/core')(application('rspack')),
    async 'Parcel 2'() {
        const folder = application('parcel', { settings: { '@parcel/resolver-default': { packageExports: true } } });
        const done = spawnSync(process.execPath, [join(here, 'parcel.mjs')], { cwd: folder, encoding: 'utf8', timeout: 120_000 });
        if (done.status !== 0) return `${done.stdout}${done.stderr}`;
        return page(join(folder, 'out'));
    },
    async 'Rollup, inline entry'() {
        const folder = application('rollup', inline);
        const [{ rollup }, { default: resolve }] = await Promise.all([load('rollup'), load('@rollup/plugin-node-resolve')]);
        const bundle = await rollup({ input: [join(folder, 'main.js'), join(folder, 'jobs.js')], plugins: [resolve({ browser: true })] });
        await bundle.write({ dir: join(folder, 'out'), format: 'es' });
        await bundle.close();
        return page(html(folder, join(folder, 'out'), './main.js'));
    },
    async 'esbuild, inline entry'() {
        const folder = application('esbuild', inline);
        const { build } = await load('esbuild', tools);
        await build({ entryPoints: [join(folder, 'main.js'), join(folder, 'jobs.js')], outdir: join(folder, 'out'), bundle: true, format: 'esm', logLevel: 'error' });
        return page(html(folder, join(folder, 'out'), './main.js'));
    },
    'script tag': () => page(application('script', paths)),
    'script tag, isolated': () => page(application('script-isolated', paths), { isolated: true }),
    'CSP with wasm-unsafe-eval only': () => page(application('csp', paths), { isolated: false, headers: csp }),
    'Node': () => node(join(application('node'), 'node.js')),
    'import on a server': () => node(join(application('server'), 'server.js')),
    async 'vite build for a server'() {
        const folder = application('vite-ssr');
        const { build } = await load('vite', tools);
        await build({ root: folder, logLevel: 'error', build: { ssr: 'server.js', outDir: 'out' }, ssr: { noExternal: true } });
        return node(join(folder, 'out', 'server.js'));
    },
};

/** What `just test` tries; the rest of the matrix is for `just deep`. */
export const QUICK = ['vite build', 'script tag', 'Node'];

const names = process.argv.slice(2);
const chosen = names.includes('--quick') ? QUICK : Object.keys(CONSUMERS).filter((name) => !names.length || names.includes(name));
let [passed, failed] = [0, 0];
try {
    for (const name of chosen) {
        let problem;
        try {
            problem = await CONSUMERS[name]();
        } catch (error) {
            problem = error.stack ?? String(error);
        }
        console.log(`test consumer: ${name} ... ${problem ? 'FAILED' : 'ok'}`);
        if (problem) console.log(problem);
        if (problem) failed += 1;
        else passed += 1;
    }
} finally {
    await browser?.close();
    if (existsSync(work)) rmSync(work, { recursive: true, force: true });
}
console.log(`test result: ${failed ? 'FAILED' : 'ok'}. ${passed} passed; ${failed} failed; 0 ignored`);
process.exit(failed ? 1 : 0);
