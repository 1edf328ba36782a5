// A Worker of the code that runs: it is told what its module is, and calls that.

import { expose, job } from 'selkie/worker';
import { evaluate } from './evaluate';

interface Told {
    playground?: { name: string; code: string };
}

addEventListener('message', ({ data }: MessageEvent<Told>) => {
    const file = data?.playground;
    if (!file) return;
    const surroundings = {
        $modules: { 'selkie/worker': { expose, job } },
        $import: async () => ({ expose, job }),
        $meta: { url: `file:///playground/${file.name}` },
        $guard: () => {},
    };
    evaluate(file.name, file.code, surroundings).catch((error: unknown) => {
        // Out of the promise: so it is the Worker's error, of which its owner hears.
        setTimeout(() => {
            throw error;
        });
    });
});
