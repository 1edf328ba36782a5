'use client';
// Rendered on the server, where the import has to do nothing, and run in the page.

import { useEffect } from 'react';
import { createLoop, createPool } from 'selkie';

export default function Page() {
    useEffect(() => {
        run().then(
            (result) => (document.body.dataset.result = JSON.stringify(result)),
            (error) => (document.body.dataset.result = JSON.stringify([String(error?.stack ?? error)])),
        );
    }, []);
    return <p>{typeof createLoop}</p>;
}

async function run() {
    const loop = await createLoop();
    const task = await loop.spawn(async (ctx) => {
        await ctx.sleep(5);
        return 'task';
    });
    await new Promise((resolve) => loop.later(5, resolve));
    const pool = createPool(loop, () => new Worker(new URL('./jobs.js', import.meta.url), { type: 'module' }), { max: 1 });
    const job = await pool.run('job', ['j', 'ob']);
    await pool.close();
    await loop.close();
    return [task, 'timer', job];
}
