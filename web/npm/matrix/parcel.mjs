// Builds the application in the working folder with Parcel, which takes that folder for its project: `node parcel.mjs`.

import { Parcel } from '@parcel/core';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const folder = process.cwd();
const bundler = new Parcel({
    entries: join(folder, 'index.html'), defaultConfig: createRequire(import.meta.url).resolve('@parcel/config-default'), mode: 'production',
    shouldDisableCache: true, cacheDir: join(folder, '.cache'),
    defaultTargetOptions: { distDir: join(folder, 'out'), publicUrl: './', engines: { browsers: 'last 2 Chrome versions' } },
});
try {
    await bundler.run();
} catch (error) {
    console.error(JSON.stringify(error.diagnostics ?? String(error), null, 2));
    process.exitCode = 1;
}
