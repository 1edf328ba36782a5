import { createLoop } from 'selkie';

const loop = await createLoop();

const body = (name) => async (ctx) => {
  console.log(`${name}: begins`);
  await ctx.sleep(700);
  console.log(`${name}: ends`);
};

await loop.spawn(async (ctx) => {
  // As async functions do: the body has run to its first
  // await when spawn returns.
  console.log('spawns eager');
  const eager = ctx.spawn(body('eager'), { name: 'eager' });
  console.log('spawn has returned');

  // Or at the loop's next turn, as in asyncio.
  console.log('spawns lazy');
  const lazy = ctx.spawn(body('lazy'), {
    name: 'lazy',
    start: 'next',
  });
  console.log('spawn has returned');

  // Nobody has a turn while this task computes.
  const end = performance.now() + 400;
  while (performance.now() < end);
  console.log('lets the others run');

  await loop.gather([eager, lazy]);
}, { name: 'main' });
