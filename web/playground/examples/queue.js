import { createLoop, Queue } from 'selkie';

const loop = await createLoop();
const shelf = new Queue(loop, { capacity: 2 });

loop.spawn(async (ctx) => {
  for (let loaf = 1; loaf <= 6; loaf += 1) {
    await ctx.sleep(120);
    // Waits while the shelf is full.
    await ctx.wait(shelf.put(`loaf ${loaf}`));
    console.log(`baker: loaf ${loaf} is on the shelf`);
  }
  shelf.close();
}, { name: 'baker' });

const eat = (name, ms) => loop.spawn(async (ctx) => {
  let eaten = 0;
  // Until the queue is closed and empty. Who has waited
  // longest is served first.
  for await (const loaf of shelf) {
    console.log(`${name}: takes ${loaf}`);
    await ctx.sleep(ms);
    eaten += 1;
  }
  return eaten;
}, { name });

const [ann, ben] = await loop.gather([
  eat('Ann', 420),
  eat('Ben', 650),
]);
console.log(`Ann has eaten ${ann}, Ben ${ben}`);
