// What the types say, checked by the compiler: nothing here runs. An error that is expected stands below its comment.

import { type AsyncBody, type GeneratorBody, type Job, type JobContext, Queue, type Task, createLoop, createPool, connectLoop, job } from 'selkie';
import { expose, job as workerJob } from 'selkie/worker';
import { createTestLoop } from 'selkie/testing';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(_: Equal<A, B>): void => {};

const loop = await createLoop({ name: 'main' });

// Both forms of a body, and what the task gives.
const a = loop.spawn(async (ctx) => {
    await ctx.sleep(1);
    return 'text';
});
same<typeof a, Task<string>>(true);
const b = loop.spawn(function* (ctx) {
    const text = yield* a;
    same<typeof text, string>(true);
    const answer = yield* ctx.wait(fetchNumber());
    same<typeof answer, number>(true);
    const nothing = yield* ctx.sleep(1);
    same<typeof nothing, void>(true);
    return answer > 1;
});
same<typeof b, Task<boolean>>(true);
const c = loop.spawn(() => 5);
same<typeof c, Task<number>>(true);
same<Awaited<typeof a>, string>(true);
same<ReturnType<typeof c.result>, number>(true);
const caught = await a.catch(() => 5);
same<typeof caught, string | number>(true);
const finished = await a.finally(() => {});
same<typeof finished, string>(true);
declare function fetchNumber(): Promise<number>;
// Whichever form a body has.
const either = <T>(body: AsyncBody<T> | GeneratorBody<T>): Task<T> => loop.spawn(body);
const e = either<number>(function* () { return 5; });
same<typeof e, Task<number>>(true);

// A promise is no body, and options are known.
// @ts-expect-error
loop.spawn(fetchNumber());
// @ts-expect-error
loop.spawn(() => 1, { timeout: 5 });
// @ts-expect-error
loop.spawn(() => 1, { priority: 'high' });

// gather keeps the types of its members.
const all = await loop.gather([a, () => 1, fetchNumber(), async () => ({ x: 1 }), function* () { return null; }]);
same<typeof all, [string, number, number, { x: number }, null]>(true);
const many = await loop.gather([1, 2].map((n) => async () => `${n}`));
same<typeof many, string[]>(true);
const [parsed, one] = await loop.gather([() => JSON.parse(''), (): 1 | Promise<2> => 1]);
same<typeof parsed, any>(true);
same<typeof one, 1 | 2>(true);
const settled = await loop.gather([a], { returnErrors: true });
same<typeof settled, [PromiseSettledResult<string>]>(true);
// @ts-expect-error
loop.gather([5]);

const { done, pending } = await loop.wait([a], { until: 'first-error', timeoutMs: 5 });
same<typeof done, Set<Task<string>>>(true);
same<typeof pending, Set<Task<string>>>(true);
for await (const { task } of loop.asCompleted([a])) same<typeof task, Task<string>>(true);
// Tasks of several types.
const split = await loop.wait([a, b]);
same<typeof split.done, Set<Task<string> | Task<boolean>>>(true);
for await (const { task } of loop.asCompleted([a, b])) same<typeof task, Task<string> | Task<boolean>>(true);
// @ts-expect-error
await loop.wait([fetchNumber()]);

// What may not be there can be given, also with `exactOptionalPropertyTypes`.
declare const perhaps: { signal: AbortSignal | undefined; timeoutMs: number | undefined };
const { signal, timeoutMs } = perhaps;
await createLoop({ signal });
loop.spawn(() => 1, perhaps);
await loop.gather([], perhaps);
await loop.wait([a], perhaps);
loop.asCompleted([a], perhaps);
await loop.sleep(1, { signal });
await loop.close({ timeoutMs });
const inside = await loop.withGroup(async (group) => {
    const child = group.spawn(async () => 7);
    same<typeof child, Task<number>>(true);
    return child.result();
});
same<typeof inside, number>(true);
const stepwise = await loop.withGroup(function* (group, ctx) {
    yield* ctx.sleep(1);
    return yield* group.spawn(() => 7);
});
same<typeof stepwise, number>(true);

// Queues.
const queue = new Queue<{ n: number }>(loop, { capacity: 5 });
const item = await queue.take();
same<typeof item, { n: number }>(true);
for await (const { n } of queue) same<typeof n, number>(true);
// @ts-expect-error
await queue.put('text');

// Pools are typed from what is exposed; the context is not an argument.
const jobs = {
    add: (x: number, y: number) => x + y,
    load: async (url: string) => ({ url }),
    count: job((ctx: JobContext, to: number) => {
        ctx.progress(to);
        return `${to}`;
    }),
};
expose(jobs);
same<typeof jobs.count, Job<[to: number], string>>(true);
const pool = createPool<typeof jobs>(loop, () => undefined as never, { max: 2 });
const sum = pool.run('add', [1, 2]);
same<typeof sum, Task<number>>(true);
const loaded = await pool.run('load', ['x'], { onProgress: () => {}, signal: new AbortController().signal });
same<typeof loaded, { url: string }>(true);
const counted = await pool.run('count', [5]);
same<typeof counted, string>(true);
// @ts-expect-error
pool.run('add', ['1', 2]);
// @ts-expect-error
pool.run('missing', []);
// @ts-expect-error
pool.run('count', []);
same<ReturnType<typeof workerJob<[a: 1], 2>>, Job<[a: 1], 2>>(true);

// Also from an interface, and with arguments that must not change.
interface Sums {
    add(x: number, y: number): number;
    load(url?: string): Promise<string>;
}
const sums = createPool<Sums>(loop, () => undefined as never);
const pair = [1, 2] as const;
const summed = sums.run('add', pair);
same<typeof summed, Task<number>>(true);
const lines = connectLoop<Sums>(loop, undefined as never).submit('load', []);
same<typeof lines, Task<string>>(true);
// @ts-expect-error
sums.run('add', [1]);
// @ts-expect-error
createPool<{ add: number }>(loop, () => undefined as never);

const remote = connectLoop<typeof jobs>(loop, undefined as never);
const submitted = remote.submit('add', [1, 2]);
same<typeof submitted, Task<number>>(true);

const virtual = await createTestLoop({ seed: 1 });
const ran = await virtual.run(function* (ctx) {
    yield* ctx.sleep(5);
    return 'ran';
});
same<typeof ran, string>(true);
const alike = <T>(body: AsyncBody<T> | GeneratorBody<T>): Promise<T> => virtual.run(body);
same<ReturnType<typeof alike<5>>, Promise<5>>(true);
await virtual.advance(5);

// What is of the package is not public.
// @ts-expect-error
loop.wasm_;
// @ts-expect-error
a.step_;
