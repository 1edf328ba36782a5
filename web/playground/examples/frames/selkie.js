import { createLoop } from 'selkie';

const loop = await createLoop();
const COUNT = 200_000;

// A little work, some microseconds of it.
let found = 0;
const work = (seed) => {
    let x = seed;
    for (let n = 0; n < 900; n += 1) x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    if (x % 1000 === 0) found += 1;
};

const began = performance.now();
const tasks = [];

// Making so many takes a while as well, so this task lets the page go on now and then.
await loop.spawn(async (ctx) => {
    for (let n = 0; n < COUNT; n += 1) {
        tasks.push(loop.spawn(() => work(n), { start: 'next' }));
        if (ctx.shouldYield()) await ctx.yield();
    }
}, { name: 'makes the others' });
await loop.wait(tasks);

const seconds = ((performance.now() - began) / 1000).toFixed(1);
console.log(`${tasks.length} tasks in ${seconds} s, ${found} hits`);
