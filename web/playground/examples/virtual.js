import { createTestLoop } from 'selkie/testing';

// The same scheduler on a clock of its own: hours take
// milliseconds, and each run is the same as the last.
const loop = await createTestLoop({ seed: 7 });

const client = loop.spawn(async (ctx) => {
  let pause = 600_000;
  for (let attempt = 1; attempt <= 4; attempt += 1) {
    console.log(`attempt ${attempt}`);
    await ctx.sleep(pause);
    pause *= 2;
  }
  return 'connected';
}, { name: 'client' });

const heart = loop.spawn(async (ctx) => {
  for (;;) await ctx.sleep(1_800_000);
}, { name: 'heart' });

await loop.advance(4 * 3_600_000);
heart.cancel();
await loop.runUntilIdle();

const hours = loop.now() / 3_600_000;
console.log(`${client.result()} after ${hours} hours`);
