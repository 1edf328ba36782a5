// What the tests share, in Node and in the page alike.

export class Failure extends Error {}

const text = (value) => {
    try {
        return JSON.stringify(value, (_, one) => (typeof one === 'bigint' || typeof one === 'symbol' || typeof one === 'function' ? String(one)
            : one instanceof Error ? `${one.name}: ${one.message}` : one instanceof Set ? [...one] : one === undefined ? 'undefined' : one));
    } catch {
        return String(value);
    }
};

export function equal(found, expected, what = 'value') {
    const [a, b] = [text(found), text(expected)];
    if (a !== b) throw new Failure(`${what}: ${a}, expected ${b}`);
}

export function ok(condition, what) {
    if (!condition) throw new Failure(what);
}

/** What a promise rejects with. */
export async function rejection(promise) {
    let value;
    try {
        value = await promise;
    } catch (error) {
        return error;
    }
    throw new Failure(`fulfilled with ${text(value)}, expected a rejection`);
}

export function thrown(f) {
    let value;
    try {
        value = f();
    } catch (error) {
        return error;
    }
    throw new Failure(`returned ${text(value)}, expected it to throw`);
}

/** Resolves when `condition` holds, and rejects if that takes half a minute. */
export async function until(condition) {
    for (const end = Date.now() + 30_000; !(await condition()); await new Promise((again) => setTimeout(again, 5))) {
        if (Date.now() > end) throw new Failure('waited for half a minute');
    }
}

/** Runs tests one by one, each with a limit; answers the lines and whether each passed. */
export async function runAll(tests, host, report, filter = '') {
    const results = [];
    for (const { name, run } of tests) {
        if (!new RegExp(filter).test(name)) continue;
        let over;
        const limit = new Promise((_, reject) => (over = setTimeout(() => reject(new Failure('took longer than a minute')), 60_000)));
        let error;
        try {
            await Promise.race([run(host), limit]);
        } catch (why) {
            error = why;
        }
        clearTimeout(over);
        // Not all hosts have the message in the stack.
        const what = error && (error.stack?.includes(error.message) ? error.stack : `${error}\n${error.stack ?? ''}`);
        results.push({ name, error: what });
        report(`test ${name} ... ${error ? 'FAILED' : 'ok'}`);
        if (error) report(what);
    }
    return results;
}
