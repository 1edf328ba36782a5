// Tries the packed package as its users do: `node matrix/run.mjs [CONSUMER...]`, all of them without a name.
//
// Each consumer is an application in a folder of its own, with the package as the registry would deliver it, built by its
// tool with no settings beyond those of the README, and opened in headless Chromium, and some in Firefox.

import { spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { windows } from '../../../tools/lib.mjs';
import { serve } from '../../../tools/serve.mjs';
import { launch, launchFirefox, visit } from '../test/browser.mjs';
import { pack } from '../tools/pack.mjs';
import { examples } from '../tools/readme.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const own = createRequire(import.meta.url);
const tools = createRequire(join(here, '..', 'package.json'));
/** A module of one of the two sets of tools. */
const load = (name, from = own) => import(pathToFileURL(from.resolve(name)).href);

const work = mkdtempSync(join(tmpdir(), 'selkie-matrix-'));
const tarball = pack();
let next;
const nextWork = () => (next ??= mkdtempSync(join(here, '.work-')));

/** A folder with the application and the package; `names` replaces what the application imports. */
function application(name, { selkie = 'selkie', worker = 'selkie/worker', settings = {}, root = work } = {}) {
    const folder = join(root, name);
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

async function firefox(folder, options) {
    const other = await launchFirefox();
    const server = await serve(folder, 0, options);
    try {
        const result = await other.visit(`http://localhost:${server.address().port}/`, 30_000);
        return JSON.stringify(result) === EXPECTED ? undefined : result.join('\n');
    } finally {
        server.close();
        await other.close();
    }
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

function node(file, program = process.execPath, args = []) {
    const done = spawnSync(program, [...args, file], { cwd: dirname(file), encoding: 'utf8', timeout: 60_000 });
    return done.status === 0 && done.stdout.trim() === EXPECTED ? undefined : `${done.stdout}${done.stderr}${done.error ?? ''}`;
}

const { platform, arch } = process;
const DENO = { linux: `linux-${arch}-glibc`, darwin: `darwin-${arch}`, win32: `win32-${arch}` }[platform];
const BUN = `${{ linux: 'linux', darwin: 'darwin', win32: 'windows' }[platform]}-${arch === 'arm64' ? 'aarch64' : arch}`;

function runtimes(name, manifest, program, args) {
    const folder = application(name);
    const path = join(dirname(manifest), program) + (windows ? '.exe' : '');
    return ['node.js', 'web.js'].map((file) => node(join(folder, file), path, args)).filter(Boolean).join('\n') || undefined;
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
    async "the README's examples"() {
        const folder = application('readme');
        for (const [name, code] of Object.entries(examples)) writeFileSync(join(folder, name), code);
        writeFileSync(join(folder, 'main.js'), `import './first.ts';\nimport './second.ts';\ndocument.body.dataset.result = '${EXPECTED}';\n`);
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
    async 'vite 7 dev, excluded'() {
        const folder = application('vite7-dev');
        const { createServer } = await load('vite7');
        const server = await createServer({ root: folder, logLevel: 'error', server: { port: 0 }, optimizeDeps: { exclude: ['selkie'] } });
        try {
            await server.listen(0);
            return await open(`http://localhost:${server.httpServer.address().port}/`);
        } finally {
            await server.close();
        }
    },
    async 'vite 7 build'() {
        const folder = application('vite7-build');
        const { build } = await load('vite7');
        await build({ root: folder, logLevel: 'error', build: { target: 'es2022' } });
        return page(join(folder, 'dist'));
    },
    async 'Next 16'() {
        // Below this folder, as Next takes no modules from outside of its project.
        const folder = application('next', { root: nextWork() });
        cpSync(join(here, 'next'), folder, { recursive: true });
        for (const file of ['index.html', 'main.js', 'node.js', 'server.js', 'web.js']) rmSync(join(folder, file));
        cpSync(join(folder, 'jobs.js'), join(folder, 'app', 'jobs.js'));
        writeFileSync(join(folder, 'next.config.mjs'), `export default { turbopack: { root: ${JSON.stringify(here)} } };`);
        const cli = join(dirname(own.resolve('next/package.json')), 'dist', 'bin', 'next');
        const env = { ...process.env, NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: 'production' };
        const done = spawnSync(process.execPath, [cli, 'build'], { cwd: folder, encoding: 'utf8', timeout: 300_000, env });
        if (done.status !== 0) return `${done.stdout}${done.stderr}`;
        const server = spawn(process.execPath, [cli, 'start', '--port', '0'], { cwd: folder, env, stdio: ['ignore', 'pipe', 'inherit'] });
        try {
            const url = await new Promise((resolve, reject) => {
                let said = '';
                server.stdout.on('data', (text) => {
                    said += text;
                    const found = /http:\/\/localhost:\d+/.exec(said);
                    if (found) resolve(found[0]);
                });
                server.on('exit', (code) => reject(new Error(`next start ends with ${code}: ${said}`)));
            });
            const sent = await (await fetch(url)).text();
            if (!sent.includes('<p>function</p>')) return `the server rendered ${sent}`;
            return await open(url);
        } finally {
            server.kill();
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
    async 'Rolldown, inline entry'() {
        const folder = application('rolldown', inline);
        const { rolldown } = await load('rolldown');
        const bundle = await rolldown({ input: [join(folder, 'main.js'), join(folder, 'jobs.js')], platform: 'browser' });
        await bundle.write({ dir: join(folder, 'out'), format: 'esm' });
        await bundle.close();
        return page(html(folder, join(folder, 'out'), './main.js'));
    },
    async "Bun's bundler, inline entry"() {
        const folder = application('bun-build', inline);
        const bun = join(dirname(own.resolve(`@oven/bun-${BUN}/package.json`)), 'bin', windows ? 'bun.exe' : 'bun');
        const done = spawnSync(bun, ['build', 'main.js', 'jobs.js', '--outdir', 'out', '--target', 'browser'], { cwd: folder, encoding: 'utf8', timeout: 60_000 });
        if (done.status !== 0) return `${done.stdout}${done.stderr}`;
        return page(html(folder, join(folder, 'out'), './main.js'));
    },
    async 'esbuild, inline entry, CSP'() {
        const folder = application('esbuild', inline);
        const { build } = await load('esbuild', tools);
        await build({ entryPoints: [join(folder, 'main.js'), join(folder, 'jobs.js')], outdir: join(folder, 'out'), bundle: true, format: 'esm', logLevel: 'error' });
        // With the strictest headers that the README says are enough.
        const headers = { 'Content-Security-Policy': "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; img-src data:" };
        return page(html(folder, join(folder, 'out'), './main.js'), { isolated: false, headers });
    },
    'script tag': () => page(application('script', paths)),
    'script tag, isolated': () => page(application('script-isolated', paths), { isolated: true }),
    'CSP with wasm-unsafe-eval only': () => page(application('csp', paths), { isolated: false, headers: csp }),
    'script tag, Firefox': () => firefox(application('script-firefox', paths), { isolated: false }),
    'script tag, isolated, Firefox': () => firefox(application('script-isolated-firefox', paths), { isolated: true }),
    async 'vite build, Firefox'() {
        const folder = application('vite-firefox');
        const { build } = await load('vite', tools);
        await build({ root: folder, logLevel: 'error', build: { target: 'es2022' } });
        return firefox(join(folder, 'dist'), { isolated: false });
    },
    [`Node ${process.versions.node.split('.')[0]}`]: () => node(join(application('node'), 'node.js')),
    // Both with the Workers of Node and those of the web, which they have as well.
    'Deno': () => runtimes('deno', own.resolve(`@deno/${DENO}/package.json`), 'deno', ['run', '--quiet', '--allow-all']),
    'Bun': () => runtimes('bun', own.resolve(`@oven/bun-${BUN}/package.json`), join('bin', 'bun'), ['run']),
    'import on a server': () => node(join(application('server'), 'server.js')),
    async 'vite build for a server'() {
        const folder = application('vite-ssr');
        const { build } = await load('vite', tools);
        await build({ root: folder, logLevel: 'error', build: { ssr: 'server.js', outDir: 'out' }, ssr: { noExternal: true } });
        return node(join(folder, 'out', 'server.js'));
    },
};

/** What `just test` tries; the rest of the matrix is for `just deep`. */
export const QUICK = ['vite build', 'script tag', `Node ${process.versions.node.split('.')[0]}`];

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
    for (const folder of [work, next]) if (folder && existsSync(folder)) rmSync(folder, { recursive: true, force: true });
}
console.log(`test result: ${failed ? 'FAILED' : 'ok'}. ${passed} passed; ${failed} failed; 0 ignored`);
process.exit(failed ? 1 : 0);
