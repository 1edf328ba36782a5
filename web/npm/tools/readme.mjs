// The examples of the README that stand for themselves, for the tests.

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const text = readFileSync(join(dirname(dirname(fileURLToPath(import.meta.url))), 'README.md'), 'utf8');
const blocks = [...text.matchAll(/```ts\n([^]*?)```/g)].map(([, code]) => code);
const starting = (start) => {
    const found = blocks.find((code) => code.startsWith(start));
    if (!found) throw new Error(`README.md has no example that starts with ${start}`);
    return found;
};

/** As { file: code }; an application imports `first.ts` and `second.ts`. */
export const examples = {
    'first.ts': starting("import { createLoop, type TaskContext } from 'selkie';"),
    'jobs.ts': starting('// jobs.ts'),
    'second.ts': starting('// main.ts'),
};
