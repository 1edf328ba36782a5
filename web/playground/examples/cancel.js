import { createLoop } from 'selkie';

const loop = await createLoop();

// A time limit is an option of the task, as is a signal.
const slow = loop.spawn((ctx) => ctx.sleep(5000), {
  name: 'slow',
  timeoutMs: 600,
});

// The loop drives a generator: a cancel is raised at any of
// its `yield*`, and reaches the task that it waits for.
const report = loop.spawn(function* (ctx) {
  const rows = ctx.spawn(function* (inner) {
    try {
      for (let page = 1; ; page += 1) {
        yield* inner.sleep(250);
        console.log(`rows: page ${page}`);
      }
    } finally {
      console.log('rows: closes its cursor');
    }
  }, { name: 'rows' });
  yield* rows;
}, { name: 'report' });

// What is shielded goes on.
const saving = loop.spawn(async (ctx) => {
  await ctx.sleep(1500);
  return 'saved';
}, { name: 'saving' });
const page = loop.spawn((ctx) => ctx.shield(saving), {
  name: 'page',
});

await slow.ended();
console.log(`slow: ${slow.state}, ${slow.error().name}`);

await loop.sleep(300);
report.cancel();
page.cancel();
await loop.wait([report, page]);
console.log(`report: ${report.state}, page: ${page.state}`);
console.log(`saving: ${await saving}`);
