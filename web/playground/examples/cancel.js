import { createLoop } from 'selkie';

const loop = await createLoop();

// A limit of time is an option of the task, and so is a signal.
const slow = loop.spawn(async (ctx) => {
    await ctx.sleep(5000);
}, { name: 'slow', timeoutMs: 600 });

// A generator is driven by the loop: a cancel reaches it at any `yield*`, and the task that it waits for as well.
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
const page = loop.spawn(async (ctx) => ctx.shield(saving), { name: 'page' });

await slow.ended();
console.log(`slow: ${slow.state}, ${slow.error().name}`);

await loop.sleep(300);
report.cancel();
page.cancel();
await loop.wait([report, page]);
console.log(`report: ${report.state}, page: ${page.state}`);
console.log(`saving: ${await saving}`);
