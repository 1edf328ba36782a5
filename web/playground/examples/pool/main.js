import { createLoop, createPool } from 'selkie';

const loop = await createLoop();
const pool = createPool(
    loop,
    () => new Worker(new URL('./jobs.js', import.meta.url), { type: 'module' }),
    { max: 2 },
);

// This one never ends and never listens. After a second it is ended with its Worker, and the pool goes on with another.
const forever = pool.run('forever', [], { timeoutMs: 1000, kill: 'now' });

// Four jobs more than there are Workers free: they wait for their turn. The bars are what they report.
const MILLION = 1_000_000;
const jobs = [0, 1, 2, 3].map((part) => pool.run('countPrimes', [part * MILLION, (part + 1) * MILLION]));

const counts = await loop.gather(jobs);
console.log(`primes in each million: ${counts.join(', ')}`);
console.log(`below 4,000,000: ${counts.reduce((sum, count) => sum + count)}`);

await forever.ended();
console.log(`forever: ${forever.state}, ${forever.error().name}`);
await pool.close();
