import { createLoop } from 'selkie';

const loop = await createLoop();

const upload = (name, ms) => async (ctx) => {
  try {
    await ctx.sleep(ms);
    console.log(`${name}: sent`);
  } finally {
    // A cancel is raised where the body waits,
    // so it has the chance to clean up.
    if (ctx.signal.aborted) {
      console.log(`${name}: cancelled, closes its file`);
    }
  }
};

try {
  await loop.withGroup(async (group) => {
    group.spawn(upload('photo', 500), { name: 'photo' });
    group.spawn(upload('video', 2500), { name: 'video' });
    group.spawn(upload('music', 2000), { name: 'music' });
    group.spawn(async (ctx) => {
      await ctx.sleep(1200);
      throw new Error('the disk is full');
    }, { name: 'index' });
  }, { name: 'album' });
} catch (error) {
  // Only when all the others have ended as well.
  console.log(`${error.name}: ${error.errors[0].message}`);
}
console.log(`tasks left: ${loop.tasks().length}`);
