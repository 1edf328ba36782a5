// In Deno and Bun: with a Worker of the web.

import { createLoop, createPool } from 'selkie';

const loop = await createLoop();
const pool = createPool(loop, () => new Worker(new URL('./jobs.js', import.meta.url), { type: 'module' }), { max: 1 });
const [task, job] = await loop.gather([
    async (ctx) => {
        await ctx.sleep(5);
        return 'task';
    },
    pool.run('job', ['j', 'ob']),
]);
await pool.close();
await loop.close();
console.log(JSON.stringify([task, 'timer', job]));
