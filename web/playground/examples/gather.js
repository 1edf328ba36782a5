import { createLoop } from 'selkie';

const loop = await createLoop();

// Stands for a request: it waits, and uses no time of the machine.
const request = (name, ms) => async (ctx) => {
    await ctx.sleep(ms);
    return name;
};

const began = loop.now();
const seconds = () => ((loop.now() - began) / 1000).toFixed(1);

// One after the other: 0.9 s and 0.3 s and 0.6 s.
const one = await loop.spawn(request('one', 900), { name: 'one' });
const two = await loop.spawn(request('two', 300), { name: 'two' });
const three = await loop.spawn(request('three', 600), { name: 'three' });
console.log(`sequential: ${one}, ${two}, ${three} after ${seconds()} s`);

// Together: as long as the longest, and the results in the order of the calls.
const results = await loop.gather([
    loop.spawn(request('uno', 900), { name: 'uno' }),
    loop.spawn(request('due', 300), { name: 'due' }),
    loop.spawn(request('tre', 600), { name: 'tre' }),
]);
console.log(`gathered: ${results.join(', ')} after ${seconds()} s`);
