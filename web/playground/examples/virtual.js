import { createTestLoop } from 'selkie/testing';

// The same scheduler on a clock of its own: hours take milliseconds, and each run is the same as the last.
const loop = await createTestLoop({ seed: 7 });

const connect = async (ctx) => {
    for (let attempt = 1, pause = 600_000; ; attempt += 1, pause *= 2) {
        console.log(`attempt ${attempt}`);
        if (attempt === 5) return 'connected';
        await ctx.sleep(pause);
    }
};
const heartbeat = async (ctx) => {
    for (;;) await ctx.sleep(1_800_000);
};

const beat = loop.spawn(heartbeat, { name: 'heartbeat' });
const client = loop.spawn(connect, { name: 'client' });

await loop.advance(4 * 3_600_000);
beat.cancel();
await loop.runUntilIdle();
console.log(`${client.result()}, and the clock says ${loop.now() / 3_600_000} hours`);
