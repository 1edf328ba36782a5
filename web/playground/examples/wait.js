import { createLoop } from 'selkie';

const loop = await createLoop();
const names = (tasks) => [...tasks].map((task) => task.name).join(', ') || 'none';

const tasks = [['a', 400], ['b', 800], ['c', 1300], ['d', 1900]].map(([name, ms]) =>
    loop.spawn(async (ctx) => {
        await ctx.sleep(ms);
        return name;
    }, { name }));

// wait() gives back control in stages. It cancels nothing: what is pending goes on.
let { done, pending } = await loop.wait(tasks, { until: 'first-completed' });
console.log(`first completed: ${names(done)}; pending: ${names(pending)}`);

({ done, pending } = await loop.wait(pending, { timeoutMs: 700 }));
console.log(`0.7 s later: ${names(done)}; pending: ${names(pending)}`);

({ done, pending } = await loop.wait(pending));
console.log(`all: ${names(done)}; pending: ${names(pending)}`);
