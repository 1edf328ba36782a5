import { createLoop } from 'selkie';

const loop = await createLoop();
const COUNT = 200_000;

// A little work, some microseconds of it.
let found = 0;
const work = (seed) => {
  let x = seed;
  for (let n = 0; n < 900; n += 1) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
  }
  if (x % 1000 === 0) found += 1;
};

const began = performance.now();
const tasks = [];

// To make so many takes a while as well, so this task lets
// the page go on now and then.
await loop.spawn(async (ctx) => {
  for (let n = 0; n < COUNT; n += 1) {
    const body = () => work(n);
    tasks.push(loop.spawn(body, { start: 'next' }));
    if (ctx.shouldYield()) await ctx.yield();
  }
}, { name: 'maker' });
await loop.wait(tasks);

const s = ((performance.now() - began) / 1000).toFixed(1);
console.log(`${tasks.length} tasks in ${s} s, ${found} hits`);
