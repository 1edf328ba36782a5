import { createLoop } from 'selkie';

const loop = await createLoop();
const began = loop.now();
const seconds = () => ((loop.now() - began) / 1000).toFixed(1);

// Stands for a request: it waits, and computes nothing.
const request = (name, ms) =>
  loop.spawn(async (ctx) => {
    await ctx.sleep(ms);
    return name;
  }, { name });

// One after the other: 0.9 s, 0.3 s and 0.6 s.
const one = await request('one', 900);
const two = await request('two', 300);
const three = await request('three', 600);
console.log(`${seconds()} s: ${one}, ${two}, ${three}`);

// Together: as long as the longest of them,
// and the results in the order of the calls.
const results = await loop.gather([
  request('uno', 900),
  request('due', 300),
  request('tre', 600),
]);
console.log(`${seconds()} s: ${results.join(', ')}`);
