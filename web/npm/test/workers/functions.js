// What the Workers of the tests do; `job` is of the entry for this host.

export const functions = (job) => {
    let counted = 0;
    let met = 0;
    let fired = false;
    let left = 0;
    let [now, most] = [0, 0];
    const all = {
        add: (a, b) => a + b,
        change() {
            all.added = (n) => n + 1;
            all.count = () => 'replaced';
            all.later = job((ctx, value) => [value, ctx.shouldStop(), ctx.signal.aborted]);
        },
        later: async (value) => value,
        grow: (list) => (list.push(list.length + 1), list),
        count: () => (counted += 1),
        /** How many that came before have had their microtasks. */
        aside() {
            void Promise.resolve().then(() => (left += 1));
            return left;
        },
        meet: async (count) => {
            met += 1;
            while (met < count) await new Promise((resolve) => setTimeout(resolve, 1));
            return met;
        },
        most: async () => {
            most = Math.max(most, (now += 1));
            await new Promise((resolve) => setTimeout(resolve, 2));
            now -= 1;
            return most;
        },
        /** Whether a timer of the Worker's own has had its turn. */
        block(ms) {
            setTimeout(() => (fired = true));
            for (const end = performance.now() + ms; performance.now() < end;);
            return fired;
        },
        wait: (ms) => new Promise((resolve) => setTimeout(() => resolve('waited'), ms)),
        fail() {
            throw Object.assign(new RangeError('no', { cause: new Error('inner') }), { code: 'E_NO' });
        },
        failValue() {
            throw { a: 1 };
        },
        failMany() {
            throw new AggregateError([new Error('a'), new Error('b')], 'both');
        },
        failCustom() {
            throw new (class CustomError extends Error {
                name = 'CustomError';
            })('own');
        },
        failNameless() {
            throw new (class extends Error {
                name;
            })('nameless');
        },
        failAborted() {
            throw new DOMException('there', 'AbortError');
        },
        closure: () => () => 1,
        thrower: () => ({
            get bad() {
                throw null;
            },
        }),
        odd: () => ({
            get bad() {
                throw { message: Symbol('none') };
            },
        }),
        leave: () => (globalThis.close ?? process.exit)(),
        deaf: job((ctx) => {
            ctx.progress('began', []);
            return new Promise(() => {});
        }),
        crash() {
            setTimeout(() => {
                throw new Error('out of the blue');
            });
            return new Promise(() => {});
        },
        crashWith(value) {
            setTimeout(() => {
                throw value;
            });
            return new Promise(() => {});
        },
        /** In Node the Worker ends by it, at once after the job has. */
        litter() {
            void Promise.reject(new Error('of nobody'));
        },
        listen: job((ctx) => new Promise((_, reject) => {
            ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason));
            ctx.progress('began');
        })),
        listenLate: job((ctx, ms) => new Promise((resolve) => {
            ctx.signal.addEventListener('abort', () => setTimeout(() => resolve('late'), ms));
            ctx.progress('began');
        })),
        spin: job((ctx) => {
            ctx.progress('began', []);
            for (;;);
        }),
        twoSteps: job((ctx) => {
            ctx.progress(1);
            ctx.progress(2);
            return new Promise((_, reject) => ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason)));
        }),
        stopped: job(async (ctx) => {
            while (!ctx.shouldStop()) await new Promise((resolve) => setTimeout(resolve, 5));
            return 'saw it';
        }),
        until: job((ctx) => {
            ctx.progress('began', []);
            while (!ctx.shouldStop());
            return 'saw it';
        }),
        steps: job((ctx, count) => {
            for (let n = 0; n < count; n += 1) ctx.progress(n);
            return count;
        }),
        oddStep: job((ctx, ms) => {
            ctx.progress(1);
            ctx.progress(() => 1);
            return new Promise((resolve) => setTimeout(resolve, ms));
        }),
        part: job((ctx, bytes) => ({ bytes: ctx.transfer(bytes, [bytes.buffer]), left: bytes.length })),
        halves: job((ctx, { buffer }) => [0, 2].map((at) => ctx.transfer(new Uint8Array(buffer, at, 2), [buffer]))),
        reverse: job((ctx, bytes) => ctx.transfer(bytes.reverse(), [bytes.buffer])),
    };
    return all;
};

/** What a loop in a Worker gives out. */
export const remote = (job) => {
    let cancelled = 0;
    return {
        twice: (n) => n * 2,
        cancelled: () => cancelled,
        fail() {
            throw new TypeError('there');
        },
        steps: job((ctx, count) => {
            for (let n = 0; n < count; n += 1) ctx.progress(n);
            return count;
        }),
        sleep: job((ctx, ms) => new Promise((resolve, reject) => {
            const timer = setTimeout(resolve, ms);
            ctx.signal.addEventListener('abort', () => {
                cancelled += 1;
                clearTimeout(timer);
                reject(ctx.signal.reason);
            });
        })),
    };
};
