import { createLoop, createPool } from 'selkie';

const loop = await createLoop();
const jobs = new URL('./jobs.js', import.meta.url);
const pool = createPool(
  loop,
  () => new Worker(jobs, { type: 'module' }),
  { max: 2 },
);

// This one never ends and never listens. After a second it
// is ended with its Worker, and the pool makes another one.
const forever = pool
  .run('forever', [], { timeoutMs: 1000, kill: 'now' })
  .then(() => 'has ended', (error) => error.name);

// The others wait for a Worker, and report how far they are.
const MILLION = 1_000_000;
const parts = [0, 1, 2, 3].map((n) =>
  pool.run('countPrimes', [n * MILLION, (n + 1) * MILLION]));

const counts = await loop.gather(parts);
console.log(`primes in each million: ${counts.join(', ')}`);
console.log(`in all: ${counts.reduce((sum, n) => sum + n)}`);

console.log(`forever: ${await forever}`);
await pool.close();
