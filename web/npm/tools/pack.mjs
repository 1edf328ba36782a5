// Packs the package as the registry would get it.

import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { root, windows } from '../../../tools/lib.mjs';

const here = dirname(dirname(fileURLToPath(import.meta.url)));

/** Makes the tarball from dist/ and answers its path. */
export function pack() {
    const folder = join(root, 'target', 'npm');
    mkdirSync(folder, { recursive: true });
    const done = spawnSync(windows ? 'npm.cmd' : 'npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], { cwd: here, encoding: 'utf8', shell: windows });
    if (done.status !== 0) throw new Error(`npm pack fails: ${done.stderr}`);
    const [{ filename }] = JSON.parse(done.stdout);
    return join(folder, filename);
}
